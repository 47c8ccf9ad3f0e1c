# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One pass of a run: read the sources, build the plan, carry it out, and note what is still to come.

What carries a plan out is imported only if there is something to carry out: most passes find nothing to do.
"""

import logging
import os
import time
from typing import Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from ..apply import commit
from ..cloud_init.eligibility import RunContext
from ..core import desired, network_data, plan, provisional, rejections, truth
from ..core.records import Nic, Snapshot, Touch
from ..openstack import temporary_access
from ..openstack.refresh import refresh_push
from ..planning.build_plan import (
    PlanningResult,
    build_plan,
    log_plan,
    new_macs,
    pending_macs,
    rendered_from,
    without_carrier,
)
from ..state import failed_retries, store
from ..state.former import Former
from ..system import command, lazy_imports, paths
from . import recheck_timer
from . import undo as undone_by
from .corrections import Corrections
from .duplicates import Duplicates
from .environment import Environment
from .reapply import Reapplying
from .record import Push, Record
from .removed_nics import RemovedNics
from .undo import Undo

LOG = logging.getLogger(__name__)
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


class Passes:
    """The passes of one run, and what is carried from one to the next."""

    def __init__(self, on: RunContext, force: bool, env: Environment, retry: bool = False) -> None:
        """`retry`: what failed because of another host is tried again."""
        self.on = on
        self.push: Optional[Push] = None  # for the first pass
        self.undo: Optional[Undo] = None  # likewise
        self.parts_back: Dict[str, Former] = {}  # by key: parts of other software to put back
        self.confirm_by = 0.0  # seconds since the epoch; of the push that was taken
        self.force = force
        self.env = env
        self.removed = RemovedNics(env.monotonic)
        self.reapplying = Reapplying()
        self.duplicates = Duplicates(retry, env)
        self.corrections = Corrections(env.monotonic)
        self.no_lease: Set[str] = set()  # MACs of NICs that did not get the lease this run requested
        self.changes: List[plan.Change] = []
        self.touches: List[Touch] = []
        self.drifted: Tuple[plan.Drift, ...] = ()
        self.faults: Tuple[str, ...] = ()
        self.answered: Dict[str, bool] = {}  # by source: True if the last pass could read it
        self.problems: Dict[str, str] = {}
        self.findings: Dict[str, Tuple[str, ...]] = {}
        self.pending: List[str] = []
        self.doubted: List[str] = []
        self.no_carrier: List[str] = []  # MACs of NICs that are up and have no carrier yet
        self.wants: Tuple[desired.Want, ...] = ()
        self.count = 0
        self.run = 0  # the number of this run, once it changes something
        self.settled = False  # the last pass was completed, and what is still open depends on others
        self.reload()
        # As they were before the current pass read the sources.
        self.known, self.known_rejections = self.state.truth, self.state.rejections

    def reload(self) -> None:
        """Reads the state from disk: another run may have changed it, or may have been interrupted."""
        store.sweep(self.on.backend)
        temporary_access.close_leftovers()
        self.state, unfinished = commit.recover(store.load(self.on.instance_id), self.on.backend)
        self.reapplying.unfinished += unfinished

    def next(self) -> Tuple[float, float]:
        """Does one pass. Returns the seconds until the next one is due, 0 if none is.

        The first value is for what settles by itself within seconds, the second for what depends on others.
        """
        self.count += 1
        self.settled = False
        earlier = dict(self._take_back(), **self._resume_confirmation())
        self.known, self.known_rejections = self.state.truth, self.state.rejections
        undo, self.undo = self.undo, None
        if undo is not None:
            earlier.update(self._roll_back(undo))
        else:
            self._read_sources()
        snapshot = self.env.snapshot()
        nics = snapshot.by_mac()
        debounced, wait = self.removed.debounced(self.state.ledger, nics, self.on.context.settings.debounce)
        tried = failed_retries.read()
        planned = self._plan(nics, snapshot, debounced, tried)
        # With the commit at the latest: if the run is repeated after a power loss, a NIC must get the same metric.
        self.state = self.state._replace(metrics=planned.metrics)
        self._do(planned, tried)
        for link, problem in earlier.items():
            self.problems.setdefault(link, problem)
        self._forget_gone(planned, nics)
        self._note_open(nics)
        self.no_carrier = without_carrier(planned, self.env.snapshot())
        self.settled = not wait
        return wait, self._wait_for_others()

    def _take_back(self) -> Dict[str, str]:
        """Takes back a push that was not confirmed in time. Returns the problems by link."""
        if not self.state.provisional:
            return {}
        from ..apply import provisional_push

        # Not in the middle of the run that has pushed it: the timer starts another one.
        if self.confirm_by or not provisional_push.is_due(self.state, self.env.monotonic()):
            return {}
        return self._without_push(provisional_push.reason(self.state))

    def _without_push(self, why: str) -> Dict[str, str]:
        from ..apply import provisional_push

        self._number()
        taken = provisional_push.take_back(self.on, self.state, self.env.snapshot().by_mac(), why)
        self.state = taken.state
        store.save(self.state)
        self.changes += taken.changes
        self.touches += taken.touches
        names = {touch.name for touch in taken.touches}
        self.reapplying.unfinished = tuple(one for one in self.reapplying.unfinished if one.name not in names)
        return dict(taken.problems)

    def _roll_back(self, undo: Undo) -> Dict[str, str]:
        """Takes what the links had before a run instead of what the cloud says. Returns the problems by link."""
        held = provisional.read(self.state.provisional) if self.state.provisional else None
        number = undone_by.number_of(self.state, undo.run, held.run if held else 0)
        problems = self._without_push("rollback") if held is not None and number <= held.run else {}
        self._number()
        self.known, self.known_rejections = self.state.truth, self.state.rejections
        done = undone_by.undone(self.state, number, self.run)
        self.state, self.parts_back, self.faults = done.state, done.parts, done.left
        return problems

    def _resume_confirmation(self) -> Dict[str, str]:
        """Checks the unconfirmed change of an interrupted run. Returns the problems by link.

        This comes before the sources are read, because that change may have cut the path to them.
        """
        if not self.state.on_trial:
            return {}
        from ..apply import confirmed_commit

        confirmed, self.reapplying.unfinished = confirmed_commit.resume(
            self.on, self.state, self.reapplying.unfinished
        )
        self.state = confirmed.state
        store.save(self.state)
        self.changes += confirmed.changes
        self.touches += confirmed.touches
        return dict(confirmed.problems, **confirmed.rejected)

    def _read_sources(self) -> None:
        """Takes the entries of the metadata service and the config drive into the truth.

        A push is taken alone, and first: it must work where nobody responds.
        """
        push, self.push = self.push, None
        if push is not None:
            self._take_push(push)
        if push is not None and push.data is not None:
            return
        if not self.on.asks_openstack:
            return
        settings = self.on.context.settings
        before = self.env.snapshot()
        importing = None
        if self.count == 1 and new_macs(self.state, before.by_mac(), settings.ignore, recheck_timer.read().since):
            importing = lazy_imports.import_compat()  # while the metadata service is asked
        refreshed = self.env.refresh_metadata(
            self.state, before, settings.metadata_nic, ignored=settings.ignore, skip_lease=self.no_lease
        )
        if refreshed.no_lease:
            self.no_lease.add(refreshed.no_lease)
        drive = self.env.refresh_drive(refreshed.state)
        if importing:
            importing.join()  # stand-in modules must not be used before
        faults = refreshed.faults + drive.faults
        for fault in faults:
            if fault not in self.faults:
                LOG.warning("fault: %s", fault)
        self.state, self.faults = drive.state, faults
        self.answered = {"metadata": refreshed.answered, "drive": drive.answered}

    def _take_push(self, push: Push) -> None:
        before = self.state
        if push.data is None:
            self.state = before._replace(truth=truth.forget(before.truth, "push"))
        else:
            self.force = self.force or not (self.on.asks_openstack or before.ledger)
            self.state = refresh_push(before, push.data).state
        self.state = self.state._replace(provisional="", taken_back="")
        if push.confirm_within:
            from ..apply import provisional_push

            self._number()
            self.confirm_by = time.time() + push.confirm_within
            deadline = self.env.monotonic() + push.confirm_within
            self.state = provisional_push.begin(self.state, before, deadline, self.confirm_by)
            # Before anything is changed: it must be taken back whatever becomes of this run.
            recheck_timer.by(deadline)

    def _plan(
        self, nics: Dict[str, Nic], snapshot: Snapshot, debounced: FrozenSet[str], tried: FrozenSet[plan.Lacking]
    ) -> PlanningResult:
        """Builds the plan; a second time if duplicate addresses were retried."""
        correct = self.corrections.keys(self.on.context.settings, self.state.ledger)
        planned = build_plan(self.on, self.state, nics, snapshot, debounced, self.force, tried, correct)
        self.wants = planned.wants
        unique = self.duplicates.retry(planned.wants, {drift.name for drift in planned.plan.drifted}, snapshot)
        if unique is None:
            return planned
        if self.on.backend.waits_for_unique:
            reason = "its address is unique now"
            self.reapplying.unfinished += tuple(Touch("kick", mac, name, reason) for name, mac in unique.items())
        return build_plan(self.on, self.state, nics, self.env.snapshot(), debounced, self.force, tried, correct)

    def _do(self, planned: PlanningResult, tried: FrozenSet[plan.Lacking]) -> None:
        made = planned.plan._replace(touches=self.reapplying.touches(planned, self.state.ledger))
        if self.parts_back:
            made = undone_by.with_parts(made, self.on.backend, self.state.ledger, self.parts_back)
            self.parts_back = {}
        log_plan(made)
        self.corrections.note(made.changes)
        self.drifted = made.drifted
        self.problems = dict(planned.failures)
        self.findings = {}
        left = self.state.unwanted or os.path.exists(paths.FOREIGN)
        if made.changes or made.touches or tried or left:
            self._apply(planned, made)
        else:
            store.clear_intent()  # one that was recovered, with nothing left to do
            self.problems.update(planned.rejected)
        for lacking in made.not_retried:
            retried = "" if lacking.is_duplicate_address else "; bringing it up again did not help"
            self.problems.setdefault(network_data.link_id(lacking.key), lacking.lacks + retried)

    def _apply(self, planned: PlanningResult, made: plan.Plan) -> None:
        from ..apply import confirmed_commit

        if made.changes or made.touches:
            self._number()
        known, nics = self.known, self.env.snapshot().by_mac()
        state = self.state._replace(rejections=self.known_rejections)

        def read_rendered_from() -> Dict[str, truth.KeyTruth]:
            return rendered_from(self.on, state, known, nics)

        result = confirmed_commit.apply_plan(self.on, self.state, planned, made, read_rendered_from, known.keys)
        self.state = result.state
        self.problems.update(result.problems)
        self.findings = result.findings
        self.changes += result.changes
        self.touches += result.touches

    def _number(self) -> None:
        """Gives this run its number. Another run may have got a higher one while this one waited."""
        if not self.run:
            from ..state import history  # most runs change nothing

            # A store of 0.1.0 has no number; its history may have records.
            self.run = (self.state.run or history.last_number(history.read())) + 1
        self.state = self.state._replace(run=max(self.run, self.state.run))

    def _forget_gone(self, planned: PlanningResult, nics: Dict[str, Nic]) -> None:
        """Drops from the state the entries that no source lists and whose NIC is gone, and saves it."""
        present = [key for want in planned.wants for key in want.keys]
        present += desired.configurable(self.state.truth, nics)  # also rejected ones
        known = truth.forget_gone(self.state.truth, present)
        rejected = self._still_rejected(known, nics)
        metrics = {key: metric for key, metric in planned.metrics.items() if key in known.keys}
        self.state = self.state._replace(truth=known, metrics=metrics, rejections=rejected)
        store.save(self.state)

    def _still_rejected(self, known: truth.Truth, nics: Dict[str, Nic]) -> rejections.Rejections:
        """Returns the rejections without those whose entry was tried again, or forced, and works now."""
        rejected = rejections.current(known, self.state.rejections)
        if not rejected:
            return ()
        in_force = rendered_from(self.on, self.state._replace(rejections=()), known, nics)
        return tuple(rejection for rejection in rejected if rejection.key not in in_force)

    def _note_open(self, nics: Dict[str, Nic]) -> None:
        """Notes the NICs that no source lists and the entries that are doubted."""
        self.pending = pending_macs(self.state, nics, self.on.context.settings.ignore)
        for mac in self.pending:
            why = self.state.truth.refused(network_data.make_key("phy", mac))
            if why:
                self.problems.setdefault(mac, why)
        self.doubted = [key for key, kt in self.state.truth.keys.items() if kt.doubted]

    def _wait_for_others(self) -> float:
        waits = []
        if self.pending:
            waits.append(_BACK_OFF[min(self.count, len(_BACK_OFF)) - 1])
        if self.doubted:
            waits.append(truth.DOUBT_LOOK)
        return min(waits) if waits else 0.0

    # -- the end of a run -------------------------------------------------------------------------

    def report_duplicates(self) -> None:
        for link, problem in self.duplicates.find(self.wants, bool(self.touches)).items():
            self.problems.setdefault(link, problem)

    def set_timer(self) -> float:
        """Starts the timer of the next check if one is needed. Returns the seconds until then, 0 without a timer."""
        pending = self.pending if self.on.asks_openstack else ()  # without OpenStack no source will list them
        awaited = sorted({*pending, *self.duplicates.macs, *self.no_carrier})
        retry = rejections.seconds_to_retry(self.state.truth, self.state.rejections, time.time())
        if self.state.provisional:
            from ..apply import provisional_push

            left = provisional_push.seconds_left(self.state, self.env.monotonic())
            retry = left if retry is None else retry if left is None else min(retry, left)
        settings = self.on.context.settings
        return recheck_timer.update(awaited, bool(self.doubted) or not self.settled, settings, retry)

    def stop(self) -> None:
        """Starts the timer as a completed run would: otherwise a pending NIC is not checked before the next event."""
        nics = self.env.snapshot().by_mac()
        self.pending = pending_macs(self.state, nics, self.on.context.settings.ignore)
        LOG.info("stopped: pending=%s next_check=%.0f", ",".join(self.pending) or "-", self.set_timer())

    def record(self, reasons: Sequence[str], seconds: float, next_check: float) -> Record:
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
            passes=self.count,
            seconds=seconds,
            next_check=next_check,
            run=self.run,
            answered=self.answered,
            confirm_by=self.confirm_by,
            names={item.link: item.name for want in self.wants for item in want.items if item.link in self.problems},
        )
