# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""pending_confirmation: the unconfirmed change of a killed run is checked by the next one."""

import json
import os

import pytest

from cloudinit_osnetd.apply import commit, confirmed_commit, pending_confirmation, rollback
from cloudinit_osnetd.apply.verify import Verified
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.cloud_init.eligibility import RunContext
from cloudinit_osnetd.core import plan
from cloudinit_osnetd.core.desired import Want
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.planning.build_plan import PlanningResult
from cloudinit_osnetd.state import former, store
from cloudinit_osnetd.system import files, paths

from .build import A, B, C, nic, snapshot
from .test_commit import NAMES, Dead, Machine, QuietIfupdown, QuietNetworkd, everything, failing, restore
from .test_rollback import (
    ASKED,
    GATEWAY,
    KEY,
    METADATA,
    NEW,
    OLD,
    SETTINGS,
    Scene,
    answering,
    heard,
    old_answers,
    world,  # noqa: F401 - a fixture
)


class Run(Scene):
    """What a run does from its plan on, and the run after it."""

    def __init__(self, backend, root, together=False):
        super().__init__(backend, root)
        if together:  # as a bond and its VLAN are
            first, second, *others = self.wants
            self.wants = [Want(first.items + second.items, "both"), *others]
        self.ran = []

    @property
    def on(self):
        return RunContext("i", context.Context("", "", SETTINGS, {}), self.backend)

    def apply_plan(self, state=None, made=None):
        seen = PlanningResult(tuple(self.wants), made or self.made, {}, {}, {}, {})
        known = self.before.keys
        done = confirmed_commit.apply_plan(self.on, state or self.state, seen, made or self.made, lambda: dict(known), known)
        store.save(done.state)
        return done

    def next_run(self):
        """Recover and confirm, as each run does first."""
        state, unfinished = commit.recover(store.load("i"), self.backend)
        confirmed, rest = confirmed_commit.resume(self.on, state, unfinished)
        store.save(confirmed.state)
        return confirmed, rest

    def killed_while_unconfirmed(self, monkeypatch):
        """Die when the first answer is waited for: everything is committed and up."""
        with monkeypatch.context() as patched:
            patched.setattr(rollback, "confirm", self.die)
            with pytest.raises(Dead):
                self.apply_plan()
        del self.backend.asked[:]

    @staticmethod
    def die(*_args, **_fields):
        raise Dead

    def rejected(self):
        return [one.key for one in store.load("i").rejections]


@pytest.fixture(params=[QuietIfupdown, QuietNetworkd], ids=["ifupdown", "networkd"])
def backend(request):
    return request.param()


@pytest.fixture
def still_world(world, monkeypatch):  # noqa: F811 - a fixture
    """Everybody in ASKED answers before; the kernel shows what it is told to."""
    asked = {target: ("10.0.0.254",) if target.key else () for target in ASKED}
    monkeypatch.setattr(rollback, "measure_baseline", lambda units, now, settings: rollback.Baseline(asked, {METADATA: "ens3"}))
    monkeypatch.setattr(confirmed_commit, "verify", lambda *args, **fields: Verified({}, {}, frozenset()))
    monkeypatch.setattr(confirmed_commit, "await_dns", lambda *args: {})
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # an instant like any other, and no power is lost here
    return world


@pytest.fixture
def run(backend, guest, still_world):
    made = Run(backend, str(guest))
    answering(still_world, made, old_answers(A))
    return made


# -- cut short -------------------------------------------------------------------------------------------------


def whole(run, instant):
    state = store.load("i")
    disk = render.disk_parts(run.backend, render.places(state))
    assert disk == {row.place: row.disk for row in state.ledger}, "at instant %d" % instant


@pytest.mark.parametrize("together", [False, True], ids=["by themselves", "together"])
def test_cut_short_anywhere_the_next_run_leaves_no_nic_cut_off(backend, guest, still_world, monkeypatch, together):
    run = Run(backend, str(guest), together)
    answering(still_world, run, old_answers(A))
    before, instant, confirmed_late = everything(run.root), 1, 0
    with_a = {A, B} if together else {A}
    while True:
        with monkeypatch.context() as patched:
            Machine(patched, instant)
            try:
                run.apply_plan()
                break
            except Dead:
                pass
        _confirmed, rest = run.next_run()
        whole(run, instant)
        assert store.load("i").on_trial == ""
        assert run.address(A) == OLD[A], "cut off, and nobody goes back: at instant %d" % instant
        assert run.address(B) in ((OLD[B],) if together and run.rejected() else (OLD[B], NEW[B]))
        assert run.rejected() in ([], sorted(KEY[mac] for mac in with_a))
        assert all(one.times == 1 for one in store.load("i").rejections)
        confirmed_late += bool(run.rejected())
        # What had not come to its commit is done by the look that follows, and confirmed by the same run.
        if not run.rejected():
            run.apply_plan(store.load("i")._replace(truth=run.known), run.look(run.known)[0])
            assert (run.address(A), run.rejected()) == (OLD[A], sorted(KEY[mac] for mac in with_a))
        assert rest == () or not run.rejected() or {touch.name for touch in rest} <= {NAMES[m] for m in (A, B, C)}
        restore(run.root, before)
        instant += 3 if together else 1
    assert instant > 40 and confirmed_late > 10


def test_cut_short_again_while_it_is_confirmed_it_is_no_different(run, monkeypatch):
    run.killed_while_unconfirmed(monkeypatch)
    before, instant = everything(run.root), 1
    while True:
        with monkeypatch.context() as patched:
            Machine(patched, instant)
            try:
                run.next_run()
                break
            except Dead:
                pass
        run.next_run()
        whole(run, instant)
        assert [run.address(mac) for mac in (A, B, C)] == [OLD[A], NEW[B], NEW[C]], "at instant %d" % instant
        assert [(one.key, one.times) for one in store.load("i").rejections] == [(KEY[A], 1)]
        assert store.load("i").on_trial == ""
        restore(run.root, before)
        instant += 1
    assert instant > 15


def test_where_all_is_reachable_again_the_next_run_leaves_everything_as_it_is(run, monkeypatch, still_world):
    run.killed_while_unconfirmed(monkeypatch)
    assert store.load("i").on_trial
    answering(still_world, run, old_answers())
    confirmed, rest = run.next_run()
    assert (confirmed.touches, confirmed.rejected, rest, run.backend.asked) == ((), {}, (), [])
    assert [run.address(mac) for mac in (A, B, C)] == [NEW[A], NEW[B], NEW[C]]
    assert (store.load("i").on_trial, run.rejected()) == ("", [])


def test_the_one_that_was_cut_off_goes_back_as_the_first_run_would_have_had_it(run, monkeypatch):
    at_once = everything(run.root)
    done = run.apply_plan()
    first = store.load("i")
    restore(run.root, at_once)
    run.killed_while_unconfirmed(monkeypatch)
    confirmed, _rest = run.next_run()
    assert list(confirmed.rejected) == [A] and A in done.problems
    assert confirmed.touches == done.touches[-1:] and confirmed.touches[0].reason == "rolled back"
    (late,), (early,) = store.load("i").rejections, first.rejections
    assert late._replace(since=0.0) == early._replace(since=0.0)
    second = store.load("i")
    # What the run replaced is kept with the time of the run.
    kept, kept_first = (former.read(state.former[-1])._replace(when=0.0) for state in (second, first))
    assert (len(second.former), kept) == (len(first.former), kept_first)
    assert second._replace(rejections=(), former=()) == first._replace(rejections=(), former=())


def test_a_nic_that_is_half_way_up_is_brought_up_before_it_is_confirmed(run, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(type(run.backend), "after", run.die)
        with pytest.raises(Dead):
            run.apply_plan()
    del run.backend.asked[:]
    _confirmed, rest = run.next_run()
    first_up = next(touches for what, touches in run.backend.asked if what == "after")
    assert first_up == (("kick", "ens3"), ("kick", "ens4"), ("kick", "ens5"))
    assert rest == ()
    assert [run.address(mac) for mac in (A, B, C)] == [OLD[A], NEW[B], NEW[C]]


def test_a_disk_that_is_full_when_it_should_go_back_leaves_it_to_the_next_run(run, monkeypatch):
    """Wherever the room ends: in the store, in the intent, in the part itself."""
    before = everything(run.root)
    for full in ("store.json", "intent.json", "/etc/"):
        run.killed_while_unconfirmed(monkeypatch)
        for _again in range(2):
            with monkeypatch.context() as patched:
                failing(patched, "rename", lambda path, full=full: full in path)
                with pytest.raises(OSError, match=r"No space left|not rolled back"):
                    run.next_run()
            assert run.address(A) == NEW[A] and store.load("i").on_trial
        run.next_run()
        assert (run.address(A), store.load("i").on_trial) == (OLD[A], "")
        assert [(one.key, one.times) for one in store.load("i").rejections] == [(KEY[A], 1)]
        restore(run.root, before)


def test_the_first_run_breaks_off_there_and_the_next_one_goes_back(run, monkeypatch):
    real, parts = files.replace, []

    def full(path, *args, **fields):
        if "/etc/" in path:
            parts.append(path)
            if run.address(A) == NEW[A] and len(parts) > (1 if isinstance(run.backend, QuietIfupdown) else 3):
                raise OSError(28, "No space left on device")
        real(path, *args, **fields)

    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", full)
        with pytest.raises(OSError, match=r"not rolled back: .*No space left"):
            run.apply_plan()
    assert run.address(A) == NEW[A] and store.load("i").on_trial
    run.next_run()
    assert [run.address(mac) for mac in (A, B, C)] == [OLD[A], NEW[B], NEW[C]]


# -- on trial no more ------------------------------------------------------------------------------------------


def nobody_is_tried(run):
    confirmed, _rest = run.next_run()
    assert (confirmed.touches, confirmed.rejected, run.rejected(), store.load("i").on_trial) == ((), {}, [], "")


def test_another_edit_of_the_key_supersedes_it(run, monkeypatch):
    """As the early unit does, from a drive that was made anew."""
    run.killed_while_unconfirmed(monkeypatch)
    newer = heard(dict(NEW, **{A: "10.0.8.1"}), run.known, 200.0)
    made, _wants = run.look(newer)
    assert [change.mac for change in made.changes] == [A]
    outcome = commit.commit(made, store.load("i")._replace(truth=newer), run.backend, {}, False)
    store.save(store.load("i")._replace(ledger=outcome.ledger))
    assert store.load("i").on_trial
    nobody_is_tried(run)
    assert "10.0.8.1" in run.texts()[A]


def test_so_does_somebodys_editor(run, monkeypatch):
    run.killed_while_unconfirmed(monkeypatch)
    path, section = run.backend.place(run.root, "ens3")
    theirs = run.backend.text("ens3", "10.77.0.1")
    files.replace(path, run.backend.join(files.read(path), None, {section: theirs}))
    nobody_is_tried(run)
    assert "10.77.0.1" in run.texts()[A]


@pytest.mark.parametrize(
    "there", [(nic("ens4", B), nic("ens5", C)), (nic("ens9", A), nic("ens4", B))], ids=["gone", "renamed"]
)
def test_a_nic_that_is_gone_drops_its_row(run, monkeypatch, there):
    run.killed_while_unconfirmed(monkeypatch)
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(*there))
    nobody_is_tried(run)
    assert run.address(A) == NEW[A]


def test_what_the_operator_ignores_by_now_is_left_alone(run, monkeypatch):
    run.killed_while_unconfirmed(monkeypatch)
    settings = SETTINGS._replace(ignore=frozenset(["ens3"]))
    monkeypatch.setattr(
        Run, "on", property(lambda run: RunContext("i", context.Context("", "", settings, {}), run.backend))
    )
    nobody_is_tried(run)


def test_the_others_are_confirmed_all_the_same(run, monkeypatch, still_world):
    answering(still_world, run, old_answers(A, B))
    run.killed_while_unconfirmed(monkeypatch)
    there = [nic(name, mac) for mac, name in NAMES.items() if mac != A]
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(*there))
    confirmed, _rest = run.next_run()
    assert list(confirmed.rejected) == [B]
    assert [run.address(mac) for mac in (A, B, C)] == [NEW[A], OLD[B], NEW[C]]


def test_on_another_instance_it_is_dropped(run, monkeypatch):
    run.killed_while_unconfirmed(monkeypatch)
    assert store.load("another").on_trial == ""


DAMAGES = {
    "no JSON": lambda text: text[:-9],
    "a list": lambda text: "[]",
    "no units": lambda text: text.replace('"units"', '"unity"'),
    "no address": lambda text: text.replace("the metadata service", "the metadata mattress"),
    "a change too short": lambda text: text.replace(', "its entry changed"', "", 1),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_note_that_cannot_be_read_is_dropped_and_reported(run, monkeypatch, caplog, damage):
    run.killed_while_unconfirmed(monkeypatch)
    state = store.load("i")
    damaged = DAMAGES[damage](state.on_trial)
    assert damaged != state.on_trial
    store.save(state._replace(on_trial=damaged))
    assert pending_confirmation.keys(store.load("i")) == frozenset()
    nobody_is_tried(run)
    assert "cannot be read" in caplog.text
    assert [run.address(mac) for mac in (A, B, C)] == [NEW[A], NEW[B], NEW[C]]


# -- the note --------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(run, monkeypatch):
    run.killed_while_unconfirmed(monkeypatch)
    state = store.load("i")
    note = pending_confirmation.read(state.on_trial)
    asked = {target: ("10.0.0.254",) if target.key else () for target in ASKED}
    assert note.units == run.units
    assert note.baseline == rollback.Baseline(asked, {METADATA: "ens3"})
    assert note.rendered_from == run.before.keys
    assert pending_confirmation.keys(state) == {KEY[A], KEY[B], KEY[C]}
    # It says nothing of what the cloud wants by now.
    assert pending_confirmation.keys(state._replace(truth=heard(OLD))) == frozenset()


def test_it_is_on_disk_before_the_first_part_is_and_gone_when_it_is_confirmed(run, monkeypatch):
    seen, real = [], files.replace

    def replace(path, *args, **fields):
        if "/etc/" in path and not seen:
            seen.append((pending_confirmation.read(store.load("i").on_trial), fields.get("sync", True)))
        real(path, *args, **fields)

    monkeypatch.setattr(files, "replace", replace)
    done = run.apply_plan()
    ((note, synced),) = seen
    assert note.units == run.units and synced
    assert (done.state.on_trial, json.loads(files.read(paths.STORE))["on_trial"]) == ("", "")


def test_where_nobody_answered_before_nothing_is_on_trial(run, monkeypatch):
    monkeypatch.setattr(rollback, "measure_baseline", lambda units, now, settings: rollback.NOTHING_REACHABLE)
    monkeypatch.setattr(pending_confirmation, "write", lambda *args: pytest.fail("noted"))
    run.apply_plan()
    assert run.address(A) == NEW[A]


def test_a_run_with_nothing_to_do_writes_none_and_reads_none(run, monkeypatch):
    run.put(run.known)
    monkeypatch.setattr(pending_confirmation, "write", lambda *args: pytest.fail("written"))
    monkeypatch.setattr(pending_confirmation, "read", lambda *args: pytest.fail("read"))
    before = everything(run.root)
    run.apply_plan(store.load("i"), plan.Plan((), (), ()))
    run.next_run()
    assert everything(run.root) == before


def test_a_gateway_is_of_a_nic_that_is_still_on_trial(run, monkeypatch):
    run.killed_while_unconfirmed(monkeypatch)
    note = pending_confirmation.read(store.load("i").on_trial)
    nics = {mac: nic(name, mac) for mac, name in NAMES.items() if mac != A}
    left = pending_confirmation.still_pending(note, run.on, store.load("i"), nics)
    assert set(left.baseline.asked) == {GATEWAY[B], METADATA}
