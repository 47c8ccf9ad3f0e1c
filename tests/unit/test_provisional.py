# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""provisional: what is left of the truth without a push that was not confirmed. On real guests: test_confirm.py."""

import json

import pytest

from cloudinit_osnetd.core import provisional, rejections, truth

from .build import A, B, C, bond, data, dns, document, link, static, vlan

KEY, OTHER = A + "/phy", B + "/phy"


def doc(first="10.0.0.1", second="", servers=()):
    links, networks = [link()], [static(first)]
    if second:
        links.append(link(B, "tap2"))
        networks.append(static(second, link="tap2", id="n2"))
    return document(links, networks, dns(*servers))


def said(*words):
    known = truth.EMPTY
    for number, (source, one) in enumerate(words):
        known = heard(known, source, one, number)
    return known


def heard(known, source, one, number=50):
    now = truth.observe(known, source, data(one), 1000.0 + 100 * number)
    return truth.with_global_dns(now, data(one)) if source == "push" else now


def hold(before, after, rejected=(), still=()):
    return provisional.Provisional(7, "boot", 100.0, 5.0, before, tuple(rejected), provisional.marks(after), "", frozenset(still))


def in_force(known):
    return {key: (one.in_force, [net.address for net in one.entry.networks], one.services) for key, one in known.keys.items()}


@pytest.mark.parametrize(
    "words",
    [
        [],
        [("metadata", doc())],
        [("drive", doc(servers=["10.9.9.1"])), ("metadata", doc("10.0.0.2"))],
        [("metadata", doc()), ("push", doc("10.0.0.3", "10.1.0.3"))],
        [("metadata", doc("10.0.0.1", "10.1.0.1", ["10.9.9.2"]))],
    ],
    ids=["nothing", "metadata", "two sources", "an earlier push", "a NIC that the push does not list"],
)
@pytest.mark.parametrize(
    "pushed", [doc("10.0.0.5"), doc("10.0.0.1"), doc("10.0.0.5", "10.1.0.5", ["10.9.9.9"])], ids=["edit", "the same", "two"]
)
def test_without_a_push_all_is_as_before(words, pushed):
    before = said(*words)
    after = heard(before, "push", pushed)
    known, _rejected = provisional.without(hold(before, after), after, ())
    assert known._replace(counter=0) == before._replace(counter=0)


def test_what_another_source_says_meanwhile_is_kept():
    before = said(("metadata", doc("10.0.0.1", "10.1.0.1")))
    after = heard(before, "push", doc("10.0.0.5", "10.1.0.5"))
    later = heard(after, "metadata", doc("10.0.0.7", "10.1.0.1"), 60)
    known, _rejected = provisional.without(hold(before, after), later, ())
    assert {key: one[:2] for key, one in in_force(known).items()} == {
        KEY: ("metadata", ["10.0.0.7/24"]),
        OTHER: ("metadata", ["10.1.0.1/24"]),
    }
    assert all("push" not in one.statements for one in known.keys.values())


def test_a_nic_that_only_the_push_listed_is_forgotten_or_has_what_others_say_since():
    before = said(("metadata", doc()))
    after = heard(before, "push", doc("10.0.0.1", "10.1.0.5"))
    assert set(provisional.without(hold(before, after), after, ())[0].keys) == {KEY}
    later = heard(after, "metadata", doc("10.0.0.1", "10.1.0.9"), 60)
    known, _rejected = provisional.without(hold(before, after), later, ())
    assert in_force(known)[OTHER][:2] == ("metadata", ["10.1.0.9/24"])


def test_a_bond_and_a_vlan_that_only_the_push_listed_are_forgotten_and_their_members_have_what_they_had():
    before = said(("metadata", doc("10.0.0.1", "10.1.0.1")))
    made = [link(), link(B, "tap2"), bond(C, "bond1", ["tap1", "tap2"]), vlan(C, parent="bond1")]
    after = heard(before, "push", document(made, [static("10.2.0.5", link="bond1"), static("10.3.0.5", link="vlan1", id="n2")]))
    assert len(after.keys) == 4 and in_force(after)[KEY][:2] == ("push", [])
    known, _rejected = provisional.without(hold(before, after), after, ())
    assert known._replace(counter=0) == before._replace(counter=0)


def test_what_was_forgotten_is_in_force_again():
    before = said(("metadata", doc()), ("push", doc("10.0.0.5", "10.1.0.5")))
    after = truth.forget(before, "push")
    assert set(after.keys) == {KEY}
    known, _rejected = provisional.without(hold(before, after), after, ())
    assert known._replace(counter=0) == before._replace(counter=0)


def test_rejections_are_those_from_before_the_push_where_nothing_new_was_said():
    before = said(("metadata", doc("10.0.0.1", "10.1.0.1")))
    olds = dict.fromkeys(before.keys)
    earlier = rejections.add((), before, olds, "why", 60.0, 1.0)
    after = heard(before, "push", doc("10.0.0.5", "10.1.0.1"))
    later = heard(after, "metadata", doc("10.0.0.1", "10.1.0.7"), 60)
    during = rejections.add((), later, {OTHER: None}, "another", 60.0, 1.0)
    _known, left = provisional.without(hold(before, after, earlier), later, during)
    assert [(one.key, one.reason) for one in left] == [(KEY, "why"), (OTHER, "another")]


def test_what_was_rolled_back_meanwhile_of_a_link_that_the_push_did_not_change_stays_so():
    before = said(("metadata", doc("10.0.0.1", "10.1.0.1")))
    earlier = rejections.add((), before, dict.fromkeys(before.keys), "before", 60.0, 1.0)
    after = heard(before, "push", doc("10.0.0.5", "10.1.0.1"))
    held = hold(before, after, earlier)  # the push has tried both again
    of_the_push = rejections.add((), after, {KEY: before.keys[KEY]}, "its gateway", 60.0, 2.0)
    by_hand = rejections.lasting(of_the_push, after, {OTHER: None}, frozenset(), "as before run 8", 2.0)
    known, left = provisional.without(held, after, by_hand)
    assert [(one.key, one.reason) for one in left] == [(KEY, "before"), (OTHER, "as before run 8")]
    assert rejections.current(known, left) == left


@pytest.mark.parametrize("still", [[OTHER], []], ids=["by force, or by its time", "by the push itself"])
def test_a_rejection_that_ended_during_the_trial_does_not_come_back(still):
    before = said(("metadata", doc("10.0.0.1", "10.1.0.1")))
    earlier = rejections.add((), before, dict.fromkeys(before.keys), "before", 60.0, 1.0)
    after = heard(before, "push", doc("10.0.0.5"))
    known, left = provisional.without(hold(before, after, earlier, still), after, ())
    assert known._replace(counter=0) == before._replace(counter=0)
    assert [one.key for one in left] == [KEY] + [OTHER] * (not still)
    # Its port was edited since: what was rejected is not in force, and no longer said.
    later = heard(after, "metadata", doc("10.0.0.1", "10.1.0.2"), 60)
    assert [one.key for one in provisional.without(hold(before, after, earlier, still), later, ())[1]] == [KEY]


def test_it_is_due_after_its_time_and_in_another_boot():
    held = hold(truth.EMPTY, truth.EMPTY)
    assert not held.is_due("boot", 99.9) and held.is_due("boot", 100.0) and held.is_due("another", 0.0)


def test_it_is_read_as_it_was_written_and_with_what_a_newer_version_adds():
    before = said(("metadata", doc()), ("push", doc("10.0.0.5", servers=["10.9.9.9"])))
    refused = rejections.add((), before, {KEY: said(("metadata", doc("10.0.0.8"))).keys[KEY]}, "why", 60.0, 1.0)
    held = hold(before, heard(before, "push", doc("10.0.0.6")), refused, [KEY, OTHER])._replace(note="n")
    text = provisional.write(held)
    assert provisional.read(text) == held
    newer = json.loads(text)
    newer["unheard_of"] = newer["rejections"][0]["unheard_of"] = 1
    assert provisional.read(json.dumps(newer)) == held


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 1}', "null", "[" * 100000])
def test_what_cannot_be_read_is_none(text):
    assert provisional.read(text) is None


@pytest.mark.parametrize("odd", [{"deadline": float("nan")}, {"deadline": 1e300}, {"until": float("inf")}, {"run": float("inf")}, {"pushed": {KEY: ["push", float("inf"), [], []]}}], ids=repr)
def test_a_number_without_end_cannot_be_read_either(odd):
    before = said(("metadata", doc()))
    assert provisional.read(json.dumps(dict(json.loads(provisional.write(hold(before, before))), **odd))) is None
