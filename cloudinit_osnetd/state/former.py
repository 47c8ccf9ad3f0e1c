# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the NICs had before each of the last runs that changed them: for `rollback RUN`.

It is kept in the store (State.former), so it is as durable as the truth, needs no write of its own, and is dropped with
the instance. Each run is one JSON text: a run that has nothing to do reads it as a string. At most RUNS runs are kept,
and of these the newest ones up to BYTES; the last run is kept whatever its size.
"""

import json
import logging
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..core.entry import Entry, entry_from_json, entry_to_json
from ..core.plan import Change, Place
from ..core.truth import KeyTruth

LOG = logging.getLogger(__name__)
RUNS = 20
BYTES = 65536


class Former(NamedTuple):
    """What one link had: an entry, parts of other software, or (without both) nothing."""

    mac: str
    name: str
    entry: Optional[Entry]
    services: Tuple[str, ...] = ()  # global DNS of the entry
    search: Tuple[str, ...] = ()  # and search domains
    parts: Tuple[Tuple[str, str, str], ...] = ()  # path, section and text, where no entry is known


class FormerRun(NamedTuple):
    run: int
    when: float  # seconds since the epoch
    links: Dict[str, Former]  # by key


def number_of(text: str) -> int:
    """Returns the number of a kept run, 0 if it cannot be read."""
    kept = read(text)
    return kept.run if kept else 0


def added(
    kept: Sequence[str],
    run: int,
    now: float,
    changes: Sequence[Change],
    rendered_from: Mapping[str, KeyTruth],
    texts: Mapping[Place, str],
) -> Tuple[str, ...]:
    """Returns `kept` with what these changes replace. To be called before their commit.

    `rendered_from`: by key, what the parts on disk were rendered from, as far as that is known; `texts`: their texts.
    If the run has changed a link already, what it had before that counts.
    """
    before: Dict[str, List[Change]] = {}
    for change in changes:
        if change.action in ("write", "remove"):
            before.setdefault(change.key, []).append(change)
    if not before:
        return tuple(kept)
    links = {key: _former(before[key], rendered_from.get(key), texts) for key in before}
    others = list(kept)
    if others and number_of(others[-1]) == run:
        last = read(others.pop())
        links.update(last.links if last else {})
    return bounded([*others, _text(FormerRun(run, now, links))])


def _former(changes: Sequence[Change], known: Optional[KeyTruth], texts: Mapping[Place, str]) -> Former:
    mac, name = changes[0].mac, changes[0].name
    if known is not None:
        return Former(mac, name, known.entry, known.services, known.search)
    parts = tuple((*change.place, texts[change.place]) for change in changes if change.place in texts)
    return Former(mac, name, None, parts=parts)


def bounded(kept: Sequence[str]) -> Tuple[str, ...]:
    """Returns the newest runs, within RUNS and BYTES."""
    left = BYTES
    newest: List[str] = []
    for text in reversed(kept[-RUNS:]):
        left -= len(text)
        if left < 0 and newest:
            break
        newest.append(text)
    return tuple(reversed(newest))


# -- on disk --------------------------------------------------------------------------------------


def _text(kept: FormerRun) -> str:
    links: Dict[str, Any] = {}
    for key, link in kept.links.items():
        fields = dict(link._asdict(), entry=entry_to_json(link.entry) if link.entry else None)
        links[key] = {name: value for name, value in fields.items() if value}
    return json.dumps({"run": kept.run, "when": round(kept.when, 3), "links": links}, sort_keys=True)


def read(text: str) -> Optional[FormerRun]:
    """Returns a kept run; None, and logs the error, if it cannot be read."""
    try:
        obj = json.loads(text)
        links = {key: _from_json(link) for key, link in obj["links"].items()}
        return FormerRun(int(obj["run"]), float(obj["when"]), links)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        LOG.error("what a run replaced cannot be read: error=%r", exc)
        return None


def _from_json(obj: Mapping[str, Any]) -> Former:
    return Former(
        str(obj["mac"]),
        str(obj.get("name", "")),
        entry_from_json(obj["entry"]) if obj.get("entry") else None,
        tuple(map(str, obj.get("services", ()))),
        tuple(map(str, obj.get("search", ()))),
        tuple((str(path), str(section), str(text)) for path, section, text in obj.get("parts", ())),
    )
