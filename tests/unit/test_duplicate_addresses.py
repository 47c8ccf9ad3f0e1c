# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""duplicate_addresses: which duplicates are ours to retry, and how that is done."""

import pytest

from cloudinit_osnetd.apply import duplicate_addresses
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.records import Address

from .build import A, entry, nic, snapshot, static
from .programs import programs

SIX = "2001:db8::5/64"
ENTRY = entry(static(), static("2001:db8::5", "ffff:ffff:ffff:ffff::"))
WANTS = [Want((Item(ENTRY.key, ENTRY, "ens3", ()),), "d")]
ONE = duplicate_addresses.Duplicate(A, A, "ens3", SIX)


def shown(duplicate, tentative=None, address=SIX, **fields):
    said = Address(address, duplicate if tentative is None else tentative, True, duplicate)
    return snapshot(nic("ens3", A)._replace(addresses=(said,), **fields))


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (shown(True), [ONE]),
        (shown(False), []),
        (shown(False, tentative=True), []),
        (shown(True, address="2001:db8::9/64"), []),  # somebody else's
        (shown(True, master=7), []),
        (snapshot(), []),
    ],
)
def test_those_of_ours_are_found(now, found):
    assert duplicate_addresses.found(WANTS, now) == found


@pytest.mark.parametrize(
    ("then", "own"),
    [
        ([shown(False, tentative=True), shown(False)], {"ens3": A}),
        ([shown(False, tentative=True), shown(True)], {}),
        ([snapshot()], {}),
    ],
)
def test_an_address_is_removed_and_added_and_nothing_else(tmp_path, monkeypatch, then, own):
    ran = programs(tmp_path, monkeypatch, {"ip": ""})
    left = list(then)
    monkeypatch.setattr(duplicate_addresses.netlink, "snapshot", lambda: left.pop(0) if len(left) > 1 else left[0])
    assert duplicate_addresses.probe([ONE]) == own
    assert ran.ran() == ["ip -6 address delete %s dev ens3" % SIX, "ip -6 address add %s dev ens3" % SIX]
