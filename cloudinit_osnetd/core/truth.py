# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Which source is believed, per key: pure functions over frozen records.

Sources lag and disagree: a config drive is built once, a metadata worker caches for 15 s, a push
knows more than both. So the entry in force is that of the source whose entry *for that key*
changed last, by a counter. A source's first word on a key never beats an entry in force, but for a
push: somebody sent it, so what differs in it is a change. Where several sources speak for the first
time, RANK is the order in which they are heard.
"""

from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from . import bond_keys, digest, encoding
from .network_data import DHCP4, DHCP6, Entry, Fault, NetworkData, entry_from_json, entry_to_json

RANK = ("push", "metadata", "drive")

# Each Nova API worker keeps an instance's metadata for 15 s (api.metadata_cache_expiration), so
# for that long an edited port is answered old and new in turn.
DOUBT_WITHIN = 30.0
DOUBT_LOOK = 15.0
_SUPERSEDED_KEPT = 4


class Word(NamedTuple):
    """What one source says of one key; `changed` is the counter's value when it last changed."""

    entry: Entry
    changed: int
    listed: bool  # False once the source no longer lists the key
    superseded: Tuple[Tuple[str, float], ...]  # (digest, when it was replaced)
    doubted_since: Optional[float]


class KeyTruth(NamedTuple):
    in_force: str  # the source that is believed
    words: Dict[str, Word]
    services: Tuple[str, ...]  # global DNS, for a key whose networks name none
    search: Tuple[str, ...] = ()  # global search domains, likewise

    @property
    def word(self) -> Word:
        return self.words[self.in_force]

    @property
    def entry(self) -> Entry:
        return self.word.entry

    @property
    def listed(self) -> bool:
        return any(word.listed for word in self.words.values())

    @property
    def orphaned(self) -> bool:
        """True where everybody who could know has dropped it: a drive says what was, for ever."""
        live = [word for source, word in self.words.items() if source != "drive"]
        return not any(word.listed for word in live or self.words.values())

    @property
    def doubted(self) -> bool:
        return any(word.doubted_since is not None for word in self.words.values())


class Truth(NamedTuple):
    counter: int
    keys: Dict[str, KeyTruth]
    services: Dict[str, Tuple[str, Tuple[str, ...]]]  # source -> (digest of its entries, DNS)
    searches: Mapping[str, Tuple[str, ...]] = {}  # source -> its global search domains
    faults: Mapping[str, Tuple[Fault, ...]] = {}  # source -> what is wrong with what it said last

    def faults_of(self, key: str) -> List[Fault]:
        """What is wrong with what the sources say of a key. A drive says for ever what was, whoever knows better."""
        better = key in self.keys and self.keys[key].in_force != "drive"
        heard = [said for source, said in sorted(self.faults.items()) if not (better and source == "drive")]
        return [fault for said in heard for fault in said if fault.key == key]

    def refused(self, key: str) -> str:
        """Why a link that a source lists is not heeded, empty where none is."""
        return "; ".join(fault.text for fault in self.faults_of(key) if fault.costs)

    def fault_texts(self, source: str) -> Tuple[str, ...]:
        """For people and logs: all that is wrong with what a source said last."""
        return tuple("%s: %s" % (source, fault.text) for fault in self.faults.get(source, ()))


EMPTY = Truth(0, {}, {})


def needs_services(entry: Entry) -> bool:
    """True where the global DNS has to serve: no network of the link brings any of its own."""
    return bool(entry.networks) and not any(net.dns or net.type in DHCP4 or net.type in DHCP6 for net in entry.networks)


def needs_search(entry: Entry) -> bool:
    """True where the global search domains serve it: no network of the link names any. A lease's stand beside them."""
    return bool(entry.networks) and not any(net.search for net in entry.networks)


def _hear(word: Word, entry: Entry, counter: int, now: float) -> Word:
    """The word of a source that repeats itself, changes, or goes back to an older content."""
    if entry == word.entry:
        return word._replace(listed=True, doubted_since=None)
    back_to = [when for digest, when in word.superseded if digest == entry.digest]
    if back_to and word.doubted_since is None and 0 <= now - max(back_to) < DOUBT_WITHIN:
        return word._replace(listed=True, doubted_since=now)
    # Doubted already: the 30 s may run out before the second look is due.
    if back_to and word.doubted_since is not None and 0 <= now - word.doubted_since < DOUBT_LOOK:
        return word._replace(listed=True)
    superseded = word.superseded + ((word.entry.digest, now),)
    return Word(entry, counter, True, superseded[-_SUPERSEDED_KEPT:], None)


def observe(truth: Truth, source: str, data: NetworkData, now: float) -> Truth:
    """Take in what `source` says; `now` in seconds since the epoch.

    A key that the document lists but gets wrong is not heard at all; a key that it does not list
    keeps its last word, marked as no longer listed.
    """
    data = bond_keys.with_known_keys(data, {key: known.entry for key, known in truth.keys.items()})
    counter = truth.counter
    keys = dict(truth.keys)
    ports = digest.of_value(sorted(entry.digest for entry in data.entries.values()))
    before_ports, before_dns = truth.services.get(source, ("", ()))
    before_search = truth.searches.get(source, ())
    # The global DNS is a union over all ports: when any port comes, changes or goes it says nothing
    # of the others, and one NIC's arrival or edit must not rewrite another's file.
    another = sorted(before_dns) != sorted(data.services) or sorted(before_search) != sorted(data.search)
    dns_edited = before_ports == ports and another

    leaned_on = {other for entry in data.entries.values() for other in (entry.parent, *entry.members)}

    for key, entry in data.entries.items():
        known = keys.get(key)
        word = known.words.get(source) if known else None
        had = len(word.entry.networks) if word else int(key not in leaned_on)
        if data.unassigned_network and len(entry.networks) < had:
            continue  # what it seems to have lost, or to lack, may be the network that names no link
        if known is None:
            keys[key] = KeyTruth(source, {source: Word(entry, 0, True, (), None)}, data.services, data.search)
            continue
        if word is None and source == "push" and entry != known.entry:
            counter += 1
            words = dict(known.words, push=Word(entry, counter, True, (), None))
            keys[key] = KeyTruth("push", words, data.services, data.search)
            continue
        if word is None:
            keys[key] = known._replace(words=dict(known.words, **{source: Word(entry, 0, True, (), None)}))
            continue
        heard = _hear(word, entry, counter + 1, now)
        changed = heard.changed == counter + 1
        counter += changed
        in_force = source if changed else known.in_force
        serves = (known.services, known.search)
        if changed or (dns_edited and in_force == source):
            serves = (data.services, data.search)
        if heard != word or serves != (known.services, known.search) or in_force != known.in_force:
            keys[key] = KeyTruth(in_force, dict(known.words, **{source: heard}), *serves)

    if not data.unidentified_link:
        for key, known in list(keys.items()):
            word = known.words.get(source)
            if word and word.listed and key not in data.entries and key not in data.faulted:
                gone = word._replace(listed=False, doubted_since=None)
                keys[key] = known._replace(words=dict(known.words, **{source: gone}))

    services = dict(truth.services, **{source: (ports, data.services)})
    searches = {name: said for name, said in dict(truth.searches, **{source: data.search}).items() if said}
    faults = {name: told for name, told in dict(truth.faults, **{source: data.faults}).items() if told}
    return Truth(counter, keys, services, searches, faults)


def by_source(truth: Truth, source: str) -> Truth:
    """The truth if `source` alone were believed."""
    keys = {
        key: known._replace(
            in_force=source, services=services_of(truth, source), search=truth.searches.get(source, ())
        )
        for key, known in truth.keys.items()
        if source in known.words
    }
    return truth._replace(keys=keys)


def services_of(truth: Truth, source: str) -> Tuple[str, ...]:
    """The global DNS that `source` named last."""
    return truth.services.get(source, ("", ()))[1]


def forget_gone(truth: Truth, present: Iterable[str]) -> Truth:
    """Drop the keys that no source lists and that have no NIC: nothing will ask for them again."""
    here = frozenset(present)
    kept = {key: kt for key, kt in truth.keys.items() if kt.listed or key in here}
    return truth if len(kept) == len(truth.keys) else truth._replace(keys=kept)


def with_nic(truth: Truth, macs: FrozenSet[str]) -> FrozenSet[str]:
    """The keys that can be configured now.

    A physical link by its MAC, a bond when any of its members can be, a VLAN when its parent can. The latter two are
    there by the cloud's word alone: where nobody lists one any more it goes, while a NIC that is here keeps its last
    entry.
    """
    ready = {key for key, kt in truth.keys.items() if kt.entry.kind == "phy" and kt.entry.mac in macs}
    grown = True
    while grown:
        more = {
            key
            for key, kt in truth.keys.items()
            if key not in ready
            and not kt.orphaned
            and (kt.entry.parent in ready or any(m in ready for m in kt.entry.members))
        }
        grown = bool(more)
        ready |= more
    return frozenset(ready)


# -- on disk --------------------------------------------------------------------------------------


def to_json(truth: Truth) -> Dict[str, Any]:
    return {
        "counter": truth.counter,
        "services": {src: [ks, list(dns)] for src, (ks, dns) in truth.services.items()},
        "searches": {src: list(search) for src, search in truth.searches.items()},
        "faults": {src: [encoding.write(fault) for fault in said] for src, said in truth.faults.items()},
        "keys": {
            key: {
                "in_force": kt.in_force,
                "services": list(kt.services),
                **({"search": list(kt.search)} if kt.search else {}),
                "words": {
                    source: {
                        "entry": entry_to_json(word.entry),
                        "changed": word.changed,
                        "listed": word.listed,
                        "superseded": [list(item) for item in word.superseded],
                        "doubted_since": word.doubted_since,
                    }
                    for source, word in kt.words.items()
                },
            }
            for key, kt in truth.keys.items()
        },
    }


def from_json(obj: Dict[str, Any]) -> Truth:
    """The inverse of to_json; raises KeyError or TypeError where anything of it cannot be read."""
    truth, lost = salvage(obj)
    if lost:
        raise KeyError(lost)
    return truth


def salvage(obj: Dict[str, Any]) -> Tuple[Truth, Dict[str, str]]:
    """What can be read of a truth; and, by key, what is wrong with those that cannot, which are left out.

    Raises KeyError or TypeError where there are no keys to be read at all.
    """
    keys, lost = {}, {}
    for key, raw in _dict(obj["keys"]).items():
        try:
            keys[key] = _key_from_json(key, raw)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            lost[key] = repr(exc)
    services = {}
    for source, said in _dict(obj.get("services", {})).items():
        try:
            entries, dns = said
            services[source] = (str(entries), tuple(str(address) for address in dns))
        except (TypeError, ValueError):
            continue  # as if it had named none yet
    counts = [word.changed for known in keys.values() for word in known.words.values()]
    if _is_number(obj.get("counter")):
        counts.append(int(obj["counter"]))
    searches, faults = _lists(obj.get("searches"), str), _lists(obj.get("faults"), _fault_from_json)
    return Truth(max(counts, default=0), keys, services, searches, faults), lost


def _lists(raw: Any, read: Callable[[Any], Any]) -> Dict[str, Tuple[Any, ...]]:
    """What is told of each source; what cannot be read is not told, as by a version that did not keep it."""
    found = {}
    for source, said in (raw if isinstance(raw, dict) else {}).items():
        try:
            found[source] = tuple(read(one) for one in (said if isinstance(said, list) else ()))
        except (TypeError, ValueError):
            continue
    return {source: said for source, said in found.items() if said}


def _fault_from_json(raw: Any) -> Fault:
    return encoding.read(Fault, raw)


def _key_from_json(key: str, raw: Dict[str, Any]) -> KeyTruth:
    words = {
        source: Word(
            entry=entry_from_json(word["entry"]),
            changed=_number(word["changed"]),
            listed=bool(word["listed"]),
            superseded=tuple((str(digest), float(when)) for digest, when in word.get("superseded", ())),
            doubted_since=None if word.get("doubted_since") is None else float(word["doubted_since"]),
        )
        for source, word in raw["words"].items()
    }
    dns, search = raw["services"], raw.get("search", ())
    known = KeyTruth(raw["in_force"], words, tuple(map(str, dns)), tuple(map(str, search)))
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
