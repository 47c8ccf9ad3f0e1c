# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Entries that were rolled back: what is used instead, for how long, and why. Pure.

A rejection holds for one content of one entry. It ends when the cloud changes the entry. It also
expires after some time for another attempt; this time is doubled after each failure. That of an
operator (`rollback`) does not expire.
"""

import time
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from . import digest, encoding
from .network_data import Entry, entry_from_json, entry_to_json
from .truth import KeyTruth, Truth, needs_search, needs_services

LONGEST_SECONDS = 86400.0
# Of an operator: what is used instead is an entry or nothing; or parts of other software, which are left alone.
LASTING, LASTING_FOREIGN = 1, 2
FIRST = ("key", "digest", "since", "seconds", "times", "reason", "old", "services")  # the fields of 0.1.0


class Rejection(NamedTuple):
    key: str
    digest: str  # of the content that was rejected
    since: float  # seconds since the epoch
    seconds: float
    times: int
    reason: str
    old: Optional[Entry]  # the entry that is used instead; None: none, or not known
    services: Tuple[str, ...]  # its global DNS
    search: Tuple[str, ...] = ()  # and search domains
    lasting: int = 0  # LASTING or LASTING_FOREIGN if it does not expire

    def holds(self, now: Optional[float]) -> bool:
        """True at any `now` before it expires, and for None. A clock that was set back does not extend it."""
        return bool(self.lasting) or now is None or 0 <= now - self.since < self.seconds

    @property
    def until(self) -> str:
        return local_time(self.since + self.seconds) or "another edit"

    def __str__(self) -> str:
        if self.lasting:
            return self.reason
        return "rejected until %s, because %s" % (self.until, self.reason)


Rejections = Tuple[Rejection, ...]


def local_time(when: float) -> str:
    """Returns a time for people, in the server's time zone; empty if it is none, from a version that took any."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return ""


def ordered(rejections: Iterable[Rejection]) -> Rejections:
    return tuple(sorted(rejections, key=lambda one: (one.key, one.digest)))


def content(known: KeyTruth) -> str:
    """Returns the digest of an entry, including the global DNS if the entry uses it."""
    dns = known.services if needs_services(known.entry) else ()
    search = known.search if needs_search(known.entry) else ()
    if search:
        return digest.of_value([known.entry.digest, list(dns), list(search)])
    return digest.of_value([known.entry.digest, list(dns)]) if dns else known.entry.digest


def current(known: Truth, rejections: Rejections) -> Rejections:
    """Returns the rejections whose content is still what the cloud wants."""
    return tuple(r for r in rejections if r.key in known.keys and content(known.keys[r.key]) == r.digest)


def in_force(known: Truth, rejections: Rejections, now: Optional[float]) -> Dict[str, Rejection]:
    """Returns by key the rejections that are in force at `now`."""
    return {r.key: r for r in current(known, rejections) if r.holds(now)}


def apply(known: Truth, rejections: Rejections, now: Optional[float]) -> Truth:
    """Returns the truth with each rejected entry replaced by the old one.

    `now` is None if nothing can be verified, as at early boot: no rejection has expired then.
    """
    keys = dict(known.keys)
    for rejection in in_force(known, rejections, now).values():
        if rejection.old is None:
            del keys[rejection.key]
        else:
            keys[rejection.key] = with_entry(keys[rejection.key], rejection.old)._replace(
                services=rejection.services, search=rejection.search
            )
    return known._replace(keys=keys)


def with_entry(known: KeyTruth, entry: Entry) -> KeyTruth:
    """Returns what is known of a key with another entry in force."""
    statements = dict(known.statements, **{known.in_force: known.statement._replace(entry=entry)})
    return known._replace(statements=statements)


def add(
    rejections: Rejections, known: Truth, olds: Mapping[str, Optional[KeyTruth]], reason: str, first: float, now: float
) -> Rejections:
    """Returns the rejections with those of the keys of `olds` added; `first`: the seconds of a first rejection.

    A key whose old entry is what the cloud wants is not rejected any more.
    """
    before = {r.key: r for r in current(known, rejections)}
    new: List[Rejection] = []
    wanted = set()
    for key, old in olds.items():
        digest = content(known.keys[key])
        if old is not None and content(old) == digest:
            wanted.add(key)  # the edit was in another link of the group, or a rollback is rolled back
            continue
        times = before[key].times + 1 if key in before else 1
        seconds = min(first * 2 ** (times - 1), max(first, LONGEST_SECONDS))
        replacement = (old.entry, old.services, old.search) if old else (None, (), ())
        new.append(Rejection(key, digest, now, seconds, times, reason, *replacement))
    replaced = {r.key for r in new} | wanted
    return ordered([r for r in rejections if r.key not in replaced] + new)


def lasting(
    rejections: Rejections,
    known: Truth,
    olds: Mapping[str, Optional[KeyTruth]],
    foreign: FrozenSet[str],
    reason: str,
    now: float,
) -> Rejections:
    """As `add`, for an operator: they do not expire. `foreign`: the keys of links that get parts of other software."""
    added = add((), known, olds, reason, LONGEST_SECONDS, now)
    new = [one._replace(lasting=LASTING_FOREIGN if one.key in foreign else LASTING) for one in added]
    return ordered([one for one in rejections if one.key not in olds] + new)


def only_lasting(rejections: Rejections) -> Rejections:
    return tuple(one for one in rejections if one.lasting)


def seconds_to_retry(known: Truth, rejections: Rejections, now: float) -> Optional[float]:
    """Returns the seconds until the first rejection in force expires, None if none is in force that does."""
    left = [r.since + r.seconds - now for r in in_force(known, rejections, now).values() if not r.lasting]
    return min(left) if left else None


def to_json(rejection: Rejection) -> Dict[str, Any]:
    fields = encoding.write(rejection)
    # 0.1.0 refuses any other field: see store.py for where a new one is stored.
    return dict({name: fields[name] for name in FIRST}, old=entry_to_json(rejection.old) if rejection.old else None)


def from_json(obj: Dict[str, Any], more: Any = None) -> Rejection:
    """The inverse of to_json, with the fields stored beside it.

    Raises KeyError, TypeError, ValueError or OverflowError on a damaged store.
    """
    old = entry_from_json(obj["old"]) if obj["old"] else None
    read = encoding.read(Rejection, obj, more or {}, {"old": old, "services": tuple(obj["services"])})
    read = read._replace(search=tuple(read.search))
    if not all(isinstance(text, str) for text in (read.key, read.digest, read.reason)):
        raise TypeError("not a rejection: %.60r" % (obj,))
    return read._replace(since=float(read.since), seconds=float(read.seconds), times=int(read.times))
