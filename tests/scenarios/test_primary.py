# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Which NIC the default route goes by, and what becomes of it when ports come and go."""

from __future__ import annotations

from typing import List, Set, Tuple

import pytest

from tests.lab import Cloud, Container, Port
from tests.lab.ports import Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    PROFILES,
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    ip,
    reconcile,
    status,
    wait_until,
)
from tests.scenarios.serving import serving


def default_routes(guest: Container) -> List[Tuple[int, str]]:
    """(metric, NIC) of the IPv4 default routes, best first."""
    return sorted((route.get("metric", 0), route["dev"]) for route in ip(guest, "-4 route show default"))


def way_out(guest: Container) -> str:
    """The NIC by which packets to the world leave."""
    return str(ip(guest, "route get 203.0.113.1")[0]["dev"])


def names(guest: Container, *ports: Port) -> List[str]:
    return [str(guest.nic(port)) for port in ports]


def asked_through(cloud: Cloud, count: int) -> set:
    """The networks through which the last requests of the metadata service came."""
    return {request.network for request in cloud.requests()[count:] if request.status == 200}


@pytest.mark.parametrize("dhcp", [False, True], ids=["static", "dhcp"])
def test_the_primary_is_detached_and_comes_back(cloud: Cloud, guest_factory: GuestFactory, dhcp: bool) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450, dhcp=dhcp)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400, dhcp=dhcp)
    amber = cloud.network("amber", cidr="10.93.0.0/24", gateway="10.93.0.1", dns=["10.93.0.2"], mtu=1300)
    server = cloud.server("primary")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    primary, survivor = names(guest, first, second)
    assert way_out(guest) == primary
    at_boot = default_routes(guest)
    assert [nic for _metric, nic in at_boot] == [primary, survivor]
    assert_nothing_to_do(guest)

    # Another gateway arrives: the default route stays where it is.
    third = server.create_port(amber)
    with serving(guest, touches=[third], events=["added"], streams=[first]):
        guest.plug(third)
        assert_follows(guest, third)
    with_third = default_routes(guest)
    assert with_third[:2] == at_boot
    assert [nic for _metric, nic in with_third] == names(guest, first, second, third)

    # The primary goes.
    server.delete_port(first)
    with serving(guest, touches=[first], events=["removed"], streams=[third] if dhcp else [second, third]):
        guest.unplug(first)
        wait_until(lambda: way_out(guest) == survivor, 1 * guest.patience, "the default route goes by a survivor")
        assert_gone(guest, primary)
    assert default_routes(guest) == with_third[1:]
    asked = len(cloud.requests())
    record = reconcile(guest)
    assert record["faults"] == []
    assert asked_through(cloud, asked) == {"green"}
    assert status(guest)["metadata_via"] == second.mac

    # What comes now is followed by way of a survivor, also over a reboot.
    server.relist_port(first)
    with serving(guest, touches=[first], events=["added"], streams=[third]):
        guest.plug(first, "ens9")
        assert_follows(guest, first)
    came_back = default_routes(guest)
    assert set(with_third[1:]) <= set(came_back) and len(came_back) == 3

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, third)
    assert default_routes(guest) == came_back
    assert_nothing_to_do(guest)


def test_the_only_nic_is_replaced_by_another(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """No NIC has a route to the metadata service while the new one is unknown: link-local, or a lease, must do."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dns=["10.92.0.2"], mtu=1420, dhcp=True)
    server = cloud.server("only")
    port = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    for network in (green, leased, blue):
        name = str(guest.nic(port))
        server.delete_port(port)
        with serving(guest, touches=[port], events=["removed"], nothing_to_do=False):
            guest.unplug(port)
            assert_gone(guest, name)
        port = server.create_port(network)
        with serving(guest, touches=[port], events=["added"]):
            guest.plug(port)
            assert_follows(guest, port)
        assert way_out(guest) == guest.nic(port)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, port)
    assert_nothing_to_do(guest)


@pytest.mark.parametrize("mode", ["slaac", "link-local", "static", "unasked"])
def test_a_second_router_that_advertises_itself(cloud: Cloud, guest_factory: GuestFactory, mode: str) -> None:
    """IPv6 routers make themselves known: what one on a second NIC says moves no default route.

    One that is told as the gateway by the very address from which it advertises is still heard: of two such routes with
    one metric the kernel would take one, and drop the advertisement. A provider's own router, of which Neutron knows
    nothing, is heard too: beside a static address (where cloud-init has networkd not listen, but ifupdown), and by a port
    that has an IPv4 address alone. NetworkManager would make itself an address of that router's prefix, which the port may
    not use: there such a port is without IPv6.
    """
    ipv6_mode, advertised = ("slaac", False) if mode in ("slaac", "link-local") else (None, True)
    blue, green = (
        cloud.network(
            name,
            subnets=[
                Subnet(f"10.{number}.0.0/24", f"10.{number}.0.1", dns=(f"10.{number}.0.2",)),
                Subnet(f"2001:db8:{number}::/64", f"2001:db8:{number}::1", ipv6_mode=ipv6_mode, advertised=advertised),
            ],
        )
        for name, number in (("blue", 90), ("green", 91))
    )
    if mode == "link-local":
        for network in (blue, green):
            network.subnets[1] = network.subnets[1]._replace(gateway=cloud.link_local(network))
    server = cloud.server("advertised")
    first = server.create_port(blue, fixed_ips=["10.90.0.5"] if mode == "unasked" else None)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    (primary,) = names(guest, first)
    without = guest.backend in PROFILES and mode == "unasked"
    deaf = without or (guest.backend != "ifupdown" and mode == "static")
    known = [] if deaf else [primary]
    wait_until(lambda: ways_out(guest) == known, 20 * guest.patience, "the first router is known")

    second = server.create_port(green, fixed_ips=["10.91.0.5"] if mode == "unasked" else None)
    guest.plug(second)
    (other,) = names(guest, second)
    known = [] if deaf else [primary, other]
    if mode == "static":
        told = {"2001:db8:90::1", "2001:db8:91::1"}
        wait_until(lambda: told <= six_gateways(guest), 20 * guest.patience, "the told gateways beside the advertised ones")
    wait_until(lambda: ways_out(guest) == known, 20 * guest.patience, "the second router is known")
    if without:
        assert_follows(guest, first, second)
        assert not six_routes(guest)
        return
    assert_primary_first(guest, primary, other)
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    wait_until(lambda: ways_out(guest) == known, 20 * guest.patience, "both routers are known")
    assert_primary_first(guest, primary, other)
    assert_nothing_to_do(guest)

    server.delete_port(first)
    guest.unplug(first)
    assert_gone(guest, primary)
    assert {dev for _metric, dev in six_routes(guest)} == {other}


def six_routes(guest: Container) -> List[Tuple[int, str]]:
    """(metric, NIC) of the IPv6 default routes, best first."""
    found = ip(guest, "-6 route show default")
    return sorted((route["metric"], hop["dev"]) for route in found for hop in route.get("nexthops", [route]))


def six_gateways(guest: Container) -> Set[str]:
    found = ip(guest, "-6 route show default")
    return {str(hop["gateway"]) for route in found for hop in route.get("nexthops", [route])}


def ways_out(guest: Container) -> List[str]:
    """The NICs on which a router advertises itself; the cloud's does so from either of its link-local addresses."""
    found = [route for route in ip(guest, "-6 route show default") if route.get("protocol") == "ra"]
    return sorted({hop["dev"] for route in found for hop in route.get("nexthops", [route])})


def assert_primary_first(guest: Container, primary: str, other: str) -> None:
    routes = six_routes(guest)
    worst = max(metric for metric, dev in routes if dev == primary)
    assert worst < min(metric for metric, dev in routes if dev == other), routes
    assert ip(guest, "-6 route get 2001:db8:f::1")[0]["dev"] == primary


def test_two_ports_on_one_network(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The same routes and gateway twice: without metrics of their own the second ones would not be taken."""
    blue = cloud.network(
        "blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450, routes=[("10.200.0.0/16", "10.90.0.9")]
    )
    server = cloud.server("twins")
    first, second = server.create_port(blue), server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    primary, survivor = names(guest, first, second)
    assert way_out(guest) == primary

    third = server.create_port(blue)
    with serving(guest, touches=[third], events=["added"], streams=[first]):
        guest.plug(third)
        assert_follows(guest, third)
    assert [nic for _metric, nic in default_routes(guest)] == names(guest, first, second, third)

    server.edit_port(second, routes=[("10.201.0.0/16", "10.90.0.8")])
    with serving(guest, touches=[second], streams=[first, third], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, second, seconds=1)

    with serving(guest, touches=[first], events=["removed"], streams=[]):
        guest.unplug(first)
        assert_gone(guest, primary)
    assert way_out(guest) == survivor
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, second, third)
    assert_nothing_to_do(guest)


def test_the_primary_itself_is_edited(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The metadata service knows a server by its fixed IPs: the one that the guest still has is nobody's now."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("edited")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    for edit in (dict(fixed_ips=["10.90.0.77"]), dict(mtu=1380, dns=["10.90.0.3"]), dict(routes=[("10.200.0.0/16", "10.90.0.9")])):
        server.edit_port(first, **edit)
        with serving(guest, touches=[first], streams=[second], starts_of_service=0):
            reconcile(guest)
            assert_follows(guest, first, seconds=2)
        assert way_out(guest) == guest.nic(first)
