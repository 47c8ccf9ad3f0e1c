# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One pass of a run: read the sources, build the plan, carry it out, and note what is still to come.

What carries a plan out is imported only if there is something to carry out: most passes find nothing to do.
"""

import logging
import os
import time
from typing import Dict, FrozenSet, Tuple

from ..core import desired, network_data, plan, rejections, truth
from ..core.records import IN_OUTPUT, Nic, Snapshot, Touch
from ..openstack.refresh import refresh_push
from ..planning.build_plan import (
    PlanningResult,
    build_plan,
    forgotten,
    log_plan,
    new_macs,
    pending_macs,
    rendered_from,
    without_carrier,
)
from ..state import failed_retries, store
from ..system import lazy_imports, paths
from . import recheck_timer
from .record import Push, Undo
from .run_state import RunState

LOG = logging.getLogger(__name__)
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_TO_CONFIGURE_A_NIC = ("cloudinit_osnetd.cloud_init.compat", "cloudinit_osnetd.apply.confirmed_commit")


class Passes(RunState):
    """The passes of one run."""

    def next(self) -> Tuple[float, float]:
        """Does one pass. Returns the seconds until the next one is due, 0 if none is.

        The first value is for what settles by itself within seconds, the second for what depends on others.
        """
        self.count += 1
        self.settled = False
        earlier = dict(self._take_back(), **self._resume_confirmation())
        self.known, self.known_rejections = self.state.truth, self.state.rejections
        self.known_metrics = self.state.metrics
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

        self.number()
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
        from ..core import provisional
        from . import undo as undone_by

        held = provisional.read(self.state.provisional) if self.state.provisional else None
        number = undone_by.number_of(self.state, undo.run, held.run if held else 0)
        problems = self._without_push("rollback") if held is not None and number <= held.run else {}
        self.number()
        self.known, self.known_rejections = self.state.truth, self.state.rejections
        done = undone_by.undone(self.state, number, self.run)
        nics = self.env.snapshot().by_mac()
        self.state = undone_by.reclaimed(self.state, done.state, self.on.backend, nics)
        self.parts_back, self.faults = done.parts, done.left
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
            importing = lazy_imports.import_in_thread(*_TO_CONFIGURE_A_NIC)  # while the metadata service is asked
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
                LOG.warning("fault: %s", fault, extra=IN_OUTPUT)
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

            self.number()
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
        coming_up = self._coming_up(planned)
        touches = tuple(touch for touch in planned.plan.touches if touch.name not in coming_up)
        planned = planned._replace(plan=planned.plan._replace(touches=touches))
        made = planned.plan._replace(touches=self.reapplying.touches(planned, self.state.ledger))
        if self.parts_back is not None:
            from . import undo as undone_by

            made = undone_by.with_parts(made, self.on.backend, self.state.ledger, self.parts_back)
            self.parts_back = None
        log_plan(made)
        self.corrections.note(made.changes)
        self.drifted = made.drifted
        items = [item for want in planned.wants for item in want.items if item.name in coming_up]
        self.problems = {item.link: "it is still being brought up: " + coming_up[item.name] for item in items}
        self.problems.update(planned.failures)
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

    def _coming_up(self, planned: PlanningResult) -> Dict[str, str]:
        """Returns the NICs that an earlier run's command is still bringing up, each with what it lacks by now.

        A link that depends on one of them cannot come up before that one is.
        """
        made = planned.plan
        lacking = {touch.name: touch.reason for touch in made.touches if touch.action == "kick"}
        lacking.update((one.name, one.lacks) for one in made.not_retried if not one.is_duplicate_address)
        slow = self.on.backend.coming_up(sorted(lacking)) if lacking and not self.force else ()
        waiting = desired.with_dependents(planned.wants, frozenset(slow))
        return {name: why for name, why in lacking.items() if name in waiting}

    def _apply(self, planned: PlanningResult, made: plan.Plan) -> None:
        from ..apply import confirmed_commit

        if made.changes or made.touches:
            self.number()
        known, nics = self.known, self.env.snapshot().by_mac()
        state = self.state._replace(rejections=self.known_rejections, metrics=self.known_metrics)

        def read_rendered_from() -> Dict[str, truth.KeyTruth]:
            return rendered_from(self.on, state, known, nics)

        result = confirmed_commit.apply_plan(self.on, self.state, planned, made, read_rendered_from, known.keys)
        self.state = result.state
        self.problems.update(result.problems)
        self.findings = result.findings
        self.changes += result.changes
        self.touches += result.touches

    def _forget_gone(self, planned: PlanningResult, nics: Dict[str, Nic]) -> None:
        """Drops from the state the entries that no source lists and whose NIC is gone, and saves it."""
        present = [key for want in planned.wants for key in want.keys]
        present += desired.configurable(self.state.truth, nics)  # also rejected ones
        known = truth.forget_gone(self.state.truth, present)
        rejected = self._still_rejected(known, nics)
        metrics = {key: metric for key, metric in planned.metrics.items() if key in known.keys}
        kept = forgotten(self.state._replace(truth=known), nics)
        metrics.update((key, metric) for key, metric in self.known_metrics.items() if key in kept)
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
        # Without OpenStack no source will list them.
        self.pending = pending_macs(self.state, nics, self.on.context.settings.ignore) if self.on.asks_openstack else []
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
