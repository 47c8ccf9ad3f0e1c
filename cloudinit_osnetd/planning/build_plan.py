# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Builds the plan of one pass: the difference between what is desired and what exists."""

import logging
import time
from typing import Container, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import __version__
from ..cloud_init.eligibility import RunContext
from ..core import desired, network_data, plan, rejections, truth
from ..core.records import IN_OUTPUT, Nic, Owned, Snapshot, removed_nic
from ..state import store
from . import additions, bond_names, render

LOG = logging.getLogger(__name__)


class PlanningResult(NamedTuple):
    wants: Tuple[desired.Want, ...]
    plan: plan.Plan
    templates: Dict[str, str]  # whole rendered files, by path
    failures: Dict[str, str]  # what could not be rendered, by link
    metrics: Dict[str, int]  # by key
    rejected: Dict[str, str]  # by link: until when an entry is rejected, and why


def build_plan(
    on: RunContext,
    state: store.State,
    nics: Dict[str, Nic],
    snapshot: Optional[Snapshot],
    keep: FrozenSet[str] = frozenset(),
    force: bool = False,
    tried: FrozenSet[plan.Lacking] = frozenset(),
    correct: FrozenSet[str] = frozenset(),
) -> PlanningResult:
    """Compares what is desired with what exists. `snapshot` is None if nothing will be activated.

    `keep`, `force`, `tried` and `correct` as in plan.Options.
    """
    state = bond_names.known(state, nics, snapshot, on.backend)
    # At early boot nothing can be verified, so nothing that was rejected is tried again.
    now = None if snapshot is None else time.time()
    refused = rejections.only_lasting(state.rejections) if force else state.rejections
    rejected = rejections.in_force(state.truth, refused, now)
    known = rejections.apply(state.truth, refused, now)
    wants, metrics = _wanted(on, state, known, nics, snapshot)
    claimed = on.backend.claimed([item for want in wants for item in want.items])
    todo = _to_render(on, state, wants, claimed, early=snapshot is None, force=force)
    rendering = render.render(todo, on.backend, on.context.renders_with)
    disk = render.disk_parts(on.backend, render.places(state, [p.place for p in rendering.parts]))
    keep = keep | _kept(on, state, nics, rejected)
    parts: Sequence[plan.Staged] = rendering.parts
    removes = bool(parts or plan.obsolete_rows(wants, state.ledger, keep))
    followed: FrozenSet[plan.Place] = frozenset()
    if removes and not force:
        parts, followed = additions.kept(on, state.ledger, parts, disk)
    if parts:  # what is told apart by its meaning takes a while to import
        from .ownership import recognise

        parts = recognise(on, state, wants, lambda other: _wanted(on, state, other, nics)[0], parts, disk, followed)
    made = plan.make(
        wants,
        parts,
        disk,
        state.ledger,
        snapshot,
        on.backend.name,
        plan.Options(
            force,
            keep,
            claimed,
            tried,
            correct,
            on.backend.referred(_may_be_changed(state.ledger, disk, keep)) if removes else {},
            followed,
        ),
    )
    failures = _failures(wants, rendering)
    messages = {key: str(one) for key, one in rejected.items() if not one.lasting}
    messages = {key: text for key, text in messages.items() if state.truth.keys[key].entry.mac in nics}
    # A NIC whose part could not be rendered is not reapplied and not waited for with its old part.
    unrendered = {item.name for want in wants for item in want.items if item.link in failures}
    touches = tuple(t for t in made.touches if t.action != "kick" or t.name not in unrendered)
    return PlanningResult(
        tuple(wants),
        _explained(made._replace(touches=touches), rejected),
        dict(rendering.templates),
        failures,
        metrics,
        {network_data.link_id(key): text for key, text in messages.items()},
    )


def _to_render(
    on: RunContext,
    state: store.State,
    wants: Sequence[desired.Want],
    claimed: Mapping[str, str],
    early: bool,
    force: bool,
) -> List[desired.Want]:
    """Returns the wants whose parts on disk may differ from what would be rendered for them now."""
    if force:
        return list(wants)
    disk = render.disk_parts(on.backend, render.places(state))
    unfinished = early and on.backend.finishes_at_boot
    by = __version__ if early else None  # an upgrade of this package changes nothing on a running server
    return [
        want
        for want in wants
        if not plan.claimed_by(want, claimed)
        and plan.needs_render(want, state.ledger, disk, on.backend.name, unfinished, by)
    ]


def _explained(made: plan.Plan, rejected: Mapping[str, rejections.Rejection]) -> plan.Plan:
    """Returns the plan with the reason of what an operator's rollback removes: the NIC is not gone."""
    reasons = {key: str(one) for key, one in rejected.items() if one.lasting and one.old is None}
    names = {change.name: reasons[change.key] for change in made.changes if change.key in reasons}
    if not names:
        return made
    changes = tuple(one._replace(reason=reasons.get(one.key, one.reason)) for one in made.changes)
    touches = tuple(one._replace(reason=names.get(one.name, one.reason)) for one in made.touches)
    return made._replace(changes=changes, touches=touches)


def _kept(
    on: RunContext, state: store.State, nics: Dict[str, Nic], rejected: Mapping[str, rejections.Rejection]
) -> FrozenSet[str]:
    """Returns what is not cleaned up: ignored NICs, NICs whose first entry is rejected, but not by an operator, and
    NICs of which nobody says anything any more."""
    ignored = on.context.settings.ignore
    unmanaged = desired.unmanaged(state.truth, nics, ignored, bonds_of(on, state, nics))
    rejected = {key: one for key, one in rejected.items() if one.lasting != rejections.LASTING}
    first = {key for key, one in rejected.items() if one.old is None}
    return ignored | unmanaged | first | forgotten(state, nics)


def forgotten(state: store.State, nics: Mapping[str, Nic]) -> FrozenSet[str]:
    """Returns the keys of the NICs that are here and configured by us, and of which no source says anything any more.

    That is after `apply --forget` of what nobody else had said. They keep their network, as a NIC does that is not
    listed any more: it may be the only one. With a bond or a VLAN that goes, NICs do too: their files name it.
    """
    rows = [row for row in state.ledger if row.key not in state.truth.keys]
    if any(not row.key.endswith("/phy") for row in rows):
        return frozenset()
    return frozenset(row.key for row in rows if row.mac in nics)


def _failures(wants: Sequence[desired.Want], rendering: render.Rendering) -> Dict[str, str]:
    """Returns by link why one could not be rendered."""
    problems = {key: failure.problem for failure in rendering.failures for key in failure.keys}
    return {item.link: problems[item.key] for want in wants for item in want.items if item.key in problems}


def _may_be_changed(
    ledger: Sequence[Owned], disk: Mapping[plan.Place, str], keep: FrozenSet[str]
) -> FrozenSet[plan.Place]:
    return frozenset(
        row.place for row in ledger if disk.get(row.place) == row.disk and not {row.key, row.mac, row.name} & keep
    )


def rendered_from(
    on: RunContext, state: store.State, known: truth.Truth, nics: Dict[str, Nic]
) -> Dict[str, truth.KeyTruth]:
    """Returns by key the entries of an earlier truth from which the parts on disk were rendered."""
    state = bond_names.known(state, nics, None, on.backend)
    earlier = rejections.apply(known, state.rejections, None)
    wants, _metrics = _wanted(on, state, earlier, nics)
    rows: Dict[str, List[str]] = {}
    for row in state.ledger:
        rows.setdefault(row.key, []).append(row.digest)
    return {key: earlier.keys[key] for want in wants for key in want.keys if set(rows.get(key, ())) == {want.digest}}


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
    ways = snapshot.default_route_macs() if snapshot is not None else ()
    unmanaged = frozenset(mac for mac, nic in nics.items() if nic.is_one_of(ignored))
    metrics = desired.assign_metrics(known, keys, state.metrics, configured, unmanaged, ways)
    return desired.desired(known, nics, ignored, named, metrics), metrics


def bonds_of(on: RunContext, state: store.State, nics: Mapping[str, Nic]) -> Dict[str, str]:
    """Returns the names of bonds by key: the current ones, and those that this cloud-init would give."""
    return desired.names_of_bonds(state.bonds, state.truth, nics, on.context.bond_names)


def written_for_removed_nics(
    on: RunContext, state: store.State, nics: Dict[str, Nic], names: Mapping[str, str]
) -> Tuple[Owned, ...]:
    """Returns rows for what cloud-init wrote at this boot for NICs that were removed since, so that it is cleaned up.

    `names` has the names by MAC that the NICs had when it was written. This is needed before the first
    commit only: later the ledger has the rows.
    """
    gone = {mac: removed_nic(mac, name) for mac, name in names.items() if mac not in nics}
    if not gone:
        return ()
    from .ownership import means_ours

    earlier = dict(gone, **{mac: nics[mac] for mac in names if mac in nics})
    wants, _metrics = _wanted(on, state, state.truth, earlier)
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
    """Returns the MACs of the NICs of which no source has an entry yet."""
    known = {kt.entry.mac for kt in state.truth.keys.values() if kt.entry.kind == "phy"}
    return [mac for mac, nic in sorted(nics.items()) if mac not in known and not nic.is_one_of(ignored)]


def without_carrier(planned: PlanningResult, now: Snapshot) -> List[str]:
    """Returns the MACs of the NICs that are up, have networks, and have no carrier yet."""
    found = [(item, now.named(item.name)) for want in planned.wants for item in want.items if item.entry.networks]
    return sorted({item.entry.mac for item, nic in found if nic is not None and nic.up and not nic.carrier})


def new_macs(
    state: store.State, nics: Dict[str, Nic], ignored: FrozenSet[str], waited_for: Container[str]
) -> List[str]:
    """Returns the MACs of NICs that were added since the last run: something is rendered once a source has an entry.

    NICs for which earlier runs already waited without success are left out: they may never get an entry.
    """
    ours = {row.mac for row in state.ledger}
    return [
        mac
        for mac, nic in sorted(nics.items())
        if mac not in ours and mac not in waited_for and not nic.is_one_of(ignored)
    ]


def log_plan(made: plan.Plan) -> None:
    for change in made.changes:
        LOG.info(
            "part: action=%s mac=%s nic=%s file=%s reason=%s",
            change.action, change.mac, change.name, change.path, change.reason,
        )  # fmt: skip
    for touch in made.touches:
        LOG.info("nic: action=%s mac=%s nic=%s reason=%s", touch.action, touch.mac, touch.name, touch.reason)
    for lacking in made.not_retried:
        text = "not reapplied again: mac=%s nic=%s reason=%s"
        LOG.warning(text, lacking.mac, lacking.name, lacking.lacks, extra=IN_OUTPUT)
    for drift in made.drifted:
        LOG.warning(
            "drifted, left alone: mac=%s nic=%s file=%s reason=%s",
            drift.mac, drift.name, drift.path, drift.reason, extra=IN_OUTPUT,
        )  # fmt: skip
