# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Decides for each key which source is in force: pure functions over frozen records.

Sources lag and disagree: a config drive is built once, a metadata worker caches for 15 s, a push is
newer than both. So the entry in force is that of the source whose entry *for that key* changed last,
by a counter. The first statement of a source about a key never replaces an entry in force, except for
a push: it was sent on purpose, so any difference in it is a change. If several sources are read for
the first time, they are read in the order of RANK.
"""

from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from . import bond_keys, digest
from .network_data import DHCP4, DHCP6, Entry, Fault, NetworkData

RANK = ("push", "metadata", "drive")

# Each Nova API worker caches an instance's metadata for 15 s (api.metadata_cache_expiration), so during
# that time the answers for an edited port alternate between old and new.
DOUBT_WITHIN = 30.0
DOUBT_LOOK = 15.0
_SUPERSEDED_KEPT = 4


class Statement(NamedTuple):
    """What one source says about one key; `changed` is the counter's value at its last change."""

    entry: Entry
    changed: int
    listed: bool  # False once the source no longer lists the key
    superseded: Tuple[Tuple[str, float], ...]  # (digest, when it was replaced)
    doubted_since: Optional[float]
    port: str = ""  # the port's id when the entry changed last or was listed again; empty if not known


class KeyTruth(NamedTuple):
    in_force: str  # the source whose entry is used
    statements: Dict[str, Statement]
    services: Tuple[str, ...]  # global DNS, for a key whose networks name none
    search: Tuple[str, ...] = ()  # global search domains, likewise

    @property
    def statement(self) -> Statement:
        return self.statements[self.in_force]

    @property
    def entry(self) -> Entry:
        return self.statement.entry

    @property
    def listed(self) -> bool:
        return any(statement.listed for statement in self.statements.values())

    @property
    def orphaned(self) -> bool:
        """True if no source lists it. The drive, which never changes, counts only if it is the only source."""
        current = [statement for source, statement in self.statements.items() if source != "drive"]
        return not any(statement.listed for statement in current or self.statements.values())

    @property
    def doubted(self) -> bool:
        return any(statement.doubted_since is not None for statement in self.statements.values())


class Truth(NamedTuple):
    counter: int
    keys: Dict[str, KeyTruth]
    services: Dict[str, Tuple[str, Tuple[str, ...]]]  # source -> (digest of its entries, DNS)
    searches: Mapping[str, Tuple[str, ...]] = {}  # source -> its global search domains
    faults: Mapping[str, Tuple[Fault, ...]] = {}  # source -> the errors in its last document

    def faults_of(self, key: str) -> List[Fault]:
        """Returns the errors of a key; those of the drive, which never changes, only while the drive is in force."""
        superseded = key in self.keys and self.keys[key].in_force != "drive"
        counted = [faults for source, faults in sorted(self.faults.items()) if not (superseded and source == "drive")]
        return [fault for faults in counted for fault in faults if fault.key == key]

    def refused(self, key: str) -> str:
        """Returns why a link that a source lists is refused, empty if it is not."""
        return "; ".join(fault.text for fault in self.faults_of(key) if fault.costs)

    def fault_texts(self, source: str) -> Tuple[str, ...]:
        """Returns all errors in a source's last document, for people and logs."""
        return tuple("%s: %s" % (source, fault.text) for fault in self.faults.get(source, ()))


EMPTY = Truth(0, {}, {})


def needs_services(entry: Entry) -> bool:
    """True if the link needs the global DNS: none of its networks has DNS servers, and DHCP cannot bring any."""
    return bool(entry.networks) and not any(net.dns or net.type in DHCP4 or net.type in DHCP6 for net in entry.networks)


def needs_search(entry: Entry) -> bool:
    """True if the link uses the global search domains: none of its networks has any. A lease may add its own."""
    return bool(entry.networks) and not any(net.search for net in entry.networks)


def _updated(statement: Statement, entry: Entry, counter: int, now: float, port: str = "") -> Statement:
    """Returns the statement of a source that repeats it, changes it, or returns to an older content."""
    if entry == statement.entry:
        known = statement.port if statement.listed and statement.port else port
        return statement._replace(listed=True, doubted_since=None, port=known)
    returned = [when for digest, when in statement.superseded if digest == entry.digest]
    if returned and statement.doubted_since is None and 0 <= now - max(returned) < DOUBT_WITHIN:
        return statement._replace(listed=True, doubted_since=now)
    # Already in doubt: the 30 s may end before the second check is due.
    if returned and statement.doubted_since is not None and 0 <= now - statement.doubted_since < DOUBT_LOOK:
        return statement._replace(listed=True)
    superseded = statement.superseded + ((statement.entry.digest, now),)
    return Statement(entry, counter, True, superseded[-_SUPERSEDED_KEPT:], None, port)


class _Observation(NamedTuple):
    """A document, and how it differs from what its source said last."""

    source: str
    data: NetworkData
    now: float
    dns_edited: bool  # the global DNS changed, and nothing else did


def observe(truth: Truth, source: str, data: NetworkData, now: float) -> Truth:
    """Records what `source` says; `now` in seconds since the epoch.

    A key that the document lists with an error is ignored; a key that it does not list keeps the last
    statement, marked as no longer listed.
    """
    data = bond_keys.with_known_keys(data, {key: known.entry for key, known in truth.keys.items()})
    ports = digest.of_value(sorted(entry.digest for entry in data.entries.values()))
    before_ports, before_dns = truth.services.get(source, ("", ()))
    before_search = truth.searches.get(source, ())
    # The global DNS is a union over all ports. If a port is added, changed or removed, it says nothing
    # about the other ports, and a new or edited NIC must not rewrite the files of others.
    another = sorted(before_dns) != sorted(data.services) or sorted(before_search) != sorted(data.search)
    observation = _Observation(source, data, now, before_ports == ports and another)
    referenced = {other for entry in data.entries.values() for other in (entry.parent, *entry.members)}

    counter = truth.counter
    keys = dict(truth.keys)
    for key, entry in data.entries.items():
        known = keys.get(key)
        statement = known.statements.get(source) if known else None
        had = len(statement.entry.networks) if statement else int(key not in referenced)
        if data.unassigned_network and len(entry.networks) < had:
            continue  # the network that seems to be missing may be the one that names no link
        keys[key] = _observed(observation, known, entry, counter)
        counter = max(counter, keys[key].statements[source].changed)

    if not data.unidentified_link:
        for key, known in list(keys.items()):
            statement = known.statements.get(source)
            if statement and statement.listed and key not in data.entries and key not in data.faulted:
                gone = statement._replace(listed=False, doubted_since=None)
                keys[key] = known._replace(statements=dict(known.statements, **{source: gone}))

    services = dict(truth.services, **{source: (ports, data.services)})
    searches = {name: search for name, search in dict(truth.searches, **{source: data.search}).items() if search}
    faults = {name: found for name, found in dict(truth.faults, **{source: data.faults}).items() if found}
    return Truth(counter, keys, services, searches, faults)


def _observed(observation: _Observation, known: Optional[KeyTruth], entry: Entry, counter: int) -> KeyTruth:
    """Returns what is known of a key after an observation; a change has the number after `counter`."""
    source, data = observation.source, observation.data
    port = data.ports.get(entry.key, "")
    first = Statement(entry, 0, True, (), None, port)
    if known is None:
        return KeyTruth(source, {source: first}, data.services, data.search)
    if source == "push":
        return _pushed(data, known, first, counter)
    statement = known.statements.get(source)
    if statement is None:
        return known._replace(statements=dict(known.statements, **{source: first}))
    updated = _updated(statement, entry, counter + 1, observation.now, port)
    changed = updated.changed > counter
    in_force = source if changed else known.in_force
    services, search = known.services, known.search
    if changed or (observation.dns_edited and in_force == source):
        services, search = data.services, data.search
    return KeyTruth(in_force, dict(known.statements, **{source: updated}), services, search)


def _pushed(data: NetworkData, known: KeyTruth, first: Statement, counter: int) -> KeyTruth:
    """Returns what is known of a key after a push: a request, so it is in force at once and never in doubt."""
    services, search = data.services or known.services, data.search or known.search
    if first.entry == known.entry:
        before = known.statements.get("push", first)
        statements = dict(known.statements, push=before._replace(entry=first.entry, listed=True))
        return known._replace(statements=statements, services=services, search=search)
    statements = dict(known.statements, push=first._replace(changed=counter + 1))
    return KeyTruth("push", statements, services, search)


def with_global_dns(truth: Truth, data: NetworkData) -> Truth:
    """Returns the truth with the global DNS of a push for every key, also for those that the push does not list."""
    keys = {
        key: known._replace(services=data.services or known.services, search=data.search or known.search)
        for key, known in truth.keys.items()
    }
    return truth._replace(keys=keys)


def forget(truth: Truth, source: str) -> Truth:
    """Returns the truth without what `source` said; the source with the latest change is in force in its place."""
    keys = {}
    for key, known in truth.keys.items():
        left = {name: statement for name, statement in known.statements.items() if name != source}
        if not left:
            continue
        if known.in_force == source:
            best = latest(left)
            search = truth.searches.get(best, ())
            known = known._replace(in_force=best, services=services_of(truth, best), search=search)
        keys[key] = known._replace(statements=left)
    services, searches, faults = dict(truth.services), dict(truth.searches), dict(truth.faults)
    for of_sources in (services, searches, faults):
        of_sources.pop(source, None)
    return Truth(truth.counter, keys, services, searches, faults)


def latest(statements: Mapping[str, Statement]) -> str:
    """Returns the source whose statement changed last."""
    return min(statements, key=lambda name: (-statements[name].changed, RANK.index(name)))


def by_source(truth: Truth, source: str) -> Truth:
    """Returns the truth as if `source` were the only source."""
    keys = {
        key: known._replace(
            in_force=source, services=services_of(truth, source), search=truth.searches.get(source, ())
        )
        for key, known in truth.keys.items()
        if source in known.statements
    }
    return truth._replace(keys=keys)


def services_of(truth: Truth, source: str) -> Tuple[str, ...]:
    """Returns the global DNS in the last document of `source`."""
    return truth.services.get(source, ("", ()))[1]


def forget_gone(truth: Truth, present: Iterable[str]) -> Truth:
    """Returns the truth without the keys that no source lists and that have no NIC: they are not needed again."""
    here = frozenset(present)
    kept = {key: kt for key, kt in truth.keys.items() if kt.listed or key in here}
    return truth if len(kept) == len(truth.keys) else truth._replace(keys=kept)


def with_nic(truth: Truth, macs: FrozenSet[str]) -> FrozenSet[str]:
    """Returns the keys that can be configured now.

    A physical link needs its MAC, a bond at least one of its members, a VLAN its parent. Bonds and VLANs exist only
    because the cloud lists them: one that no source lists any more is removed, while a NIC keeps its last entry.
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
