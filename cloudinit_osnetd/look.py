# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One look: what is desired, what is there, and the plan that lies between."""

import logging
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from . import apply, desired, kernel, plan, render, store
from .ground import Ground

LOG = logging.getLogger(__name__)


class Look(NamedTuple):
    wants: Tuple[desired.Want, ...]
    plan: plan.Plan
    templates: Dict[str, str]  # whole rendered files, by path
    failures: Dict[str, str]  # what could not be rendered, by MAC


def look_at(
    on: Ground,
    state: store.State,
    nics: Dict[str, kernel.Nic],
    snapshot: Optional[kernel.Snapshot],
    keep: FrozenSet[str] = frozenset(),
    force: bool = False,
) -> Look:
    """Compare what is desired with what is there. `snapshot` is None where nothing is activated."""
    bonds = {row.key: row.name for row in state.ledger if row.key.endswith("/bond")}
    ignored = on.context.settings.ignore
    wants = desired.desired(state.truth, nics, ignored, bonds)
    disk = render.disk_parts(on.backend, apply.places(state))
    todo = [w for w in wants if force or plan.needs_render(w, state.ledger, disk, on.backend.name)]
    rendering = render.render(todo, on.backend)
    disk = render.disk_parts(on.backend, apply.places(state, [p.place for p in rendering.parts]))
    made = plan.make(
        wants,
        rendering.parts,
        disk,
        state.ledger,
        None if snapshot is None else {nic.name: nic for nic in snapshot.nics},
        on.backend.name,
        force,
        keep | ignored,
    )
    failures = {
        item.entry.mac: failure.problem
        for failure in rendering.failures
        for want in wants
        for item in want.items
        if item.key in failure.keys
    }
    return Look(tuple(wants), made, dict(rendering.templates), failures)


def pending_macs(state: store.State, nics: Dict[str, kernel.Nic], ignored: FrozenSet[str]) -> List[str]:
    """NICs that no source has named yet."""
    known = {kt.entry.mac for kt in state.truth.keys.values() if kt.entry.kind == "phy"}
    return [
        mac
        for mac, nic in sorted(nics.items())
        if mac not in known and mac not in ignored and nic.name not in ignored
    ]


def log_plan(made: plan.Plan) -> None:
    for change in made.changes:
        LOG.info(
            "part: action=%s mac=%s nic=%s file=%s reason=%s",
            change.action, change.mac, change.name, change.path, change.reason,
        )  # fmt: skip
    for touch in made.touches:
        LOG.info(
            "nic: action=%s mac=%s nic=%s reason=%s", touch.action, touch.mac, touch.name, touch.reason
        )
    for drift in made.drifted:
        LOG.warning(
            "drifted, left alone: mac=%s nic=%s file=%s reason=%s",
            drift.mac, drift.name, drift.path, drift.reason,
        )  # fmt: skip
