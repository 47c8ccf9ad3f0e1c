# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One look: what is desired, what is there, and the plan that lies between."""

import logging
import time
from typing import Container, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import __version__
from ..cloud_init.eligibility import RunContext
from ..core import desired, plan, rejections, truth
from ..core.records import Nic, Owned, Snapshot, departed
from ..state import store
from . import bond_names, render
from .ownership import means_ours, recognise

LOG = logging.getLogger(__name__)


class Look(NamedTuple):
    wants: Tuple[desired.Want, ...]
    plan: plan.Plan
    templates: Dict[str, str]  # whole rendered files, by path
    failures: Dict[str, str]  # what could not be rendered, by MAC
    metrics: Dict[str, int]  # by key
    rejected: Dict[str, str]  # by MAC: what is not wanted for a while, until when and why


def look_at(
    on: RunContext,
    state: store.State,
    nics: Dict[str, Nic],
    snapshot: Optional[Snapshot],
    keep: FrozenSet[str] = frozenset(),
    force: bool = False,
    tried: FrozenSet[plan.Lacking] = frozenset(),
) -> Look:
    """Compare what is desired with what is there. `snapshot` is None where nothing is activated.

    `keep` and `tried` as in plan.make.
    """
    ignored = on.context.settings.ignore
    state = bond_names.known(state, nics, snapshot, on.backend)
    # At early boot nothing can be verified, and nothing that was rejected is tried.
    now = None if snapshot is None else time.time()
    rejected = {} if force else rejections.holding(state.truth, state.rejections, now)
    known = state.truth if force else rejections.believed(state.truth, state.rejections, now)
    wants, metrics = _wanted(on, state, known, nics, snapshot)
    disk = render.disk_parts(on.backend, render.places(state))
    unfinished = snapshot is None and on.backend.finishes_at_boot
    by = __version__ if snapshot is None else None  # a server that runs is not disturbed for an upgrade
    claimed = on.backend.claimed([item for want in wants for item in want.items])
    todo = [
        want
        for want in wants
        if force
        or (
            not plan.spoken_for(want, claimed)
            and plan.needs_render(want, state.ledger, disk, on.backend.name, unfinished, by)
        )
    ]
    rendering = render.render(todo, on.backend, on.context.renders_with)
    disk = render.disk_parts(on.backend, render.places(state, [p.place for p in rendering.parts]))
    keep = (
        keep
        | ignored
        | desired.left_alone(state.truth, nics, ignored, bonds_of(on, state, nics))
        | {state.truth.keys[key].entry.mac for key, one in rejected.items() if one.old is None}
    )
    may_go = rendering.parts or plan.departed(wants, state.ledger, keep)
    made = plan.make(
        wants,
        recognise(on, state, wants, lambda other: _wanted(on, state, other, nics)[0], rendering.parts, disk),
        disk,
        state.ledger,
        snapshot,
        on.backend.name,
        force,
        keep,
        claimed,
        tried,
        on.backend.referred(_may_be_changed(state.ledger, disk, keep)) if may_go else {},
    )
    failures = {
        item.entry.mac: failure.problem
        for failure in rendering.failures
        for want in wants
        for item in want.items
        if item.key in failure.keys
    }
    told = {state.truth.keys[key].entry.mac: str(one) for key, one in rejected.items()}
    here = {mac: text for mac, text in told.items() if mac in nics}
    # A NIC that could not be rendered is not brought up, and not waited for, on what it had.
    touches = tuple(t for t in made.touches if t.action != "kick" or t.mac not in failures)
    return Look(tuple(wants), made._replace(touches=touches), dict(rendering.templates), failures, metrics, here)


def _may_be_changed(
    ledger: Sequence[Owned], disk: Mapping[plan.Place, str], keep: FrozenSet[str]
) -> FrozenSet[plan.Place]:
    return frozenset(
        row.place for row in ledger if disk.get(row.place) == row.disk and not {row.key, row.mac, row.name} & keep
    )


def standing(
    on: RunContext, state: store.State, known: truth.Truth, nics: Dict[str, Nic]
) -> Dict[str, truth.KeyTruth]:
    """By key: what of a truth of the past the parts on disk were rendered from."""
    state = bond_names.known(state, nics, None, on.backend)
    then = rejections.believed(known, state.rejections, None)
    wants, _metrics = _wanted(on, state, then, nics)
    rows: Dict[str, List[str]] = {}
    for row in state.ledger:
        rows.setdefault(row.key, []).append(row.digest)
    return {key: then.keys[key] for want in wants for key in want.keys if set(rows.get(key, ())) == {want.digest}}


def _wanted(
    on: RunContext,
    state: store.State,
    known: truth.Truth,
    nics: Dict[str, Nic],
    snapshot: Optional[Snapshot] = None,
) -> Tuple[List[desired.Want], Dict[str, int]]:
    ignored = on.context.settings.ignore
    named = bonds_of(on, state._replace(truth=known), nics)
    keys = desired.configurable(known, nics, ignored, named)
    configured = frozenset(row.key for row in state.ledger)
    ways = snapshot.ways_out() if snapshot is not None else ()
    left = frozenset(mac for mac, nic in nics.items() if {mac, nic.name} & ignored)
    metrics = desired.give_metrics(known, keys, state.metrics, configured, left, ways)
    return desired.desired(known, nics, ignored, named, metrics), metrics


def bonds_of(on: RunContext, state: store.State, nics: Mapping[str, Nic]) -> Dict[str, str]:
    """The names of bonds by key: those they have, and those that this cloud-init would give them."""
    return desired.known_bonds(state.bonds, state.truth, nics, on.context.bond_names)


def written_for_departed(
    on: RunContext, state: store.State, nics: Dict[str, Nic], names: Mapping[str, str]
) -> Tuple[Owned, ...]:
    """What cloud-init has written at this boot for NICs that have left since: ours, to be removed.

    `names` by MAC, as they were then. Of use before the first commit only: then the ledger knows.
    """
    gone = {mac: departed(mac, name) for mac, name in names.items() if mac not in nics}
    if not gone:
        return ()
    then = dict(gone, **{mac: nics[mac] for mac in names if mac in nics})
    wants, _metrics = _wanted(on, state, state.truth, then)
    wants = [want for want in wants if any(item.entry.mac in gone for item in want.items)]
    rendering = render.render(wants, on.backend, on.context.renders_with)
    parts = [part for part in rendering.parts if part.mac in gone]
    disk = render.disk_parts(on.backend, [part.place for part in parts])
    texts = render.disk_texts(on.backend, [part.place for part in parts])
    return tuple(
        Owned(
            part.key, part.mac, part.name, on.backend.name, part.path, part.section, disk[part.place], part.digest
        )
        for part in parts
        if part.place in texts and means_ours(on.backend, part, texts[part.place])
    )


def pending_macs(state: store.State, nics: Dict[str, Nic], ignored: FrozenSet[str]) -> List[str]:
    """NICs that no source has named yet."""
    known = {kt.entry.mac for kt in state.truth.keys.values() if kt.entry.kind == "phy"}
    return [
        mac for mac, nic in sorted(nics.items()) if mac not in known and mac not in ignored and nic.name not in ignored
    ]


def without_carrier(seen: Look, now: Snapshot) -> List[str]:
    """The MACs of NICs that are up, have something to be configured with, and no carrier yet."""
    found = [(item, now.named(item.name)) for want in seen.wants for item in want.items if item.entry.networks]
    return sorted({item.entry.mac for item, nic in found if nic is not None and nic.up and not nic.carrier})


def new_macs(
    state: store.State, nics: Dict[str, Nic], ignored: FrozenSet[str], waited_for: Container[str]
) -> List[str]:
    """NICs that have come since the last run: something will be rendered for them, as soon as a source names them.

    Not those that earlier runs have looked for in vain: they may never be named.
    """
    ours = {row.mac for row in state.ledger}
    return [
        mac
        for mac, nic in sorted(nics.items())
        if mac not in ours and mac not in waited_for and mac not in ignored and nic.name not in ignored
    ]


def log_plan(made: plan.Plan) -> None:
    for change in made.changes:
        LOG.info(
            "part: action=%s mac=%s nic=%s file=%s reason=%s",
            change.action, change.mac, change.name, change.path, change.reason,
        )  # fmt: skip
    for touch in made.touches:
        LOG.info("nic: action=%s mac=%s nic=%s reason=%s", touch.action, touch.mac, touch.name, touch.reason)
    for lacking in made.hopeless:
        LOG.warning("not kicked again: mac=%s nic=%s reason=%s", lacking.mac, lacking.name, lacking.lacks)
    for drift in made.drifted:
        LOG.warning(
            "drifted, left alone: mac=%s nic=%s file=%s reason=%s",
            drift.mac, drift.name, drift.path, drift.reason,
        )  # fmt: skip
