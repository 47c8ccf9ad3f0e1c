# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NICs that somebody takes care of himself: configured by a file of his own, ignored, or with a bridge built on them."""

from __future__ import annotations

import json

import pytest

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import install
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    ip,
    reason_of,
    reconcile,
    settled,
    state_of,
)
from tests.scenarios.serving import serving

RULES = "/etc/udev/rules.d/70-persistent-net.rules"
BY_HAND = {
    "ifupdown": (
        "/etc/network/interfaces.d/{name}",
        "allow-hotplug {name}\niface {name} inet static\n    address 10.77.0.5/24\n",
        "ifup {name}",
    ),
    "networkd": (
        "/etc/systemd/network/20-{name}.network",
        "[Match]\nName={name}\n\n[Network]\nAddress=10.77.0.5/24\n",
        "networkctl reload",
    ),
    "netplan": (
        "/etc/netplan/60-san.yaml",
        "network:\n  version: 2\n  ethernets:\n    san:\n      match: {{macaddress: '{mac}'}}\n      addresses: [10.77.0.5/24]\n",
        "netplan apply",
    ),
    "nm": (
        "/etc/NetworkManager/system-connections/mine.nmconnection",
        "[connection]\nid=mine\ntype=ethernet\ninterface-name={name}\n\n[ipv4]\nmethod=manual\naddress1=10.77.0.5/24\n",
        "chmod 600 {path} && nmcli connection load {path} && nmcli connection up mine",
    ),
    "ifcfg": (
        "/etc/sysconfig/network-scripts/ifcfg-mine",
        "TYPE=Ethernet\nNAME=mine\nDEVICE={name}\nONBOOT=yes\nBOOTPROTO=none\nIPADDR=10.77.0.5\nPREFIX=24\n",
        "nmcli connection load {path} && nmcli connection up mine",
    ),
}
BY_HAND["netplan_nm"] = BY_HAND["nm"]


def _addresses(guest: Container, name: str) -> list[str]:
    links = [link for link in ip(guest, "-4 address") if link["ifname"] == name]
    return [f"{one['local']}/{one['prefixlen']}" for link in links for one in link["addr_info"]]


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "distrusted"])
def test_a_nic_that_was_configured_by_hand_before_the_package_came(
    cloud: Cloud, guest_factory: GuestFactory, trusted: bool
) -> None:
    """OpenStack knows it, cloud-init does not: at the installation, at events and at reboots it stays as it is."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", mtu=1400)
    server = cloud.server("own")
    first = server.create_port(blue)
    guest = guest_factory(server, package=False, trusted_cache=trusted)
    guest.boot()
    by_hand = server.create_port(green)
    guest.plug(by_hand)
    name = str(guest.nic(by_hand))
    path = BY_HAND[guest.backend][0].format(name=name)
    text, command = (word.format(name=name, mac=by_hand.mac, path=path) for word in BY_HAND[guest.backend][1:])
    guest.put(text.encode(), path)
    guest.run(command)

    def assert_left_alone() -> None:
        settled(guest)
        assert _addresses(guest, name) == ["10.77.0.5/24"]
        assert state_of(guest, by_hand) == "drifted" and path in reason_of(guest, by_hand)
        assert name not in configured_names(guest)
        assert_follows(guest, first)

    install(guest)
    assert_left_alone()
    other = server.create_port(blue)
    with serving(guest, touches=[other], events=["added"]):
        guest.plug(other)
        assert_follows(guest, other)
    assert_left_alone()
    guest.reboot()
    # cloud-init alone, before the package came, pinned the names of the first boot.
    assert_boot(guest, level="store", rules=[RULES] if guest.backend in ("ifupdown", "ifcfg") else [])
    assert_left_alone()
    assert_follows(guest, first, other)
    assert_nothing_to_do(guest)

    # Who takes his file away hands the NIC over.
    guest.run(f"rm {path}")
    reconcile(guest)
    assert state_of(guest, by_hand) == "ok"
    assert_follows(guest, first, other)


def test_the_default_route_of_a_nic_that_is_ignored_is_not_taken_over(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", mtu=1400)
    server = cloud.server("ignored")
    first = server.create_port(blue)
    config = json.dumps({"osnetd": {"ignore": [first.mac]}})
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/92_osnetd-test.cfg": config})
    guest.boot()
    way_out = ip(guest, "route get 192.0.2.1")[0]["dev"]
    second = server.create_port(green)
    guest.plug(second)
    assert_follows(guest, second)
    assert ip(guest, "route get 192.0.2.1")[0]["dev"] == way_out == guest.nic(first)
    (route,) = [r for r in ip(guest, "route") if r["dst"] == "default" and r["dev"] == guest.nic(second)]
    assert route["metric"] >= 2100


def test_a_nic_that_is_in_a_bridge_is_left_in_it(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400)
    server = cloud.server("bridged")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_follows(guest, first, second)
    name, address = guest.nic(second), f"{second.fixed_ips[0]}/24"
    guest.run(
        f"ip link add br-ex type bridge && ip link set br-ex up && ip addr del {address} dev {name}"
        f" && ip link set {name} master br-ex && ip addr add {address} dev br-ex"
    )
    third = server.create_port(blue)
    with serving(guest, touches=[third], events=["added"]):
        guest.plug(third)
        assert_follows(guest, third)
    assert _addresses(guest, str(name)) == [] and _addresses(guest, "br-ex") == [address]
    assert "master br-ex" in guest.run(f"ip link show {name}").stdout
    assert state_of(guest, second) == "ok"
    assert_nothing_to_do(guest)
    gone = str(guest.nic(third))
    guest.unplug(third)
    server.delete_port(third)
    assert_gone(guest, gone)
