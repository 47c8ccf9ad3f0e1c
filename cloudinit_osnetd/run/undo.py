# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`rollback [RUN]`: the NICs back as they were before a run.

What a link had then stands in for what the cloud says now, until the cloud says something else: a rejection without a
time (core/rejections.py). So the plan, the check of what is reachable, early boot and the ladder treat it as any other.
"""

import time
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from ..backends import Backend
from ..core import plan, rejections
from ..core.plan import Change, Plan
from ..core.records import Nic, Owned, Touch
from ..core.truth import KeyTruth
from ..planning import render
from ..state import store
from ..state.former import Former, read


class NothingToUndo(Exception):
    """No run is kept that could be rolled back."""


class NotKept(Exception):
    """What that run replaced is not kept any more."""


class NoSuchRun(Exception):
    """There was no such run yet."""


class Undone(NamedTuple):
    state: store.State
    parts: Dict[str, Former]  # by key: links that had parts of other software
    left: Tuple[str, ...]  # what cannot be rolled back, for people


def number_of(state: store.State, asked: Optional[int], provisional: int) -> int:
    """Returns the number of the run to roll back; `provisional` is the run of an unconfirmed push, 0 without one."""
    kept = [one.run for one in map(read, state.former) if one is not None]
    last = max([*kept, provisional])
    if not last:
        raise NothingToUndo("nothing to roll back: no run has changed anything on this instance yet")
    if asked is None:
        return last
    if asked > max(last, state.run) or asked < 1:
        raise NoSuchRun("no run %d: the last one was run %d" % (asked, max(last, state.run)))
    if asked < min([*kept, provisional or last]):
        raise NotKept("too late: what was there before run %d is not kept any more" % asked)
    return asked


def undone(state: store.State, number: int, own: int) -> Undone:
    """Returns the state in which the links are as they were before run `number`; `own` is the number of this run."""
    links: Dict[str, Former] = {}
    for one in filter(None, map(read, state.former)):
        if number <= one.run and one.run != own:
            for key, link in one.links.items():
                links.setdefault(key, link)
    olds: Dict[str, Optional[KeyTruth]] = {}
    parts: Dict[str, Former] = {}
    left: List[str] = []
    for key, link in links.items():
        known = state.truth.keys.get(key)
        if known is None:
            left.append("%s (%s) is not rolled back: no source lists it any more" % (link.name, link.mac))
            continue
        if link.parts:
            parts[key] = link
        old = rejections.with_entry(known, link.entry) if link.entry is not None else None
        olds[key] = None if old is None else old._replace(services=link.services, search=link.search)
    reason = "rolled back: as before run %d, until its port changes or is pushed again" % number
    refused = rejections.lasting(state.rejections, state.truth, olds, frozenset(parts), reason, time.time())
    return Undone(state._replace(rejections=refused), parts, tuple(left))


def reclaimed(before: store.State, done: store.State, backend: Backend, nics: Mapping[str, Nic]) -> store.State:
    """Returns the state `done` with rows for the parts that an earlier rollback put back and that this one replaces.

    They are other software's, and have no row: without one they would be left alone. One that was edited since is.
    """
    keys = _with_foreign_parts(before) - _with_foreign_parts(done)
    keys = frozenset(key for key in keys if not key.endswith("/phy") or done.truth.keys[key].entry.mac in nics)
    rows: Dict[Tuple[str, str], Owned] = {}
    for one in filter(None, map(read, done.former)):
        for key, link in one.links.items():
            if key in keys:
                texts = {(path, section): text for path, section, text in link.parts}
                now, disk = render.disk_texts(backend, list(texts)), render.disk_parts(backend, list(texts))
                if texts and now == texts:
                    owned = {at: Owned(key, link.mac, link.name, backend.name, *at, disk[at], "") for at in texts}
                    rows.update(owned)
    have = {row.place for row in done.ledger}
    new = [row for place, row in rows.items() if place not in have]
    return done._replace(ledger=tuple(sorted([*done.ledger, *new])))


def _with_foreign_parts(state: store.State) -> FrozenSet[str]:
    """Returns the keys of links that a rollback has given parts of other software."""
    current = rejections.current(state.truth, state.rejections)
    return frozenset(one.key for one in current if one.lasting == rejections.LASTING_FOREIGN)


def with_parts(made: Plan, backend: Backend, ledger: Tuple[Owned, ...], parts: Dict[str, Former]) -> Plan:
    """Returns the plan that also puts back the parts of other software; a link whose part was edited since is left.

    The reason of what it changes is the rollback.
    """
    disk = render.disk_parts(backend, [row.place for row in ledger if row.key in parts])
    changes = [one._replace(reason="rollback") if one.reason == plan.EDITED else one for one in made.changes]
    touches = [one._replace(reason="rollback") if one.reason == plan.EDITED else one for one in made.touches]
    for key, link in parts.items():
        rows = [row for row in ledger if row.key == key]
        if not rows or any(disk.get(row.place) != row.disk for row in rows):
            continue
        texts = {(path, section): text for path, section, text in link.parts}
        places = sorted({*texts, *(row.place for row in rows)})
        for path, section in places:
            text = texts.get((path, section))
            action = "remove" if text is None else "write"
            changes.append(Change(action, key, link.mac, link.name, path, section, text, None, "rollback"))
        touches.append(Touch("reconfigure", link.mac, link.name, "rollback"))
    return made._replace(changes=tuple(changes), touches=tuple(touches))
