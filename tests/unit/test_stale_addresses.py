# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""stale_addresses: addresses of a NIC's former part are removed, until the kernel does not show them."""

import pytest

from cloudinit_osnetd.apply import stale_addresses
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.core.truth import KeyTruth, Statement
from cloudinit_osnetd.state import findings, store
from cloudinit_osnetd.system import paths

from .build import A, data, document, link, nic, snapshot

KEY = A + "/phy"


def entry(*addresses):
    networks = [
        {"id": "n%d" % n, "type": "ipv4", "link": "tap1", "ip_address": one, "netmask": "255.255.255.0", "routes": []}
        for n, one in enumerate(addresses)
    ]
    return data(document([link()], networks)).entries[KEY]


def known(*addresses):
    return {KEY: KeyTruth("metadata", {"metadata": Statement(entry(*addresses), 1, True, (), None)}, ())}


def want(*addresses):
    return [Want((Item(KEY, entry(*addresses), "ens3", ()),), "d")]


def touch(action="reconfigure"):
    return [Touch(action, A, "ens3", "its entry changed")]


def remembered(state, *addresses, before, action="reconfigure", part=()):
    return stale_addresses.remember(state, want(*addresses), touch(action), {}, known(*before), {"ens3": part}).unwanted


def test_what_the_new_part_does_not_give_is_remembered_until_it_is_gone():
    state = store.empty("i")
    assert remembered(state, "10.0.0.5", before=["10.0.0.5"]) == {}
    assert remembered(state, "10.0.0.6", before=["10.0.0.5"]) == {KEY: ("10.0.0.5/24",)}
    again = state._replace(unwanted={KEY: ("10.0.0.4/24",)})
    assert remembered(again, "10.0.0.6", before=["10.0.0.5"]) == {KEY: ("10.0.0.4/24", "10.0.0.5/24")}
    assert remembered(again, "10.0.0.4", before=["10.0.0.6"]) == {KEY: ("10.0.0.6/24",)}  # wanted again
    assert remembered(again, "10.0.0.6", before=["10.0.0.5"], action="up") == {KEY: ("10.0.0.4/24",)}


def test_an_address_that_an_edit_of_the_part_gave_is_remembered_where_the_edit_is_taken_back():
    part = ["address 10.0.0.5/24", "address 10.99.0.9/24", "route 10.9.0.0/16 via 10.0.0.1", "mtu 1450"]
    assert remembered(store.empty("i"), "10.0.0.5", before=["10.0.0.5"], part=part) == {KEY: ("10.99.0.9/24",)}


def test_what_went_back_wants_the_old_one_and_not_the_new():
    state = store.empty("i")._replace(unwanted={KEY: ("10.0.0.5/24",)})
    (one,) = want("10.0.0.6")
    assert stale_addresses.rolled_back(state, one.items, known("10.0.0.5")).unwanted == {KEY: ("10.0.0.6/24",)}
    assert stale_addresses.rolled_back(state, one.items, {}).unwanted == {KEY: ("10.0.0.5/24", "10.0.0.6/24")}


def test_only_what_is_there_and_was_ours_is_found():
    state = store.empty("i")._replace(unwanted={KEY: ("10.0.0.5/24",)})
    items = {item.key: item for one in want("10.0.0.6") for item in one.items}
    there = snapshot(nic("ens3", A, 2, ["10.0.0.6/24", "10.0.0.5/24", "10.0.0.200/32", "10.0.0.7/24"]))
    assert stale_addresses.still_present(state, items, there) == {KEY: ("10.0.0.5/24",)}
    assert stale_addresses.still_present(state, items, snapshot(nic("ens3", A, 2, ["10.0.0.6/24", "10.0.0.5/32"]))) == {}
    assert stale_addresses.still_present(state, {}, there) == {}  # its NIC has left


def leased(*addresses, lifetime=True):
    """A NIC with these addresses, the first with a lifetime."""
    one = nic("ens3", A, 2, list(addresses))
    first = one.addresses[0]._replace(permanent=not lifetime)
    return one._replace(addresses=(first,) + one.addresses[1:])


def test_a_lease_of_the_address_that_was_static_before_is_not_what_was_left():
    """Neutron's port keeps its fixed IP when its subnet's DHCP is switched on."""
    state = store.empty("i")._replace(unwanted={KEY: ("10.0.0.5/24",)})
    (one,) = want()
    items = {item.key: item for item in one.items}
    assert stale_addresses.still_present(state, items, snapshot(leased("10.0.0.5/24"))) == {}
    assert stale_addresses.still_present(state, items, snapshot(leased("10.0.0.8/24", "10.0.0.5/24"))) == {KEY: ("10.0.0.5/24",)}


@pytest.mark.parametrize(
    ("kind", "addresses", "left"),
    [
        ("ipv4_dhcp", ["10.0.0.5/24"], set()),  # a lease without end, or the client is at it
        ("ipv4_dhcp", ["10.0.0.8/24", "10.0.0.5/24"], {"10.0.0.5/24"}),
        ("ipv6_slaac", ["10.0.0.5/24", "10.0.0.6/24"], {"10.0.0.5/24"}),  # nothing brings IPv4
        ("ipv6_slaac", ["2001:db8::5/64", "fe80::1/64"], set()),
        ("ipv6_dhcpv6-stateful", ["2001:db8::5/64", "2001:db8::8/128"], {"2001:db8::5/64"}),
        ("ipv4", ["10.0.0.5/24"], {"10.0.0.5/24"}),
    ],
)
def test_a_lease_without_end_looks_like_what_was_left(kind, addresses, left):
    networks = [{"id": "n0", "type": kind, "link": "tap1", "ip_address": "10.0.0.9", "netmask": "255.255.255.0", "routes": []}]
    one = data(document([link()], networks)).entries[KEY]
    there = nic("ens3", A, 2, addresses)
    assert stale_addresses._without_leases([a for a in addresses if "5/" in a], there, one) == left


def test_the_store_keeps_it(guest):
    state = store.empty("i")._replace(unwanted={KEY: ("10.0.0.5/24",)})
    store.save(state)
    assert store.load("i") == state


def test_what_was_found_is_reported_until_the_nic_is_touched_again(guest):
    assert findings.read() == {}
    findings.keep({A, "b"}, {A: ("one",), "b": ()})
    assert findings.read() == {A: ("one",)}
    findings.keep({"b"}, {"b": ("two",)})
    assert findings.read() == {A: ("one",), "b": ("two",)}
    findings.keep({A, "b"}, {})
    assert findings.read() == {}
    with open(paths.FINDINGS, "w") as file:
        file.write("[1]")
    assert findings.read() == {}
