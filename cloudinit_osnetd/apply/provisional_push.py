# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply --confirm-within`: what a push replaces is kept until the push is confirmed, and put back if it is not.

What is kept (core/provisional.py) stands in the store from before the commit on, so that neither a kill nor a power
loss leaves a push in force that nobody confirmed. Putting it back is a commit like any other: until that is done, the
store says that it is due, and the next run completes it.
"""

import logging
import time
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..cloud_init.eligibility import RunContext
from ..core import plan, provisional
from ..core.plan import Change, Plan
from ..core.provisional import Provisional
from ..core.records import Nic, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink
from ..planning import render
from ..planning.build_plan import build_plan, rendered_from
from ..state import former, store
from ..system.boot_id import boot_id
from . import commit, pending_confirmation, rollback, stale_addresses
from .rollback import Unit
from .verify import verify

LOG = logging.getLogger(__name__)
NOT_CONFIRMED = "not confirmed in time"
REBOOTED = "not confirmed before the reboot"


class TakenBack(NamedTuple):
    state: store.State
    changes: Tuple[Change, ...] = ()
    touches: Tuple[Touch, ...] = ()
    problems: Mapping[str, str] = {}  # by link


def begin(state: store.State, before: store.State, deadline: float, until: float) -> store.State:
    """Returns the state, which has the push already, with what was `before`.

    `deadline` is by the monotonic clock, `until` the same in seconds since the epoch.

    If an earlier push is not confirmed yet, what was before that one counts.
    """
    earlier = provisional.read(before.provisional) if before.provisional else None
    rejected = before.rejections
    if earlier is not None:
        rejected = provisional.rejections_before(earlier, before.truth, rejected)
    held = Provisional(
        run=state.run,
        boot=boot_id(),
        deadline=deadline,
        until=until,
        truth=earlier.truth if earlier else before.truth,
        rejections=rejected,
        pushed=provisional.marks(state.truth),
        note=earlier.note if earlier else "",
        still=frozenset(one.key for one in state.rejections),
    )
    return state._replace(provisional=provisional.write(held), taken_back="")


def with_replaced(state: store.State, units: Sequence[Unit], rendered: Mapping[str, KeyTruth]) -> store.State:
    """Returns the state with what the commit of this run's push will replace; to be called before the commit.

    `rendered`: by key, what the parts on disk were rendered from, as far as that is known.
    """
    held = provisional.read(state.provisional)
    if held is None or held.run != state.run:
        return state
    earlier = pending_confirmation.read(held.note) if held.note else None
    both = _merged(earlier.units if earlier else (), units)
    both = tuple(unit for unit in both if all(key in state.truth.keys for key in unit.keys))
    froms = dict(rendered, **(earlier.rendered_from if earlier else {}))
    note = pending_confirmation.write(both, rollback.NOTHING_REACHABLE, froms, state.truth, time.time())
    return state._replace(provisional=provisional.write(held._replace(note=note)))


def _merged(earlier: Sequence[Unit], later: Sequence[Unit]) -> Tuple[Unit, ...]:
    """Returns units that lead from what `later` has written back to what was before `earlier`.

    What cannot be combined is left out: the next plan writes it from the truth.
    """
    kept: List[Unit] = []
    for unit in earlier:
        again = [one for one in later if one.keys & unit.keys]
        places = {change.place for change in unit.back.changes}
        if not again:
            kept.append(unit)
        elif len(again) == 1 and {change.place for change in again[0].back.changes} == places:
            kept.append(again[0]._replace(back=unit.back))
    before = {key for unit in earlier for key in unit.keys}
    return (*kept, *(unit for unit in later if not unit.keys & before))


def is_due(state: store.State, now: float) -> bool:
    """True if what was pushed is to be taken back; `now` by the monotonic clock."""
    held = provisional.read(state.provisional)
    if held is None:
        LOG.error("what an unconfirmed push has replaced cannot be read")
    return held is None or held.is_due(boot_id(), now)


def reason(state: store.State) -> str:
    held = provisional.read(state.provisional)
    return NOT_CONFIRMED if held is None or held.boot == boot_id() else REBOOTED


def take_back(on: RunContext, state: store.State, nics: Dict[str, Nic], why: str, live: bool = True) -> TakenBack:
    """Puts back what the push has replaced, and returns the state without the push; with `live` false only on disk.

    Raises OSError if a part cannot be written; the store still says then that it is due.
    """
    held = provisional.read(state.provisional)
    if held is None:
        return TakenBack(state._replace(provisional="", taken_back="what was pushed is kept: it cannot be taken back"))
    LOG.warning("taking back the push of run %d: %s", held.run, why)
    note = pending_confirmation.read(held.note) if held.note else None
    units = pending_confirmation.still_pending(note, on, state, nics).units if note else ()
    if note is None or not units:
        return TakenBack(_without(held, state, why))
    changes = tuple(change._replace(reason=why) for unit in units for change in unit.back.changes)
    touches = tuple(touch._replace(reason=why) for unit in units for touch in unit.back.touches)
    # Due in any case: if this is interrupted, the next run completes it.
    state = state._replace(provisional=provisional.write(held._replace(deadline=provisional.TAKING_BACK)))
    state = _remembering(on, state, changes, rendered_from(on, state, state.truth, nics))
    for unit in units:
        state = stale_addresses.rolled_back(state, unit.items, note.rendered_from)
    made = Plan(changes, touches, ())
    if live:
        items = [item for unit in units for item in unit.items]
        outcome = rollback.commit_units(made, state, on.backend, items, note.rendered_from)
    else:
        outcome = commit.commit(made, state, on.backend, {}, activate=False)
    if outcome.ledger != plan.ledger_after(state.ledger, changes):
        raise OSError("not taken back: %s" % "; ".join(sorted(outcome.problems.values())))
    state = _without(held, state._replace(ledger=outcome.ledger), why)
    problems = dict(outcome.problems)
    if live:
        wants = build_plan(on, state, nics, netlink.snapshot()).wants
        problems.update(verify(wants, touches, plain=plan.plain_keys(state.ledger)).problems)
        state, _removed = stale_addresses.remove(state, wants, problems)
    return TakenBack(state, changes, touches, problems)


def _without(held: Provisional, state: store.State, why: str) -> store.State:
    known, rejected = provisional.without(held, state.truth, state.rejections)
    text = "the push of run %d was taken back: %s" % (held.run, why)
    return state._replace(truth=known, rejections=rejected, provisional="", taken_back=text)


def _remembering(
    on: RunContext, state: store.State, changes: Sequence[Change], rendered: Mapping[str, KeyTruth]
) -> store.State:
    """Returns the state with what these changes replace, for `rollback`."""
    on_disk = render.disk_texts(on.backend, [change.place for change in changes])
    return state._replace(former=former.added(state.former, state.run, time.time(), changes, rendered, on_disk))


def seconds_left(state: store.State, now: float) -> Optional[float]:
    """Returns the seconds until it is due; None if nothing has to be confirmed."""
    held = provisional.read(state.provisional) if state.provisional else None
    return None if held is None else held.deadline - now if held.boot == boot_id() else 0.0
