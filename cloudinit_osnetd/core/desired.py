# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Desired: the truth of every key that has a NIC, less what the operator told us to leave alone.

Links that lean on each other (a bond and its members, a VLAN and its parent) are wanted together;
every other NIC is wanted by itself, so that one NIC's fault or edit is its own.
"""

from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import digest, metrics
from .network_data import Entry, Route, entry_to_json, static_addresses, takes_default
from .records import Nic
from .truth import Truth, needs_search, needs_services, with_nic

_LONGEST_NAME = 15  # linux/if.h: IFNAMSIZ, less the end of the string


class Item(NamedTuple):
    key: str
    entry: Entry
    name: str  # the kernel's name of this moment; a bond's is ours; a VLAN's follows its parent's
    dns: Tuple[str, ...]  # global DNS that serves this link
    metric: int = metrics.PRIMARY  # of its routes
    search: Tuple[str, ...] = ()  # global search domains that serve this link
    own: Tuple[str, ...] = ()  # next hops of its routes that are this server's own addresses: left out
    notes: Tuple[str, ...] = ()  # what is not as the document says it, for people


    @property
    def all_dns(self) -> Tuple[str, ...]:
        """The DNS servers of its networks, or the global ones; each once."""
        return tuple(dict.fromkeys([server for net in self.entry.networks for server in net.dns] + list(self.dns)))

    @property
    def all_search(self) -> Tuple[str, ...]:
        """The search domains of its networks, or the global ones; each once."""
        return tuple(dict.fromkeys([one for net in self.entry.networks for one in net.search] + list(self.search)))


def wanted_metric(item: Item, route: Route) -> Optional[int]:
    """The metric that its route is given, None where the backend chooses."""
    return route.metric if route.metric is not None else item.metric or None


class Want(NamedTuple):
    """Links to configure together. `digest` changes when, and only when, their files may."""

    items: Tuple[Item, ...]
    digest: str

    @property
    def keys(self) -> FrozenSet[str]:
        return frozenset(item.key for item in self.items)


def _groups(keys: FrozenSet[str], truth: Truth) -> List[List[str]]:
    """The keys in connected groups, in a stable order."""
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
    """A name for each bond: the one it has, else the lowest free `bondN`."""
    names = {key: known[key] for key in keys if key in known}
    taken = set(names.values())
    for key in sorted(set(keys) - set(names)):
        number = 0
        while "bond%d" % number in taken:
            number += 1
        names[key] = "bond%d" % number
        taken.add(names[key])
    return names


def known_bonds(
    bonds: Mapping[str, str], truth: Truth, nics: Mapping[str, Nic], told: bool
) -> Dict[str, str]:
    """The names of bonds by key: those they have, and (`told`: cloud-init heeds them) those they are told to have."""
    names = dict(bonds)
    taken = {*names.values(), *(nic.name for nic in nics.values())}
    for key in sorted(truth.keys) if told else ():
        name = truth.keys[key].entry.name
        if name and key not in names and name not in taken:
            names[key] = name
            taken.add(name)
    return names


def _vlan_name(parent: str, vlan_id: int) -> str:
    """As cloud-init calls it; one that the kernel does not take (IFNAMSIZ) has a few digits in the place of the
    parent's last letters, always the same ones."""
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
    """A bond without the members that have no NIC."""
    return entry._replace(members=tuple(m for m in entry.members if m in keys))


def left_alone(
    truth: Truth, nics: Dict[str, Nic], ignored: FrozenSet[str], bonds: Optional[Dict[str, str]] = None
) -> FrozenSet[str]:
    """The keys that the operator leaves to others: by MAC, by name, or because they lean on such a one.

    With a bond go its members: whoever sets up the one takes the others.
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
    """The keys that have a NIC (`nics` by MAC) and are not left alone."""
    macs = frozenset(mac for mac, nic in nics.items() if not nic.is_one_of(ignored))
    return with_nic(truth, macs) - left_alone(truth, nics, ignored, bonds)


def _names(truth: Truth, nics: Dict[str, Nic], keys: FrozenSet[str], bonds: Dict[str, str]) -> Dict[str, str]:
    """By key: the kernel's name of a NIC, a bond's own, a VLAN's after its parent's."""
    entries = {key: truth.keys[key].entry for key in keys}
    names = _bond_names([key for key, entry in entries.items() if entry.kind == "bond"], bonds)
    names.update({key: nics[entry.mac].name for key, entry in entries.items() if entry.kind == "phy"})
    for key, entry in entries.items():
        if entry.kind == "vlan" and entry.parent in names:
            names[key] = _vlan_name(names[entry.parent], entry.vlan_id or 0)
    return names


def give_metrics(
    truth: Truth,
    keys: FrozenSet[str],
    known: Mapping[str, int],
    configured: FrozenSet[str],
    left: FrozenSet[str] = frozenset(),
    ways_out: Sequence[str] = (),
) -> Dict[str, int]:
    """The metrics of `keys`, and of all that are not forgotten; `configured` keys keep theirs.

    `left`: the MACs of the NICs that are here and left to others. `ways_out`: those by which a
    default route goes now, best first. The best one stays the primary, also where it is left to others.
    """
    entries = {key: one.entry for key, one in truth.keys.items()}
    new = [key for key in truth.keys if (key in keys and key not in configured) or entries[key].mac in left]
    order = {mac: number for number, mac in enumerate(ways_out)}
    # Else as they were heard.
    new.sort(key=lambda key: (order.get(entries[key].mac, len(order)), not takes_default(entries[key])))
    kept = {key: metric for key, metric in known.items() if key in truth.keys}
    best = ways_out[0] if ways_out else entries[new[0]].mac if new and takes_default(entries[new[0]]) else ""
    return metrics.give(kept, keys & configured, [key for key in new if key in keys], best in left)


def _content(item: Item) -> List[Any]:
    """What its files are made of. What few links have is left out where there is none: ledgers keep the digest."""
    content: List[Any] = [item.key, entry_to_json(item.entry.canonical), item.name, list(item.dns), item.metric]
    return content + [{"search": item.search, "own": item.own}] if item.search or item.own else content


def desired(
    truth: Truth,
    nics: Dict[str, Nic],
    ignored: FrozenSet[str] = frozenset(),
    bonds: Optional[Dict[str, str]] = None,
    given: Optional[Mapping[str, int]] = None,
) -> List[Want]:
    """What each NIC should have.

    `nics` by MAC; `ignored` holds MACs and names; `bonds` the names that bonds have, `given` the
    metrics that links have, both by key.
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
            dns = known.services if needs_services(entry) else ()
            metric = (given or {}).get(key, metrics.PRIMARY)
            search = known.search if needs_search(entry) else ()
            own = _own_hops(entry, addresses)
            items.append(Item(key, entry, names[key], dns, metric, search, own, _notes(entry, names, key)))
        wants.append(Want(tuple(items), digest.of_value([_content(item) for item in items])))
    return wants
