# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Many devices at once, and one that takes another's place."""

from __future__ import annotations

import json

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    log_of,
    settled,
    starts,
    state_of,
    wait_until,
)
from tests.scenarios.serving import serving


def test_eight_nics_at_once(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    others = [cloud.network(f"net{n}", cidr=f"10.91.{n}.0/24", dns=[f"10.91.{n}.2"], mtu=1400 + n, dhcp=n == 7) for n in range(8)]
    server = cloud.server("burst")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    ports = [server.create_port(network) for network in others]
    with serving(guest, touches=ports, events=["added"], starts_of_service=2):
        guest.plug_all(ports)
        assert_follows(guest, *ports, seconds=20)

    for port in ports:
        server.delete_port(port)
    names = [str(guest.nic(port)) for port in ports]
    with serving(guest, touches=ports, events=["removed"], starts_of_service=2):
        for port in ports:
            guest.unplug(port)
        for name in names:
            assert_gone(guest, name, seconds=20)
    assert configured_names(guest) == [guest.nic(first)]


_BAD = {
    "address": (lambda link, network: network.update(ip_address="10.91.3.999"), "ip_address"),
    "mtu": (lambda link, network: link.update(mtu="large"), "mtu"),
    "dns": (lambda link, network: network.update(services=[{"type": "dns", "address": "10.9.9.9\n up touch /pwned"}]), "services"),
    "route": (lambda link, network: network.update(routes=[{"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "there"}]), "routes"),
}


@pytest.mark.parametrize("fault", sorted(_BAD))
def test_one_of_eight_is_invalid(cloud: Cloud, guest_factory: GuestFactory, fault: str) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    others = [cloud.network(f"net{n}", cidr=f"10.91.{n}.0/24", dns=[f"10.91.{n}.2"], mtu=1400 + n) for n in range(8)]
    server = cloud.server("fault")
    server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    ports = [server.create_port(network) for network in others]
    bad = ports[3]
    said = server.network_data()
    link = next(link for link in said["links"] if link["ethernet_mac_address"] == bad.mac)
    network = next(network for network in said["networks"] if network["link"] == link["id"])
    spoil, word = _BAD[fault]
    spoil(link, network)
    cloud.override("/openstack/*/network_data.json", body=json.dumps(said).encode())
    good = [port for port in ports if port is not bad]
    with serving(guest, touches=ports, events=["added"], starts_of_service=2, settles_in=25) as served:
        guest.plug_all(ports)
        assert_follows(guest, *good, seconds=20)
        wait_until(lambda: "fault: metadata" in log_of(guest), 20, "the fault is named")
        fault = next(line for line in log_of(guest).splitlines() if "fault: metadata" in line)
        assert word in fault and bad.mac in fault
        assert state_of(guest, bad) == "failed"
        assert guest.run("ls /pwned", check=False).returncode != 0
        # Mended, it comes up like the others.
        cloud.metadata.clear_overrides()
        assert_follows(guest, bad, seconds=16)
    assert {touch["mac"] for touch in served.records[-1]["touches"]} == {port.mac for port in ports}


def test_another_mac_under_the_same_name(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("swap")
    first, old = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    name = str(guest.nic(old))

    for network in (green, leased, green):
        server.delete_port(old)
        new = server.create_port(network)
        with serving(guest, touches=[new], leaves=[old], events=["removed", "added"], starts_of_service=2):
            guest.unplug(old)
            guest.plug(new, name)
            assert_follows(guest, new)
        assert configured_names(guest) == sorted([str(guest.nic(first)), name])
        old = new

    # The same, slowly.
    server.delete_port(old)
    with serving(guest, touches=[old], events=["removed"]):
        guest.unplug(old)
        assert_gone(guest, name)
    new = server.create_port(leased)
    with serving(guest, touches=[new], events=["added"]):
        guest.plug(new, name)
        assert_follows(guest, new)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, new)
    assert_nothing_to_do(guest)


def test_a_nic_goes_and_comes_back(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A driver is loaded anew: the NIC is there again within the debounce, under its name or under another."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("flap")
    _first, static, dynamic = server.create_port(blue), server.create_port(green), server.create_port(leased)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    for port in (static, dynamic):
        for name in (str(guest.nic(port)), "enxf0f1f2f3f4f5"):
            with serving(guest, leaves=[port], events=["removed", "added"], starts_of_service=2):
                guest.unplug(port)
                guest.plug(port, name)
                assert_follows(guest, port)
        guest.unplug(port)
        guest.plug(port)
        assert_follows(guest, port)
        settled(guest)
    assert_nothing_to_do(guest)
    assert len(configured_names(guest)) == 3


def test_a_nic_without_a_bus_device_is_cleaned_up_at_once(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A claimed virtual NIC that goes does not come back with a driver: the debounce is not for it."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    server = cloud.server("claimed")
    first, second = server.create_port(blue), server.create_port(blue)
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/96-test.cfg": "osnetd: {debounce: 300}\n"})
    guest.boot()
    assert_boot(guest, level="drive")
    name = str(guest.nic(second))
    with serving(guest, touches=[second], events=["removed"], streams=[first]) as served:
        guest.unplug(second)
        assert_gone(guest, name)
    assert [record["passes"] for record in served.records] == [1]
    assert configured_names(guest) == [guest.nic(first)]
    assert_nothing_to_do(guest)


def test_two_hundred_veth_pairs_start_nothing(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A container host: neither our script nor cloud-init's hook runs for devices that are nobody's ports."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    server = cloud.server("host")
    server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    # Both programs note that they ran; the rest of them is as it was.
    spy = r"""
        for program in /usr/lib/cloudinit-osnetd/queue-event /usr/lib/cloud-init/hook-hotplug /usr/libexec/cloud-init/hook-hotplug; do
            [ -e "$program" ] && sed -i '1a echo "$0 $*" >> /run/ran' "$program"
        done
        ls -l /run/ran 2>/dev/null; true
    """
    guest.run(spy)
    with serving(guest, starts_of_service=0):
        pairs = [f"link add v{n}a type veth peer name v{n}b\nlink set v{n}a up" for n in range(200)]
        guest.run("ip -batch - <<END\n" + "\n".join(pairs) + "\nEND", timeout=120)
        guest.run("ip -batch - <<END\n" + "\n".join(f"link del v{n}a" for n in range(200)) + "\nEND", timeout=120)
        guest.run("udevadm settle", timeout=120)
    assert guest.run("cat /run/ran", check=False).stdout == ""
    assert starts(guest) == 1

    # A port among them is seen.
    port = server.create_port(blue)
    with serving(guest, touches=[port], events=["added"]):
        guest.plug(port)
        assert_follows(guest, port)
    assert "queue-event added" in guest.run("cat /run/ran").stdout
