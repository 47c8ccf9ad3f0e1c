# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Taking back, NIC by NIC, a change that has cut off what was reachable before.

Going back is a commit like any other, so it is as whole as any other. It counts only where it
restores what was reachable; where it does not, the change was not to blame, and is made again.
"""

import logging
import time
from typing import Dict, FrozenSet, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..backends import Backend
from ..cloud_init.context import Settings
from ..core import rejections
from ..core.desired import Item, Want
from ..core.plan import Change, Plan
from ..core.records import Nic, Snapshot, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink
from ..state import store
from . import commit, foreign, reachability, stale_addresses
from .reachability import Target

LOG = logging.getLogger(__name__)
# A router that restarts, a bridge that listens before it forwards: not the change's fault.
FORWARD_SECONDS = 30.0
BACK_SECONDS = 15.0
_LEAST_SECONDS = 3.0


class Unit(NamedTuple):
    """Links that are configured together, and whose parts a plan changes."""

    items: Tuple[Item, ...]
    forward: Plan
    back: Plan

    @property
    def keys(self) -> FrozenSet[str]:
        return frozenset(item.key for item in self.items)

    @property
    def names(self) -> str:
        return ", ".join(item.name for item in self.items)


class Before(NamedTuple):
    """What was reachable before a commit, with the gateways that were asked, and by which NIC."""

    asked: Dict[Target, Tuple[str, ...]]
    carriers: Dict[Target, str]


NOBODY = Before({}, {})


class Judged(NamedTuple):
    state: store.State
    changes: Tuple[Change, ...]
    touches: Tuple[Touch, ...]
    rejected: Dict[str, str]  # by MAC
    problems: Dict[str, str]  # by MAC: cut off, and going back has not helped


def nothing_lost(state: store.State) -> Judged:
    return Judged(state, (), (), {}, {})


def units(wants: Sequence[Want], made: Plan, state: store.State, backend: Backend) -> Tuple[Unit, ...]:
    """What of a plan can be taken back by itself: to be called before its commit."""
    found = []
    for want in wants:
        changes = tuple(change for change in made.changes if change.key in want.keys)
        others = {change.place for change in made.changes if change.key not in want.keys}
        back = commit.undoing(changes, state.ledger, backend, "rolled back")
        if not any(change.action == "write" for change in changes) or others & {change.place for change in back}:
            continue
        forward = tuple(t for t in made.touches if any(t.name == item.name for item in want.items))
        found.append(Unit(want.items, Plan(changes, forward, ()), Plan(back, _back_touches(back), ())))
    return tuple(found)


def _back_touches(changes: Sequence[Change]) -> Tuple[Touch, ...]:
    by_name: Dict[str, Touch] = {}
    for change in changes:
        if change.action == "write" or change.name not in by_name:
            action = "reconfigure" if change.action == "write" else "down"
            by_name[change.name] = Touch(action, change.mac, change.name, change.reason)
    return tuple(by_name.values())


def before(found: Sequence[Unit], snapshot: Snapshot, settings: Settings) -> Before:
    """Ask, before a commit, who answers. A NIC that is new has nobody yet; the server as a whole has."""
    if not found:
        return NOBODY
    items = [item for unit in found for item in unit.items]
    asked: Dict[Target, Tuple[str, ...]] = dict(reachability.of_links(items, snapshot))
    asked.update(dict.fromkeys(reachability.of_server(settings.must_reach), ()))
    there = reachability.reached(asked, _names(found), snapshot, reachability.BEFORE_SECONDS, stubborn=False)
    LOG.info("reachable before: %s", ", ".join(sorted(map(str, there))) or "nobody")
    carriers = {target: reachability.carrier(target, snapshot) for target in there if not target.key}
    return Before({target: gateways for target, gateways in asked.items() if target in there}, carriers)


def is_here(unit: Unit, nics: Mapping[str, Nic]) -> bool:
    """False where a NIC of the unit has left, or has another name: then its name may be another NIC's."""
    names = {mac: nic.name for mac, nic in nics.items()}
    return all(item.entry.kind != "phy" or names.get(item.entry.mac) == item.name for item in unit.items)


def _names(found: Sequence[Unit]) -> Dict[str, str]:
    return {item.key: item.name for unit in found for item in unit.items}


def judge(
    backend: Backend,
    settings: Settings,
    state: store.State,
    found: Sequence[Unit],
    then: Before,
    stood: Mapping[str, KeyTruth],
    began: float,
) -> Judged:
    """Ask again who was reachable, and go back where that is the remedy.

    `state` is that of the commit. `stood` has, by key, what the parts before it were rendered from.
    `began`: when the NICs were activated, by the monotonic clock. Raises OSError where a NIC should
    go back and its old part cannot be written: nothing is judged then.
    """
    items = {item.key: item for unit in found for item in unit.items}

    def ask(now: Snapshot) -> reachability.Asked:
        gone = {key for unit in found if not is_here(unit, now.by_mac()) for key in unit.keys}
        return {
            t: None if t.key in gone else reachability.wanted(t, items[t.key], now) if t.key else () for t in then.asked
        }

    left = max(_LEAST_SECONDS, FORWARD_SECONDS - (time.monotonic() - began))
    there = reachability.await_all(ask, _names(found), left)
    lost = frozenset(then.asked) - there
    judged = nothing_lost(state)
    if not lost:
        return judged
    LOG.warning("not reachable any more: %s", ", ".join(sorted(map(str, lost))))
    for unit in _suspects(found, lost, then):
        mine = frozenset(t for t in then.asked if not t.key or t.key in unit.keys)
        if not mine & lost or not is_here(unit, netlink.snapshot().by_mac()):
            continue
        judged, restored = _go_back(backend, settings, judged, unit, then, mine, there, lost, stood)
        lost -= restored
        there |= restored
    return judged


def commit_units(
    made: Plan, state: store.State, backend: Backend, items: Sequence[Item], stood: Mapping[str, KeyTruth]
) -> commit.Outcome:
    """Commit what these links had, or were to have; what others gave their NICs stays."""
    given = foreign.given([Want(tuple(items), "")], stood, state.truth.keys)
    kept = foreign.before(made.touches, given, backend.drops_foreign)
    outcome = commit.commit(made, state, backend, {}, True, lambda: kept.put_back(backend.lag))
    kept.finish()
    return outcome


def _suspects(found: Sequence[Unit], lost: FrozenSet[Target], then: Before) -> Iterator[Unit]:
    """Those whose own gateway is lost; then those by which the server reached, or would now reach, what is lost."""
    own = [unit for unit in found if any(target.key in unit.keys for target in lost)]
    yield from own
    snapshot = netlink.snapshot()
    ways = {reachability.carrier(target, snapshot) for target in lost if not target.key}
    ways |= {then.carriers.get(target, "") for target in lost if not target.key}
    yield from (unit for unit in found if unit not in own and any(item.name in ways for item in unit.items))


def _go_back(
    backend: Backend,
    settings: Settings,
    judged: Judged,
    unit: Unit,
    then: Before,
    mine: FrozenSet[Target],
    there: FrozenSet[Target],
    lost: FrozenSet[Target],
    stood: Mapping[str, KeyTruth],
) -> Tuple[Judged, FrozenSet[Target]]:
    """Go back with one unit, and forward again where that restores nothing; what it has restored."""
    reason = "since then not reachable: %s" % ", ".join(sorted(str(target) for target in mine & lost))
    LOG.warning("rolling back: nics=%s reason=%s", unit.names, reason)
    state = judged.state
    back_to: Dict[str, Optional[KeyTruth]] = {key: stood.get(key) for key in sorted(unit.keys)}
    refused = rejections.add(state.rejections, state.truth, back_to, reason, settings.rejected_for, time.time())
    # The rejection is kept first: who finds this cut short goes on in the same direction.
    going_back = stale_addresses.rolled_back(state._replace(rejections=refused), unit.items, stood)
    outcome = commit_units(unit.back, going_back, backend, unit.items, stood)
    if outcome.ledger != commit.ledger_after(state.ledger, unit.back.changes):
        raise OSError("not rolled back: %s" % "; ".join(sorted(outcome.problems.values())))
    back = reachability.await_all(lambda _now: {t: then.asked[t] for t in mine}, _names([unit]), BACK_SECONDS)
    changes, touches = judged.changes + unit.back.changes, judged.touches + unit.back.touches
    macs = sorted({item.entry.mac for item in unit.items})
    if back > there & mine:
        LOG.warning("rolled back: nics=%s restored=%s", unit.names, ", ".join(sorted(map(str, back - there))))
        told = {r.key: str(r) for r in refused}
        said = next((told[key] for key in sorted(unit.keys) if key in told), reason)
        state = going_back._replace(ledger=outcome.ledger)
        new = judged._replace(state=state, rejected=dict(judged.rejected, **dict.fromkeys(macs, said)))
        return new._replace(changes=changes, touches=touches), back - there
    LOG.warning("going back restores nothing, forward again: nics=%s", unit.names)
    state = state._replace(ledger=outcome.ledger, rejections=judged.state.rejections)
    outcome = commit_units(unit.forward, state, backend, unit.items, stood)
    problems = dict(judged.problems, **dict.fromkeys(macs, reason + "; going back did not restore it"))
    new = judged._replace(state=state._replace(ledger=outcome.ledger), problems=problems)
    changes, touches = changes + unit.forward.changes, touches + unit.forward.touches
    return new._replace(changes=changes, touches=touches), frozenset()
