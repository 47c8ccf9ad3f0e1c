# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Entries that were rolled back: what is believed in their stead, for how long, and why. Pure.

A rejection holds for one content of one entry. It is over when the cloud says something else, and
is suspended after a while, ever longer, for another try.
"""

import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from . import digest, encoding
from .network_data import Entry, entry_from_json, entry_to_json
from .truth import KeyTruth, Truth, needs_search, needs_services

LONGEST_SECONDS = 86400.0
FIRST = ("key", "digest", "since", "seconds", "times", "reason", "old", "services")  # the fields of 0.1.0


class Rejection(NamedTuple):
    key: str
    digest: str  # of the content that was rejected
    since: float  # seconds since the epoch
    seconds: float
    times: int
    reason: str
    old: Optional[Entry]  # what stands in its stead; None: nothing, or what we cannot tell
    services: Tuple[str, ...]  # its global DNS
    search: Tuple[str, ...] = ()  # and search domains

    def holds(self, now: Optional[float]) -> bool:
        """`now` None: in any case. A clock that went back is no reason to wait longer."""
        return now is None or 0 <= now - self.since < self.seconds

    @property
    def until(self) -> str:
        try:
            return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since + self.seconds))
        except (OverflowError, ValueError, OSError):  # a store of a version that took any number
            return "another edit"

    def __str__(self) -> str:
        return "rejected until %s, because %s" % (self.until, self.reason)


Rejections = Tuple[Rejection, ...]


def content(known: KeyTruth) -> str:
    """The digest of an entry, and of the global DNS where that has to serve it."""
    dns = known.services if needs_services(known.entry) else ()
    search = known.search if needs_search(known.entry) else ()
    if search:
        return digest.of_value([known.entry.digest, list(dns), list(search)])
    return digest.of_value([known.entry.digest, list(dns)]) if dns else known.entry.digest


def concerning(known: Truth, rejections: Rejections) -> Rejections:
    """Those whose content is still what the cloud wants."""
    return tuple(r for r in rejections if r.key in known.keys and content(known.keys[r.key]) == r.digest)


def holding(known: Truth, rejections: Rejections, now: Optional[float]) -> Dict[str, Rejection]:
    """Those in force, by key."""
    return {r.key: r for r in concerning(known, rejections) if r.holds(now)}


def believed(known: Truth, rejections: Rejections, now: Optional[float]) -> Truth:
    """The truth with the old entry in the place of each one that is rejected.

    `now` is None where nothing can be verified, as at early boot: no rejection is over then.
    """
    keys = dict(known.keys)
    for rejection in holding(known, rejections, now).values():
        if rejection.old is None:
            del keys[rejection.key]
        else:
            keys[rejection.key] = _with_entry(keys[rejection.key], rejection.old)._replace(
                services=rejection.services, search=rejection.search
            )
    return known._replace(keys=keys)


def _with_entry(known: KeyTruth, entry: Entry) -> KeyTruth:
    words = dict(known.words, **{known.in_force: known.word._replace(entry=entry)})
    return known._replace(words=words)


def add(
    rejections: Rejections, known: Truth, olds: Mapping[str, Optional[KeyTruth]], reason: str, first: float, now: float
) -> Rejections:
    """With the entries of the keys of `olds` rejected; `first`: seconds, the first time."""
    before = {r.key: r for r in concerning(known, rejections)}
    new: List[Rejection] = []
    for key, old in olds.items():
        digest = content(known.keys[key])
        if old is not None and content(old) == digest:
            continue  # of this group's links it is another that was edited
        times = before[key].times + 1 if key in before else 1
        seconds = min(first * 2 ** (times - 1), max(first, LONGEST_SECONDS))
        stands = (old.entry, old.services, old.search) if old else (None, (), ())
        new.append(Rejection(key, digest, now, seconds, times, reason, *stands))
    added = {r.key for r in new}
    return tuple(sorted([r for r in rejections if r.key not in added] + new))


def next_try(known: Truth, rejections: Rejections, now: float) -> Optional[float]:
    """Seconds until the first of those in force is over, None where none is."""
    left = [r.since + r.seconds - now for r in holding(known, rejections, now).values()]
    return min(left) if left else None


def to_json(rejection: Rejection) -> Dict[str, Any]:
    said = encoding.write(rejection)
    # 0.1.0 refuses any other field: see store.py for where to keep one that is added.
    return dict({name: said[name] for name in FIRST}, old=entry_to_json(rejection.old) if rejection.old else None)


def from_json(obj: Dict[str, Any], more: Any = None) -> Rejection:
    """The inverse of to_json, with what is kept beside it; raises KeyError or TypeError on a damaged store."""
    old = entry_from_json(obj["old"]) if obj["old"] else None
    read = encoding.read(Rejection, obj, more or {}, {"old": old, "services": tuple(obj["services"])})
    read = read._replace(search=tuple(read.search))
    return read._replace(since=float(read.since), seconds=float(read.seconds), times=int(read.times))
