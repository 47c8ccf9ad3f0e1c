# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Commit and activate: the only module that changes the machine.

An intent is written first. It holds the ledger rows as they will be. After a crash, the file on disk decides for each
part: the new row counts if the file is new, the old row if the file is old.
"""

import logging
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from ..backends import Backend
from ..core.network_data import link_id
from ..core.plan import Change, Plan, ledger_after
from ..core.records import Owned, Touch
from ..planning.render import disk_parts
from ..state import store
from ..system import files, signals

LOG = logging.getLogger(__name__)


class Outcome(NamedTuple):
    ledger: Tuple[Owned, ...]
    problems: Dict[str, str]  # by link
    touched: Tuple[Touch, ...]


def inverse_of(changes: Sequence[Change], ledger: Sequence[Owned], backend: Backend, reason: str) -> Tuple[Change, ...]:
    """Returns the changes that undo these changes: they restore the parts and the rows as they are now."""
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
        LOG.warning("written but not synced, a power loss may undo it: file=%s error=%s", path, exc)


def _write_files(backend: Backend, changes: Sequence[Change], templates: Dict[str, str]) -> Dict[str, str]:
    """Writes the files and returns the problems by path. A file that fails affects only its own parts."""
    problems = {}
    for path in sorted({change.path for change in changes}):
        try:
            own = [change for change in changes if change.path == path]
            _write_file(backend, path, templates.get(path, ""), own)
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
    activated: Callable[[], None] = lambda: None,
) -> Outcome:
    """Carries out the plan; with `activate` false only on disk (early boot).

    `activated` is called as soon as the backend is done, before anything else is written.
    """
    writing = [change for change in plan.changes if change.action in ("write", "remove")]
    after = ledger_after(state.ledger, plan.changes)
    if not writing and not (activate and plan.touches):
        store.clear_intent()  # one that was recovered, with nothing left to do
        return Outcome(after, {}, ())
    with signals.when_done():
        return _commit(plan, state, backend, templates, activate, writing, after, activated)


def _commit(
    plan: Plan,
    state: store.State,
    backend: Backend,
    templates: Dict[str, str],
    activate: bool,
    writing: Sequence[Change],
    after: Tuple[Owned, ...],
    activated: Callable[[], None],
) -> Outcome:
    store.save(state)  # the files below are rendered from it
    store.write_intent(store.Intent(plan.touches, after, tuple(change.place for change in writing)))
    names_written = [change.name for change in writing]
    new_texts = {c.name: c.text for c in writing if c.text is not None and names_written.count(c.name) == 1}
    edits = backend.edits(plan.touches, new_texts) if activate else {}
    restart = [touch for touch in plan.touches if touch.name not in edits]
    if activate and restart:
        backend.before([touch for touch in restart if touch.action in ("down", "reconfigure")])
    failed = _write_files(backend, writing, templates)
    if failed:
        done = [change for change in plan.changes if change.path not in failed]
        after = ledger_after(state.ledger, done)
    problems = {link_id(change.key): failed[change.path] for change in writing if change.path in failed}
    unwritten = {change.name for change in writing if change.path in failed}
    touched = tuple(touch for touch in plan.touches if touch.name not in unwritten)  # the others keep what they had
    if activate:
        not_edited = {name for name, edit in edits.items() if name not in unwritten and not edit()}
        restart += [touch for touch in plan.touches if touch.name in not_edited]
        names = {touch.name for touch in restart}
        # A NIC whose file could not be written comes up with its old configuration.
        changed = frozenset(change.path for change in writing if change.name in names)
        failures = backend.after(restart, changed) if restart else {}
        activated()
        links = {row.name: link_id(row.key) for row in (*state.ledger, *after)}
        for touch in plan.touches:
            if touch.name in failures:
                problems.setdefault(links.get(touch.name, touch.mac), failures[touch.name])
    try:
        # Only now, so that the NICs are up earlier by some disk writes. Until then the intent holds the same rows.
        store.save(state._replace(ledger=after))
        store.clear_intent()
    except OSError as exc:
        # The next run derives the ledger from the intent and the files on disk.
        LOG.error("ledger not written, the intent is kept: error=%s", exc)
    return Outcome(after, problems, touched if activate else ())


def recover(state: store.State, backend: Backend) -> Tuple[store.State, Tuple[Touch, ...]]:
    """Does what `recovered` does, saves the state and removes the half-written files of the commit.

    The intent is kept until the next commit replaces it. The store must be saved by then.
    """
    intent = store.read_intent()
    if intent is None:
        return state, ()
    for path, _section in intent.places:
        files.remove(files.temporary_of(path))
    state, touches = recovered(state, backend)
    store.save(state)
    return state, touches


def recovered(state: store.State, backend: Backend) -> Tuple[store.State, Tuple[Touch, ...]]:
    """Returns the state after an interrupted commit, and the touches of the NICs that may be partly configured.

    Files are replaced whole, so each part on disk matches either the old or the new row, and that row is kept. If
    neither matches, other software wrote the file in between: the old row is kept, and the part is reported as drifted.
    """
    intent = store.read_intent()
    if intent is not None:
        LOG.warning("a commit was interrupted: nics=%s", ",".join(touch.name for touch in intent.touches))
    return match_disk(state, intent, backend)


def match_disk(
    state: store.State, intent: Optional[store.Intent], backend: Backend
) -> Tuple[store.State, Tuple[Touch, ...]]:
    """Returns the same for this intent; the commit may also be running at this moment.

    The files are written before the NICs come up and the ledger after. A reader without the lock may therefore see new
    files with old rows.
    """
    if intent is None:
        return state, ()
    disk = disk_parts(backend, intent.places)
    rows = {row.place: row for row in state.ledger}
    new = {row.place: row for row in intent.ledger}
    for place in intent.places:
        on_disk = disk.get(place)
        if place in new and on_disk == new[place].disk:
            rows[place] = new[place]
        elif place not in new and on_disk is None:
            rows.pop(place, None)
    return state._replace(ledger=tuple(sorted(rows.values()))), intent.touches
