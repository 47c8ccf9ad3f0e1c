# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The note of an unconfirmed change: parts that were committed and not yet checked for lost connectivity.

It is kept in the store from before the commit until the check. So it is as durable as the truth that the parts are
rendered from, needs no write of its own, and is dropped with the instance. If a run is interrupted in between, the next
run reads the note and does the check.
"""

import json
import logging
from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..cloud_init.eligibility import RunContext
from ..core import desired, encoding, network_data, rejections, truth_on_disk
from ..core.desired import Item
from ..core.plan import Change, Place, Plan
from ..core.records import Nic, Owned, Touch
from ..core.truth import KeyTruth, Truth
from ..planning import render
from ..state import store
from . import reachability
from .reachability import Target
from .rollback import Baseline, Unit, is_present

LOG = logging.getLogger(__name__)


class Note(NamedTuple):
    units: Tuple[Unit, ...]
    baseline: Baseline
    rendered_from: Dict[str, KeyTruth]  # by key: what the parts before the commit were rendered from, if known
    contents: Dict[str, str]  # by key: rejections.content of the unconfirmed entry
    since: float  # seconds since the epoch


def write(
    units: Sequence[Unit], baseline: Baseline, rendered_from: Mapping[str, KeyTruth], known: Truth, now: float
) -> str:
    """Returns the note as State.on_trial holds it. `known` is the truth that is committed."""
    keys = frozenset(key for unit in units for key in unit.keys)
    obj = {
        "since": now,
        "units": [_unit_to_json(unit) for unit in units],
        "asked": [[t.key, t.what, list(gateways), baseline.carriers.get(t)] for t, gateways in baseline.asked.items()],
        "stood": truth_on_disk.to_json(Truth(0, {key: one for key, one in rendered_from.items() if key in keys}, {})),
        "contents": {key: rejections.content(known.keys[key]) for key in keys},
    }
    return json.dumps(obj, sort_keys=True)


def read(text: str) -> Optional[Note]:
    """The inverse of write. Returns None, and logs the error, if the note cannot be read."""
    from ..kernel import probe

    try:
        obj = json.loads(text)
        asked = {Target(key, what): tuple(gateways) for key, what, gateways, _carrier in obj["asked"]}
        carriers = {Target(key, what): carrier for key, what, _gateways, carrier in obj["asked"] if carrier is not None}
        for target in asked:
            if not target.key and target.what != reachability.METADATA:
                probe.parse(target.what)
        units = tuple(_unit_from_json(unit) for unit in obj["units"])
        rendered_from = truth_on_disk.from_json(obj["stood"]).keys
        return Note(units, Baseline(asked, carriers), rendered_from, dict(obj["contents"]), float(obj["since"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        LOG.error("the note of an unconfirmed change cannot be read, the change is kept: error=%r", exc)
        return None


def still_pending(note: Note, on: RunContext, state: store.State, nics: Dict[str, Nic]) -> Note:
    """Returns the note with what is still unconfirmed.

    That is the same content, on disk as committed, of a NIC that is present. What another edit of the port, an edit
    of the file or `osnetd: {ignore: ...}` has superseded is left out.
    """
    places = [change.place for unit in note.units for change in unit.back.changes]
    disk = render.disk_parts(on.backend, places)
    named = desired.names_of_bonds(state.bonds, state.truth, nics, on.context.bond_names)
    ours = desired.configurable(state.truth, nics, on.context.settings.ignore, named)
    kept = []
    for unit in note.units:
        same = all(
            key in ours and rejections.content(state.truth.keys[key]) == note.contents.get(key) for key in unit.keys
        )
        if same and is_present(unit, nics) and _committed(unit, state.ledger, disk, on.backend.name):
            kept.append(unit)
        else:
            LOG.info("confirmation dropped, superseded: nics=%s", unit.names)
    keys = {key for unit in kept for key in unit.keys}
    asked = {t: gateways for t, gateways in note.baseline.asked.items() if not t.key or t.key in keys}
    return note._replace(units=tuple(kept), baseline=note.baseline._replace(asked=asked))


def _committed(unit: Unit, ledger: Sequence[Owned], disk: Mapping[Place, str], backend: str) -> bool:
    """True if at least one part of the unit is on disk as committed, and each other one is as it was before.

    An interrupted commit may have written only some of a bond's files, for example.
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
    """Returns the keys whose change is not confirmed yet, for status."""
    note = read(state.on_trial) if state.on_trial else None
    known = state.truth.keys
    contents = note.contents if note else {}
    return frozenset(key for key in contents if key in known and rejections.content(known[key]) == contents[key])


# -- on disk --------------------------------------------------------------------------------------
#
# Lists hold as many values as 0.1.0 knows. Fields that were added since are under "more", as in store.py.

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
        "more": encoding.extra_fields(unit.items, _ITEM),
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
            "changes": encoding.extra_fields(changes, _CHANGE),
            "rows": {
                place: more
                for place, row in enumerate(rows)
                for more in encoding.extra_fields([row] if row is not None else [], store.ROW).values()
            },
            "touches": encoding.extra_fields(made.touches, store.TOUCH),
        },
    }


def _plan_from_json(obj: Mapping[str, Any]) -> Plan:
    more = obj.get("more", {})
    changes = encoding.read_rows(Change, _CHANGE, obj["changes"], more.get("changes"))
    for place, change in enumerate(changes):
        if change.row is not None:
            row = store.read_row(change.row, encoding.extra_of(more.get("rows"), place))
            changes[place] = change._replace(row=row)
    return Plan(tuple(changes), tuple(encoding.read_rows(Touch, store.TOUCH, obj["touches"], more.get("touches"))), ())
