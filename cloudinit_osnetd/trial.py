# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A plan carried out and put to the proof: commit, activate, verify, and roll back what has cut us off."""

import time
from typing import Callable, Dict, FrozenSet, Mapping, NamedTuple, Sequence, Tuple

from . import apply, kernel, kicks, plan, rollback, store
from .backends import Touch
from .ground import Ground
from .look import Look
from .store import Owned
from .truth import KeyTruth
from .verify import Verified, await_dns, verify


class Done(NamedTuple):
    state: store.State
    changes: Tuple[plan.Change, ...]
    touches: Tuple[Touch, ...]
    problems: Dict[str, str]  # by MAC
    findings: Dict[str, Tuple[str, ...]]  # by MAC


def carry_out(
    on: Ground, state: store.State, seen: Look, made: plan.Plan, olds: Callable[[], Mapping[str, KeyTruth]]
) -> Done:
    """Do what `made` says, which is the plan of `seen` or less, and see what comes of it.

    `olds` as in rollback.judge.
    """
    units = rollback.units(seen.wants, made, state, on.backend)
    before = rollback.before(units, kernel.snapshot(), on.context.settings) if units else None
    began = time.monotonic()
    outcome = apply.commit(made, state, on.backend, seen.templates, activate=True)
    verified = verify(seen.wants, outcome.touched, plain=plan.plain_keys(outcome.ledger))
    problems, findings = _said(outcome.problems, verified)
    judged = rollback.nothing_lost(state._replace(ledger=outcome.ledger))
    if before is not None and before.asked:
        judged = rollback.judge(on.backend, on.context.settings, judged.state, units, before, olds, began)
    touched = [touch for touch in outcome.touched if touch.mac not in judged.rejected]
    _note_kicks(seen, judged.state.ledger, touched)
    for mac, said in await_dns(seen.wants, touched, on.backend).items():
        findings[mac] = findings.get(mac, ()) + said
    for mac in judged.rejected:
        findings.pop(mac, None)
    problems.update(seen.rejected)
    problems.update(judged.problems)
    problems.update(judged.rejected)
    for lacking in made.hopeless:
        problems.setdefault(lacking.mac, lacking.lacks + "; bringing it up again did not help")
    return Done(judged.state, made.changes + judged.changes, made.touches + judged.touches, problems, findings)


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
    tried: FrozenSet[plan.Lacking] = kicks.read()
    if touched or tried:
        names = {touch.name for touch in touched}
        now = plan.lacks(seen.wants, ledger, kernel.snapshot())
        kicks.keep(frozenset(lacking for lacking in now if lacking.name in names or lacking in tried))
