# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A plan carried out and put to the proof: commit, activate, verify, and roll back what has cut us off."""

import logging
import time
from typing import AbstractSet, Callable, Dict, FrozenSet, Mapping, NamedTuple, Sequence, Tuple

from ..cloud_init.eligibility import RunContext
from ..core import plan
from ..core.desired import Want
from ..core.records import Owned, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink
from ..planning import render
from ..planning.build_plan import Look
from ..state import failed_retries, store
from ..state import findings as findings_kept
from . import address_conflicts, commit, foreign, pending_confirmation, rollback, stale_addresses
from .verify import Verified, await_dns, verify

LOG = logging.getLogger(__name__)


class Done(NamedTuple):
    state: store.State
    changes: Tuple[plan.Change, ...]
    touches: Tuple[Touch, ...]
    problems: Dict[str, str]  # by MAC
    findings: Dict[str, Tuple[str, ...]]  # by MAC


def carry_out(
    on: RunContext,
    state: store.State,
    seen: Look,
    made: plan.Plan,
    olds: Callable[[], Mapping[str, KeyTruth]],
    known: Mapping[str, KeyTruth],
) -> Done:
    """Do what `made` says, which is the plan of `seen` or less, and see what comes of it.

    `olds` gives, by key, what the parts on disk were rendered from; it is called where it is needed. `known`: what was
    in force before anybody was heard.
    """
    asked_for = {touch.mac for touch in made.touches}
    made, members = _without_members(seen, made, frozenset(state.bonds.values()))
    units = rollback.units(seen.wants, made, state, on.backend)
    before = rollback.before(units, netlink.snapshot(), on.context.settings) if units else rollback.NOBODY
    stood = olds() if before.asked or any(touch.action != "up" for touch in made.touches) else {}
    replaced = _replaced(on, made)
    state = stale_addresses.remember(state, seen.wants, made.touches, stood, known, replaced)
    given = foreign.given(seen.wants, stood, known, parts=replaced)
    kept = foreign.before(made.touches, given, on.backend.drops_foreign)
    if before.asked:
        state = state._replace(on_trial=pending_confirmation.write(units, before, stood, state.truth, time.time()))
    began = time.monotonic()
    outcome = commit.commit(made, state, on.backend, seen.templates, True, lambda: kept.put_back(on.backend.lag))
    verified = verify(seen.wants, outcome.touched, plain=plan.plain_keys(outcome.ledger))
    kept.put_back()  # of what a backend has taken away since
    state, removed = stale_addresses.take_away(state, seen.wants, outcome.problems)
    problems, findings = _said(outcome.problems, verified)
    # Before the judgement: where the gateway has the address it does not answer, and that is why the NIC goes back.
    doubles = address_conflicts.found(seen.wants, outcome.touched, stood, known)
    judged = rollback.nothing_lost(state._replace(ledger=outcome.ledger))
    if before.asked:
        judged = rollback.judge(on.backend, on.context.settings, judged.state, units, before, stood, began)
    touched = [touch for touch in outcome.touched if touch.mac not in judged.rejected]
    _note_kicks(seen, judged.state.ledger, touched)
    for mac, said in await_dns(seen.wants, touched, on.backend).items():
        findings[mac] = findings.get(mac, ()) + said
    for mac in judged.rejected:
        findings.pop(mac, None)
    _tell(findings, asked_for, [members, removed, kept.finish(), doubles])
    problems.update(seen.rejected)
    problems.update(judged.problems)
    problems.update(judged.rejected)
    changes, touches = made.changes + judged.changes, made.touches + judged.touches
    return Done(judged.state._replace(on_trial=""), changes, touches, problems, findings)


def _tell(
    told: Dict[str, Tuple[str, ...]], touched: AbstractSet[str], more: Sequence[Mapping[str, Tuple[str, ...]]]
) -> None:
    """Add what was found around the touches; what no later look would find is kept for `status`."""
    standing: Dict[str, Tuple[str, ...]] = {}
    for one in more:
        for mac, said in one.items():
            told[mac] = told.get(mac, ()) + said
            lasting = tuple(text for text in said if not text.startswith(("restored: ", "removed: ")))
            standing[mac] = standing.get(mac, ()) + lasting
    findings_kept.keep(touched, standing)


def _without_members(
    seen: Look, made: plan.Plan, bonds: FrozenSet[str]
) -> Tuple[plan.Plan, Dict[str, Tuple[str, ...]]]:
    """The plan without touches of NICs that somebody has put into a bridge or a VRF; what is to be told, by MAC.

    To bring one up would take it out, or give it an address that is the bridge's by now. Its part is written all the
    same: who keeps his bridge over a boot has a file of his own for it, beside which ours says what it did before.
    `bonds`: the names of those that are ours, or were.
    """
    now = netlink.snapshot() if any(touch.action in ("reconfigure", "kick") for touch in made.touches) else None
    if now is None or not any(nic.master for nic in now.nics):
        return made, {}
    bonds |= {item.name for want in seen.wants for item in want.items if item.entry.kind == "bond"}
    names = {nic.ifindex: nic.name for nic in now.nics}
    members = {nic.name: names.get(nic.master, "another device") for nic in now.nics if nic.master}
    theirs = {name: master for name, master in members.items() if master not in bonds}
    left = [touch for touch in made.touches if touch.name in theirs and touch.action in ("reconfigure", "kick")]
    said = "it belongs to %s and stays as it is; its new configuration is on disk, for the next boot"
    for touch in left:
        LOG.warning("left alone: nic=%s reason=%s", touch.name, said % theirs[touch.name])
    rest = tuple(touch for touch in made.touches if touch not in left)
    return made._replace(touches=rest), {touch.mac: (said % theirs[touch.name],) for touch in left}


def _replaced(on: RunContext, made: plan.Plan) -> Dict[str, FrozenSet[str]]:
    """By NIC's name: what its parts mean that the plan changes."""
    changes = {change.place: change.name for change in made.changes if change.action in ("write", "remove")}
    meanings: Dict[str, FrozenSet[str]] = {}
    for place, text in render.disk_texts(on.backend, list(changes)).items():
        name = changes[place]
        meanings[name] = meanings.get(name, frozenset()) | on.backend.meaning(text, name)
    return meanings


def take_up(
    on: RunContext, state: store.State, unfinished: Sequence[Touch]
) -> Tuple[rollback.Judged, Tuple[Touch, ...]]:
    """Judge what a run that died has left on trial, as it would have; the rest of `unfinished`.

    Its time begins anew: the machine may have booted since, or the NIC be half-way up.
    """
    note = pending_confirmation.read(state.on_trial) if state.on_trial else None
    if note is not None:
        note = pending_confirmation.still(note, on, state, netlink.snapshot().by_mac())
    if note is None or not note.units:
        return rollback.nothing_lost(state._replace(on_trial="")), tuple(unfinished)
    LOG.warning("not judged by the run that did it: nics=%s", ", ".join(unit.names for unit in note.units))
    keys = frozenset(key for unit in note.units for key in unit.keys)
    # A rejection that the dead run had begun is not a second one.
    refused = tuple(one for one in state.rejections if one.key not in keys or one.since < note.since)
    state = state._replace(rejections=refused)
    began = time.monotonic()
    names = {touch.name for touch in unfinished}
    half = [unit for unit in note.units if any(touch.name in names for touch in unit.forward.touches)]
    if half:
        kicked = tuple(touch._replace(action="kick") for unit in half for touch in unit.forward.touches)
        changes = tuple(change for unit in half for change in unit.forward.changes)
        items = tuple(item for unit in half for item in unit.items)
        outcome = rollback.commit_units(plan.Plan(changes, kicked, ()), state, on.backend, items, note.stood)
        state = state._replace(ledger=outcome.ledger)
        unfinished = [touch for touch in unfinished if touch.name not in {one.name for one in kicked}]
    touches = [touch for unit in note.units for touch in unit.forward.touches]
    wants = [Want(unit.items, "") for unit in note.units]
    verify(wants, touches)
    state, _removed = stale_addresses.take_away(state, wants)
    judged = rollback.judge(on.backend, on.context.settings, state, note.units, note.then, note.stood, began)
    return judged._replace(state=judged.state._replace(on_trial="")), tuple(unfinished)


def _said(by_backend: Dict[str, str], verified: Verified) -> Tuple[Dict[str, str], Dict[str, Tuple[str, ...]]]:
    """The problems and the findings: a backend that complains of a lease to come tells a finding."""
    problems = {mac: said for mac, said in by_backend.items() if mac not in verified.unleased}
    findings = dict(verified.findings)
    for mac in set(by_backend) - set(problems):
        findings[mac] = findings.get(mac, ()) + (by_backend[mac],)
    problems.update(verified.problems)
    return problems, findings


def _note_kicks(seen: Look, ledger: Sequence[Owned], touched: Sequence[Touch]) -> None:
    """What was touched and lacks something all the same, for later runs to let it be."""
    tried: FrozenSet[plan.Lacking] = failed_retries.read()
    if touched or tried:
        names = {touch.name for touch in touched}
        now = plan.lacks(seen.wants, ledger, netlink.snapshot())
        failed_retries.keep(frozenset(lacking for lacking in now if lacking.name in names or lacking in tried))
