# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Rolls back, NIC by NIC, a change that made unreachable what was reachable before.

A rollback is a commit like any other, and as atomic. It is kept only if it restores connectivity. If it does not, the
change was not the cause, and is applied again.
"""

import logging
import time
from typing import AbstractSet, Dict, FrozenSet, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..backends import Backend
from ..cloud_init.context import Settings
from ..core import plan, rejections
from ..core.desired import Item, Want
from ..core.plan import Change, Plan
from ..core.records import Nic, Snapshot, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink
from ..state import store
from . import commit, foreign, reachability, stale_addresses
from .reachability import Target

LOG = logging.getLogger(__name__)
# Enough for a router that restarts, or a bridge that listens before it forwards: not caused by the change.
FORWARD_SECONDS = 30.0
BACK_SECONDS = 15.0
_LEAST_SECONDS = 3.0


class Unit(NamedTuple):
    """Links that are configured together and whose parts a plan changes."""

    items: Tuple[Item, ...]
    forward: Plan
    back: Plan

    @property
    def keys(self) -> FrozenSet[str]:
        return frozenset(item.key for item in self.items)

    @property
    def names(self) -> str:
        return ", ".join(item.name for item in self.items)


class Baseline(NamedTuple):
    """What was reachable before a commit, with the gateways that were probed, and through which NIC."""

    asked: Dict[Target, Tuple[str, ...]]
    carriers: Dict[Target, str]


NOTHING_REACHABLE = Baseline({}, {})


class Confirmation(NamedTuple):
    """The result of the check after a commit: the state, and what was rolled back."""

    state: store.State
    changes: Tuple[Change, ...]
    touches: Tuple[Touch, ...]
    rejected: Dict[str, str]  # by link
    problems: Dict[str, str]  # by link: not reachable any more, and a rollback did not help


def unchanged(state: store.State) -> Confirmation:
    return Confirmation(state, (), (), {}, {})


def units(wants: Sequence[Want], made: Plan, state: store.State, backend: Backend) -> Tuple[Unit, ...]:
    """Returns what can be rolled back separately. To be called before the commit of the plan."""
    found = []
    for want in wants:
        changes = tuple(change for change in made.changes if change.key in want.keys)
        others = {change.place for change in made.changes if change.key not in want.keys}
        back = commit.inverse_of(changes, state.ledger, backend, "rolled back")
        if not any(change.action == "write" for change in changes) or others & {change.place for change in back}:
            continue
        forward = tuple(t for t in made.touches if any(t.name == item.name for item in want.items))
        # A NIC may have several parts: one that is taken back does not take it down.
        removed = {change.place for change in back if change.action == "remove"}
        stay = {row.name for row in state.ledger if row.key in want.keys and row.place not in removed}
        stay |= {change.name for change in changes if change.action == "adopt"}
        found.append(Unit(want.items, Plan(changes, forward, ()), Plan(back, _back_touches(back, stay), ())))
    return tuple(found)


def _back_touches(changes: Sequence[Change], stay: AbstractSet[str]) -> Tuple[Touch, ...]:
    by_name: Dict[str, Touch] = {}
    for change in changes:
        if change.action == "write" or change.name not in by_name:
            action = "reconfigure" if change.action == "write" or change.name in stay else "down"
            by_name[change.name] = Touch(action, change.mac, change.name, change.reason)
    return tuple(by_name.values())


def measure_baseline(found: Sequence[Unit], snapshot: Snapshot, settings: Settings) -> Baseline:
    """Probes, before a commit, what answers. A new NIC has no gateway yet, but the server's own targets count."""
    if not found:
        return NOTHING_REACHABLE
    items = [item for unit in found for item in unit.items]
    asked: Dict[Target, Tuple[str, ...]] = dict(reachability.of_links(items, snapshot))
    asked.update(dict.fromkeys(reachability.of_server(settings.must_reach), ()))
    reached = reachability.reached(asked, _names(found), snapshot, reachability.BEFORE_SECONDS, stubborn=False)
    LOG.info("reachable before: %s", ", ".join(sorted(map(str, reached))) or "nothing")
    carriers = {target: reachability.carrier(target, snapshot) for target in reached if not target.key}
    return Baseline({target: gateways for target, gateways in asked.items() if target in reached}, carriers)


def is_present(unit: Unit, nics: Mapping[str, Nic]) -> bool:
    """False if a NIC of the unit has gone or was renamed: another NIC may have its old name now."""
    names = {mac: nic.name for mac, nic in nics.items()}
    return all(item.entry.kind != "phy" or names.get(item.entry.mac) == item.name for item in unit.items)


def _names(found: Sequence[Unit]) -> Dict[str, str]:
    return {item.key: item.name for unit in found for item in unit.items}


class Check(NamedTuple):
    """What the check of one commit works with, from unit to unit."""

    backend: Backend
    settings: Settings
    units: Tuple[Unit, ...]
    baseline: Baseline
    rendered_from: Mapping[str, KeyTruth]  # by key: what the parts before the commit were rendered from


def confirm(check: Check, state: store.State, began: float) -> Confirmation:
    """Probes again what was reachable before the commit, and rolls back the units whose rollback restores it.

    `state` is that of the commit. `began`: when the NICs were activated, by the monotonic clock. Raises OSError if a
    unit must be rolled back and its old part cannot be written; nothing is decided then.
    """
    left = max(_LEAST_SECONDS, FORWARD_SECONDS - (time.monotonic() - began))
    reached = reachability.await_all(_questions(check), _names(check.units), left)
    asked = frozenset(check.baseline.asked)
    lost = asked - reached
    confirmed = unchanged(state)
    if not lost:
        return confirmed
    LOG.warning("not reachable any more: %s", ", ".join(sorted(map(str, lost))))
    for unit in _suspects(check, lost):
        targets = frozenset(t for t in asked if not t.key or t.key in unit.keys)
        if not targets & lost or not is_present(unit, netlink.snapshot().by_mac()):
            continue
        confirmed, restored = _roll_back(check, confirmed, unit, targets & lost, targets & reached)
        lost -= restored
        reached |= restored
    return confirmed


def _questions(check: Check) -> reachability.Ask:
    """Returns what to probe, by the kernel's state at that moment. Targets of NICs that have gone are not required."""
    items = {item.key: item for unit in check.units for item in unit.items}

    def ask(now: Snapshot) -> reachability.Asked:
        gone = {key for unit in check.units if not is_present(unit, now.by_mac()) for key in unit.keys}
        return {
            t: None if t.key in gone else reachability.wanted(t, items[t.key], now) if t.key else ()
            for t in check.baseline.asked
        }

    return ask


def _gateways(unit: Unit, lost: Iterable[Target]) -> str:
    """Returns what was lost as text, with the addresses that were probed for it."""
    now, items = netlink.snapshot(), {item.key: item for item in unit.items}
    told = []
    for target in lost:
        probed = reachability.wanted(target, items[target.key], now) if target.key in items else ()
        told.append("%s (%s)" % (target, ", ".join(probed)) if probed else str(target))
    return ", ".join(sorted(told))


def commit_units(
    made: Plan, state: store.State, backend: Backend, items: Sequence[Item], rendered_from: Mapping[str, KeyTruth]
) -> commit.Outcome:
    """Commits the old or new parts of these links; other software's addresses and routes on them are preserved."""
    ours = foreign.ours_by_nic([Want(tuple(items), "")], rendered_from, state.truth.keys)
    saved = foreign.save(made.touches, ours, backend.drops_foreign)
    outcome = commit.commit(made, state, backend, {}, True, lambda: saved.restore(backend.lag))
    saved.finish()
    return outcome


def _suspects(check: Check, lost: FrozenSet[Target]) -> Iterator[Unit]:
    """Yields the units whose own gateway is lost, then those on the old or the new path to what else is lost."""
    own = [unit for unit in check.units if any(target.key in unit.keys for target in lost)]
    yield from own
    snapshot = netlink.snapshot()
    nics = {reachability.carrier(target, snapshot) for target in lost if not target.key}
    nics |= {check.baseline.carriers.get(target, "") for target in lost if not target.key}
    yield from (unit for unit in check.units if unit not in own and any(item.name in nics for item in unit.items))


def _roll_back(
    check: Check, confirmed: Confirmation, unit: Unit, lost: FrozenSet[Target], reached: FrozenSet[Target]
) -> Tuple[Confirmation, FrozenSet[Target]]:
    """Rolls one unit back, and reapplies its change if that restores nothing. Also returns what it has restored.

    `lost` and `reached`: the unit's targets and the server's that do not and that do answer now.
    """
    reason = "after the change not reachable: %s" % _gateways(unit, lost)
    LOG.warning("rolling back: nics=%s reason=%s", unit.names, reason)
    state, old = confirmed.state, check.rendered_from
    back_to: Dict[str, Optional[KeyTruth]] = {key: old.get(key) for key in sorted(unit.keys)}
    rejected_for = check.settings.rejected_for
    rejected = rejections.add(state.rejections, state.truth, back_to, reason, rejected_for, time.time())
    # The rejection is saved first: if this run is interrupted, the next one completes the rollback.
    target_state = stale_addresses.rolled_back(state._replace(rejections=rejected), unit.items, old)
    outcome = commit_units(unit.back, target_state, check.backend, unit.items, old)
    if outcome.ledger != plan.ledger_after(state.ledger, unit.back.changes):
        raise OSError("not rolled back: %s" % "; ".join(sorted(outcome.problems.values())))
    asked: reachability.Asked = {target: check.baseline.asked[target] for target in lost | reached}
    now_reached = reachability.await_all(lambda _now: asked, _names([unit]), BACK_SECONDS)
    changes, touches = confirmed.changes + unit.back.changes, confirmed.touches + unit.back.touches
    links = sorted(item.link for item in unit.items)
    if now_reached > reached:
        restored = now_reached - reached
        LOG.warning("rolled back: nics=%s restored=%s", unit.names, ", ".join(sorted(map(str, restored))))
        texts = {one.key: str(one) for one in rejected}
        text = next((texts[key] for key in sorted(unit.keys) if key in texts), reason)
        state = target_state._replace(ledger=outcome.ledger)
        new = confirmed._replace(state=state, rejected=dict(confirmed.rejected, **dict.fromkeys(links, text)))
        return new._replace(changes=changes, touches=touches), restored
    LOG.warning("rollback did not restore connectivity; reapplying: nics=%s", unit.names)
    state = state._replace(ledger=outcome.ledger)
    outcome = commit_units(unit.forward, state, check.backend, unit.items, old)
    problems = dict(confirmed.problems, **dict.fromkeys(links, reason + "; rolling back did not restore it"))
    new = confirmed._replace(state=state._replace(ledger=outcome.ledger), problems=problems)
    changes, touches = changes + unit.forward.changes, touches + unit.forward.touches
    return new._replace(changes=changes, touches=touches), frozenset()
