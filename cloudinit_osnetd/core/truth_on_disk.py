# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The truth as JSON, for the store: what cannot be read of it costs its own key. Pure."""

from typing import Any, Callable, Dict, Tuple

from . import encoding
from .document_links import Fault
from .entry import entry_from_json, entry_to_json
from .truth import KeyTruth, Statement, Truth


def to_json(truth: Truth) -> Dict[str, Any]:
    return {
        "counter": truth.counter,
        "services": {src: [ks, list(dns)] for src, (ks, dns) in truth.services.items()},
        "searches": {src: list(search) for src, search in truth.searches.items()},
        "faults": {src: [encoding.write(fault) for fault in faults] for src, faults in truth.faults.items()},
        "keys": {
            key: {
                "in_force": kt.in_force,
                "services": list(kt.services),
                **({"search": list(kt.search)} if kt.search else {}),
                "words": {
                    source: {
                        "entry": entry_to_json(statement.entry),
                        "changed": statement.changed,
                        "listed": statement.listed,
                        "superseded": [list(item) for item in statement.superseded],
                        "doubted_since": statement.doubted_since,
                        **({"port": statement.port} if statement.port else {}),
                    }
                    for source, statement in kt.statements.items()
                },
            }
            for key, kt in truth.keys.items()
        },
    }


def from_json(obj: Dict[str, Any]) -> Truth:
    """The inverse of to_json; raises KeyError or TypeError if any part of it cannot be read."""
    truth, lost = salvage(obj)
    if lost:
        raise KeyError(lost)
    return truth


def salvage(obj: Dict[str, Any]) -> Tuple[Truth, Dict[str, str]]:
    """Returns the readable part of a truth, and the errors by key for the keys that are left out.

    Raises KeyError or TypeError if there are no keys at all.
    """
    keys, lost = {}, {}
    for key, raw in _dict(obj["keys"]).items():
        try:
            keys[key] = _key_from_json(key, raw)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            lost[key] = repr(exc)
    services = {}
    for source, stored in _dict(obj.get("services", {})).items():
        try:
            entries, dns = stored
            services[source] = (str(entries), tuple(str(address) for address in dns))
        except (TypeError, ValueError):
            continue  # the same as no DNS so far
    counts = [statement.changed for known in keys.values() for statement in known.statements.values()]
    if _is_number(obj.get("counter")):
        counts.append(int(obj["counter"]))
    searches, faults = _lists(obj.get("searches"), str), _lists(obj.get("faults"), _fault_from_json)
    return Truth(max(counts, default=0), keys, services, searches, faults), lost


def _lists(raw: Any, read: Callable[[Any], Any]) -> Dict[str, Tuple[Any, ...]]:
    """Returns the lists by source; a list that cannot be read is left out, as from a version that did not store it."""
    found = {}
    for source, items in (raw if isinstance(raw, dict) else {}).items():
        try:
            found[source] = tuple(read(one) for one in (items if isinstance(items, list) else ()))
        except (TypeError, ValueError):
            continue
    return {source: items for source, items in found.items() if items}


def _fault_from_json(raw: Any) -> Fault:
    return encoding.read(Fault, raw)


def _key_from_json(key: str, raw: Dict[str, Any]) -> KeyTruth:
    statements = {
        source: Statement(
            entry=entry_from_json(stored["entry"]),
            changed=_number(stored["changed"]),
            listed=bool(stored["listed"]),
            superseded=tuple((str(digest), float(when)) for digest, when in stored.get("superseded", ())),
            doubted_since=None if stored.get("doubted_since") is None else float(stored["doubted_since"]),
            port=str(stored.get("port", "")),
        )
        for source, stored in raw["words"].items()
    }
    dns, search = raw["services"], raw.get("search", ())
    known = KeyTruth(raw["in_force"], statements, tuple(map(str, dns)), tuple(map(str, search)))
    if known.entry.key != key:
        raise KeyError(key)
    return known


def _dict(value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object: %.60r" % (value,))
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> int:
    if not _is_number(value):
        raise TypeError("not a number: %.60r" % (value,))
    return int(value)
