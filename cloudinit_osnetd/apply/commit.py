# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Commit and activate: the only module that changes the machine.

An intent is written first. It holds the ledger rows as they will be, so that after a crash each
part is told by what stands on disk: the new row where the file is new, the old where it is old.
"""

import logging
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from ..backends import Backend
from ..core.plan import Change, Plan
from ..core.records import Owned, Touch
from ..planning.render import disk_parts
from ..state import store
from ..system import files, signals

LOG = logging.getLogger(__name__)


class Outcome(NamedTuple):
    ledger: Tuple[Owned, ...]
    problems: Dict[str, str]  # by MAC
    touched: Tuple[Touch, ...]


def ledger_after(ledger: Sequence[Owned], changes: Sequence[Change]) -> Tuple[Owned, ...]:
    rows = {row.place: row for row in ledger}
    # Removals first: a place that one NIC leaves may be the one that another takes.
    for change in changes:
        if change.row is None:
            rows.pop(change.place, None)
    for change in changes:
        if change.row is not None:
            rows[change.place] = change.row
    return tuple(sorted(rows.values()))


def undoing(changes: Sequence[Change], ledger: Sequence[Owned], backend: Backend, reason: str) -> Tuple[Change, ...]:
    """What takes these changes back, once they are made: the parts and the rows as they are now."""
    rows = {row.place: row for row in ledger}
    inverse = []
    for change in changes:
        if change.action in ("write", "remove"):
            whole = files.read(change.path)
            text = None if whole is None else backend.split(whole).get(change.section)
            action = "remove" if text is None else "write"
            row = rows.get(change.place)
            inverse.append(change._replace(action=action, text=text, row=row, reason=reason))
    return tuple(inverse)


def _write_file(backend: Backend, path: str, template: str, changes: Sequence[Change]) -> None:
    sections = {change.section: change.text for change in changes}
    old = files.read(path)
    new = backend.join(old, template, sections)
    try:
        if new is None:
            files.remove(path, sync=True)
        elif new != old:
            files.replace(path, new, mode=backend.mode)
    except OSError as exc:
        if files.read(path) != new:
            raise
        LOG.warning("in place, but a power loss may undo it: file=%s error=%s", path, exc)


def _write_files(backend: Backend, changes: Sequence[Change], templates: Dict[str, str]) -> Dict[str, str]:
    """Put the files in place; the problems by path. One file that fails costs its own parts."""
    problems = {}
    for path in sorted({change.path for change in changes}):
        try:
            mine = [change for change in changes if change.path == path]
            _write_file(backend, path, templates.get(path, ""), mine)
        except OSError as exc:
            problems[path] = "%s: %s" % (path, exc.strerror or exc)
            LOG.error("not written: file=%s error=%s", path, exc)
    return problems


def commit(
    plan: Plan,
    state: store.State,
    backend: Backend,
    templates: Dict[str, str],
    activate: bool,
    touched: Callable[[], None] = lambda: None,
) -> Outcome:
    """Do what the plan says; with `activate` false only on disk (early boot).

    `touched` is called as soon as the backend has done its part, before anything else is written.
    """
    writing = [change for change in plan.changes if change.action in ("write", "remove")]
    after = ledger_after(state.ledger, plan.changes)
    if not writing and not (activate and plan.touches):
        store.clear_intent()  # one that was settled, with nothing left to do
        return Outcome(after, {}, ())
    with signals.when_done():
        return _commit(plan, state, backend, templates, activate, writing, after, touched)


def _commit(
    plan: Plan,
    state: store.State,
    backend: Backend,
    templates: Dict[str, str],
    activate: bool,
    writing: Sequence[Change],
    after: Tuple[Owned, ...],
    touched_now: Callable[[], None],
) -> Outcome:
    store.save(state)  # what the files below are rendered from
    store.write_intent(store.Intent(plan.touches, after, tuple(change.place for change in writing)))
    names_written = [change.name for change in writing]
    coming = {c.name: c.text for c in writing if c.text is not None and names_written.count(c.name) == 1}
    edits = backend.edits(plan.touches, coming) if activate else {}
    anew = [touch for touch in plan.touches if touch.name not in edits]
    if activate and anew:
        backend.before([touch for touch in anew if touch.action in ("down", "reconfigure")])
    failed = _write_files(backend, writing, templates)
    if failed:
        done = [change for change in plan.changes if change.path not in failed]
        after = ledger_after(state.ledger, done)
    problems = {change.mac: failed[change.path] for change in writing if change.path in failed}
    touched = tuple(touch for touch in plan.touches if touch.mac not in problems)  # the others have what they had
    if activate:
        unwritten = {change.name for change in writing if change.path in failed}
        unmade = {name for name, make in edits.items() if name not in unwritten and not make()}
        anew += [touch for touch in plan.touches if touch.name in unmade]
        names = {touch.name for touch in anew}
        # A NIC whose file could not be written comes back with its old configuration.
        changed = frozenset(change.path for change in writing if change.name in names)
        said = backend.after(anew, changed) if anew else {}
        touched_now()
        for touch in plan.touches:
            if touch.name in said:
                problems.setdefault(touch.mac, said[touch.name])
    try:
        # Only now, to have the NICs up some disk writes earlier: until then the intent tells the same.
        store.save(state._replace(ledger=after))
        store.clear_intent()
    except OSError as exc:
        # What stands on disk tells the next run what the ledger should say.
        LOG.error("ledger not written, the intent stays: %s", exc)
    return Outcome(after, problems, touched if activate else ())


def settle(state: store.State, backend: Backend) -> Tuple[store.State, Tuple[Touch, ...]]:
    """`settled`, kept in the store, and the half-written files of the commit removed.

    The intent stays until the next commit, which replaces it: the store must know by then.
    """
    intent = store.read_intent()
    if intent is None:
        return state, ()
    for path, _section in intent.places:
        files.remove(files.temporary_of(path))
    state, touches = settled(state, backend)
    store.save(state)
    return state, touches


def settled(state: store.State, backend: Backend) -> Tuple[store.State, Tuple[Touch, ...]]:
    """Finish or forget a commit that was cut short; the NICs that may be half-way up.

    A part stands on disk as the old or the new row says, since files are replaced whole: the row
    that fits is the true one. Neither fits where somebody else wrote in between; then it is the
    old row, and the part will be found drifted.
    """
    intent = store.read_intent()
    if intent is not None:
        LOG.warning("a commit was cut short: nics=%s", ",".join(touch.name for touch in intent.touches))
    return as_it_stands(state, intent, backend)


def as_it_stands(
    state: store.State, intent: Optional[store.Intent], backend: Backend
) -> Tuple[store.State, Tuple[Touch, ...]]:
    """The same of this intent, where the commit may also be under way.

    The ledger is written when the NICs are up, the files before: who has no lock sees those beside the old rows.
    """
    if intent is None:
        return state, ()
    disk = disk_parts(backend, intent.places)
    rows = {row.place: row for row in state.ledger}
    new = {row.place: row for row in intent.ledger}
    for place in intent.places:
        there = disk.get(place)
        if place in new and there == new[place].disk:
            rows[place] = new[place]
        elif place not in new and there is None:
            rows.pop(place, None)
    return state._replace(ledger=tuple(sorted(rows.values()))), intent.touches
