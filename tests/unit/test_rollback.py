# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""rollback: a NIC goes back only where that restores what was reachable; the others stay; cut short, it is old or new."""

import pytest

from cloudinit_osnetd.apply import commit, reachability, rollback
from cloudinit_osnetd.apply.reachability import Target
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.core import plan, truth
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.plan import Staged
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files

from .build import A, B, C, data, document, link, nic, snapshot, static
from .test_commit import NAMES, Dead, Machine, QuietIfupdown, QuietNetworkd, everything, mark, restore

KEY = {mac: mac + "/phy" for mac in NAMES}
GATEWAY = {mac: Target(key, "0.0.0.0/0") for mac, key in KEY.items()}
METADATA = Target("", reachability.METADATA)
OLD, NEW = {A: "10.0.0.1", B: "10.1.0.1"}, {A: "10.0.9.1", B: "10.1.9.1", C: "10.2.9.1"}
SETTINGS = context.Settings(rejected_for=60.0)


def heard(addresses, before=truth.EMPTY, now=0.0):
    macs = sorted(addresses)
    links = [link(mac, "tap" + mac) for mac in macs]
    return truth.observe(
        before, "metadata", data(document(links, [static(addresses[m], link="tap" + m) for m in macs])), now
    )


def wants_of(known):
    found = []
    for key, one in sorted(known.keys.items()):
        address = one.entry.networks[0].address
        found.append(Want((Item(key, one.entry, NAMES[one.entry.mac], ()),), "digest of " + address))
    return found


class Scene:
    """A guest with OLD in place, and then NEW, of which nothing is confirmed yet."""

    def __init__(self, backend, root):
        self.backend, self.root = backend, root
        self.before = heard(OLD)
        self.known = heard(NEW, self.before, 100.0)
        self.put(self.before)
        self.old = self.texts()
        self.made, self.wants = self.look(self.known)
        self.state = store.load("i")._replace(truth=self.known)
        self.units = rollback.units(self.wants, self.made, self.state, backend)

    def look(self, known):
        wants = wants_of(known)
        parts = []
        for want in wants:
            (item,) = want.items
            path, section = self.backend.place(self.root, item.name)
            text = self.backend.text(item.name, item.entry.networks[0].address.split("/")[0])
            parts.append(
                Staged(item.key, item.entry.mac, item.name, path, section, text, mark(self.backend, text), want.digest)
            )
        ledger = store.load("i").ledger
        disk = render.disk_parts(self.backend, [part.place for part in parts])
        return plan.make(wants, parts, disk, ledger, None, self.backend.name), wants

    def put(self, known):
        made, _wants = self.look(known)
        commit.commit(made, store.load("i")._replace(truth=known), self.backend, {}, True)

    def commit(self):
        outcome = commit.commit(self.made, self.state, self.backend, {}, True)
        self.state = self.state._replace(ledger=outcome.ledger)
        del self.backend.asked[:]

    def texts(self):
        found = {}
        for mac, name in NAMES.items():
            path, section = self.backend.place(self.root, name)
            text = self.backend.split(files.read(path) or "").get(section) if files.read(path) else None
            if text:
                found[mac] = self.backend.normal(text)
        return found

    def address(self, mac):
        return next((one for one in [*OLD.values(), *NEW.values()] if one in self.texts().get(mac, "")), None)

    def confirm(self, asked, carriers=None):
        gateways = {target: ("10.0.0.254",) if target.key else () for target in asked}
        baseline = rollback.Baseline(gateways, carriers or {})
        check = rollback.Check(self.backend, SETTINGS, self.units, baseline, dict(self.before.keys))
        return rollback.confirm(check, self.state, 0.0)


@pytest.fixture(params=[QuietIfupdown, QuietNetworkd], ids=["ifupdown", "networkd"])
def scene(request, guest):
    made = Scene(request.param(), str(guest))
    made.commit()
    return made


@pytest.fixture
def world(monkeypatch):
    """Who answers: a function of what the NICs have, by MAC, decides."""

    class World:
        answers = staticmethod(lambda has: set())

    def await_all(ask, names, seconds):
        return frozenset(ask(snapshot())) & World.answers(World.scene)

    monkeypatch.setattr(reachability, "await_all", await_all)
    # A gateway is wanted of each; which one that is, is a matter of test_targets.
    monkeypatch.setattr(reachability, "wanted", lambda target, item, now: ("10.0.0.254",))
    monkeypatch.setattr(rollback.netlink, "snapshot", lambda: snapshot(*(nic(name, mac) for mac, name in NAMES.items())))
    monkeypatch.setattr(reachability, "carrier", lambda target, now: World.carries(World.scene))
    World.carries = staticmethod(lambda has: "")
    return World


def answering(world, scene, answers, carries=lambda scene: ""):
    world.scene, world.answers, world.carries = scene, staticmethod(answers), staticmethod(carries)


def old_answers(*macs):
    """Each of these NICs reaches its gateway with its old address only, the others always."""

    def answers(scene):
        cut = {GATEWAY[mac] for mac in macs if scene.address(mac) == NEW[mac]}
        return {METADATA, *GATEWAY.values()} - cut

    return answers


ASKED = [GATEWAY[A], GATEWAY[B], METADATA]


def test_where_all_is_reachable_nothing_is_done(scene, world):
    answering(world, scene, old_answers())
    confirmed = scene.confirm(ASKED)
    assert confirmed == rollback.unchanged(scene.state)
    assert scene.backend.asked == []


def test_a_nic_that_lost_its_gateway_goes_back_and_the_others_stay(scene, world):
    answering(world, scene, old_answers(A))
    confirmed = scene.confirm(ASKED)
    assert [scene.address(mac) for mac in (A, B, C)] == [OLD[A], NEW[B], NEW[C]]
    assert scene.texts()[A] == scene.old[A]
    assert list(confirmed.rejected) == [A] and "the gateway for 0.0.0.0/0" in confirmed.rejected[A]
    (one,) = confirmed.state.rejections
    assert (one.key, one.old, one.digest) == (
        KEY[A],
        scene.before.keys[KEY[A]].entry,
        scene.known.keys[KEY[A]].entry.digest,
    )
    # As the ledger had it: the old entry's part is ours, and a look at the old truth finds nothing to do.
    assert store.load("i") == confirmed.state
    disk = render.disk_parts(scene.backend, render.places(confirmed.state))
    assert disk == {row.place: row.disk for row in confirmed.state.ledger}
    (old,) = [want for want in wants_of(scene.before) if KEY[A] in want.keys]
    assert not plan.needs_render(old, confirmed.state.ledger, disk, scene.backend.name)
    assert {name for _what, named in scene.backend.asked for name in map(str, named)} <= {
        "ens3",
        "('reconfigure', 'ens3')",
    }


def test_two_that_lost_theirs_both_go_back(scene, world):
    answering(world, scene, old_answers(A, B))
    confirmed = scene.confirm(ASKED)
    assert [scene.address(mac) for mac in (A, B, C)] == [OLD[A], OLD[B], NEW[C]]
    assert sorted(confirmed.rejected) == [A, B]


def test_what_one_nic_has_restored_is_not_held_against_another(scene, world):
    """A's edit took the metadata service; B's router died by itself, whatever B has."""

    def answers(scene):
        return {GATEWAY[C]} | (set() if scene.address(A) == NEW[A] else {METADATA, GATEWAY[A]})

    answering(world, scene, answers, carries=lambda scene: "ens3")
    confirmed = scene.confirm(ASKED, {METADATA: "ens3"})
    assert [scene.address(mac) for mac in (A, B, C)] == [OLD[A], NEW[B], NEW[C]]
    assert list(confirmed.rejected) == [A] and list(confirmed.problems) == [B]


@pytest.mark.parametrize("now", [[], [nic("ens3", C)], [nic("ens9", A), nic("ens3", C)]], ids=["gone", "taken", "renamed"])
def test_a_nic_that_has_left_is_not_confirmed(scene, world, monkeypatch, now):
    """Its name may be another's by then, who would get its addresses."""
    answering(world, scene, old_answers(A))
    there = [nic(NAMES[B], B), *now]
    monkeypatch.setattr(rollback.netlink, "snapshot", lambda: snapshot(*there))
    monkeypatch.setattr(reachability, "await_all", lambda ask, names, seconds: _wanted_no_more(ask(snapshot(*there))))
    confirmed = scene.confirm([GATEWAY[A]])
    assert confirmed == rollback.unchanged(scene.state) and scene.backend.asked == []


def _wanted_no_more(asked):
    return frozenset(target for target, gateways in asked.items() if gateways is None)


def test_where_a_rollback_restores_nothing_the_change_is_applied_again_and_reported(scene, world):
    answering(world, scene, lambda scene: {METADATA, GATEWAY[B]})
    confirmed = scene.confirm(ASKED)
    assert scene.address(A) == NEW[A]
    assert (confirmed.rejected, confirmed.state.rejections) == ({}, ())
    assert "rolling back did not restore it" in confirmed.problems[A]
    assert [touch.reason for touch in confirmed.touches] == ["rolled back", "its entry changed"]
    assert store.load("i").ledger == scene.state.ledger


def test_where_going_back_loses_as_much_as_it_restores_the_new_stays(scene, world):
    def answers(scene):
        return {GATEWAY[A]} if scene.address(A) == OLD[A] else {METADATA}

    answering(world, scene, answers)
    confirmed = scene.confirm([GATEWAY[A], METADATA])
    assert scene.address(A) == NEW[A] and confirmed.rejected == {}


def test_what_was_not_reachable_before_is_not_confirmed(scene, world):
    answering(world, scene, lambda scene: set())
    assert scene.confirm([]).touches == ()


def test_for_the_server_as_a_whole_only_the_nic_by_which_it_went_or_goes_is_tried(scene, world):
    """B took the way to the metadata service from A, which nobody touched."""

    def answers(scene):
        return {METADATA} if scene.address(B) == OLD[B] else set()

    answering(world, scene, answers, carries=lambda scene: "ens4")
    confirmed = scene.confirm([METADATA], {METADATA: "ens9"})
    assert [scene.address(mac) for mac in (A, B, C)] == [NEW[A], OLD[B], NEW[C]]
    assert list(confirmed.rejected) == [B] and reachability.METADATA in confirmed.rejected[B]


def test_a_new_nic_that_cut_the_server_off_is_taken_down_again(scene, world):
    answering(world, scene, lambda scene: set() if scene.address(C) else {METADATA}, carries=lambda scene: "ens5")
    confirmed = scene.confirm([METADATA])
    assert scene.address(C) is None and C in confirmed.rejected
    assert ("after", (("down", "ens5"),)) in scene.backend.asked
    (one,) = confirmed.state.rejections
    assert (one.key, one.old) == (KEY[C], None)


def test_a_place_that_another_nic_takes_over_is_not_taken_back(guest):
    scene = Scene(QuietNetworkd(), str(guest))
    row = scene.state.ledger[0]
    moved = [change._replace(key=KEY[B]) if change.mac == A else change for change in scene.made.changes]
    swapped = scene.made._replace(changes=tuple(scene.made.changes) + tuple(moved[:1]))
    found = rollback.units(scene.wants, swapped, scene.state, scene.backend)
    assert row.key not in {key for unit in found for key in unit.keys}


def test_a_further_part_of_a_nic_is_taken_back_without_the_nic(guest):
    """As a first file of routes beside an ifcfg file. Without an older part the NIC is new, and goes down."""
    scene = Scene(QuietNetworkd(), str(guest))
    for mac, action in ((A, "reconfigure"), (C, "down")):
        further = [change._replace(path=str(guest / "route-x"), section="") for change in scene.made.changes if change.mac == mac]
        (unit,) = rollback.units(scene.wants, scene.made._replace(changes=tuple(further)), scene.state, scene.backend)
        assert [(touch.action, touch.mac) for touch in unit.back.touches] == [(action, mac)]


# -- before -----------------------------------------------------------------------------------------------------


def test_nobody_is_asked_where_no_part_changes(monkeypatch):
    monkeypatch.setattr(reachability, "reached", lambda *args, **fields: pytest.fail("asked"))
    assert rollback.measure_baseline((), snapshot(), SETTINGS) == rollback.Baseline({}, {})


def test_only_who_answers_before_counts_after(scene, monkeypatch):
    asked = {}

    def reached(about, names, now, seconds, stubborn):
        asked.update(about)
        return frozenset([METADATA])

    monkeypatch.setattr(reachability, "reached", reached)
    monkeypatch.setattr(reachability, "carrier", lambda target, now: "ens3")
    said = rollback.measure_baseline(scene.units, snapshot(), SETTINGS._replace(must_reach=frozenset(["192.0.2.1"])))
    assert set(asked) == {METADATA, Target("", "192.0.2.1")}
    assert said == rollback.Baseline({METADATA: ()}, {METADATA: "ens3"})


# -- cut short ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restores", [True, False], ids=["restores", "restores nothing"])
def test_cut_short_anywhere_each_nic_is_old_or_new_and_ours(scene, world, monkeypatch, restores):
    answering(world, scene, old_answers(A) if restores else lambda scene: {METADATA, GATEWAY[B]})
    before, instant = everything(scene.root), 1
    while True:
        with monkeypatch.context() as patched:
            Machine(patched, instant)
            try:
                scene.confirm(ASKED)
                break
            except Dead:
                pass
        state, _touches = commit.recover(store.load("i"), scene.backend)
        assert scene.address(A) in (OLD[A], NEW[A]), "at instant %d" % instant
        assert [scene.address(mac) for mac in (B, C)] == [NEW[B], NEW[C]]
        disk = render.disk_parts(scene.backend, render.places(state))
        assert disk == {row.place: row.disk for row in state.ledger}, "at instant %d" % instant
        if restores and scene.address(A) == OLD[A]:
            assert [one.key for one in state.rejections] == [KEY[A]], "old, and nobody knows why"
        restore(scene.root, before)
        instant += 1
    assert instant > 15
