# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""store: bound to the instance, written atomically, and treated as empty if it is damaged."""

import json
import os
import stat
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.core import truth
from cloudinit_osnetd.core.records import Owned, Touch
from cloudinit_osnetd.state import history, run_lock, store
from cloudinit_osnetd.state.store import Intent
from cloudinit_osnetd.system import files, paths

from .build import A, B, C, bond, data, dns, document, link, static, vlan

UUID, OTHER = "1b2c0000-0000-0000-0000-000000000001", "1b2c0000-0000-0000-0000-000000000002"
DOC = document(
    [link(), link(B, "tap2"), bond(), vlan(C, parent="bond1")],
    [static(), static("10.1.0.1", link="bond1")],
    dns("10.9.9.9"),
)
ROW = Owned(A + "/phy", A, "ens3", "ifupdown", "/etc/network/interfaces", "ens3", "m1", "d1")
ROW2 = ROW._replace(key=B + "/phy", mac=B, name="ens4", section="ens4")
STATE = store.State(
    UUID,
    truth.observe(truth.EMPTY, "drive", data(DOC), 1000.0),
    (ROW, ROW2),
    A,
    "stamp",
    {A + "/phy": 0, B + "/phy": 2100},
)
INTENT = Intent((Touch("up", A, "ens3", "a new NIC"),), (ROW,), (ROW.place,))


def test_what_is_saved_is_loaded(guest):
    store.save(STATE)
    assert store.load(UUID) == STATE


def test_no_store_is_an_empty_one(guest):
    assert store.load(UUID) == store.empty(UUID)


def test_on_another_instance_all_is_dropped_but_the_ledger(guest):
    store.save(STATE)
    assert store.load(OTHER) == store.empty(OTHER, STATE.ledger)


def test_the_history_of_another_instance_goes_with_its_state(guest):
    store.save(STATE)
    history.remember({"reasons": ["boot"]})
    store.load(OTHER)
    store.save(STATE)
    assert len(files.read(paths.HISTORY).splitlines()) == 1
    store.save(store.load(OTHER))
    assert files.read(paths.HISTORY) is None


def test_saving_what_is_there_already_writes_nothing(guest):
    store.save(STATE)
    before = os.stat(paths.STORE)
    store.save(store.load(UUID))
    after = os.stat(paths.STORE)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_store_is_roots_alone(guest):
    store.save(STATE)
    assert stat.S_IMODE(os.stat(paths.STORE).st_mode) == 0o600


@pytest.mark.parametrize("damage", ["", "{", "null", "[]", "7", '"x"', "{}", "\0" * 4096])
def test_a_damaged_store_is_an_empty_one(guest, damage):
    files.replace(paths.STORE, damage)
    assert store.load(UUID) == store.empty(UUID)


def test_a_store_cut_off_anywhere_is_an_empty_one_or_whole(guest):
    store.save(STATE)
    text = files.read(paths.STORE)
    for end in range(0, len(text) - 2, 7):
        files.replace(paths.STORE, text[:end], sync=False)
        assert store.load(UUID) == store.empty(UUID)


def places_in(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            for place in places_in(value[key], path + (key,)):
                yield place
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            for place in places_in(inner, path + (i,)):
                yield place


PLAIN = json.loads(json.dumps(store._to_json(STATE)))
junk = st.sampled_from([None, 7, -1.5, "", "x", [], {}, [[]], [7], {"x": 7}, True])


@given(st.sampled_from([p for p in places_in(PLAIN) if p and p[0] == "truth"]), junk, st.booleans())
def test_a_truth_with_something_else_in_its_place_is_dropped_or_usable(tmp_path_factory, place, value, delete):
    obj = json.loads(json.dumps(PLAIN))
    inner = obj
    for step in place[:-1]:
        inner = inner[step]
    if delete:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    try:
        state = store._from_json(obj)
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # load() starts anew
    known = state.truth.keys
    assert all(kt.entry and kt.listed in (True, False) for kt in known.values())


def test_a_key_in_force_by_a_source_that_never_spoke_is_damage(guest):
    obj = json.loads(json.dumps(PLAIN))
    obj["truth"]["keys"][A + "/phy"]["in_force"] = "push"
    files.replace(paths.STORE, json.dumps(obj))
    state = store.load(UUID)
    # It costs itself, and its row: one without an entry would be taken for a departed NIC's.
    assert sorted(state.truth.keys) == sorted(set(STATE.truth.keys) - {A + "/phy"})
    assert state.ledger == (ROW2,)


def test_where_a_bond_cannot_be_read_there_is_no_telling_what_its_members_are(guest):
    obj = json.loads(json.dumps(PLAIN))
    obj["truth"]["keys"][C + "/bond"]["words"] = {}
    files.replace(paths.STORE, json.dumps(obj))
    assert store.load(UUID) == store.empty(UUID)


# -- other versions of the package: tests/unit/test_versions.py --------------------------------------------


# -- the intent ----------------------------------------------------------------------------------------


def test_an_intent_is_read_as_it_was_written_and_gone_when_cleared(guest):
    store.write_intent(INTENT)
    assert store.read_intent() == INTENT
    store.clear_intent()
    assert store.read_intent() is None


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}", '{"touches": 1, "ledger": [], "places": []}', '{"touches": [], "ledger": [[1]], "places": []}', '{"touches": [], "ledger": [], "places": [["x"]]}']
)  # fmt: skip
def test_a_damaged_intent_is_none(guest, damage):
    files.replace(paths.INTENT, damage)
    assert store.read_intent() is None


# -- history -------------------------------------------------------------------------------------------


def test_history_keeps_the_last_200_records(guest):
    for i in range(205):
        history.remember({"number": i})
    lines = files.read(paths.HISTORY).splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(5, 205))


def test_one_run_at_a_time(guest):
    entered = threading.Event()

    def second():
        with run_lock.locked():
            entered.set()

    thread = threading.Thread(target=second)
    with run_lock.locked():
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    thread.join()


def test_a_sweep_spares_what_cloud_init_is_writing(guest):
    """cloud-init notes the fallback level beside a run, and without our lock."""
    theirs, ours = files.temporary_of(paths.BOOT), files.temporary_of(paths.EARLY)
    for path in (theirs, ours):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    store.sweep(Networkd())
    assert os.path.exists(theirs)
    assert not os.path.exists(ours)


def test_nobody_but_root_can_lock_the_runs_out(guest):
    """Who may read a file may lock it. An older version's file was readable."""
    os.makedirs(paths.RUN)
    with open(paths.LOCK, "w"):
        os.chmod(paths.LOCK, 0o644)
    with run_lock.locked():
        assert stat.S_IMODE(os.stat(paths.LOCK).st_mode) == 0o600


def test_who_waits_for_another_run_waits_no_longer_than_he_said(guest):
    with run_lock.locked() as other:
        began = time.monotonic()
        with pytest.raises(run_lock.Busy, match="pid=%d" % os.getpid()), run_lock.locked(timeout=0.2):
            raise AssertionError("two runs at once")
        assert 0.2 <= time.monotonic() - began < 2
        with run_lock.lent(other), run_lock.locked(timeout=0.0):
            pass
    with run_lock.locked(timeout=0.0):
        pass
