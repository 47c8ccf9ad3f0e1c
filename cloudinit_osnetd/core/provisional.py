# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A push that is in force only until it is confirmed (`apply --confirm-within`). Pure.

The store holds it as one text (State.provisional), from before the commit until the confirmation. If that does not come
in time, or the server reboots, what the push said is removed from the truth, and what the other sources said since is
kept.
"""

import json
from typing import AbstractSet, Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple, TypeVar

from . import encoding, rejections, truth_on_disk
from . import truth as truths
from .entry import entry_to_json
from .rejections import Rejection, Rejections
from .truth import KeyTruth, Truth

Value = TypeVar("Value")
_NEVER = 1e15  # seconds that no clock reaches: a push with such a deadline would never be taken back; nor with "nan"
TAKING_BACK = 0.0  # the deadline of one that a run has begun to take back
# Which source is in force for a key, its last change, and the global DNS and search domains: it differs once a source
# has said something new.
Mark = Tuple[str, int, Tuple[str, ...], Tuple[str, ...]]


class Provisional(NamedTuple):
    run: int
    boot: str  # the boot in which it was pushed
    deadline: float  # by the monotonic clock of that boot
    until: float  # the same in seconds since the epoch, for people
    truth: Truth  # before the push
    rejections: Rejections  # before the push
    pushed: Mapping[str, Mark]  # by key, as the push left it
    note: str = ""  # of pending_confirmation.py: what the push replaced on disk
    still: FrozenSet[str] = frozenset()  # the keys whose rejections the push has left in force

    def is_due(self, boot: str, now: float) -> bool:
        """True if it was not confirmed in time; `now` by the monotonic clock."""
        return boot != self.boot or now >= self.deadline

    @property
    def changed(self) -> FrozenSet[str]:
        """The keys for which it is in force."""
        before = marks(self.truth)
        return frozenset(key for key in {*before, *self.pushed} if before.get(key) != self.pushed.get(key))


def mark(known: KeyTruth) -> Mark:
    return known.in_force, known.statement.changed, known.services, known.search


def marks(known: Truth) -> Dict[str, Mark]:
    return {key: mark(one) for key, one in known.keys.items()}


def rejections_before(held: Provisional, known: Truth, rejected: Rejections) -> Rejections:
    """Returns the rejections from before the push without those that ended since, because what was rejected works now.

    The push itself ends those of the links that it lists, and these come back with what was before it.
    """
    now, still_rejected = marks(known), {one.key for one in rejected}
    ended = {key for key in held.still - held.changed - still_rejected if now.get(key) == held.pushed.get(key)}
    return tuple(one for one in held.rejections if one.key not in ended)


def without(held: Provisional, known: Truth, rejected: Rejections) -> Tuple[Truth, Rejections]:
    """Returns the truth and the rejections without the push."""
    keys: Dict[str, KeyTruth] = {}
    as_before = {key for key in held.truth.keys if key not in known.keys and key not in held.pushed}
    for key in as_before:
        keys[key] = held.truth.keys[key]  # it was dropped by `apply --forget`
    for key, now in known.keys.items():
        before = held.truth.keys.get(key)
        unchanged = held.pushed.get(key) == mark(now)
        one = _without_push(now, before, unchanged, known)
        if one is not None:
            keys[key] = one
        if unchanged:
            as_before.add(key)
    left = Truth(
        known.counter,
        keys,
        _globals(held.truth.services, known.services),
        _globals(held.truth.searches, known.searches),
        _globals(held.truth.faults, known.faults),
    )
    return left, _rejections_without(held, left, as_before, rejected)


def _rejections_without(
    held: Provisional, left: Truth, as_before: AbstractSet[str], rejected: Rejections
) -> Rejections:
    """Returns the rejections that belong to `left`, the truth without the push.

    Of a key that is as before, those from before the push. What was rolled back since of an entry that the push did not
    change, by an operator too, stays rolled back.
    """
    during = [one for one in rejections.current(left, rejected) if one.key in as_before]
    before = rejections_before(held, left, rejected)
    kept = [one for one in before if one.key in as_before - {one.key for one in during}]
    return rejections.ordered([*kept, *during, *(one for one in rejected if one.key not in as_before)])


def _without_push(now: KeyTruth, before: Optional[KeyTruth], unchanged: bool, known: Truth) -> Optional[KeyTruth]:
    """Returns what is known of a key without the push; `unchanged`: no source has said anything new since."""
    said = {source: one for source, one in now.statements.items() if source != "push"}
    if before is not None and "push" in before.statements:
        said["push"] = before.statements["push"]
    if unchanged and before is not None:
        return now._replace(in_force=before.in_force, statements=said, services=before.services, search=before.search)
    if now.in_force in said:
        return now._replace(statements=said)
    if not said:
        return None
    best = truths.latest(said)
    search = known.searches.get(best, ())
    return KeyTruth(best, said, truths.services_of(known, best), search)


def _globals(before: Mapping[str, Value], now: Mapping[str, Value]) -> Dict[str, Value]:
    """Returns values by source, that of the push as it was before."""
    others = {source: value for source, value in now.items() if source != "push"}
    return dict(others, push=before["push"]) if "push" in before else others


# -- on disk --------------------------------------------------------------------------------------


def write(held: Provisional) -> str:
    obj = dict(
        held._asdict(),
        truth=truth_on_disk.to_json(held.truth),
        rejections=[_rejection_to_json(one) for one in held.rejections],
        pushed={key: list(one) for key, one in held.pushed.items()},
        still=sorted(held.still),
    )
    return json.dumps(obj, sort_keys=True)


def read(text: str) -> Optional[Provisional]:
    """The inverse of write; None if it cannot be read."""
    try:
        obj = json.loads(text)
        listed: List[Any] = obj["rejections"]
        deadline, until = float(obj["deadline"]), float(obj["until"])
        if not (abs(deadline) < _NEVER and abs(until) < _NEVER):
            return None
        return Provisional(
            int(obj["run"]),
            str(obj["boot"]),
            deadline,
            until,
            truth_on_disk.from_json(obj["truth"]),
            tuple(rejections.from_json(one) for one in listed),
            {
                str(key): (str(source), int(changed), tuple(services), tuple(search))
                for key, (source, changed, services, search) in obj["pushed"].items()
            },
            str(obj["note"]),
            frozenset(map(str, obj.get("still", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _rejection_to_json(one: Rejection) -> Dict[str, Any]:
    return dict(encoding.write(one), old=entry_to_json(one.old) if one.old else None)
