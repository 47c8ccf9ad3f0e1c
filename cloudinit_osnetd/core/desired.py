# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is desired: the truth of every key that has a NIC, without the links that the operator ignores.

Links that depend on each other (a bond and its members, a VLAN and its parent) form one Want; every
other NIC has its own, so that an error or an edit affects that NIC alone.
"""

from typing import AbstractSet, Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import digest, metrics
from .network_data import Entry, Route, entry_to_json, link_id, static_addresses, takes_default, used_servers
from .records import Nic
from .truth import Truth, needs_search, needs_services, with_nic

_LONGEST_NAME = 15  # linux/if.h: IFNAMSIZ, less the end of the string


class Item(NamedTuple):
    key: str
    entry: Entry
    name: str  # the kernel's current name; a bond's is assigned here, a VLAN's is derived from its parent's
    dns: Tuple[str, ...]  # global DNS servers for this link
    metric: int = metrics.PRIMARY  # of its routes
    search: Tuple[str, ...] = ()  # global search domains for this link
    own: Tuple[str, ...] = ()  # next hops that are this server's own addresses: their routes are left out
    notes: Tuple[str, ...] = ()  # deviations from the document, for people

    @property
    def link(self) -> str:
        return link_id(self.key)

    @property
    def all_dns(self) -> Tuple[str, ...]:
        """The DNS servers of its networks, then the global ones; each once."""
        return tuple(dict.fromkeys([server for net in self.entry.networks for server in net.servers] + list(self.dns)))

    @property
    def all_search(self) -> Tuple[str, ...]:
        """The search domains of its networks, then the global ones; each once."""
        return tuple(dict.fromkeys([one for net in self.entry.networks for one in net.search] + list(self.search)))


def wanted_metric(item: Item, route: Route) -> Optional[int]:
    """Returns the metric of a route, None if the backend chooses it."""
    return route.metric if route.metric is not None else item.metric or None


class Want(NamedTuple):
    """Links to configure together. `digest` changes if and only if their files may change."""

    items: Tuple[Item, ...]
    digest: str

    @property
    def keys(self) -> FrozenSet[str]:
        return frozenset(item.key for item in self.items)


def with_dependents(wants: Sequence[Want], names: AbstractSet[str]) -> FrozenSet[str]:
    """Returns these NICs, the VLANs on them, the members of bonds among them, and what depends on those."""
    found = set(names)
    for items in (want.items for want in wants):
        while True:
            keys = {item.key for item in items if item.name in found}
            members = {key for item in items if item.name in found for key in item.entry.members}
            new = {item.name for item in items if item.entry.parent in keys or item.key in members} - found
            if not new:
                break
            found |= new
    return frozenset(found)


def _groups(keys: FrozenSet[str], truth: Truth) -> List[List[str]]:
    """Returns the keys in groups of links that depend on each other, in a stable order."""
    group_of = {key: {key} for key in keys}
    for key in sorted(keys):
        entry = truth.keys[key].entry
        for other in (entry.parent,) + entry.members:
            if other in group_of and group_of[other] is not group_of[key]:
                merged = group_of[key] | group_of[other]
                for member in merged:
                    group_of[member] = merged
    seen = {id(group): group for group in group_of.values()}
    order = {"phy": 0, "bond": 1, "vlan": 2}
    return sorted(sorted(group, key=lambda key: (order[truth.keys[key].entry.kind], key)) for group in seen.values())


def _bond_names(keys: Iterable[str], known: Dict[str, str]) -> Dict[str, str]:
    """Returns a name for each bond: the one it has, or else the lowest free `bondN`."""
    names = {key: known[key] for key in keys if key in known}
    taken = set(names.values())
    for key in sorted(set(keys) - set(names)):
        number = 0
        while "bond%d" % number in taken:
            number += 1
        names[key] = "bond%d" % number
        taken.add(names[key])
    return names


def names_of_bonds(
    bonds: Mapping[str, str], truth: Truth, nics: Mapping[str, Nic], from_document: bool
) -> Dict[str, str]:
    """Returns the names of bonds by key: those they have, and those in the document (if cloud-init uses these)."""
    names = dict(bonds)
    taken = {*names.values(), *(nic.name for nic in nics.values())}
    for key in sorted(truth.keys) if from_document else ():
        name = truth.keys[key].entry.name
        if name and key not in names and name not in taken:
            names[key] = name
            taken.add(name)
    return names


def _vlan_name(parent: str, vlan_id: int) -> str:
    """Returns cloud-init's name of a VLAN. If it is too long for the kernel (IFNAMSIZ), the end of the parent's name is
    replaced by digits of a digest, so the name is always the same."""
    name = "%s.%d" % (parent, vlan_id)
    if len(name) <= _LONGEST_NAME:
        return name
    kept = _LONGEST_NAME - len(".%d" % vlan_id) - 4
    return "%s%s.%d" % (parent[:kept], digest.of_text(parent)[:4], vlan_id)


def _notes(entry: Entry, names: Mapping[str, str], key: str) -> Tuple[str, ...]:
    if entry.kind != "vlan" or entry.parent not in names:
        return ()
    usual = "%s.%d" % (names[entry.parent], entry.vlan_id or 0)
    if names[key] == usual:
        return ()
    return ("it is called %s: %s is longer than the kernel takes (%d)" % (names[key], usual, _LONGEST_NAME),)


def _own_hops(entry: Entry, addresses: FrozenSet[str]) -> Tuple[str, ...]:
    hops = {route.gateway for net in entry.networks for route in net.routes}
    return tuple(sorted(hops & addresses))


def _trim(entry: Entry, keys: FrozenSet[str]) -> Entry:
    """Returns a bond's entry without the members that have no NIC."""
    return entry._replace(members=tuple(m for m in entry.members if m in keys))


def unmanaged(
    truth: Truth, nics: Dict[str, Nic], ignored: FrozenSet[str], bonds: Optional[Dict[str, str]] = None
) -> FrozenSet[str]:
    """Returns the keys that the operator leaves to other software: by MAC, by name, or by a link that they depend on.

    A bond includes its members, because the software that sets up the bond takes them too.
    """
    if not ignored:
        return frozenset()
    names = _names(truth, nics, with_nic(truth, frozenset(nics)), bonds or {})
    left = {key for key, known in truth.keys.items() if known.entry.mac in ignored or names.get(key) in ignored}
    for key in [key for key in left if truth.keys[key].entry.kind == "bond"]:
        left |= set(truth.keys[key].entry.members)
    return frozenset(left | {key for key, known in truth.keys.items() if known.entry.parent in left})


def configurable(
    truth: Truth,
    nics: Dict[str, Nic],
    ignored: FrozenSet[str] = frozenset(),
    bonds: Optional[Dict[str, str]] = None,
) -> FrozenSet[str]:
    """Returns the keys that have a NIC (`nics` is by MAC) and are managed."""
    macs = frozenset(mac for mac, nic in nics.items() if not nic.is_one_of(ignored))
    return with_nic(truth, macs) - unmanaged(truth, nics, ignored, bonds)


def _names(truth: Truth, nics: Dict[str, Nic], keys: FrozenSet[str], bonds: Dict[str, str]) -> Dict[str, str]:
    """Returns by key the kernel's name of a NIC, the name of a bond, and that of a VLAN, derived from its parent's."""
    entries = {key: truth.keys[key].entry for key in keys}
    names = _bond_names([key for key, entry in entries.items() if entry.kind == "bond"], bonds)
    names.update({key: nics[entry.mac].name for key, entry in entries.items() if entry.kind == "phy"})
    for key, entry in entries.items():
        if entry.kind == "vlan" and entry.parent in names:
            names[key] = _vlan_name(names[entry.parent], entry.vlan_id or 0)
    return names


def assign_metrics(
    truth: Truth,
    keys: FrozenSet[str],
    known: Mapping[str, int],
    configured: FrozenSet[str],
    ignored: FrozenSet[str] = frozenset(),
    default_routes: Sequence[str] = (),
) -> Dict[str, int]:
    """Returns the metrics of `keys` and of all other keys of the truth; `configured` keys keep theirs.

    `ignored` has the MACs of the present NICs that are not managed. `default_routes` has the MACs of the
    NICs that have a default route now, best first. The best one stays the primary, even if it is ignored.
    """
    entries = {key: one.entry for key, one in truth.keys.items()}
    new = [key for key in truth.keys if (key in keys and key not in configured) or entries[key].mac in ignored]
    order = {mac: number for number, mac in enumerate(default_routes)}
    # The sort is stable: otherwise the oldest key is first, as in the truth.
    new.sort(key=lambda key: (order.get(entries[key].mac, len(order)), not takes_default(entries[key])))
    kept = {key: metric for key, metric in known.items() if key in truth.keys}
    first = entries[new[0]] if new else None
    best = default_routes[0] if default_routes else first.mac if first and takes_default(first) else ""
    return metrics.assign(kept, keys & configured, [key for key in new if key in keys], best in ignored)


def _content(item: Item) -> List[Any]:
    """Returns what its files depend on. Rare fields are left out if empty, so that digests in ledgers stay valid."""
    content: List[Any] = [item.key, entry_to_json(item.entry.canonical), item.name, list(item.dns), item.metric]
    return content + [{"search": item.search, "own": item.own}] if item.search or item.own else content


def desired(
    truth: Truth,
    nics: Dict[str, Nic],
    ignored: FrozenSet[str] = frozenset(),
    bonds: Optional[Dict[str, str]] = None,
    given: Optional[Mapping[str, int]] = None,
) -> List[Want]:
    """Returns what each NIC should have.

    `nics` is by MAC; `ignored` has MACs and names; `bonds` has the names of bonds and `given` the metrics
    of links, both by key.
    """
    keys = configurable(truth, nics, ignored, bonds)
    names = _names(truth, nics, keys, bonds or {})
    addresses = frozenset(
        cidr.partition("/")[0] for key in keys for cidr in static_addresses(truth.keys[key].entry)
    )
    wants = []
    for group in _groups(keys, truth):
        items: List[Item] = []
        for key in group:
            known = truth.keys[key]
            entry = _trim(known.entry, keys)
            dns = used_servers(known.services) if needs_services(entry) else ()
            metric = (given or {}).get(key, metrics.PRIMARY)
            search = known.search if needs_search(entry) else ()
            own = _own_hops(entry, addresses)
            items.append(Item(key, entry, names[key], dns, metric, search, own, _notes(entry, names, key)))
        wants.append(Want(tuple(items), digest.of_value([_content(item) for item in items])))
    return wants
