# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The loop of a run, with the test's own clock, sources, kernel and backend: minutes pass in milliseconds."""

import fcntl
import sys
import time

import pytest

from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.cloud_init.context import Context, Settings
from cloudinit_osnetd.cloud_init.eligibility import NotManaged, RunContext
from cloudinit_osnetd.core import digest, truth
from cloudinit_osnetd.core.desired import desired
from cloudinit_osnetd.core.records import Owned, Snapshot
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.openstack.refresh import RefreshResult
from cloudinit_osnetd.run import recheck_timer
from cloudinit_osnetd.run.environment import Environment
from cloudinit_osnetd.run.reconcile import run
from cloudinit_osnetd.state import event_queue, failed_retries, store
from cloudinit_osnetd.system import files, paths

from .build import A, B, C, bond, data, document, link, nic, static, vlan

ID = "i-1"
KEY = A + "/phy"
PART = "[Match]\nName=ens3\n"


class Backend(Networkd):
    """networkd's files, and no networkd."""

    def __init__(self, etc):
        self.etc = etc
        self.after_calls = []

    def claimed(self, items):
        return {}

    def recover(self, boot=False):
        pass

    def before(self, touches):
        pass

    def after(self, touches, changed):
        self.after_calls.append([(touch.action, touch.name) for touch in touches])
        return {}


class Server:
    """What a run meets: time passes only while it sleeps, and what happens meanwhile is in `later`."""

    def __init__(self, root, **settings):
        self.now = 1000.0
        self.nics = [nic("ens3", A, 2, ["10.0.0.5/24"])]
        self.document = document([link()], [static()])
        self.answers = True
        self.asked = []  # the time of each request
        self.later = []  # (seconds, what happens)
        self.backend = Backend(str(root))
        self.settings = Settings(**settings)
        self.refusal = None
        self.timers = []

    def environment(self):
        return Environment(
            monotonic=lambda: self.now,
            sleep=self.sleep,
            snapshot=self.snapshot,
            refresh_metadata=self.refresh_metadata,
            refresh_drive=lambda state: RefreshResult(state, (), False),
            run_context=self.run_context,
        )

    def run_context(self, push=False):
        if self.refusal:
            raise NotManaged(self.refusal)
        return RunContext(ID, Context("networkd", "", self.settings, {}), self.backend)

    def sleep(self, seconds):
        assert 0 < seconds <= 0.1
        self.now += seconds
        for one in [one for one in self.later if one[0] <= self.now - 1000.0]:
            self.later.remove(one)
            one[1]()

    def snapshot(self):
        return Snapshot(tuple(self.nics), ())

    def refresh_metadata(self, state, _snapshot, _pinned, **_fields):
        self.asked.append(round(self.now - 1000.0, 1))
        if not self.answers:
            return RefreshResult(state, ("metadata: no response",), False)
        known = truth.observe(state.truth, "metadata", data(self.document), self.now)
        return RefreshResult(state._replace(truth=known), (), True)

    def run(self, *reasons, **options):
        return run(list(reasons), env=self.environment(), **options)


@pytest.fixture
def server(guest, tmp_path, monkeypatch):
    """A server whose one NIC is configured as its entry says."""
    made = Server(tmp_path)
    monkeypatch.setattr(netlink, "snapshot", made.snapshot)
    monkeypatch.setattr(recheck_timer, "_start", lambda seconds: made.timers.append(round(seconds, 1)) or True)
    monkeypatch.setattr(recheck_timer.time, "monotonic", lambda: made.now)
    configured(made)
    return made


def configured(server):
    """The links of the server's document have their parts, which are ours."""
    state = store.empty(ID)
    known = truth.observe(state.truth, "metadata", data(server.document), server.now)
    rows = []
    for want in desired(known, server.snapshot().by_mac(), frozenset(), {}, {}):
        for item in want.items:
            path = "%s/10-cloud-init-%s.network" % (server.backend.etc, item.name)
            part = PART.replace("ens3", item.name)
            files.replace(path, part)
            fingerprint = digest.of_text(server.backend.normal(part))
            rows.append(Owned(item.key, item.entry.mac, item.name, "networkd", path, "", fingerprint, want.digest))
    files.make_directory(paths.STATE)
    store.save(state._replace(truth=known, ledger=tuple(rows), answered=A))


def queue(reason, name="ens9"):
    files.make_directory(paths.QUEUE)
    files.replace("%s/1000.00.%s.%s" % (paths.QUEUE, reason, name), "", sync=False)


def test_nothing_to_do_is_one_pass_and_no_timer(server):
    record = server.run("added")
    assert (record.passes, record.changes, record.touches, record.problems) == (1, (), (), {})
    assert record.next_check == 0 and server.timers == [] and server.now == 1000.0


def test_a_nic_that_no_source_lists_is_asked_for_ever_more_rarely_until_the_patience_is_over(server):
    server.nics.append(nic("ens4", B, 3))
    record = server.run("added")
    assert server.asked == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5, 45.5, 60.5, 75.5, 90.0]
    assert record.pending == (B,) and record.next_check == 15 and server.timers == [15.0]


def test_a_nic_is_pending_until_its_port_is_reported(server, monkeypatch):
    """Up to the rendering, for which there is no cloud-init here."""
    monkeypatch.setitem(sys.modules, "cloudinit", None)
    server.nics.append(nic("ens4", B, 3, ["10.0.1.5/24"]))
    both = document([link(), link(B, "tap2")], [static(), static("10.0.1.5", link="tap2", id="n2")])
    server.later.append((3.0, lambda: setattr(server, "document", both)))
    seen = []
    record = server.run("added", note=lambda record: seen.append((record.pending, record.next_check)))
    assert list(record.problems) == [B] and record.pending == ()
    assert seen == [((B,), 0.5), ((B,), 1.0), ((B,), 2.0)] and server.asked == [0.0, 0.5, 1.5, 3.5]


def test_a_timers_run_asks_once(server):
    server.nics.append(nic("ens4", B, 3))
    record = server.run("timer")
    assert server.asked == [0.0] and record.next_check == 15 and record.pending == (B,)


def test_who_does_not_wait_asks_once(server):
    server.nics.append(nic("ens4", B, 3))
    assert server.run("operator", patient=False).passes == 1


def test_an_event_ends_the_wait_at_once_and_its_reason_counts(server):
    server.nics.append(nic("ens4", B, 3))
    server.later += [(2.0, lambda: queue("removed")), (2.0, server.nics.pop)]
    record = server.run("added")
    assert server.asked == [0.0, 0.5, 1.5, 2.0]
    assert set(record.reasons) == {"added", "removed"} and record.pending == ()
    assert event_queue.taken() == [] and not event_queue.waiting()


def test_the_lock_is_free_during_a_wait_and_held_during_a_pass(server, monkeypatch):
    server.nics.append(nic("ens4", B, 3))
    found = []

    def look(where):
        with open(paths.LOCK) as fh:
            try:
                fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append((where, "free"))
            except BlockingIOError:
                found.append((where, "held"))

    ask = server.refresh_metadata
    monkeypatch.setattr(server, "refresh_metadata", lambda *args, **fields: look("pass") or ask(*args, **fields))
    server.later.append((0.3, lambda: look("wait")))
    server.run("added", note=lambda record: look("note"))
    assert found[:4] == [("pass", "held"), ("note", "held"), ("wait", "free"), ("pass", "held")]


def test_what_another_run_wrote_during_a_wait_is_read(server):
    server.nics.append(nic("ens4", B, 3))

    def other_run():
        state = store.load(ID)
        store.save(state._replace(answered=B))

    server.later.append((0.3, other_run))
    server.run("added")
    assert store.load(ID).answered == B


def test_a_nic_that_vanishes_is_removed_after_the_debounce(server):
    del server.nics[:]
    record = server.run("removed")
    assert record.passes == 2 and server.now - 1000.0 == pytest.approx(1.5, abs=0.11)
    assert [(touch.action, touch.name) for touch in record.touches] == [("down", "ens3")]
    assert store.load(ID).ledger == ()


def test_a_nic_that_comes_back_within_the_debounce_is_not_touched(server):
    gone = list(server.nics)
    del server.nics[:]
    server.later += [(1.0, lambda: server.nics.extend(gone)), (1.0, lambda: queue("added", "ens3"))]
    record = server.run("removed")
    assert record.changes == () and record.touches == () and server.backend.after_calls == []
    assert len(store.load(ID).ledger) == 1


@pytest.fixture
def bus(server, tmp_path):
    """The NIC is on a bus: the path of its device, which a run has noted."""
    device = tmp_path / "sys/devices/pci0000:00/0000:00:05.0"
    device.mkdir(parents=True)
    server.nics[:] = [one._replace(device=str(device)) for one in server.nics]
    server.run("added")
    server.now = 1000.0
    return device


def test_a_driver_that_is_reloaded_is_waited_for(server, bus):
    gone = list(server.nics)
    del server.nics[:]
    server.later += [(1.0, lambda: server.nics.extend(gone)), (1.0, lambda: queue("added", "ens3"))]
    record = server.run("removed")
    assert record.changes == () and record.touches == () and server.backend.after_calls == []
    del server.nics[:]
    assert server.run("removed").seconds == pytest.approx(1.5, abs=0.11)


def test_a_nic_whose_bus_device_is_gone_is_not_waited_for(server, bus):
    del server.nics[:]
    bus.rmdir()
    record = server.run("removed")
    assert record.passes == 1 and server.now == 1000.0
    assert [(touch.action, touch.name) for touch in record.touches] == [("down", "ens3")]
    assert store.load(ID).ledger == ()


def test_a_bus_device_that_goes_after_its_nic_ends_the_wait(server, bus):
    del server.nics[:]
    server.later.append((0.2, bus.rmdir))
    record = server.run("removed")
    assert record.passes == 2 and server.now - 1000.0 == pytest.approx(0.3, abs=0.11)
    assert store.load(ID).ledger == ()


def test_a_nic_that_has_moved_to_another_slot_is_known_there(server, bus, tmp_path):
    """Its old bus device is gone, the new one is there: a driver that is reloaded is waited for."""
    bus.rmdir()
    other = tmp_path / "sys/devices/pci0000:00/0000:00:06.0"
    other.mkdir()
    server.nics[:] = [one._replace(device=str(other)) for one in server.nics]
    server.run("added")
    server.now = 1000.0
    del server.nics[:]
    assert server.run("removed").passes == 2


@pytest.mark.parametrize("said", ["", "[]", "{", '{"%s": 7}' % A, '{"%s": ""}' % A])
def test_a_note_of_bus_devices_that_says_nothing_is_a_debounce(server, bus, said):
    files.replace(paths.DEVICES, said)
    del server.nics[:]
    record = server.run("removed")
    assert len(record.touches) == 1
    assert record.passes == (1 if "7" in said else 2)  # a path that is not there


def test_the_debounce_is_not_lengthened_by_events_of_other_nics(server):
    del server.nics[:]
    server.later += [(0.5, lambda: queue("added", "ens7")), (1.2, lambda: queue("removed", "ens8"))]
    record = server.run("removed")
    assert server.now - 1000.0 == pytest.approx(1.5, abs=0.21) and len(record.touches) == 1


def test_a_service_that_does_not_respond_removes_nothing(server):
    server.answers = False
    record = server.run("boot")
    assert record.faults == ("metadata: no response",) and record.changes == () and record.next_check == 0


def test_an_entry_that_goes_back_to_an_earlier_one_is_doubted_and_checked_again(server):
    """One of two API servers that has an old document in its cache."""
    now, old = server.document, document([link()], [static("10.0.0.6")])
    state = store.load(ID)
    for seconds, said in ((-40, old), (-5, now)):
        state = state._replace(truth=truth.observe(state.truth, "metadata", data(said), server.now + seconds))
    store.save(state)
    server.document = old
    record = server.run("timer")
    assert record.doubted == (KEY,) and record.changes == ()
    assert 0 < record.next_check <= truth.DOUBT_LOOK and len(server.timers) == 1


def test_what_a_backend_could_not_apply_yet_is_tried_by_each_run_and_the_timer(server):
    """The kernel shows nothing of it: DNS servers that wait for a DHCP server, for example."""
    waiting = {"ens3", "ens9"}  # one of them is gone
    server.backend.unapplied = lambda: frozenset(waiting)
    record = server.run("added")
    assert server.backend.after_calls == [[("kick", "ens3")]], "once in a run"
    assert record.next_check == 15 and server.timers == [15.0]
    server.now += 15
    waiting.remove("ens3")
    record = server.run("timer")
    assert record.touches == () and record.next_check == 0


def test_told_to_stop_while_a_nic_is_pending_the_timer_is_left(server):
    server.nics.append(nic("ens4", B, 3))

    def stop():
        raise SystemExit(143)

    server.later.append((2.0, stop))
    queue("added", "ens4")
    event_queue.take()
    with pytest.raises(SystemExit):
        server.run("added")
    assert server.timers == [15.0]
    assert event_queue.taken() == ["1000.00.added.ens4"], "the next run serves it"


def test_a_server_that_is_not_managed_is_left_alone(server):
    server.refusal = "switched off (osnetd: {enabled: false})"
    with pytest.raises(NotManaged, match="switched off"):
        server.run("added")
    assert server.asked == [] and server.timers == []


def test_events_are_removed_only_after_the_record_is_kept(server):
    queue("added")
    event_queue.take()

    def die(_record):
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        server.run("added", keep=die)
    assert event_queue.taken() == ["1000.00.added.ens9"]


def test_a_nic_that_an_earlier_run_is_still_bringing_up_is_waited_for(server):
    """`ifup` that takes longer than a run waits for it."""
    server.nics = [nic("ens3", A, 2)]
    slow = {"ens3"}
    server.backend.coming_up = lambda names: frozenset(slow.intersection(names))
    record = server.run("added")
    assert record.touches == () and "10.0.0.5/24" in record.problems[A]
    assert record.problems[A].startswith("it is still being brought up: ")
    assert record.next_check == 15 and server.timers == [15.0]
    server.now += 15
    server.nics = [nic("ens3", A, 2, ["10.0.0.5/24"])]
    record = server.run("timer")
    assert (record.touches, record.problems, record.next_check) == ((), {}, 0)
    assert server.backend.after_calls == []


@pytest.fixture
def leaning(server, monkeypatch):
    """A server with a VLAN on its NIC, and a bond of another one. Waiting for the kernel takes no time."""

    def sleep(seconds):
        server.now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    server.document = document(
        [link(), vlan(), link(B, "tap2"), bond(members=["tap2"])],
        [static(), static("10.1.0.5", link="vlan1"), static("10.2.0.5", link="bond1")],
    )
    server.nics = [nic("ens3", A, 2), nic("ens4", B, 3)]
    configured(server)
    return server


def test_what_depends_on_a_nic_that_is_still_being_brought_up_waits_with_it(leaning):
    """A VLAN's `ifup` fails as long as its NIC is not up, however often it is started; a member's without its bond."""
    slow = {"ens3", "bond0"}
    leaning.backend.coming_up = lambda names: frozenset(slow.intersection(names))
    record = leaning.run("added")
    told = {item: text.partition(": ")[::2] for item, text in record.problems.items()}
    assert record.touches == () and set(told) == {A, A + "/vlan.100", B, C + "/bond"}
    assert {word for word, _lacks in told.values()} == {"it is still being brought up"}
    assert told[A + "/vlan.100"][1] == "ens3.100 does not exist" and told[B][1] == "bond0 does not exist"
    leaning.nics[0] = nic("ens3", A, 2, ["10.0.0.5/24"])
    slow.clear()
    record = leaning.run("timer")
    assert {(touch.action, touch.name) for touch in record.touches} == {("kick", n) for n in ("ens3.100", "ens4", "bond0")}
    assert leaning.backend.after_calls == [[(touch.action, touch.name) for touch in record.touches]]


def test_what_failed_because_another_nic_is_late_is_tried_again(leaning):
    leaning.backend.late = frozenset(["ens3", "bond0"])  # their commands go on
    leaning.run("added")
    assert {one.name for one in failed_retries.read()} == {"ens3", "bond0"}
    leaning.backend.late = frozenset()
    record = leaning.run("added")
    assert {touch.name for touch in record.touches} == {"ens3.100", "ens4"}
    assert leaning.run("added").touches == ()
