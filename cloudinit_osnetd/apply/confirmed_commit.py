# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A confirmed commit: commit, activate, verify, and roll back what broke connectivity."""

import logging
import time
from typing import AbstractSet, Callable, Dict, FrozenSet, Iterable, Mapping, NamedTuple, Sequence, Tuple

from ..cloud_init.eligibility import RunContext
from ..core import plan
from ..core.desired import Want, with_dependents
from ..core.network_data import link_id
from ..core.records import Owned, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink
from ..planning import additions, render
from ..planning.build_plan import PlanningResult
from ..state import failed_retries, store
from ..state import findings as findings_kept
from ..state import former as kept_former
from . import address_conflicts, commit, foreign, pending_confirmation, provisional_push, rollback, stale_addresses
from .verify import Verified, await_dns, verify

LOG = logging.getLogger(__name__)


class Result(NamedTuple):
    state: store.State
    changes: Tuple[plan.Change, ...]
    touches: Tuple[Touch, ...]
    problems: Dict[str, str]  # by link
    findings: Dict[str, Tuple[str, ...]]  # by link


def apply_plan(
    on: RunContext,
    state: store.State,
    seen: PlanningResult,
    made: plan.Plan,
    read_rendered_from: Callable[[], Mapping[str, KeyTruth]],
    known: Mapping[str, KeyTruth],
) -> Result:
    """Carries out `made`, which is the plan of `seen` or a part of it, and returns the result.

    `read_rendered_from` returns, by key, what the parts on disk were rendered from. It is called only if needed.
    `known` is what was in force before this pass read any source.
    """
    links = _links(seen.wants, made)
    asked_for = {links.get(touch.name, touch.mac) for touch in made.touches}
    made, left = _without_bridge_members(seen, made, frozenset(state.bonds.values()))
    members = {links.get(name, name): texts for name, texts in left.items()}
    units = rollback.units(seen.wants, made, state, on.backend)
    baseline = rollback.NOTHING_REACHABLE
    if units:
        baseline = rollback.measure_baseline(units, netlink.snapshot(), on.context.settings)
    needed = baseline.asked or state.provisional or any(touch.action != "up" for touch in made.touches)
    rendered_from = read_rendered_from() if needed else {}
    changing = [change for change in made.changes if change.action in ("write", "remove")]
    on_disk = render.disk_texts(on.backend, [change.place for change in changing])
    replaced = _replaced(on, changing, on_disk)
    ours = _unedited(on, changing, state.ledger, rendered_from)
    former = kept_former.added(state.former, state.run, time.time(), changing, ours, on_disk)
    state = state._replace(former=former)
    if state.provisional:
        state = provisional_push.with_replaced(state, units, rendered_from)
    state = stale_addresses.remember(state, seen.wants, made.touches, rendered_from, known, replaced)
    by_us = foreign.ours_by_nic(seen.wants, rendered_from, known, parts=replaced)
    saved = foreign.save(made.touches, by_us, on.backend.drops_foreign)
    if baseline.asked:
        note = pending_confirmation.write(units, baseline, rendered_from, state.truth, time.time())
        state = state._replace(on_trial=note)
    began = time.monotonic()
    outcome = commit.commit(made, state, on.backend, seen.templates, True, lambda: saved.restore(on.backend.lag))
    verified = verify(seen.wants, outcome.touched, plain=plan.plain_keys(outcome.ledger))
    saved.restore()  # what a backend has removed since
    state, removed = stale_addresses.remove(state, seen.wants, outcome.problems)
    late = on.backend.late
    may_succeed = may_still_succeed(verified, on.backend.waits_for_lease, late, links)
    problems, findings = _merge(outcome.problems, verified, may_succeed)
    # Before the reachability check: a gateway with the same address does not answer, and the NIC is rolled back.
    conflicts = address_conflicts.found(seen.wants, outcome.touched, rendered_from, known)
    confirmed = rollback.unchanged(state._replace(ledger=outcome.ledger))
    if baseline.asked:
        check = rollback.Check(on.backend, on.context.settings, units, baseline, rendered_from)
        confirmed = rollback.confirm(check, confirmed.state, began)
    touched = [touch for touch in outcome.touched if links.get(touch.name) not in confirmed.rejected]
    note_failed_retries(seen, confirmed.state.ledger, touched, late)
    for link, texts in await_dns(seen.wants, touched, on.backend).items():
        findings[link] = findings.get(link, ()) + texts
    for link in confirmed.rejected:
        findings.pop(link, None)
    _add_findings(findings, asked_for, [members, removed, saved.finish(links), conflicts])
    problems.update(seen.rejected)
    problems.update(confirmed.problems)
    problems.update(confirmed.rejected)
    changes = tuple(one._replace(before=on_disk.get(one.place, "")) if one in changing else one for one in made.changes)
    changes, touches = changes + confirmed.changes, made.touches + confirmed.touches
    return Result(confirmed.state._replace(on_trial=""), changes, touches, problems, findings)


def _links(wants: Sequence[Want], made: plan.Plan) -> Dict[str, str]:
    """Returns by NIC name how reports identify a link; also of those that go."""
    links = {change.name: link_id(change.key) for change in made.changes}
    return dict(links, **{item.name: item.link for want in wants for item in want.items})


def _add_findings(
    findings: Dict[str, Tuple[str, ...]], touched: AbstractSet[str], more: Sequence[Mapping[str, Tuple[str, ...]]]
) -> None:
    """Adds these findings to `findings`. Those that no later check can see again are kept for `status`."""
    standing: Dict[str, Tuple[str, ...]] = {}
    for one in more:
        for link, texts in one.items():
            findings[link] = findings.get(link, ()) + texts
            lasting = tuple(text for text in texts if not text.startswith(("restored: ", "removed: ")))
            standing[link] = standing.get(link, ()) + lasting
    findings_kept.keep(touched, standing)


def _unedited(
    on: RunContext, changing: Sequence[plan.Change], ledger: Sequence[Owned], rendered_from: Mapping[str, KeyTruth]
) -> Dict[str, KeyTruth]:
    """Returns `rendered_from` without the links of which a part was edited since: `--force` overwrites such a part.

    What it was rendered from would not bring the edit back.
    """
    if not rendered_from:
        return {}
    rows = {row.place: row.disk for row in ledger}
    disk = render.disk_parts(on.backend, [change.place for change in changing])
    theirs = additions.changes(on.backend, [row for row in ledger if row.place in disk], disk)
    places = {place for place, written in rows.items() if disk.get(place) != written} | set(theirs)
    edited = {change.key for change in changing if change.place in places and not _keeps(change, theirs)}
    return {key: known for key, known in rendered_from.items() if key not in edited}


def _keeps(change: plan.Change, theirs: Mapping[plan.Place, additions.Change]) -> bool:
    """True if others have only added to the part that is replaced, and the new one has that as well."""
    one = theirs.get(change.place)
    if one is None or not one.followed:
        return False
    return not one.lines or (change.row is not None and change.text != change.row.written)


def _without_bridge_members(
    seen: PlanningResult, made: plan.Plan, bonds: FrozenSet[str]
) -> Tuple[plan.Plan, Dict[str, Tuple[str, ...]]]:
    """Returns the plan without touches of NICs that other software has put into a bridge or a VRF; findings by name.

    Bringing such a NIC up would remove it from the bridge, or give it an address that the bridge has now. Its part is
    still written: a bridge that persists over a reboot has a configuration file of its own, which works beside ours.
    `bonds`: the names of the bonds that are ours, or were.
    """
    now = netlink.snapshot() if any(touch.action in ("reconfigure", "kick") for touch in made.touches) else None
    if now is None or not any(nic.master for nic in now.nics):
        return made, {}
    bonds |= {item.name for want in seen.wants for item in want.items if item.entry.kind == "bond"}
    names = {nic.ifindex: nic.name for nic in now.nics}
    members = {nic.name: names.get(nic.master, "another device") for nic in now.nics if nic.master}
    foreign_masters = {name: master for name, master in members.items() if master not in bonds}
    restarts = [touch for touch in made.touches if touch.action in ("reconfigure", "kick")]
    left = [touch for touch in restarts if touch.name in foreign_masters]
    text = "it is a member of %s and is not changed; its new configuration is on disk and applies at the next boot"
    for touch in left:
        LOG.warning("left alone: nic=%s reason=%s", touch.name, text % foreign_masters[touch.name])
    rest = tuple(touch for touch in made.touches if touch not in left)
    return made._replace(touches=rest), {touch.name: (text % foreign_masters[touch.name],) for touch in left}


def _replaced(
    on: RunContext, changing: Sequence[plan.Change], texts: Mapping[plan.Place, str]
) -> Dict[str, FrozenSet[str]]:
    """Returns by NIC name what the parts mean that are replaced (Backend.meaning), without what stays: others may have
    added it, see additions.py. `texts`: these parts."""
    meanings: Dict[str, FrozenSet[str]] = {}
    for change in changing:
        if change.place in texts:
            was = on.backend.meaning(texts[change.place], change.name)
            now = on.backend.meaning(change.text, change.name) if change.text is not None else frozenset()
            meanings[change.name] = meanings.get(change.name, frozenset()) | (was - now)
    return meanings


def resume(
    on: RunContext, state: store.State, unfinished: Sequence[Touch]
) -> Tuple[rollback.Confirmation, Tuple[Touch, ...]]:
    """Checks the unconfirmed change of an interrupted run; also returns the rest of `unfinished`.

    The time to wait starts again, because the machine may have rebooted or the NIC may be partly configured.
    """
    note = pending_confirmation.read(state.on_trial) if state.on_trial else None
    if note is not None:
        note = pending_confirmation.still_pending(note, on, state, netlink.snapshot().by_mac())
    if note is None or not note.units:
        return rollback.unchanged(state._replace(on_trial="")), tuple(unfinished)
    LOG.warning("confirming the change of an interrupted run: nics=%s", ", ".join(unit.names for unit in note.units))
    keys = frozenset(key for unit in note.units for key in unit.keys)
    # A rejection that the interrupted run had begun does not count twice.
    refused = tuple(one for one in state.rejections if one.key not in keys or one.since < note.since)
    state = state._replace(rejections=refused)
    began = time.monotonic()
    names = {touch.name for touch in unfinished}
    partial = [unit for unit in note.units if any(touch.name in names for touch in unit.forward.touches)]
    if partial:
        reapplied = tuple(touch._replace(action="kick") for unit in partial for touch in unit.forward.touches)
        changes = tuple(change for unit in partial for change in unit.forward.changes)
        items = tuple(item for unit in partial for item in unit.items)
        outcome = rollback.commit_units(plan.Plan(changes, reapplied, ()), state, on.backend, items, note.rendered_from)
        state = state._replace(ledger=outcome.ledger)
        unfinished = [touch for touch in unfinished if touch.name not in {one.name for one in reapplied}]
    touches = [touch for unit in note.units for touch in unit.forward.touches]
    wants = [Want(unit.items, "") for unit in note.units]
    verify(wants, touches)
    state, _removed = stale_addresses.remove(state, wants)
    check = rollback.Check(on.backend, on.context.settings, note.units, note.baseline, note.rendered_from)
    confirmed = rollback.confirm(check, state, began)
    return confirmed._replace(state=confirmed.state._replace(on_trial="")), tuple(unfinished)


def may_still_succeed(
    verified: Verified, waits_for_lease: bool, late: Iterable[str], links: Mapping[str, str]
) -> FrozenSet[str]:
    """Returns the links for which a failure of the backend's command is no more than a finding.

    Only a lease is lacking, for which the command waits; or it goes on (`late`, by NIC name), and the kernel has all
    that is wanted.
    """
    done = {links[name] for name in late if name in links} - verified.problems.keys()
    return (verified.unleased if waits_for_lease else frozenset()) | done


def _merge(
    by_backend: Dict[str, str], verified: Verified, may_succeed: AbstractSet[str]
) -> Tuple[Dict[str, str], Dict[str, Tuple[str, ...]]]:
    """Returns problems and findings. What the backend said comes first: it is why the kernel lacks something.

    `may_succeed` as of may_still_succeed: the failure of the backend's command is a finding there.
    """
    problems = {link: text for link, text in by_backend.items() if link not in may_succeed}
    findings = dict(verified.findings)
    for link in set(by_backend) - set(problems):
        findings[link] = findings.get(link, ()) + (by_backend[link],)
    for link, text in verified.problems.items():
        problems[link] = "; ".join(filter(None, [problems.get(link), text]))
    return problems, findings


def note_failed_retries(
    seen: PlanningResult, ledger: Sequence[Owned], touched: Sequence[Touch], late: FrozenSet[str]
) -> None:
    """Notes what a touched NIC still lacks, so that later runs do not try again.

    This does not hold for a link that depends on a NIC whose command goes on (`late`): it could not come up yet.
    """
    tried: FrozenSet[plan.Lacking] = failed_retries.read()
    if touched or tried:
        names = {touch.name for touch in touched} - (with_dependents(seen.wants, late) - late)
        now = plan.lacks(seen.wants, ledger, netlink.snapshot())
        failed_retries.keep(frozenset(lacking for lacking in now if lacking.name in names or lacking in tried))
