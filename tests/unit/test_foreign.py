# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""foreign: which of the kernel's addresses, routes and rules belong to other software."""

import pytest

from cloudinit_osnetd.apply import foreign
from cloudinit_osnetd.apply.foreign import Ours
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.kernel.save_restore import ADDRESS, NEXTHOP, ROUTE, RULE, NetObject

from .build import entry, static

OURS = Ours(frozenset(["10.0.0.5/24"]), frozenset([("0.0.0.0/0", "10.0.0.1"), ("10.9.0.0/16", "")]))


def address(cidr, ifindex=2, permanent=True):
    return NetObject(ADDRESS, (ifindex,), cidr, "%s %d" % (cidr, ifindex), b"", permanent, network=cidr)


def route(network, *gateways, ifindexes=(2,), protocol=3, table=254, permanent=True):
    same = "%s %s %s %d" % (network, gateways, ifindexes, table)
    return NetObject(ROUTE, tuple(ifindexes), network, same, b"", permanent, protocol, table, network, gateways)


def nexthop(number, *ifindexes, protocol=11):
    return NetObject(NEXTHOP, ifindexes, "nexthop %d" % number, "nexthop %d" % number, b"", protocol=protocol, nexthop=number)


RULE_500 = NetObject(RULE, (), "rule 500", "rule 500", b"")


def chosen(*there, touched=(2,), given=OURS):
    return [one.text for one in foreign.choose(there, frozenset(touched), {2: given})]


@pytest.mark.parametrize(
    "thing",
    [
        address("10.0.0.200/32"),  # keepalived's
        address("10.0.0.5/32"),  # our address, as one that wanders
        address("2001:db8::200/64"),
        route("192.0.2.0/24", "10.0.0.9"),
        route("192.0.2.0/24", "10.0.0.9", protocol=18),  # keepalived's
        route("0.0.0.0/0", "10.0.0.9"),  # another default route
        route("0.0.0.0/0", "10.0.0.1", table=100),  # ours, in a table of somebody's rule
        route("203.0.113.0/24", ifindexes=()),  # a blackhole
        route("192.0.2.0/24", "10.1.0.9", ifindexes=[3]),  # another NIC's, that may lean on an address of this one
        route("192.0.2.0/24", "10.0.0.9", "10.1.0.9", ifindexes=[2, 3]),
        RULE_500,
        nexthop(101, 2),  # a routing daemon's
        nexthop(100),  # a group of them: networkd removes it whichever NIC it reloads
        route("192.0.2.0/24", "10.1.0.9", ifindexes=[3], protocol=11)._replace(nexthop=100),  # goes with the group
    ],
)
def test_somebody_elses(thing):
    assert chosen(thing) == [thing.text]


@pytest.mark.parametrize(
    "thing",
    [
        address("10.0.0.5/24"),
        address("10.0.0.77/24", permanent=False),  # a lease's
        address("10.1.0.5/24", ifindex=3),  # of a NIC that is not touched
        route("0.0.0.0/0", "10.0.0.1"),
        route("10.9.0.0/16"),
        route("10.0.0.0/24", protocol=2),  # with the address
        route("::/0", "fe80::1", protocol=9),  # advertised
        route("0.0.0.0/0", "10.0.0.1", protocol=16, table=100),  # a lease's, by networkd
        route("2001:db8::/64", permanent=False),
        route("192.0.2.0/24", "10.1.0.9", ifindexes=[3], protocol=12),  # a routing daemon's, of another NIC
        nexthop(102, 3),
    ],
)
def test_ours_or_somebody_looks_after_it(thing):
    assert chosen(thing) == []


def test_the_routes_that_a_dhcp_client_has_set_come_with_its_lease():
    leased = OURS._replace(leased=True)
    lease, metadata = address("10.0.0.77/24", permanent=False), route("169.254.169.254/32", "10.0.0.2")
    default, by_hand = route("0.0.0.0/0", "10.0.0.254"), route("192.0.2.0/24", "10.0.0.9")
    assert chosen(lease, default, metadata, by_hand, given=leased) == ["192.0.2.0/24"]
    assert len(chosen(default, metadata, by_hand, given=leased)) == 3  # no lease is there: who set them?


def test_a_nic_that_is_not_touched_keeps_its_addresses_by_itself():
    assert chosen(address("10.0.0.200/32"), RULE_500, touched=()) == ["rule 500"]


def test_what_the_part_on_disk_gave_is_ours_whatever_was_said_since():
    """A NIC that was left to somebody for a while has a part that is older than anybody's last word."""
    one = entry(static("10.0.0.78"))
    wants = [Want((Item(one.key, one, "ens3", ()),), "d")]
    part = ["address 10.0.0.77/24", "route 0.0.0.0/0 via 10.0.0.1 metric 5", "route 10.9.0.0/16", "mtu 1400", "name ens3"]
    said = foreign.ours_by_nic(wants, parts={"ens3": part})["ens3"]
    assert said.addresses == {"10.0.0.78/24", "10.0.0.77/24"}
    assert said.routes == {("0.0.0.0/0", "10.0.0.1"), ("10.9.0.0/16", "")}


def test_what_leans_on_something_is_made_after_it():
    """A route names a group of nexthops, these are reached by an address and a route on the link."""
    by_group = route("192.0.2.0/24", "10.0.0.9")._replace(nexthop=100)
    group = nexthop(100)._replace(text="nexthop 100 group 101/102")
    on_link = route("10.0.0.9/32")
    order = [address("10.0.0.5/24"), on_link, nexthop(101, 2), nexthop(102, 2), group, by_group]
    assert foreign._in_order([by_group, group, order[2], order[3], on_link, order[0]]) == order
