# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The persistent state: truth, ledger and intent, bound to the instance id.

On another instance (a snapshot, a golden image) everything is dropped except the ledger, which then only serves to
delete parts whose fingerprint is unchanged.
"""

import json
import logging
import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ..backends import Backend
from ..core import encoding, rejections, truth, truth_on_disk
from ..core.records import Owned, Touch
from ..core.rejections import Rejection
from ..system import files, paths

LOG = logging.getLogger(__name__)
_VERSION = 1
# The fields that 0.1.0 knows: it refuses a record with others.
ROW = ("key", "mac", "name", "backend", "path", "section", "disk", "digest", "plain")
TOUCH = ("action", "mac", "name", "reason")


class State(NamedTuple):
    instance_id: str
    truth: truth.Truth
    ledger: Tuple[Owned, ...]
    answered: str  # MAC of the NIC through which the metadata service answered last
    drive_stamp: str  # identity of the config drive that was read last
    metrics: Mapping[str, int] = {}  # route metric by key; see metrics.py
    rejections: Tuple[Rejection, ...] = ()
    on_trial: str = ""  # the note of pending_confirmation.py: what is committed and not confirmed yet
    unwanted: Mapping[str, Tuple[str, ...]] = {}  # by key: our old addresses; see stale_addresses.py
    run: int = 0  # the number of the last run that changed something
    former: Tuple[str, ...] = ()  # what the last of these runs replaced; see former.py
    changed: Mapping[str, float] = {}  # by source: when its document changed last, in seconds since the epoch
    provisional: str = ""  # a push that is not confirmed yet: see core/provisional.py
    taken_back: str = ""  # why the last such push is not in force any more
    learned: Mapping[str, str] = {}  # current names of bonds by key: see bond_names.py. Not stored

    @property
    def bonds(self) -> Dict[str, str]:
        """The names of bonds by key: ours, and those of bonds that existed before."""
        return dict(self.learned, **{row.key: row.name for row in self.ledger if row.key.endswith("/bond")})


def empty(instance_id: str, ledger: Tuple[Owned, ...] = ()) -> State:
    return State(instance_id, truth.EMPTY, ledger, "", "")


# -- on disk, for this version, older and newer ones ------------------------------------------------
#
# A package may be upgraded and downgraded: each version reads what any other wrote, uses what it knows, and has
# defaults for what is missing. How to add a field:
# - to State: with a default, read by `.get` in _from_json; 0.1.0 ignores what it does not know.
# - to Owned, Rejection, Touch, Change or Item: as the last one, with a default. 0.1.0 refuses a record that has one
#   more, so new fields are stored separately, under "more" (encoding.extra_fields): nothing to do.
# - to Entry and Network: with a default; network_data.entry_from_json converts a list back to a tuple.
# - to KeyTruth and Statement: read by `.get` in truth_on_disk.py.
# A field never gets another meaning: a new meaning is a new field. _VERSION is raised if older versions cannot read the
# store at all; it tells a reader why.


def _to_json(state: State) -> Dict[str, Any]:
    return {
        "version": _VERSION,
        "instance_id": state.instance_id,
        "truth": truth_on_disk.to_json(state.truth),
        "ledger": [dict(zip(ROW, row)) for row in encoding.rows(state.ledger, ROW)],
        "answered": state.answered,
        "drive_stamp": state.drive_stamp,
        "metrics": dict(state.metrics),
        "rejections": [rejections.to_json(one) for one in state.rejections],
        "on_trial": state.on_trial,
        "unwanted": {key: list(addresses) for key, addresses in state.unwanted.items()},
        **{name: value for name, value in _new_fields(state).items() if value},
        "more": {
            "ledger": encoding.extra_fields(state.ledger, ROW),
            "rejections": encoding.extra_fields(state.rejections, rejections.FIRST),
        },
    }


def _new_fields(state: State) -> Dict[str, Any]:
    """Returns the fields that stand in the store only if they have a value."""
    return {
        "run": state.run,
        "former": list(state.former),
        "changed": dict(state.changed),
        "provisional": state.provisional,
        "taken_back": state.taken_back,
    }


def _from_json(obj: Dict[str, Any]) -> State:
    """Returns what can be read of a store. Raises KeyError or TypeError if the instance id or the truth is missing.

    A key that cannot be read is left out with its rows: a row without an entry would count as that of a removed NIC.
    """
    known, lost = truth_on_disk.salvage(obj["truth"])
    if not all(key.endswith("/phy") for key in lost):
        raise TypeError("a bond or a VLAN cannot be read, and others may depend on it: %s" % lost)
    for key, problem in lost.items():
        LOG.error("store: entry left out: key=%s error=%s", key, problem)
    instance_id = obj["instance_id"]
    if not isinstance(instance_id, str):
        raise TypeError("no instance id: %.60r" % (instance_id,))
    more = _object(obj.get("more"))
    ledger = [row for row in _each(read_row, obj.get("ledger"), more.get("ledger"), "row") if row.key not in lost]
    return State(
        instance_id=instance_id,
        truth=known,
        ledger=tuple(ledger),
        answered=_text(obj.get("answered")),
        drive_stamp=_text(obj.get("drive_stamp")),
        metrics={key: metric for key, metric in _object(obj.get("metrics")).items() if isinstance(metric, int)},
        rejections=tuple(_each(rejections.from_json, obj.get("rejections"), more.get("rejections"), "rejection")),
        on_trial=_text(obj.get("on_trial")),
        changed={source: at for source, at in _object(obj.get("changed")).items() if isinstance(at, (int, float))},
        unwanted={
            key: tuple(address for address in addresses if isinstance(address, str))
            for key, addresses in _object(obj.get("unwanted")).items()
            if isinstance(addresses, list)
        },
        run=_number(obj.get("run")),
        former=tuple(text for text in _list(obj.get("former")) if isinstance(text, str)),
        provisional=_text(obj.get("provisional")),
        taken_back=_text(obj.get("taken_back")),
    )


def _each(read: Callable[[Any, Any], Any], listed: Any, more: Any, what: str) -> Iterator[Any]:
    """Yields each record of a list; one that cannot be read is left out."""
    for place, one in enumerate(_list(listed)):
        try:
            yield read(one, encoding.extra_of(more, place))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            LOG.error("store: %s left out: %.200r error=%r", what, one, exc)


def read_row(obj: Any, more: Any) -> Owned:
    """Reads a ledger row, written as an object or (in an intent) as a list."""
    row = encoding.read_row(Owned, ROW, obj, more) if isinstance(obj, list) else encoding.read(Owned, obj, more)
    if not all(isinstance(value, str) for value in row[: len(ROW) - 1]) or not os.path.isabs(row.path):
        raise TypeError("not a ledger row")
    return row


def _object(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def load(instance_id: str) -> State:
    """Returns the state of this instance; an empty one if there is none or it cannot be read."""
    text = files.read(paths.STORE)
    if text is None:
        return empty(instance_id)
    try:
        obj = json.loads(text)
        if isinstance(obj, dict) and obj.get("version") != _VERSION:
            LOG.warning("store of another version, unknown fields ignored: version=%.20r", obj.get("version"))
        state = _from_json(obj)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        # Nothing is deleted because of a store that cannot be read: what is on disk is compared with
        # what would be rendered, and adopted or reported.
        LOG.error("store unreadable, starting with an empty one: file=%s error=%r", paths.STORE, exc)
        return empty(instance_id)
    if state.instance_id != instance_id:
        LOG.warning("store of another instance dropped: was=%s is=%s", state.instance_id, instance_id)
        return empty(instance_id, state.ledger)
    return state


def save(state: State) -> None:
    """Writes the state if it differs from the stored one. The history of another instance is removed."""
    text = json.dumps(_to_json(state), sort_keys=True) + "\n"
    if files.read(paths.STORE) == text:
        return
    there = files.read_json(paths.STORE)
    if isinstance(there, dict) and there.get("instance_id") != state.instance_id:
        files.remove(paths.HISTORY)
    files.replace(paths.STORE, text, mode=0o600)


def stamp() -> Tuple[Tuple[int, ...], ...]:
    """Returns a value that changes with the store and the intent: for readers without the lock."""
    return _stamp(paths.STORE), _stamp(paths.INTENT)


def _stamp(path: str) -> Tuple[int, ...]:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return ()
    return there.st_ino, there.st_mtime_ns, there.st_size


def sweep(backend: Backend) -> None:
    """Removes the half-written files of an interrupted run. The lock is held, so no other run is writing."""
    for directory in (paths.STATE, paths.RUN) + backend.all_directories:
        files.sweep(directory)
    backend.recover()


# -- intent ---------------------------------------------------------------------------------------


class Intent(NamedTuple):
    """The write-ahead log of a commit."""

    touches: Tuple[Touch, ...]
    ledger: Tuple[Owned, ...]  # as it will be after the commit
    places: Tuple[Tuple[str, str], ...]  # the parts that are written or removed


def write_intent(intent: Intent) -> None:
    obj = {
        "touches": encoding.rows(intent.touches, TOUCH),
        "ledger": encoding.rows(intent.ledger, ROW),
        "places": [list(place) for place in intent.places],
        "more": {
            "touches": encoding.extra_fields(intent.touches, TOUCH),
            "ledger": encoding.extra_fields(intent.ledger, ROW),
        },
    }
    files.replace(paths.INTENT, json.dumps(obj) + "\n", mode=0o600)


def read_intent() -> Optional[Intent]:
    obj = files.read_json(paths.INTENT)
    if not isinstance(obj, dict):
        return None
    more = _object(obj.get("more"))
    try:
        return Intent(
            tuple(encoding.read_rows(Touch, TOUCH, obj["touches"], more.get("touches"))),
            tuple(read_row(row, encoding.extra_of(more.get("ledger"), i)) for i, row in enumerate(obj["ledger"])),
            tuple((str(path), str(section)) for path, section in obj["places"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        LOG.error("intent unreadable, ignored: file=%s error=%r", paths.INTENT, exc)
        return None


def clear_intent() -> None:
    files.remove(paths.INTENT)
