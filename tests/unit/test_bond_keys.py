# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A bond that is told no MAC keeps its key, whichever of its members comes or leaves."""

import pytest

from cloudinit_osnetd.core.truth import EMPTY, observe

from .build import A, B, C, bond, data, document, link, static, vlan

D = "fa:16:3e:00:00:04"
NICS = {A: "tap1", B: "tap2", C: "tap3", D: "tap4"}


def nameless(*bonds, links=(), networks=()):
    """A document of all NICs and of these bonds, each a tuple of its members' MACs."""
    made = [bond(None, "bond%d" % n, [NICS[mac] for mac in macs]) for n, macs in enumerate(bonds)]
    return document([link(mac, name) for mac, name in NICS.items()] + made + list(links), networks)


def heard(*documents):
    known = EMPTY
    for number, said in enumerate(documents):
        known = observe(known, "metadata", data(said), float(number))
    return known


def bonds_of(known):
    """By key, the MACs of the members of the bonds that are listed."""
    return {
        key: tuple(member[:17] for member in one.entry.members)
        for key, one in known.keys.items()
        if one.entry.kind == "bond" and one.listed
    }


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ((A, B), (B,), {A: (B,)}),  # the lowest one leaves
        ((A, B, C), (B, C), {A: (B, C)}),
        ((B, C), (A, B, C), {B: (A, B, C)}),  # one that is lower comes
        ((A, B), (B, C), {A: (B, C)}),
        ((A, B), (C, D), {C: (C, D)}),  # nothing is left of it: another bond
    ],
)
def test_the_key_stays_while_a_member_does(before, after, keys):
    assert bonds_of(heard(nameless(before), nameless(after))) == {mac + "/bond": found for mac, found in keys.items()}


def test_and_through_many_changes():
    known = heard(nameless((A, B)), nameless((B,)), nameless((B, C)), nameless((C,)), nameless((C, D)))
    assert bonds_of(known) == {A + "/bond": (C, D)}
    assert [key for key, one in known.keys.items() if not one.listed] == []


def test_what_stands_on_it_keeps_its_key_too():
    """A VLAN that is told no MAC is known by its parent's."""
    tagged = [vlan(None, "vlan1", 7, "bond0"), vlan(D, "vlan2", 8, "bond0")]
    networks = [static(link="vlan1"), static("10.1.0.5", link="vlan2")]
    known = heard(*(nameless(members, links=tagged, networks=networks) for members in ((A, B), (B, C))))
    vlans = {key: one.entry.parent for key, one in known.keys.items() if one.entry.kind == "vlan" and one.listed}
    assert vlans == {A + "/vlan.7": A + "/bond", D + "/vlan.8": A + "/bond"}
    assert known.keys[A + "/vlan.7"].entry.mac == A


def test_two_bonds_each_keep_their_own():
    known = heard(nameless((A, B), (C, D)), nameless((B,), (D,)))
    assert bonds_of(known) == {A + "/bond": (B,), C + "/bond": (D,)}


def test_one_that_takes_the_most_of_another_is_that():
    known = heard(nameless((B, C, D)), nameless((A, B), (C, D)))
    assert bonds_of(known) == {A + "/bond": (A, B), B + "/bond": (C, D)}


@pytest.mark.parametrize("after", [((A,), (B,)), ((A, B), ()), ((B,), (A,)), ((A, C), (B, D))])
def test_never_two_bonds_under_one_key(after):
    said = nameless(*[members for members in after if members])
    known = heard(nameless((A, B), (C, D)), said)
    assert sorted(bonds_of(known).values()) == sorted(tuple(sorted(m)) for m in after if m)


@pytest.mark.parametrize("mac", [A, D])
def test_a_bond_that_is_told_a_mac_is_known_by_it(mac):
    told = document([link(A, "tap1"), link(B, "tap2"), bond(mac, "bond0", ["tap1", "tap2"])])
    less = document([link(A, "tap1"), link(B, "tap2"), bond(mac, "bond0", ["tap2"])])
    assert set(bonds_of(heard(told, less))) == {mac + "/bond"}
    assert set(bonds_of(heard(nameless((A, B)), told))) == {mac + "/bond"}


def test_sources_that_know_different_members_speak_of_one_bond():
    known = observe(heard(nameless((B, C))), "drive", data(nameless((A, B))), 9.0)
    assert {key for key in known.keys if key.endswith("/bond")} == {B + "/bond"}


@pytest.mark.parametrize("members", [(B,), (A, B), (B, C)])
def test_one_that_is_refused_stays_what_it_was(members):
    """Whatever else is wrong with it: it is not another bond, and the one that is there is not one that has left."""
    said = nameless(members)
    said["links"][-1]["mtu"] = 1
    before = heard(nameless((A, B)))
    known = observe(before, "metadata", data(said), 9.0)
    assert bonds_of(known) == bonds_of(before)
    assert "mtu" in known.refused(A + "/bond")
