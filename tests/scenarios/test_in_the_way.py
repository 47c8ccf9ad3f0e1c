# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a backend finds on a NIC that it is to configure: addresses, names, clients and locks of others. It comes up all the same."""

from __future__ import annotations

import time

import pytest

from tests.lab import Cloud
from tests.lab.ports import Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.place import a_server_with_one_nic
from tests.scenarios.seen import (
    Guest,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    ip,
    reason_of,
    reconcile,
    settled,
    state_of,
    timers,
    wait_until,
)

_V4 = Subnet("10.91.0.0/24", "10.91.0.1", dns=("10.91.0.2",), routes=(("10.9.0.0/16", "10.91.0.9"),))
_V6 = Subnet("2001:db8:1::/64", "2001:db8:1::1", dns=("2001:db8:1::53",))


def clients(guest: Guest, name: str) -> list[str]:
    """The DHCP clients of a NIC, by their words: dhclient waits for a child of its own until it has a lease."""
    lines = [line.split() for line in guest.run("ps axww -o pid=,ppid=,args=").stdout.splitlines()]
    found = [words for words in lines if name in words[2:] and words[2] in ("dhclient", "/sbin/dhclient", "dhcpcd:")]
    return [" ".join(words[2:]) for words in found if words[1] not in {other[0] for other in found}]


def test_an_address_that_was_set_by_hand(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    server.freeze_metadata()
    port = server.create_port(cloud.network("green", subnets=[_V4, _V6], mtu=1400))
    name = guest.plug(port)
    guest.run(
        f"ip link set {name} up; ip addr add {port.fixed_ips[0]}/24 dev {name}; ip addr add {port.fixed_ips[1]}/128 dev {name}"
    )
    guest.run(f"ip route add default via 10.91.0.1 dev {name} metric 50")
    server.thaw_metadata()
    assert_follows(guest, first, port, seconds=25)
    settled(guest, 20)
    assert state_of(guest, port) == "ok", reason_of(guest, port)
    assert_nothing_to_do(guest)


def test_a_nic_that_is_renamed_while_it_runs(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    port = server.create_port(cloud.network("green", subnets=[_V4, _V6], mtu=1400))
    name = guest.plug(port)
    assert_follows(guest, first, port)
    settled(guest)
    guest.run(f"ip link set {name} name lan0")
    server.edit_port(port, fixed_ips=["10.91.0.55", port.fixed_ips[1]])
    reconcile(guest)
    assert guest.nic(port) == "lan0"
    assert_follows(guest, first, port)
    if guest.backend == "ifupdown":
        assert f"{name}=" not in guest.run("ifquery --state", check=False).stdout
        assert guest.run(f"ls /run/resolvconf/interface | grep '^{name}[.]'", check=False).stdout == ""
    assert_nothing_to_do(guest)


def test_a_name_that_is_taken_again_before_the_one_that_had_it_is_cleaned_up(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """udev starts a DHCP client for the new NIC from what is left of the old one."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True)
    green = cloud.network("green", subnets=[_V4], mtu=1400)
    server = cloud.servers[0]
    second = server.create_port(leased)
    guest.plug(second)
    assert_follows(guest, first, second)
    settled(guest)
    guest.reboot()
    assert_follows(guest, first, second)
    settled(guest)
    name = str(guest.nic(second))
    server.delete_port(second)
    guest.unplug(second)
    time.sleep(1.4)
    port = server.create_port(green)
    assert guest.plug(port, name=name) == name
    assert_follows(guest, first, port, seconds=20)
    settled(guest, 20)
    assert state_of(guest, port) == "ok", reason_of(guest, port)
    assert clients(guest, name) == []
    assert guest.run("systemctl --failed --no-legend --plain").stdout == ""
    assert_nothing_to_do(guest)


@pytest.mark.on("bullseye")
def test_a_name_that_another_has_at_the_next_boot(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """udev has read what is left of the old one before early boot takes it away, and wants to bring it up."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True)
    green = cloud.network("green", subnets=[_V4], mtu=1400)
    server = cloud.server("again")
    first, second = server.create_port(blue), server.create_port(leased)
    guest = guest_factory(server)
    guest.boot()
    assert_follows(guest, first, second)
    settled(guest)
    name = str(guest.nic(second))
    for network in (green, leased, leased):
        guest.poweroff()
        server.delete_port(second)
        guest.unplug(second)
        second = server.create_port(network)
        assert guest.plug(second, name=name) == name
        guest.boot()
        assert_boot(guest, level="store")
        assert_follows(guest, first, second)
        settled(guest)
        assert len(clients(guest, name)) == (network is leased)
        assert_nothing_to_do(guest)


@pytest.mark.on("ifupdown")
def test_the_stanzas_of_an_image(cloud: Cloud, guest_factory: GuestFactory, kind: object) -> None:
    """Debian's older images have DHCP for a few names, just in case: those NICs are left to it, and it is named."""
    _first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    guest.run(
        "printf '\\nallow-hotplug ens4\\niface ens4 inet dhcp\\nallow-hotplug ens5\\niface ens5 inet dhcp\\n' >> /etc/network/interfaces"
    )
    static = server.create_port(cloud.network("green", subnets=[_V4], mtu=1400))
    assert guest.plug(static) == "ens4"
    leased = server.create_port(cloud.network("leased", cidr="10.92.0.0/24", dhcp=True))
    assert guest.plug(leased) == "ens5"

    def has_its_lease() -> bool:
        (link,) = ip(guest, "address show dev ens5")
        return [a["local"] for a in link["addr_info"] if a["family"] == "inet"] == [leased.fixed_ips[0]]

    wait_until(has_its_lease, 20, "the lease of ens5")
    settled(guest)
    for port, name in ((static, "ens4"), (leased, "ens5")):
        assert state_of(guest, port) == "drifted" and "/etc/network/interfaces" in reason_of(guest, port)
        assert len(clients(guest, name)) == 1
    assert_nothing_to_do(guest)


@pytest.mark.on("ifupdown")
def test_a_stanza_that_has_another_name_of_the_nic(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """As where a server's NICs had other names before: udev keeps these beside the new ones, and `ifup` takes them."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    server.freeze_metadata()
    port = server.create_port(cloud.network("green", subnets=[_V4], mtu=1400))
    name = guest.plug(port)
    guest.run(f"ip link property add dev {name} altname enp0s9")
    guest.run("printf '\nauto enp0s9\niface enp0s9 inet static\n    address 10.91.0.99/24\n' >> /etc/network/interfaces; ifup enp0s9")
    server.thaw_metadata()
    wait_until(lambda: state_of(guest, port) == "drifted", 20 * guest.patience, "it is left to the stanza")
    settled(guest)
    assert "/etc/network/interfaces" in reason_of(guest, port)
    assert "10.91.0.99/24" in guest.run(f"ip -o -4 address show dev {name}").stdout
    assert_follows(guest, first)
    assert_nothing_to_do(guest)


def test_a_leased_default_route_has_its_metric_from_the_first_lease_on(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    port = server.create_port(cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True))
    name = guest.plug(port)
    assert_follows(guest, first, port)

    def ways() -> list[tuple[str, int]]:
        return sorted((route["dev"], route.get("metric", 0)) for route in ip(guest, "-4 route show default"))

    settled(guest)
    now = ways()
    assert [dev for dev, _metric in now] == [str(guest.nic(first)), name] and now[1][1] > 0, now
    by_lease = [r for r in ip(guest, f"-4 route show dev {name}") if r["dst"] == "169.254.169.254"]
    assert all(route.get("metric", 0) == now[1][1] for route in by_lease), by_lease
    guest.reboot()
    assert_follows(guest, first, port)
    settled(guest)
    assert ways() == now


@pytest.mark.long
@pytest.mark.on("ifupdown")
def test_an_ifdown_that_does_not_end(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """An administrator's hook hangs: the old address does not stay beside the new one."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    port = server.create_port(cloud.network("green", subnets=[_V4, _V6], mtu=1400))
    name = guest.plug(port)
    assert_follows(guest, first, port)
    settled(guest)
    guest.put(f'#!/bin/sh\n[ "$IFACE" != {name} ] || sleep 300\n'.encode(), "/etc/network/if-down.d/hangs", 0o755)
    server.edit_port(port, fixed_ips=["10.91.0.55", "2001:db8:1::55"], routes=[("10.8.0.0/16", "10.91.0.8")])
    reconcile(guest)
    assert_follows(guest, first, port)
    assert guest.run("pgrep -f 'sleep 300'", check=False).stdout == ""
    guest.run("rm /etc/network/if-down.d/hangs")
    assert_nothing_to_do(guest)


@pytest.mark.on("ifupdown")
def test_an_ifup_that_failed_is_not_the_last(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """An administrator's hook fails half-way; when it is mended the next run brings the NIC up."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    guest.put(b'#!/bin/sh\n[ "$IFACE" != ens4 ]\n', "/etc/network/if-up.d/fails", 0o755)
    port = server.create_port(cloud.network("green", subnets=[_V4, _V6], mtu=1400))
    guest.plug(port)
    settled(guest, 45, fails=True)
    assert state_of(guest, port) == "failed"
    guest.run("rm /etc/network/if-up.d/fails")
    server.edit_port(port, fixed_ips=["10.91.0.55", "2001:db8:1::55"])
    reconcile(guest)
    assert_follows(guest, first, port)


def test_a_carrier_that_comes_late(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Nobody tells of it: the NIC is looked at again by itself, for a while."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    server = cloud.servers[0]
    server.freeze_metadata()  # until the carrier is gone
    port = server.create_port(cloud.network("green", subnets=[_V4, _V6], mtu=1400))
    guest.plug(port)
    guest.carrier(port, False)
    server.thaw_metadata()
    settled(guest, 40)
    assert timers(guest) == ["cloudinit-osnetd-look.timer"]
    guest.carrier(port, True)
    assert_follows(guest, first, port, seconds=40)
    wait_until(lambda: timers(guest) == [], 60, "no timer is left")
    assert state_of(guest, port) == "ok", reason_of(guest, port)


@pytest.mark.on("bookworm-ifupdown")  # udev of Debian 11 renames such NICs
def test_a_name_that_a_shell_would_read_costs_that_nic_alone(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """ifupdown's stanzas are commands of a shell, and a name has a place in them. What is a directory is no file."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    for path in ("/etc/cloud/cloud.cfg.d/99-x.cfg", "/etc/network/interfaces.d/50-x"):
        guest.run(f"mkdir {path}")
    names, server = ["w[1]", "p=q", "-dash", "$x", "a;b"], cloud.servers[0]
    odd = [server.create_port(first.network) for _ in names]
    for port, name in zip(odd, names):
        guest.plug(port, name=name)
    settled(guest, 30, fails=True)
    for boot in range(2):
        assert {state_of(guest, port) for port in odd} == {"failed"}
        assert all(repr(name) in reason_of(guest, port) for port, name in zip(odd, names))
        assert state_of(guest, first) == "ok"
        second = server.create_port(first.network)
        guest.plug(second)
        assert_follows(guest, first, second)
        settled(guest, 30, fails=True)
        if not boot:
            guest.reboot()
            settled(guest, 30, fails=True)
    assert "iface ens" in guest.run("cat /etc/network/interfaces.d/50-cloud-init").stdout
    assert not [name for name in names if f"iface {name} " in guest.run("cat /etc/network/interfaces.d/50-cloud-init").stdout]
