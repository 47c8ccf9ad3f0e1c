# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What one version of the package wrote and another reads: nothing that both know is lost.

The readers of 0.1.0 are told here as they were, in so far as they are strict; the real ones are in
tests/scenarios/test_versions.py.
"""

import json
from collections import namedtuple

import pytest

from cloudinit_osnetd.core import encoding, network_data, truth_on_disk
from cloudinit_osnetd.core.plan import Lacking
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.openstack import temporary_access
from cloudinit_osnetd.state import failed_retries, store
from cloudinit_osnetd.system import files, paths

from .build import A, B, C, bond, data, dns, document, link, static, vlan
from .test_store import INTENT, ROW, ROW2, STATE, UUID

# What each record had in 0.1.0. Its readers were `Owned(**row)`, `Touch(*touch)` and so on.
Owned010 = namedtuple("Owned010", "key mac name backend path section disk digest plain")
Rejection010 = namedtuple("Rejection010", "key digest since seconds times reason old services")
Touch010 = namedtuple("Touch010", "action mac name reason")
Change010 = namedtuple("Change010", "action key mac name path section text row reason")
Lacking010 = namedtuple("Lacking010", "key mac name ifindex lacks")
Route010 = namedtuple("Route010", "network gateway metric")
ENTRY_010 = ("kind", "mac", "type", "mtu", "vlan_id", "parent", "members", "params", "networks")
NETWORK_010 = ("type", "address", "routes", "dns")
STORE_010 = ("instance_id", "truth", "ledger", "answered", "drive_stamp", "metrics")


def written():
    return json.loads(files.read(paths.STORE))


def rewrite(obj):
    files.replace(paths.STORE, json.dumps(obj))


def places(obj, path=()):
    """Each object in a JSON value."""
    if isinstance(obj, dict):
        yield path
    for key, inner in obj.items() if isinstance(obj, dict) else enumerate(obj) if isinstance(obj, list) else ():
        yield from places(inner, path + (key,))


# -- newer ones -----------------------------------------------------------------------------------------------

REJECTED = encoding.read(store.Rejection, {"key": A + "/phy", "digest": "d", "since": 1.0, "seconds": 60.0, "times": 1, "reason": "silent", "old": None, "services": ()})  # fmt: skip
FULL = STATE._replace(rejections=(REJECTED,), on_trial="{}")


def test_what_a_newer_version_has_added_is_left_and_nothing_else(guest):
    store.save(FULL)
    there = written()
    for place in list(places(there)):
        if place[-1:] not in (("keys",), ("words",), ("metrics",), ("services",)):  # these go by names
            obj = there
            for step in place:
                obj = obj[step]
            obj["unheard_of"] = {"x": 1}
    there["version"] = 7
    rewrite(there)
    assert store.load(UUID) == FULL


def test_a_record_that_is_a_list_may_have_more_values(guest):
    store.write_intent(INTENT)
    there = json.loads(files.read(paths.INTENT))
    for row in there["touches"] + there["ledger"]:
        row.append("unheard of")
    files.replace(paths.INTENT, json.dumps(there))
    assert store.read_intent() == INTENT


@pytest.mark.parametrize("lacking", [("answered",), ("drive_stamp",), ("rejections",), ("on_trial",), ("more",), ("version",)])
def test_what_is_lacking_has_its_default(guest, lacking):
    store.save(FULL)
    there = written()
    for name in lacking:
        del there[name]
    rewrite(there)
    default = store.empty(UUID)
    changed = {name: getattr(default, name) for name in lacking if name in store.State._fields}
    assert store.load(UUID) == FULL._replace(**changed)


@pytest.mark.parametrize("name", ["ledger", "rejections"])
@pytest.mark.parametrize("bad", [7, None, {}, [], {"key": 7}, "x"], ids=repr)
def test_a_record_that_cannot_be_read_costs_itself(guest, name, bad):
    store.save(FULL)
    there = written()
    there[name].append(bad)
    rewrite(there)
    assert store.load(UUID) == FULL


@pytest.mark.parametrize(
    ("field", "odd"), [("key", []), ("key", {}), ("digest", None), ("reason", 7), ("times", float("inf"))], ids=repr
)
def test_a_rejection_with_an_odd_value_costs_itself(guest, field, odd):
    """No run could look it up, or sort it: each one would end with an error."""
    store.save(FULL)
    there = written()
    there["rejections"].append(dict(there["rejections"][0], **{field: odd}))
    rewrite(there)
    assert store.load(UUID) == FULL


@pytest.mark.parametrize("name", ["answered", "drive_stamp", "metrics", "rejections", "on_trial", "ledger", "more"])
@pytest.mark.parametrize("bad", [7, None, {}, [], "x", {"ledger": 7}], ids=repr)
def test_a_field_that_has_become_another_kind_of_thing_costs_itself(guest, name, bad):
    store.save(FULL)
    rewrite(dict(written(), **{name: bad}))
    state = store.load(UUID)
    assert state.truth == FULL.truth
    assert {key: getattr(state, key) for key in FULL._fields if key != name} == {
        key: getattr(FULL, key) for key in FULL._fields if key != name
    }


def test_a_source_of_a_newer_version_is_kept_with_its_words(guest):
    there = store._to_json(STATE)
    there["truth"]["keys"][A + "/phy"]["words"]["agent"] = there["truth"]["keys"][A + "/phy"]["words"]["drive"]
    there["truth"]["keys"][A + "/phy"]["in_force"] = "agent"
    rewrite(json.loads(json.dumps(there)))
    assert store.load(UUID).truth.keys[A + "/phy"].entry == STATE.truth.keys[A + "/phy"].entry


# -- older ones -----------------------------------------------------------------------------------------------


def of_0_1_0(obj):
    """Read as 0.1.0 did; raises where it would have started anew."""
    for name in STORE_010:
        obj[name]
    for known in obj["truth"]["keys"].values():
        known["in_force"], known["services"]
        for word in known["words"].values():
            word["changed"], word["listed"], word["superseded"], word["doubted_since"]
            entry = {name: word["entry"][name] for name in ENTRY_010}
            for net in entry["networks"]:
                [net[name] for name in NETWORK_010]
                [Route010(*route) for route in net["routes"]]
    rows = [Owned010(**dict({"plain": False}, **row)) for row in obj["ledger"]]
    return rows, [Rejection010(**one) for one in obj["rejections"]]


def test_0_1_0_reads_what_this_version_writes(guest):
    row = ROW._replace(by="9.9", plain=True)
    store.save(FULL._replace(ledger=(row, ROW2)))
    rows, rejected = of_0_1_0(written())
    assert [tuple(one) for one in rows] == [tuple(row)[:9], tuple(ROW2)[:9]]
    assert rejected[0].reason == "silent"
    assert store.load(UUID).ledger == (row, ROW2), "nothing of ours is lost for that"


def test_and_the_intent(guest):
    intent = INTENT._replace(ledger=(ROW._replace(by="9.9"),))
    store.write_intent(intent)
    there = json.loads(files.read(paths.INTENT))
    assert [Touch010(*touch) for touch in there["touches"]] and [Owned010(*row) for row in there["ledger"]]
    assert store.read_intent() == intent


def test_what_0_1_0_has_done_since_is_what_counts(guest):
    """It keeps what it knows of a store of ours, and the rows that it has written say so."""
    store.save(STATE._replace(ledger=(ROW._replace(by="9.9"),)))
    there = written()
    del there["more"]  # it writes its own fields only
    there["ledger"][0]["disk"] = "m7"
    rewrite(there)
    assert store.load(UUID).ledger == (ROW._replace(disk="m7"),)


def test_a_store_of_0_1_0_is_read(guest):
    """As it wrote one: every field said, also those that are at their defaults."""
    store.save(FULL)
    there = written()
    del there["more"]
    for row in there["ledger"]:
        row.setdefault("plain", False)
    rewrite(there)
    assert store.load(UUID) == FULL


def test_a_field_that_says_nothing_is_not_written_so_no_digest_changes():
    entries = data(document([link(), link(B, "tap2"), bond(), vlan(C, parent="bond1")], [static()], dns("10.9.9.9"))).entries
    for entry in entries.values():
        said = network_data.entry_to_json(entry)
        assert set(said) == set(ENTRY_010)
        assert all(set(net) == set(NETWORK_010) for net in said["networks"])


# -- what lies under /run ---------------------------------------------------------------------------------------


def test_what_has_not_helped_is_read_whoever_wrote_it(guest):
    tried = frozenset([Lacking("k", A, "ens3", 2, "no route")])
    failed_retries.keep(tried)
    assert [Lacking010(*one) for one in files.read_json(paths.FAILED_RETRIES)]
    files.replace(paths.FAILED_RETRIES, json.dumps([["k", A, "ens3", 2, "no route", "unheard of"]]))
    assert failed_retries.read() == tried


def test_a_way_that_another_version_left_open_is_closed(guest, monkeypatch):
    monkeypatch.setattr(paths, "TEMPORARY_ACCESS", str(guest) + "/temporary-access.json")
    noted = {"ifindex": 9, "mac": A, "at": 1.0, "route": ["169.254.169.254/32"], "unheard_of": 1}
    files.replace(paths.TEMPORARY_ACCESS, json.dumps(noted))
    assert temporary_access._read_note() == temporary_access.TemporaryAccess(9, A, 1.0, ["169.254.169.254/32"])


def test_the_touches_of_an_older_intent_are_taken_up(guest):
    files.replace(paths.INTENT, json.dumps({"touches": [["up", A, "ens3", "x"]], "ledger": [list(ROW)[:8]], "places": []}))
    assert store.read_intent() == store.Intent((Touch("up", A, "ens3", "x"),), (ROW,), ())


@pytest.mark.parametrize("odd", [[7], [("type", [])], [("address", {})], [("dns", [[]])]], ids=repr)
def test_truth_is_salvaged_key_by_key(odd):
    known = truth_on_disk.to_json(STATE.truth)
    networks = known["keys"][A + "/phy"]["words"]["drive"]["entry"]["networks"]
    networks[:] = odd if odd == [7] else [dict(networks[0], **{name: value}) for name, value in odd]
    read, lost = truth_on_disk.salvage(json.loads(json.dumps(known)))
    assert list(lost) == [A + "/phy"] and set(read.keys) == set(STATE.truth.keys) - {A + "/phy"}
    with pytest.raises(KeyError):
        truth_on_disk.from_json(known)
