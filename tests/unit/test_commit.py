# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""apply: a commit that is cut short at any instant leaves, per NIC, the old state or the new one."""

import errno
import os

import pytest

from cloudinit_osnetd.apply import commit
from cloudinit_osnetd.backends.eni.backend import Ifupdown
from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.core import digest, plan
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.plan import Staged
from cloudinit_osnetd.core.records import Owned, Touch
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths

from .build import A, B, C, entry, static

D = "fa:16:3e:00:00:04"
NAMES = {A: "ens3", B: "ens4", C: "ens5", D: "ens6"}


def ifupdown_text(name, address):
    return "auto %s\niface %s inet static\n    address %s/24\n" % (name, name, address)


def networkd_text(name, address):
    return "[Match]\nName=%s\n[Address]\nAddress=%s/24\n" % (name, address)


class Quiet:
    """A backend without its programs: what it was asked to do is noted."""

    def __init__(self):
        self.asked = []

    def before(self, touches):
        self.asked.append(("before", tuple(t.name for t in touches)))

    def after(self, touches, changed):
        self.asked.append(("after", tuple((t.action, t.name) for t in touches)))
        return {}


class QuietIfupdown(Quiet, Ifupdown):
    text = staticmethod(ifupdown_text)

    def place(self, root, name):
        return root + "/etc/network/interfaces", name


class QuietNetworkd(Quiet, Networkd):
    text = staticmethod(networkd_text)

    def place(self, root, name):
        return "%s/etc/systemd/network/10-cloud-init-%s.network" % (root, name), ""


def mark(backend, text):
    return digest.of_text(backend.normal(text))


def wants_of(addresses):
    """`addresses` by MAC."""
    found = []
    for mac, address in sorted(addresses.items()):
        one = entry(static(address), mac=mac)
        found.append(Want((Item(one.key, one, NAMES[mac], ()),), "digest of " + address))
    return found


def staged_of(backend, root, wants):
    parts = []
    for want in wants:
        item = want.items[0]
        path, section = backend.place(root, item.name)
        text = backend.text(item.name, item.entry.networks[0].address.split("/")[0])
        parts.append(Staged(item.key, item.entry.mac, item.name, path, section, text, mark(backend, text), want.digest))
    return parts


def look(backend, root, state, addresses):
    """What build_plan does, with a renderer of our own."""
    wants = wants_of(addresses)
    disk = render.disk_parts(backend, render.places(state))
    todo = [want for want in wants if plan.needs_render(want, state.ledger, disk, backend.name)]
    parts = staged_of(backend, root, todo)
    disk = render.disk_parts(backend, render.places(state, [part.place for part in parts]))
    return plan.make(wants, parts, disk, state.ledger, None, backend.name)


def run_to(backend, root, addresses, activate=True):
    """One look and its commit, as a run does them: what was cut short is settled first."""
    state, _touches = commit.recover(store.load("i"), backend)
    made = look(backend, root, state, addresses)
    outcome = commit.commit(made, state, backend, {}, activate)
    store.save(state._replace(ledger=outcome.ledger))
    return made


# -- kill -9, at each instant ------------------------------------------------------------------------------


class Dead(BaseException):
    pass


class Machine:
    """Dies at the n-th system call that changes a disk, before or after its effect, and stays dead."""

    CALLS = ("open", "rename", "unlink", "fsync", "fchmod")

    def __init__(self, monkeypatch, instant):
        self.left = instant
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, real):
        def call(*args, **fields):
            if self.left <= 0:
                raise Dead
            self.left -= 1
            if self.left == 0:
                raise Dead
            self.left -= 1
            done = real(*args, **fields)
            if self.left == 0:
                raise Dead
            return done

        return call


OLD = {A: "10.0.0.1", B: "10.0.0.2", C: "10.0.0.3"}
NEW = {A: "10.0.0.1", B: "10.0.0.22", D: "10.0.0.4"}  # one stays, one is edited, one goes, one comes
BACKENDS = [QuietIfupdown, QuietNetworkd]


def sections(backend, root):
    """What stands on disk, by NIC name."""
    found = {}
    for name in NAMES.values():
        path, section = backend.place(root, name)
        text = (backend.split(files.read(path)) if os.path.exists(path) else {}).get(section)
        if text is not None:
            found[name] = backend.normal(text)
    return found


def expected(backend, addresses):
    return {NAMES[mac]: backend.normal(backend.text(NAMES[mac], address)) for mac, address in addresses.items()}


def scraps(root):
    return [name for _dir, _dirs, names in os.walk(root + "/etc") for name in names if name.startswith(files.TEMPORARY)]


def dies(monkeypatch, instant, doing):
    """True where `doing` was cut short at that instant."""
    with monkeypatch.context() as patched:
        machine = Machine(patched, instant)
        try:
            doing()
        except Dead:
            return True
        assert machine.left > 0, "it died and nobody noticed"
        return False


@pytest.fixture(params=BACKENDS, ids=["ifupdown", "networkd"])
def scene(request, guest):
    """A guest with OLD in place, and somebody else's file beside ours where the backend has one for all."""
    backend, root = request.param(), str(guest)
    theirs = "# theirs\nauto lo\niface lo inet loopback\n\nauto eth7\niface eth7 inet manual\n"
    if isinstance(backend, Ifupdown):
        files.replace(root + "/etc/network/interfaces", theirs)
    run_to(backend, root, OLD)
    assert sections(backend, root) == expected(backend, OLD)
    return backend, root


def restore(root, saved):
    for path, text in saved.items():
        if text is None:
            files.remove(path)
        else:
            files.replace(path, text, sync=False)
    for directory, _dirs, names in os.walk(root):
        for name in names:
            if os.path.join(directory, name) not in saved:
                os.unlink(os.path.join(directory, name))


def everything(root):
    return {
        os.path.join(d, name): files.read(os.path.join(d, name)) for d, _dirs, names in os.walk(root) for name in names
    }


@pytest.mark.parametrize("activate", [True, False], ids=["live", "early"])
def test_cut_short_anywhere_each_nic_is_old_or_new_and_the_next_run_finishes(scene, monkeypatch, activate):
    backend, root = scene
    before, instant = everything(root), 1
    old, new = expected(backend, OLD), expected(backend, NEW)
    while dies(monkeypatch, instant, lambda: run_to(backend, root, NEW, activate)):
        there = sections(backend, root)
        for name in NAMES.values():
            assert there.get(name) in (old.get(name), new.get(name)), "at instant %d" % instant
        assert there["ens3"] == old["ens3"]
        made = run_to(backend, root, NEW, activate)
        assert made.drifted == (), "at instant %d" % instant
        assert sections(backend, root) == new
        assert scraps(root) == []
        assert look(backend, root, store.load("i"), NEW).empty
        assert store.read_intent() is None
        restore(root, before)
        instant += 1
    assert instant > 30


THIRD = {B: "10.0.0.33", C: "10.0.0.3"}


@pytest.mark.parametrize("wanted", [NEW, THIRD], ids=["the same", "otherwise"])
def test_cut_short_twice_it_is_no_different(scene, monkeypatch, wanted):
    backend, root = scene
    before, first = everything(root), 1
    while dies(monkeypatch, first, lambda: run_to(backend, root, NEW)):
        halfway, second = everything(root), 1
        while dies(monkeypatch, second, lambda: run_to(backend, root, NEW)):
            made = run_to(backend, root, wanted)
            assert made.drifted == (), "at instants %d and %d" % (first, second)
            assert sections(backend, root) == expected(backend, wanted)
            assert scraps(root) == []
            restore(root, halfway)
            second += 3
        restore(root, before)
        first += 3
    assert first > 30


def test_cut_short_and_then_wanted_otherwise_it_follows(scene, monkeypatch):
    backend, root = scene
    before, instant = everything(root), 1
    while dies(monkeypatch, instant, lambda: run_to(backend, root, NEW)):
        assert run_to(backend, root, THIRD).drifted == (), "at instant %d" % instant
        assert sections(backend, root) == expected(backend, THIRD)
        assert scraps(root) == []
        restore(root, before)
        instant += 1


def test_other_peoples_stanzas_are_there_at_every_instant(guest, monkeypatch):
    backend, root = QuietIfupdown(), str(guest)
    path, theirs = root + "/etc/network/interfaces", "# theirs \x0c\nauto eth7\niface eth7 inet manual \r\n"
    files.replace(path, theirs)
    run_to(backend, root, OLD)
    before, instant = everything(root), 1
    while dies(monkeypatch, instant, lambda: run_to(backend, root, NEW)):
        assert files.read(path).startswith(theirs)
        restore(root, before)
        instant += 1


def test_the_nics_of_a_commit_that_was_cut_short_are_reported(scene, monkeypatch):
    backend, root = scene
    dies(monkeypatch, 25, lambda: run_to(backend, root, NEW))
    assert store.read_intent() is not None
    _state, touches = commit.recover(store.load("i"), backend)
    assert {(t.action, t.name) for t in touches} == {("reconfigure", "ens4"), ("up", "ens6"), ("down", "ens5")}


# -- what else can go wrong --------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_costs_its_own_nics(guest, monkeypatch):
    backend, root = QuietNetworkd(), str(guest)
    run_to(backend, root, OLD)
    real = files.replace

    def full(path, *args, **fields):
        if path.endswith("ens4.network"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *args, **fields)

    state = store.load("i")
    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", full)
        outcome = commit.commit(look(backend, root, state, NEW), state, backend, {}, True)
    assert list(outcome.problems) == [B]
    assert "No space left" in outcome.problems[B]
    assert sections(backend, root) == expected(backend, {A: OLD[A], B: OLD[B], D: NEW[D]})
    assert render.disk_parts(backend, render.places(store.load("i"))) == {row.place: row.disk for row in outcome.ledger}
    assert store.read_intent() is None


def test_what_the_backend_says_of_a_nic_is_that_nics_problem(guest):
    class Failing(QuietNetworkd):
        def after(self, touches, changed):
            return {"ens4": "no lease"}

    backend, root = Failing(), str(guest)
    state = store.empty("i")
    outcome = commit.commit(look(backend, root, state, OLD), state, backend, {}, True)
    assert outcome.problems == {B: "no lease"}


def test_what_the_backend_says_of_a_vlan_is_not_its_parents_problem(guest):
    class Failing(QuietNetworkd):
        def after(self, touches, changed):
            return {"ens3.7": "no such device"}

    backend, state = Failing(), store.empty("i")
    made = look(backend, str(guest), state, {A: OLD[A], B: OLD[B]})
    path = backend.place(str(guest), "ens3.7")[0]
    (first, *_rest) = [change for change in made.changes if change.mac == A]
    key = A + "/vlan.7"
    row = first.row._replace(key=key, name="ens3.7", path=path)
    vlan = first._replace(key=key, name="ens3.7", path=path, row=row)
    made = made._replace(changes=(*made.changes, vlan), touches=(*made.touches, Touch("up", A, "ens3.7", "a new NIC")))
    assert commit.commit(made, state, backend, {}, True).problems == {key: "no such device"}


def test_early_nothing_is_activated(guest):
    backend = QuietNetworkd()
    run_to(backend, str(guest), OLD, activate=False)
    assert backend.asked == []


def test_before_the_files_change_only_what_was_there_is_taken_down(scene):
    backend, root = scene
    del backend.asked[:]
    run_to(backend, root, NEW)
    (before, down), (after, touched) = backend.asked
    assert (before, after) == ("before", "after")
    assert sorted(down) == ["ens4", "ens5"]
    assert sorted(touched) == [("down", "ens5"), ("reconfigure", "ens4"), ("up", "ens6")]


def test_a_second_run_writes_nothing_and_asks_for_nothing(scene, monkeypatch):
    backend, root = scene
    run_to(backend, root, NEW)
    del backend.asked[:]
    written = []
    monkeypatch.setattr(files, "replace", lambda path, *a, **k: written.append(path))
    assert run_to(backend, root, NEW).empty
    assert (written, backend.asked) == ([], [])


def test_a_removed_networkd_file_is_gone_and_an_ifupdown_file_stays(guest):
    for backend in (QuietNetworkd(), QuietIfupdown()):
        run_to(backend, str(guest), {A: "10.0.0.1"})
        run_to(backend, str(guest), {})
        assert os.path.exists(backend.place(str(guest), "ens3")[0]) == isinstance(backend, Ifupdown)
        assert sections(backend, str(guest)) == {}


# -- the ledger ----------------------------------------------------------------------------------------------


def test_what_somebody_wrote_while_we_were_dead_is_found_drifted(scene, monkeypatch):
    backend, root = scene
    dies(monkeypatch, 25, lambda: run_to(backend, root, NEW))
    path, section = backend.place(root, "ens4")
    edited = backend.text("ens4", "10.99.99.99")
    files.replace(path, backend.join(files.read(path), None, {section: edited}))
    made = run_to(backend, root, NEW)
    assert [drift.name for drift in made.drifted] == ["ens4"]
    assert sections(backend, root)["ens4"] == backend.normal(edited)


def test_on_another_instance_only_what_still_has_its_hash_is_deleted(guest):
    backend, root = QuietNetworkd(), str(guest)
    run_to(backend, root, OLD)
    files.replace(backend.place(root, "ens4")[0], "theirs now\n")
    state = store.load("another")
    made = look(backend, root, state, {D: "10.0.0.4"})
    commit.commit(made, state, backend, {}, False)
    assert sorted(sections(backend, root)) == ["ens4", "ens6"]
    assert [drift.name for drift in made.drifted] == ["ens4"]


def test_the_paths_of_this_test_are_not_the_machines(guest):
    assert paths.STORE.startswith(str(guest))
    assert isinstance(plan.ledger_after([Owned(*"kmnbpsdD")], []), tuple)


# -- a disk that fails ---------------------------------------------------------------------------------------


def failing(monkeypatch, name, when):
    """Have the operating system's call fail where `when` says so of its argument."""
    real = getattr(os, name)

    def call(*args, **fields):
        if when(args[0] if isinstance(args[0], str) else os.readlink("/proc/self/fd/%d" % args[0])):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **fields)

    monkeypatch.setattr(os, name, call)


def test_a_file_that_is_in_place_is_written_also_where_its_directory_cannot_be_synced(scene, monkeypatch):
    backend, root = scene
    state = store.load("i")
    with monkeypatch.context() as patched:
        failing(patched, "fsync", lambda path: os.path.isdir(path) and "/etc/" in path)
        outcome = commit.commit(look(backend, root, state, NEW), state, backend, {}, True)
    assert outcome.problems == {}
    assert run_to(backend, root, THIRD).drifted == ()
    assert sections(backend, root) == expected(backend, THIRD)


def test_nics_are_brought_up_also_where_the_ledger_cannot_be_written_and_the_next_run_finds_it_out(scene, monkeypatch):
    backend, root = scene
    state = store.load("i")
    with monkeypatch.context() as patched:
        planned = look(backend, root, state, NEW)
        del backend.asked[:]
        failing(patched, "rename", lambda path: path.endswith("store.json") and sections(backend, root) != expected(backend, OLD))
        commit.commit(planned, state, backend, {}, True)
    assert [what for what, _touches in backend.asked] == ["before", "after"]
    assert store.read_intent() is not None
    assert run_to(backend, root, THIRD).drifted == ()
    assert sections(backend, root) == expected(backend, THIRD)
    assert store.read_intent() is None
