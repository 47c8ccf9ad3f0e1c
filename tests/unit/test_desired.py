# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""desired: which entries are wanted, together with which, under which name."""

import pytest

from cloudinit_osnetd.core.desired import desired, unmanaged, with_dependents
from cloudinit_osnetd.core.truth import EMPTY, observe

from .build import A, B, C, bond, data, dns, document, link, nic, nics, static, vlan

TWO = document([link(), link(B, "tap2")], [static(), static("10.1.0.5", link="tap2")])
BOTH = nics(nic("ens3"), nic("ens4", B))


def know(doc, now=0.0):
    return observe(EMPTY, "metadata", data(doc), now)


def names(wants):
    return [[item.name for item in want.items] for want in wants]


def digests(wants):
    return {key: want.digest for want in wants for key in want.keys}


def test_each_nic_is_wanted_by_itself_under_the_kernels_name():
    assert names(desired(know(TWO), BOTH)) == [["ens3"], ["ens4"]]


def test_an_entry_without_a_nic_and_a_nic_without_an_entry_are_not_wanted():
    assert names(desired(know(TWO), nics(nic("ens4", B), nic("ens5", C)))) == [["ens4"]]


@pytest.mark.parametrize("ignore", [A, "ens3"])
def test_what_is_ignored_by_mac_or_by_name_is_not_wanted(ignore):
    assert names(desired(know(TWO), BOTH, frozenset([ignore]))) == [["ens4"]]


BONDED = document(
    [link(), link(B, "tap2"), bond(members=["tap1", "tap2"]), vlan(C, parent="bond1")], [static("10.2.0.5", link="vlan1")]
)


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("bond7.100", [["ens3", "ens4", "bond7"]]),  # nothing leans on a VLAN
        ("bond7", []),  # with its members: whoever sets it up takes them
        ("ens3", [["ens4", "bond7", "bond7.100"]]),
    ],
)
def test_a_bond_and_a_vlan_are_ignored_by_their_own_names(ignore, left):
    bonds = {C + "/bond": "bond7"}
    assert names(desired(know(BONDED), BOTH, frozenset([ignore]), bonds)) == left


def test_what_leans_on_an_ignored_bond_is_left_alone_with_it():
    known = know(BONDED)
    assert unmanaged(known, BOTH, frozenset(["bond0"])) == frozenset(known.keys)
    assert unmanaged(known, BOTH, frozenset()) == frozenset()


def test_an_orphan_is_still_wanted():
    known = observe(know(TWO), "metadata", data(document()), 1.0)
    assert names(desired(known, BOTH)) == [["ens3"], ["ens4"]]


def test_no_nics_no_wants():
    assert desired(know(TWO), {}) == []


# -- the digest changes when, and only when, the files may ------------------------------------------------


def test_another_nics_arrival_edit_and_leaving_leave_a_digest_as_it_is():
    mine = digests(desired(know(document([link()], [static()], dns("10.9.9.9"))), nics(nic("ens3"))))[A + "/phy"]
    known = know(document([link()], [static()], dns("10.9.9.9")))
    edited = dict(TWO, networks=[TWO["networks"][0], static("10.1.0.6", link="tap2")], services=dns("10.8.8.8"))
    for doc in (dict(TWO, services=dns("10.9.9.9", "10.8.8.8")), edited, document([link()], [static()])):
        known = observe(known, "metadata", data(doc), 0.0)
        assert digests(desired(known, BOTH))[A + "/phy"] == mine


@pytest.mark.parametrize(
    ("doc", "nic_name"),
    [
        (document([link(mtu=1400)], [static()]), "ens3"),
        (document([link()], [static("10.0.0.6")]), "ens3"),
        (document([link()], [static()], dns("10.9.9.9")), "ens3"),
        (document([link()], [static()]), "ens9"),
    ],
)
def test_an_edit_a_new_dns_and_a_new_name_change_the_digest(doc, nic_name):
    before = digests(desired(know(document([link()], [static()])), nics(nic("ens3"))))
    assert digests(desired(know(doc), nics(nic(nic_name)))) != before


def test_the_global_dns_does_not_count_for_a_link_that_has_its_own():
    own = static(services=dns("10.0.0.2"))
    with_global = desired(know(document([link()], [own], dns("10.9.9.9"))), nics(nic("ens3")))
    assert digests(with_global) == digests(desired(know(document([link()], [own])), nics(nic("ens3"))))
    assert with_global[0].items[0].dns == ()


def test_addresses_and_state_of_the_nic_do_not_count():
    known = know(document([link()], [static()]))
    other = nic("ens3", addresses=["10.9.9.9/8"], up=False, index=77, carrier=False)
    assert digests(desired(known, nics(nic("ens3")))) == digests(desired(known, nics(other)))


# -- links that lean on each other -------------------------------------------------------------------------

LEANING = document(
    [vlan(C, "vlan1", 100, "bond1"), bond(), link(), link(B, "tap2")],
    [static(link="vlan1"), static("10.1.0.5", link="bond1")],
)


def test_a_bond_its_members_and_its_vlans_are_wanted_together_lowest_first():
    assert names(desired(know(LEANING), BOTH)) == [["ens3", "ens4", "bond0", "bond0.100"]]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["bond0"], ["bond0", "bond0.100", "ens3", "ens4"]),
        (["ens3"], ["ens3"]),
        (["bond0.100"], ["bond0.100"]),
        ([], []),
        (["another"], ["another"]),
    ],
)
def test_on_a_bond_depend_its_members_and_its_vlans(given, found):
    assert sorted(with_dependents(desired(know(LEANING), BOTH), frozenset(given))) == found


def test_a_vlan_follows_the_name_of_its_parent():
    doc = document([link(), vlan(A, "vlan1", 7), vlan(A, "vlan2", 8)])
    assert names(desired(know(doc), nics(nic("enp1s0")))) == [["enp1s0", "enp1s0.7", "enp1s0.8"]]


def test_a_bond_goes_without_the_members_that_have_no_nic():
    (want,) = desired(know(LEANING), nics(nic("ens4", B)))
    assert [item.name for item in want.items] == ["ens4", "bond0", "bond0.100"]
    assert want.items[1].entry.members == (B + "/phy",)


def test_nics_beside_a_bond_stay_by_themselves():
    other = "fa:16:3e:00:00:09"
    doc = dict(LEANING, links=LEANING["links"] + [link(other, "tap9")])
    found = desired(know(doc), nics(nic("ens3"), nic("ens4", B), nic("ens9", other)))
    assert sorted(names(found)) == [["ens3", "ens4", "bond0", "bond0.100"], ["ens9"]]


def test_a_bond_keeps_the_name_it_has_and_a_new_one_takes_a_free_one():
    d, e = "fa:16:3e:00:00:0d", "fa:16:3e:00:00:0e"
    doc = document([link(), link(B, "tap2"), bond(d, "b1", ["tap1"]), bond(e, "b2", ["tap2"])])
    found = desired(know(doc), BOTH, bonds={e + "/bond": "bond0"})
    assert sorted(names(found)) == [["ens3", "bond1"], ["ens4", "bond0"]]


def test_what_a_document_says_of_an_unusable_vlan_costs_no_other_nic():
    doc = document([link(), vlan(B, "v1", 7, "v2"), vlan(A, "v2", 8, "tap1"), link(B, "tap2")])
    assert sorted(name for group in names(desired(know(doc), BOTH)) for name in group) == ["ens3", "ens3.8", "ens4"]


def test_a_wants_digest_is_that_of_released_versions_whatever_the_documents_order():
    """The ledgers of servers in the field have it (by 0.1.0): with another one an upgrade would touch each NIC."""
    routes = [
        {"network": "192.168.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.1"},
        {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.0.0.1"},
    ]
    v6 = static("fd00::5", "ffff:ffff:ffff:ffff::", gateway="fd00::1")
    for networks in ([v6, static("10.0.0.9", routes=routes)], [static("10.0.0.9", routes=routes[::-1]), v6]):
        (want,) = desired(know(document([link(mtu=1450)], networks)), nics(nic("ens3")))
        assert want.digest == "e01b16e4b2c1d29a448fd3a03e9d822d"
