# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The note of what is on trial: parts that were committed, and of which nobody knows yet whether they cut us off.

It is kept in the store from before the commit until the judgement, so that it is as durable as the
truth that the parts are of, costs no write of its own, and goes with the instance. A run that dies
in between leaves it to the next one.
"""

import json
import logging
from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..cloud_init.eligibility import RunContext
from ..core import desired, encoding, network_data, rejections, truth
from ..core.desired import Item
from ..core.plan import Change, Place, Plan
from ..core.records import Nic, Owned, Touch
from ..core.truth import KeyTruth, Truth
from ..planning import render
from ..state import store
from . import reachability
from .reachability import Target
from .rollback import Before, Unit, is_here

LOG = logging.getLogger(__name__)


class Note(NamedTuple):
    units: Tuple[Unit, ...]
    then: Before
    stood: Dict[str, KeyTruth]  # by key: what the parts before were rendered from, where we can tell
    contents: Dict[str, str]  # by key: rejections.content of what is on trial
    since: float  # seconds since the epoch


def write(units: Sequence[Unit], then: Before, stood: Mapping[str, KeyTruth], known: Truth, now: float) -> str:
    """The note as State.on_trial has it; `known` is the truth that the commit is of."""
    keys = frozenset(key for unit in units for key in unit.keys)
    obj = {
        "since": now,
        "units": [_unit_to_json(unit) for unit in units],
        "asked": [[t.key, t.what, list(gateways), then.carriers.get(t)] for t, gateways in then.asked.items()],
        "stood": truth.to_json(Truth(0, {key: one for key, one in stood.items() if key in keys}, {})),
        "contents": {key: rejections.content(known.keys[key]) for key in keys},
    }
    return json.dumps(obj, sort_keys=True)


def read(text: str) -> Optional[Note]:
    """The inverse of write; None, and a line in the log, where it cannot be read."""
    from ..kernel import probe

    try:
        obj = json.loads(text)
        asked = {Target(key, what): tuple(gateways) for key, what, gateways, _carrier in obj["asked"]}
        carriers = {Target(key, what): carrier for key, what, _gateways, carrier in obj["asked"] if carrier is not None}
        for target in asked:
            if not target.key and target.what != reachability.METADATA:
                probe.parse(target.what)
        units = tuple(_unit_from_json(unit) for unit in obj["units"])
        stood = truth.from_json(obj["stood"]).keys
        return Note(units, Before(asked, carriers), stood, dict(obj["contents"]), float(obj["since"]))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        LOG.error("what is on trial cannot be read, it stays as it is: error=%r", exc)
        return None


def still(note: Note, on: RunContext, state: store.State, nics: Dict[str, Nic]) -> Note:
    """What of a note is still on trial: the same content, on disk as it was committed, of a NIC that is here.

    Not, then, what another edit, somebody's editor or `osnetd: {ignore: ...}` has superseded.
    """
    places = [change.place for unit in note.units for change in unit.back.changes]
    disk = render.disk_parts(on.backend, places)
    named = desired.known_bonds(state.bonds, state.truth, nics, on.context.bond_names)
    ours = desired.configurable(state.truth, nics, on.context.settings.ignore, named)
    kept = []
    for unit in note.units:
        same = all(
            key in ours and rejections.content(state.truth.keys[key]) == note.contents.get(key) for key in unit.keys
        )
        if same and is_here(unit, nics) and _committed(unit, state.ledger, disk, on.backend.name):
            kept.append(unit)
        else:
            LOG.info("on trial no more: nics=%s", unit.names)
    keys = {key for unit in kept for key in unit.keys}
    asked = {t: gateways for t, gateways in note.then.asked.items() if not t.key or t.key in keys}
    return note._replace(units=tuple(kept), then=note.then._replace(asked=asked))


def _committed(unit: Unit, ledger: Sequence[Owned], disk: Mapping[Place, str], backend: str) -> bool:
    """True where a part of the unit stands on disk as it was committed, and each other one as it was before.

    A commit that was cut short may have left some of a bond's files, say, and not the others.
    """
    rows = {row.place: row for row in ledger}
    new = {change.place: change.row for change in unit.forward.changes}
    old = {change.place: change.row for change in unit.back.changes}
    any_new = False
    for place, before in old.items():
        row = rows.get(place)
        if disk.get(place) != (row.disk if row else None) or row not in (new[place], before):
            return False
        if row is not None and row.backend != backend:
            return False
        any_new |= row == new[place]
    return any_new


def keys(state: store.State) -> FrozenSet[str]:
    """The keys that are on trial, for status."""
    note = read(state.on_trial) if state.on_trial else None
    known = state.truth.keys
    contents = note.contents if note else {}
    return frozenset(key for key in contents if key in known and rejections.content(known[key]) == contents[key])


# -- on disk --------------------------------------------------------------------------------------
#
# Lists of as many values as 0.1.0 knows; what records have gained since is under "more", as in store.py.

_CHANGE = ("action", "key", "mac", "name", "path", "section", "text", "row", "reason")
_ITEM = ("key", "entry", "name", "dns", "metric")


def _unit_to_json(unit: Unit) -> Dict[str, Any]:
    items = [
        [network_data.entry_to_json(value) if name == "entry" else value for name, value in zip(_ITEM, row)]
        for row in encoding.rows(unit.items, _ITEM)
    ]
    return {
        "items": items,
        "forward": _plan_to_json(unit.forward),
        "back": _plan_to_json(unit.back),
        "more": encoding.beyond(unit.items, _ITEM),
    }


def _unit_from_json(obj: Mapping[str, Any]) -> Unit:
    items = [
        item._replace(
            entry=network_data.entry_from_json(item.entry),  # type: ignore[arg-type]
            dns=tuple(item.dns),
            metric=int(item.metric),
            search=tuple(item.search),
            own=tuple(item.own),
            notes=tuple(item.notes),
        )
        for item in encoding.read_rows(Item, _ITEM, obj["items"], obj.get("more"))
    ]
    return Unit(tuple(items), _plan_from_json(obj["forward"]), _plan_from_json(obj["back"]))


def _plan_to_json(made: Plan) -> Dict[str, Any]:
    rows = [change.row for change in made.changes]
    changes = [change._replace(row=None) for change in made.changes]
    listed = encoding.rows(changes, _CHANGE)
    for fields, row in zip(listed, rows):
        fields[_CHANGE.index("row")] = None if row is None else encoding.rows([row], store.ROW)[0]
    return {
        "changes": listed,
        "touches": encoding.rows(made.touches, store.TOUCH),
        "more": {
            "changes": encoding.beyond(changes, _CHANGE),
            "rows": {
                place: more
                for place, row in enumerate(rows)
                for more in encoding.beyond([row] if row is not None else [], store.ROW).values()
            },
            "touches": encoding.beyond(made.touches, store.TOUCH),
        },
    }


def _plan_from_json(obj: Mapping[str, Any]) -> Plan:
    more = obj.get("more", {})
    changes = encoding.read_rows(Change, _CHANGE, obj["changes"], more.get("changes"))
    for place, change in enumerate(changes):
        if change.row is not None:
            row = store.read_row(change.row, encoding.of_place(more.get("rows"), place))
            changes[place] = change._replace(row=row)
    return Plan(tuple(changes), tuple(encoding.read_rows(Touch, store.TOUCH, obj["touches"], more.get("touches"))), ())
