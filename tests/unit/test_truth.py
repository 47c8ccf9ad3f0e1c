# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""truth: which source is believed, when it is doubted, what becomes of what nobody lists any more."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.core import truth, truth_on_disk
from cloudinit_osnetd.core.truth import DOUBT_LOOK, DOUBT_WITHIN, EMPTY, observe

from .build import A, B, C, bond, data, dhcp, dns, document, entry, link, one_nic, static, vlan

KEY = A + "/phy"
ONE, TWO, THREE, FOUR = (one_nic(static("10.0.0.%d" % n)) for n in (1, 2, 3, 4))
NONE = document()


def hear(*said):
    """The truth after (source, document, seconds) have been observed in turn."""
    known = EMPTY
    for source, doc, now in said:
        known = observe(known, source, data(doc), now)
    return known


def address(known, key=KEY):
    return known.keys[key].entry.networks[0].address


# -- the counter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", truth.RANK)
@pytest.mark.parametrize("second", ["metadata", "drive"])
def test_a_sources_first_word_never_beats_an_entry_in_force(first, second):
    known = hear((first, ONE, 0), *([(second, TWO, 1)] if second != first else []))
    assert known.keys[KEY].in_force == first
    assert address(known) == "10.0.0.1/24"


@pytest.mark.parametrize("first", ["metadata", "drive"])
def test_a_first_push_is_in_force_where_it_says_something_else(first):
    assert hear((first, ONE, 0), ("push", ONE, 1)).keys[KEY].in_force == first
    known = hear((first, ONE, 0), ("push", TWO, 1), (first, ONE, 2))
    assert (known.keys[KEY].in_force, address(known)) == ("push", "10.0.0.2/24")
    assert address(observe(known, first, data(THREE), 100)) == "10.0.0.3/24"


@pytest.mark.parametrize("other", ["push", "metadata"])
def test_the_source_whose_entry_changed_last_is_believed(other):
    known = hear(("drive", ONE, 0), (other, ONE, 1), (other, TWO, 2))
    assert (known.keys[KEY].in_force, address(known)) == (other, "10.0.0.2/24")
    known = observe(known, "drive", data(THREE), 100)
    assert (known.keys[KEY].in_force, address(known)) == ("drive", "10.0.0.3/24")


def test_repeating_an_old_word_does_not_bring_a_source_back():
    said = [("drive", ONE, 0), ("metadata", ONE, 1), ("metadata", TWO, 2)]
    known = hear(*said, ("drive", ONE, 3), ("metadata", TWO, 4), ("drive", ONE, 5))
    assert (known.keys[KEY].in_force, address(known)) == ("metadata", "10.0.0.2/24")


def test_what_repeats_itself_changes_nothing_at_all():
    known = hear(("metadata", ONE, 0), ("drive", ONE, 0))
    assert hear(("metadata", ONE, 0), ("drive", ONE, 0), ("metadata", ONE, 50), ("drive", ONE, 60)) == known


def test_each_key_has_a_source_of_its_own():
    both = document([link(), link(B, "tap2")], [static(), static("10.1.0.1", link="tap2")])
    edited = document([link(), link(B, "tap2")], [static(), static("10.1.0.2", link="tap2")])
    known = hear(("drive", both, 0), ("metadata", both, 1), ("metadata", edited, 2))
    assert (known.keys[KEY].in_force, known.keys[B + "/phy"].in_force) == ("drive", "metadata")


def test_the_counter_orders_changes_of_different_sources_whatever_the_clock_says():
    known = hear(("drive", ONE, 1000), ("metadata", ONE, 1000), ("metadata", TWO, 1000), ("drive", THREE, 5))
    assert address(known) == "10.0.0.3/24"
    assert known.counter == 2


# -- what a source no longer lists --------------------------------------------------------------------


def test_what_a_source_no_longer_lists_keeps_its_last_entry():
    known = hear(("metadata", ONE, 0), ("metadata", NONE, 1))
    assert address(known) == "10.0.0.1/24"
    assert not known.keys[KEY].listed


def test_listed_again_as_it_was_it_is_simply_listed():
    assert hear(("metadata", ONE, 0), ("metadata", NONE, 1), ("metadata", ONE, 2)) == hear(("metadata", ONE, 0))


def test_listed_again_with_another_content_it_has_changed():
    known = hear(("drive", ONE, 0), ("metadata", ONE, 0), ("metadata", NONE, 1), ("metadata", TWO, 2))
    assert (known.keys[KEY].in_force, address(known)) == ("metadata", "10.0.0.2/24")


def test_one_source_that_lists_it_is_enough():
    assert hear(("drive", ONE, 0), ("metadata", ONE, 0), ("metadata", NONE, 1)).keys[KEY].listed


def test_a_key_that_a_source_gets_wrong_is_neither_edited_nor_missing():
    wrong = one_nic(static(netmask="x"))
    assert hear(("metadata", ONE, 0), ("metadata", wrong, 1)).keys == hear(("metadata", ONE, 0)).keys


@pytest.mark.parametrize("lost", [[], [static()]], ids=["all", "one"])
def test_while_a_network_names_no_link_nobody_has_lost_one(lost):
    two = [static(), static("fd00::5", netmask="ffff:ffff:ffff:ffff::")]
    known = observe(EMPTY, "metadata", data(one_nic(*two)), 0.0)
    said = data(one_nic(*lost, static("10.7.0.5", link="no such link")))
    assert [fault.path for fault in said.faults] == ["networks[%d].link" % len(lost)]
    assert observe(known, "metadata", said, 60.0).keys == known.keys


def test_while_a_network_names_no_link_a_nic_without_any_is_not_heard_for_the_first_time():
    said = document([link(), link(B, "tap2")], [static(), static("10.7.0.5", link="no such link")])
    assert list(observe(EMPTY, "metadata", data(said), 0.0).keys) == [A + "/phy"]


def test_while_a_network_names_no_link_the_edit_of_another_is_taken():
    known = observe(EMPTY, "metadata", data(one_nic(static())), 0.0)
    said = one_nic(static("10.0.0.6"), static("10.7.0.5", link="no such link"))
    assert observe(known, "metadata", data(said), 60.0).keys[A + "/phy"].entry == entry(static("10.0.0.6"))


def test_while_a_link_cannot_be_told_nothing_is_missing():
    nameless = document([link(mac="x")])
    assert hear(("metadata", ONE, 0), ("metadata", nameless, 1)).keys[KEY].listed


@pytest.mark.parametrize(
    ("listed", "here", "stays"), [(True, True, True), (True, False, True), (False, True, True), (False, False, False)]
)
def test_a_key_is_forgotten_when_nobody_lists_it_and_no_nic_has_it(listed, here, stays):
    known = hear(("metadata", ONE, 0), ("metadata", ONE if listed else NONE, 1))
    assert (KEY in truth.forget_gone(known, [KEY] if here else []).keys) == stays


def test_nothing_to_forget_leaves_the_very_same_truth():
    known = hear(("metadata", ONE, 0))
    assert truth.forget_gone(known, []) is known


# -- doubt --------------------------------------------------------------------------------------------

BACK = [("metadata", ONE, 0), ("metadata", TWO, 100)]


@pytest.mark.parametrize(
    ("after", "doubted"),
    [(0, True), (1, True), (DOUBT_WITHIN - 1, True), (DOUBT_WITHIN, False), (3600, False), (-1, False)],
)
def test_back_to_what_was_superseded_less_than_30_s_ago_is_doubted(after, doubted):
    known = hear(*BACK, ("metadata", ONE, 100 + after))
    assert known.keys[KEY].doubted == doubted
    assert address(known) == ("10.0.0.2/24" if doubted else "10.0.0.1/24")


@pytest.mark.parametrize(("after", "believed"), [(1, False), (DOUBT_LOOK - 1, False), (DOUBT_LOOK, True), (3600, True)])
def test_it_is_believed_when_it_still_stands_15_s_later(after, believed):
    known = hear(*BACK, ("metadata", ONE, 101), ("metadata", ONE, 101 + after))
    assert known.keys[KEY].doubted == (not believed)
    assert address(known) == ("10.0.0.1/24" if believed else "10.0.0.2/24")


def test_the_doubt_lasts_to_its_second_look_also_past_the_30_s():
    known = hear(*BACK, ("metadata", ONE, 129), ("metadata", ONE, 143))
    assert known.keys[KEY].doubted
    assert not observe(known, "metadata", data(ONE), 144).keys[KEY].doubted


def test_a_doubt_ends_when_the_source_says_again_what_is_in_force():
    assert hear(*BACK, ("metadata", ONE, 101), ("metadata", TWO, 102)) == hear(*BACK)


def test_a_content_never_seen_is_no_reason_to_doubt_also_during_one():
    known = hear(*BACK, ("metadata", ONE, 101), ("metadata", THREE, 102))
    assert not known.keys[KEY].doubted
    assert address(known) == "10.0.0.3/24"


def test_two_workers_that_answer_old_and_new_in_turn_change_nothing_after_the_edit():
    said = list(BACK)
    for i in range(15):
        said += [("metadata", (ONE, TWO)[i % 2], 101 + i)]
        known = hear(*said)
        assert address(known) == "10.0.0.2/24"
        assert known.counter == 1


def test_an_edit_and_another_are_not_doubted_and_going_back_two_is():
    known = hear(*BACK, ("metadata", THREE, 105))
    assert (known.keys[KEY].doubted, address(known)) == (False, "10.0.0.3/24")
    assert observe(known, "metadata", data(ONE), 110).keys[KEY].doubted


def test_what_is_no_longer_listed_is_no_longer_doubted():
    assert not hear(*BACK, ("metadata", ONE, 101), ("metadata", NONE, 102)).keys[KEY].doubted


def test_a_source_is_doubted_by_its_own_past_only():
    known = hear(*BACK, ("drive", ONE, 101))
    assert not known.keys[KEY].doubted
    assert address(known) == "10.0.0.2/24"


# -- global DNS ---------------------------------------------------------------------------------------

NEW = document([link(), link(B, "tap2")], [static("10.0.0.1")], dns("10.9.9.9"))


def with_dns(doc, *addresses):
    return dict(doc, services=dns(*addresses))


def served(known):
    return known.keys[KEY].services


def test_a_new_key_takes_the_global_dns_of_its_document():
    assert served(hear(("metadata", with_dns(ONE, "10.9.9.1"), 0))) == ("10.9.9.1",)


def test_an_edit_of_the_global_dns_is_taken_while_the_ports_stay_the_same():
    assert served(hear(("metadata", with_dns(ONE, "10.9.9.1"), 0), ("metadata", with_dns(ONE, "10.9.9.2"), 1))) == (
        "10.9.9.2",
    )


def test_another_ports_arrival_changes_no_dns_of_those_that_stay():
    known = hear(("metadata", with_dns(ONE, "10.9.9.1"), 0), ("metadata", NEW, 1))
    assert served(known) == ("10.9.9.1",)
    assert known.keys[B + "/phy"].services == ("10.9.9.9",)
    known = observe(known, "metadata", data(with_dns(ONE, "10.9.9.3")), 2)
    assert served(known) == ("10.9.9.1",)


def test_another_ports_edit_changes_no_dns_of_those_that_stay():
    edited = document(NEW["links"], [static("10.0.0.1"), static("10.1.0.1", link="tap2")], dns("10.9.9.9", "10.9.9.8"))
    assert served(hear(("metadata", NEW, 0), ("metadata", edited, 1))) == ("10.9.9.9",)


def test_an_edited_entry_takes_the_global_dns_that_comes_with_it():
    assert served(hear(("metadata", with_dns(ONE, "10.9.9.1"), 0), ("metadata", with_dns(TWO, "10.9.9.2"), 1))) == (
        "10.9.9.2",
    )


def test_only_the_source_in_force_edits_the_global_dns():
    drive = [("drive", with_dns(ONE, "10.9.9.1"), 0), ("metadata", with_dns(ONE, "10.9.9.2"), 0)]
    assert served(hear(*drive, ("metadata", with_dns(ONE, "10.9.9.3"), 1))) == ("10.9.9.1",)


def test_a_new_order_of_the_global_dns_is_no_edit():
    said = [
        ("metadata", with_dns(ONE, "10.9.9.1", "10.9.9.2"), 0),
        ("metadata", with_dns(ONE, "10.9.9.2", "10.9.9.1"), 1),
    ]
    assert served(hear(*said)) == ("10.9.9.1", "10.9.9.2")


@pytest.mark.parametrize(
    ("networks", "needs"),
    [
        ([], False),
        ([static()], True),
        ([static(), static("fd00::5", "ffff::")], True),
        ([static(services=dns("10.0.0.2"))], False),
        ([static(), static("fd00::5", "ffff::", services=dns("fd00::2"))], False),
        ([dhcp()], False),
        ([static(), dhcp()], False),
        ([dict(dhcp(), type="ipv6_dhcpv6-stateless")], False),
        ([dict(dhcp(), type="ipv6_slaac")], True),
    ],
)
def test_the_global_dns_serves_a_link_that_has_none_of_its_own(networks, needs):
    (only,) = data(one_nic(*networks)).entries.values()
    assert truth.needs_services(only) == needs


# -- which keys have a NIC ------------------------------------------------------------------------------

LEANING = document(
    [link(), link(B, "tap2"), bond(), vlan(C, "vlan1", 100, "bond1"), vlan(A, "vlan2", 7, "tap1")],
)


@pytest.mark.parametrize(
    ("macs", "keys"),
    [
        ([], []),
        ([A], [A + "/phy", A + "/vlan.7", C + "/bond", C + "/vlan.100"]),
        ([B], [B + "/phy", C + "/bond", C + "/vlan.100"]),
        ([A, B], [A + "/phy", A + "/vlan.7", B + "/phy", C + "/bond", C + "/vlan.100"]),
        ([C], []),
    ],
)
def test_a_bond_needs_a_member_a_vlan_its_parent(macs, keys):
    assert sorted(truth.with_nic(hear(("drive", LEANING, 0)), frozenset(macs))) == keys


def test_a_bond_or_vlan_that_nobody_lists_any_more_goes_while_a_nic_stays():
    nics = document([link(), link(B, "tap2")])
    for said in ([("drive", LEANING, 0), ("metadata", LEANING, 1), ("metadata", nics, 2)], [("push", LEANING, 0), ("push", nics, 1)]):
        assert sorted(truth.with_nic(hear(*said), frozenset([A, B]))) == [A + "/phy", B + "/phy"]
    lists_none = document([link(B, "tap2")])
    known = hear(("metadata", LEANING, 0), ("metadata", lists_none, 1))
    assert sorted(truth.with_nic(known, frozenset([A, B]))) == [A + "/phy", B + "/phy"]
    # One that was never heard of by who speaks now is the drive's.
    known = hear(("drive", LEANING, 0), ("metadata", nics, 1))
    assert C + "/bond" in truth.with_nic(known, frozenset([A]))


# -- on disk --------------------------------------------------------------------------------------------

documents = st.sampled_from(
    [ONE, TWO, THREE, FOUR, NONE, NEW, LEANING, with_dns(ONE, "10.9.9.1"), with_dns(ONE, "10.9.9.2")]
)
sayings = st.lists(st.tuples(st.sampled_from(truth.RANK), documents, st.integers(0, 60)), max_size=12)


@given(sayings)
def test_a_truth_survives_its_way_through_json(said):
    known = hear(*said)
    assert truth_on_disk.from_json(json.loads(json.dumps(truth_on_disk.to_json(known)))) == known


@given(sayings)
def test_whatever_is_said_in_whatever_order_a_listed_key_is_known_and_a_known_one_was_said(said):
    known = hear(*said)
    last = {source: doc for source, doc, _now in said}
    listed = {key for doc in last.values() for key in data(doc).entries}
    assert {key for key, kt in known.keys.items() if kt.listed} == listed
    for key, kt in known.keys.items():
        assert kt.entry in [data(doc).entries.get(key) for source, doc, _now in said if source == kt.in_force]
