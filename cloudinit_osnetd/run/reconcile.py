# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The loop: look, decide, do, until nothing is left to wait for.

What carries a plan out is imported where there is one: most looks find nothing to do.
"""

import logging
import os
import time
from typing import IO, Callable, Dict, FrozenSet, List, NamedTuple, Sequence, Set, Tuple

from ..apply import commit
from ..cloud_init.eligibility import NotManaged, RunContext, permit, run_context
from ..core import desired, network_data, plan, rejections, truth
from ..core.records import Nic, Snapshot, Touch
from ..kernel import netlink
from ..openstack import temporary_access
from ..openstack.refresh import refresh_drive, refresh_metadata
from ..planning.build_plan import (
    PlanningResult,
    build_plan,
    log_plan,
    new_macs,
    pending_macs,
    rendered_from,
    without_carrier,
)
from ..state import event_queue, failed_retries, store
from ..system import command, lazy_imports, paths
from . import recheck_timer

LOG = logging.getLogger(__name__)
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_DETECTION_SECONDS = 3.0  # of duplicate addresses (RFC 4862: two at the most)
_GRACE_SECONDS = 2.0  # for a backend that is about to configure a NIC by itself


def _is_detecting(snapshot: Snapshot) -> bool:
    """Whether duplicate address detection is under way on an address other than a link-local one."""
    there = (address for nic in snapshot.nics for address in nic.addresses)
    return any(one.tentative and not one.duplicate and not one.address.startswith("fe80:") for one in there)


def _any_duplicate(snapshot: Snapshot) -> bool:
    return any(address.duplicate for nic in snapshot.nics for address in nic.addresses)


class Record(NamedTuple):
    """What a run saw, decided and did."""

    reasons: Tuple[str, ...]
    changes: Tuple[plan.Change, ...]
    touches: Tuple[Touch, ...]
    drifted: Tuple[plan.Drift, ...]
    commands: Tuple[str, ...]
    faults: Tuple[str, ...]
    problems: Dict[str, str]  # by MAC
    findings: Dict[str, Tuple[str, ...]]  # by MAC: what may still come by itself
    pending: Tuple[str, ...]  # MACs
    doubted: Tuple[str, ...]  # keys
    looks: int
    seconds: float
    look_again: float  # seconds until a timer looks again, 0 where none is left behind


class _Run:
    """What a run carries from look to look."""

    def __init__(self, on: RunContext, force: bool, again: bool = False) -> None:
        """`again`: what has failed because of others is tried once more."""
        self.on = on
        self.force = force
        self.unfinished: Tuple[Touch, ...] = ()
        self.refresh()
        self.known = self.state.truth  # as it was before this look heard anything
        self.missing: Dict[str, float] = {}  # MAC -> when it was first seen missing
        self.kicked: Set[str] = set()  # MACs
        self.no_lease: Set[str] = set()  # MACs of the NICs on which DHCP gave this run no lease
        self.changes: List[plan.Change] = []
        self.touches: List[Touch] = []
        self.drifted: Tuple[plan.Drift, ...] = ()
        self.faults: Tuple[str, ...] = ()
        self.problems: Dict[str, str] = {}
        self.findings: Dict[str, Tuple[str, ...]] = {}
        self.pending: List[str] = []
        self.doubted: List[str] = []
        self.wants: Tuple[desired.Want, ...] = ()
        self.duplicates: List[str] = []  # MACs of NICs with an address that another host has
        self.again = again
        self.probed = False
        self.dark: List[str] = []  # MACs whose carrier is late
        self.looks = 0
        self.settled = False  # the last look was to the end, and what is left to wait for others have to say

    def refresh(self) -> None:
        """Take up what is on disk; another run may have been at work, or have been cut short."""
        store.sweep(self.on.backend)
        temporary_access.close_leftovers()
        self.state, unfinished = commit.recover(store.load(self.on.instance_id), self.on.backend)
        self.unfinished += unfinished

    def step(self) -> Tuple[float, float]:
        """One look and what follows from it; the seconds until the next is due, 0 where none is.

        The first for what settles by itself within seconds, the second for what others have to say.
        """
        self.looks += 1
        self.settled = False
        settings = self.on.context.settings
        left = self._judge_left()
        self.known = self.state.truth
        before = netlink.snapshot()
        importing = None
        if self.looks == 1 and new_macs(self.state, before.by_mac(), settings.ignore, recheck_timer.read().since):
            importing = lazy_imports.import_compat()  # while the metadata service is asked
        refreshed = refresh_metadata(
            self.state, before, settings.metadata_nic, ignored=settings.ignore, skip_lease=self.no_lease
        )
        self.no_lease |= {refreshed.no_lease} - {""}
        drive = refresh_drive(refreshed.state)
        if importing:
            importing.join()  # until then what it merely names is not to be used
        for fault in refreshed.faults + drive.faults:
            if fault not in self.faults:
                LOG.warning("fault: %s", fault)
        self.state, self.faults = drive.state, refreshed.faults + drive.faults
        snapshot = netlink.snapshot()
        nics = snapshot.by_mac()
        unripe, ripe_in = self._unripe(nics)
        tried = failed_retries.read()
        seen = build_plan(self.on, self.state, nics, snapshot, unripe, self.force, tried)
        if self._taken_anew(seen, snapshot):
            seen = build_plan(self.on, self.state, nics, netlink.snapshot(), unripe, self.force, tried)
        # With the commit at the latest: run again after a power loss, a NIC must get the metric it had.
        self.state = self.state._replace(metrics=seen.metrics)
        self._do(seen, tried)
        for mac, problem in left.items():
            self.problems.setdefault(mac, problem)
        present = [key for want in seen.wants for key in want.keys]
        present += desired.configurable(self.state.truth, nics)  # also what is rejected
        known = truth.forget_gone(self.state.truth, present)
        refused = self._still_refused(known, nics)
        metrics = {key: metric for key, metric in seen.metrics.items() if key in known.keys}
        self.state = self.state._replace(truth=known, metrics=metrics, rejections=refused)
        store.save(self.state)
        self.pending = pending_macs(self.state, nics, settings.ignore)
        for mac in self.pending:
            why = self.state.truth.refused(network_data.make_key("phy", mac))
            if why:
                self.problems.setdefault(mac, why)
        self.doubted = [key for key, kt in self.state.truth.keys.items() if kt.doubted]
        self.dark = without_carrier(seen, netlink.snapshot())
        self.settled = not ripe_in
        return ripe_in, self._others()

    def _taken_anew(self, seen: PlanningResult, snapshot: Snapshot) -> bool:
        """Whether addresses that another host was found to have were probed for anew: by force, or by the timer.

        Once in a run. A NIC that has them now is brought up again where its backend waits for that.
        """
        self.wants = seen.wants
        if self.probed or not self.again or not _any_duplicate(snapshot):
            return False
        from ..apply import duplicate_addresses

        drifted = {drift.name for drift in seen.plan.drifted}
        ours = [one for one in duplicate_addresses.found(seen.wants, snapshot) if one.name not in drifted]
        if not ours:
            return False
        self.probed = True
        own = duplicate_addresses.probe(ours)
        if self.on.backend.waits_for_unique:
            self.unfinished += tuple(Touch("kick", mac, name, "its address is its own") for mac, name in own.items())
        return True

    def note_duplicates(self) -> None:
        """Await the end of duplicate address detection on what was touched, and note what another host has."""
        deadline = time.monotonic() + _DETECTION_SECONDS
        while self.touches and _is_detecting(netlink.snapshot()) and time.monotonic() < deadline:
            if event_queue.waiting():
                break  # the next run will see it
            time.sleep(0.05)
        snapshot = netlink.snapshot()
        self.duplicates = []
        if _any_duplicate(snapshot):
            from ..apply import duplicate_addresses

            for one in duplicate_addresses.found(self.wants, snapshot):
                self.duplicates.append(one.mac)
                self.problems.setdefault(one.mac, "another host has %s too" % one.address)

    def _still_refused(self, known: truth.Truth, nics: Dict[str, Nic]) -> rejections.Rejections:
        """Less what has been tried again since, or by force, and is in force: it cut nobody off."""
        refused = rejections.concerning(known, self.state.rejections)
        if not refused:
            return ()
        proved = rendered_from(self.on, self.state._replace(rejections=()), known, nics)
        return tuple(rejection for rejection in refused if rejection.key not in proved)

    def _judge_left(self) -> Dict[str, str]:
        """Judge what a run that died has left on trial; the problems, by MAC.

        Before anything is asked or heard: the way to whom we would ask may be what it took.
        """
        if not self.state.on_trial:
            return {}
        from ..apply import confirmed_commit

        judged, self.unfinished = confirmed_commit.resume(self.on, self.state, self.unfinished)
        self.state = judged.state
        store.save(self.state)
        self.changes += judged.changes
        self.touches += judged.touches
        return dict(judged.problems, **judged.rejected)

    def _unripe(self, nics: Dict[str, Nic]) -> Tuple[FrozenSet[str], float]:
        """The MACs whose NIC vanished within the debounce, and how long that still lasts.

        Not one whose name another NIC has: that would be configured by what is left of the one that has gone.
        """
        now = time.monotonic()
        gone: Dict[str, Set[str]] = {}  # MAC -> names
        taken = {nic.name for nic in nics.values()}
        departed = {row.mac for row in self.state.ledger} - set(nics)
        departed -= {row.mac for row in self.state.ledger if row.name in taken}
        for row in self.state.ledger:
            if row.mac in departed:
                gone.setdefault(row.mac, set()).add(row.name)
        # Since the event where there was one: to start a run takes a tenth of a second.
        self.missing = {
            mac: self.missing[mac] if mac in self.missing else now - event_queue.ago("removed", names)
            for mac, names in gone.items()
        }
        debounce = self.on.context.settings.debounce
        left = {mac: since + debounce - now for mac, since in self.missing.items()}
        unripe = {mac: rest for mac, rest in left.items() if rest > 0}
        return frozenset(unripe), max(unripe.values()) if unripe else 0.0

    def _do(self, seen: PlanningResult, tried: FrozenSet[plan.Lacking]) -> None:
        made = seen.plan._replace(touches=self._touches(seen))
        log_plan(made)
        self.drifted = made.drifted
        self.problems = dict(seen.failures)
        self.findings = {}
        left = self.state.unwanted or os.path.exists(paths.THEIRS)
        if made.changes or made.touches or tried or left:
            self._carry_out(seen, made)
        else:
            store.clear_intent()  # one that was settled, with nothing left to do
            self.problems.update(seen.rejected)
        for lacking in made.hopeless:
            tried_too = "" if lacking.is_others_doing else "; bringing it up again did not help"
            self.problems.setdefault(lacking.mac, lacking.lacks + tried_too)

    def _carry_out(self, seen: PlanningResult, made: plan.Plan) -> None:
        from ..apply import confirmed_commit

        then, known, nics = self.state, self.known, netlink.snapshot().by_mac()

        def stood() -> Dict[str, truth.KeyTruth]:
            return rendered_from(self.on, then, known, nics)

        done = confirmed_commit.apply_plan(self.on, self.state, seen, made, stood, known.keys)
        self.state = done.state
        self.problems.update(done.problems)
        self.findings = done.findings
        self.changes += done.changes
        self.touches += done.touches

    def _touches(self, seen: PlanningResult) -> Tuple[Touch, ...]:
        """The plan's touches, with a kick only for a NIC that does not get there by itself.

        A NIC that a run which was cut short may have left half-way up counts as one to kick; one
        that was kicked in this run does not.
        """
        names = {touch.name for touch in seen.plan.touches}
        left = [t for t in self.unfinished if t.name not in names and t.action != "down"]
        self.unfinished = ()
        asked = [t for t in seen.plan.touches if t.action == "kick" and t.mac not in self.kicked]
        asked = self._lacking_still(seen, asked) + [t._replace(action="kick") for t in left]
        self.kicked |= {touch.mac for touch in asked}
        return tuple(t for t in seen.plan.touches if t.action != "kick") + tuple(asked)

    def _lacking_still(self, seen: PlanningResult, asked: Sequence[Touch]) -> List[Touch]:
        if not asked:
            return []
        from ..apply.verify import verify

        plain = plan.plain_keys(self.state.ledger)
        lacking = verify(seen.wants, asked, seconds=_GRACE_SECONDS, plain=plain).problems
        return [touch for touch in asked if touch.mac in lacking]

    def record(self, reasons: Sequence[str], seconds: float, look_again: float) -> Record:
        return Record(
            reasons=tuple(reasons),
            changes=tuple(self.changes),
            touches=tuple(self.touches),
            drifted=self.drifted,
            commands=tuple(command.ran),
            faults=self.faults,
            problems=self.problems,
            findings=self.findings,
            pending=tuple(self.pending),
            doubted=tuple(self.doubted),
            looks=self.looks,
            seconds=seconds,
            look_again=look_again,
        )

    @property
    def awaited(self) -> List[str]:
        """The MACs for which a timer looks again."""
        return sorted({*self.pending, *self.duplicates, *self.dark})

    def leave(self) -> float:
        """Leave a timer behind where there is something to be looked at again; seconds until it goes off, 0 without."""
        retry = rejections.next_try(self.state.truth, self.state.rejections, time.time())
        settings = self.on.context.settings
        return recheck_timer.leave(self.awaited, bool(self.doubted) or not self.settled, settings, retry)

    def told_to_stop(self) -> None:
        """Leave behind what a run that is over would: else nobody looks for a pending NIC until the next event."""
        nics = netlink.snapshot().by_mac()
        self.pending = pending_macs(self.state, nics, self.on.context.settings.ignore)
        LOG.info("told to stop: pending=%s look_again=%.0f", ",".join(self.pending) or "-", self.leave())

    def _others(self) -> float:
        waits = []
        if self.pending:
            waits.append(_BACK_OFF[min(self.looks, len(_BACK_OFF)) - 1])
        if self.doubted:
            waits.append(truth.DOUBT_LOOK)
        return min(waits) if waits else 0.0


def run(
    reasons: Sequence[str],
    force: bool = False,
    patient: bool = True,
    note: Callable[[Record], None] = lambda _record: None,
    keep: Callable[[Record], None] = lambda _record: None,
) -> Record:
    """Reconcile until settled; `patient` looks on for a pending NIC, for minutes if need be.

    A timer's event brings one look: it goes off because the patience of a run before was at its
    end. `note` is given what there is to say so far, before each wait; `keep` puts the whole record
    by. The events are forgotten last: a run that dies is done again, with all that follows from it.
    Raises NotManaged where there is nothing for us to do.
    """
    began = time.monotonic()
    reasons = list(reasons)
    command.ran.clear()
    with store.locked() as lock:
        this = _Run(_permitted_context(reasons), force, again=force or "timer" in reasons)
        try:
            served = _until_settled(this, lock, reasons, patient, note)
            this.note_duplicates()
        except SystemExit:  # see signals.py
            this.told_to_stop()
            raise
        # The timer that may be left behind is no change of the network: its command is not in the record.
        record = this.record(reasons, time.monotonic() - began, 0.0)
        record = record._replace(look_again=this.leave())
        keep(record)
        event_queue.done(served)
    return record


def _until_settled(
    this: _Run, lock: IO[str], reasons: List[str], patient: bool, note: Callable[[Record], None]
) -> List[str]:
    """Look until there is nothing left to wait for; the names of the events that are served by then.

    What comes meanwhile is put to `reasons`.
    """
    began = time.monotonic()
    while True:
        served = event_queue.taken()  # whoever took them; what comes during the look is not served by it
        soon, others = this.step()
        left = this.on.context.settings.patience - (time.monotonic() - began)
        if set(reasons) == {"timer"} or not patient:
            left = 0.0
        due = [seconds for seconds in (soon, min(others, left)) if seconds > 0]
        if not due:
            return served
        note(this.record(reasons, time.monotonic() - began, min(due)))
        with store.lent(lock):
            _sleep(min(due))
        this.refresh()
        reasons += [event.reason for event in event_queue.take() if event.reason not in reasons]


def _permitted_context(reasons: Sequence[str]) -> RunContext:
    try:
        on = run_context()
        permit(on, reasons)
        return on
    except NotManaged:
        recheck_timer.over()
        raise


def _sleep(seconds: float) -> None:
    """Sleep, but wake for a new event."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not event_queue.waiting():
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
