# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a run carries from pass to pass (passes.py), and its end: the timer of the next check, and the record."""

import logging
import time
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Set, Tuple

from ..apply import commit
from ..cloud_init.eligibility import RunContext
from ..core import desired, plan, rejections
from ..core.records import Touch
from ..openstack import temporary_access
from ..planning.build_plan import pending_macs
from ..state import store
from ..system import command
from . import recheck_timer
from .corrections import Corrections
from .duplicates import Duplicates
from .environment import Environment
from .reapply import Reapplying
from .record import Push, Record, Undo
from .removed_nics import RemovedNics

if TYPE_CHECKING:
    from ..state.former import Former  # of a rollback only

LOG = logging.getLogger(__name__)


class RunState:
    """What one run knows, and what it has done so far."""

    def __init__(self, on: RunContext, force: bool, env: Environment, retry: bool = False) -> None:
        """`retry`: what failed because of another host is tried again."""
        self.on = on
        self.push: Optional[Push] = None  # for the first pass
        self.undo: Optional[Undo] = None  # likewise
        # By key: parts of other software that a rollback puts back; None if this pass carries out none.
        self.parts_back: Optional[Dict[str, Former]] = None
        self.confirm_by = 0.0  # seconds since the epoch; of the push that was taken
        self.force = force
        self.env = env
        self.removed = RemovedNics(env.monotonic)
        self.reapplying = Reapplying(on.backend.unapplied())
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
        self.known_metrics = self.state.metrics

    def reload(self) -> None:
        """Reads the state from disk: another run may have changed it, or may have been interrupted."""
        store.sweep(self.on.backend)
        temporary_access.close_leftovers()
        self.state, unfinished = commit.recover(store.load(self.on.instance_id), self.on.backend)
        self.reapplying.unfinished += unfinished

    def number(self) -> None:
        """Gives this run its number. Another run may have got a higher one while this one waited."""
        if not self.run:
            from ..state import history  # most runs change nothing

            # A store of 0.1.0 has no number; its history may have records.
            self.run = (self.state.run or history.last_number(history.read())) + 1
        self.state = self.state._replace(run=max(self.run, self.state.run))

    def report_duplicates(self) -> None:
        for link, problem in self.duplicates.find(self.wants, bool(self.touches)).items():
            self.problems.setdefault(link, problem)

    def set_timer(self) -> float:
        """Starts the timer of the next check if one is needed. Returns the seconds until then, 0 without a timer."""
        pending = self.pending if self.on.asks_openstack else ()  # without OpenStack no source will list them
        unapplied = self.on.backend.unapplied()
        waiting = {row.mac for row in self.state.ledger if row.name in unapplied}
        failed = {i.name: i.entry.mac for want in self.wants for i in want.items if i.link in self.problems}
        slow = [failed[name] for name in (self.on.backend.coming_up(sorted(failed)) if failed else ())]
        awaited = sorted({*pending, *self.duplicates.macs, *self.no_carrier, *waiting, *slow})
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
            confirm_by=self.confirm_by if self.state.provisional else 0.0,
            names={item.link: item.name for want in self.wants for item in want.items if item.link in self.problems},
        )
