# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Bonds that are told no MAC keep the key by which they are known, whichever of their members comes or leaves: pure.

A document names such a bond by nothing that lasts, its id is anybody's. So it is known by the lowest MAC of its members
when it is first heard of (document_links.py), and by the members that it has in common with the one that is known from
then on. Under another key it would be another bond: this one taken down, and all that stands on it.
"""

from typing import Dict, List, Mapping, Sequence, Tuple

from .network_data import Entry, NetworkData


def settled(data: NetworkData, known: Mapping[str, Entry]) -> NetworkData:
    """A document in which each bond without a MAC, and what stands on it, has the key that it is `known` by."""
    if not data.nameless:
        return data  # as on nearly every server
    before = {key: entry for key, entry in known.items() if entry.kind == "bond" and not entry.mac_told}
    bonds = _matched(data.nameless, before)
    told = set(data.entries) - {key for key, _members in data.nameless}
    if not bonds or told & set(bonds.values()):
        return data
    keys: Dict[str, str] = dict(bonds)
    entries = {}
    for entry in data.entries.values():
        moved = _moved(entry, bonds)
        keys[entry.key] = moved.key
        entries[moved.key] = moved
    if len(entries) != len(data.entries):
        return data  # two links under one key: none of them is taken for another
    faults = tuple(fault._replace(key=keys.get(fault.key, fault.key)) for fault in data.faults)
    return data._replace(entries=entries, faults=faults, faulted=frozenset(keys.get(k, k) for k in data.faulted))


def _matched(nameless: Sequence[Tuple[str, Tuple[str, ...]]], known: Mapping[str, Entry]) -> Dict[str, str]:
    """By key, the known key of those that have one and another: the most members in common first."""
    pairs: List[Tuple[int, bool, str, str]] = [
        (len(set(members) & set(before.members)), new == old, new, old)
        for new, members in nameless
        for old, before in known.items()
    ]
    found: Dict[str, str] = {}
    for common, _same, new, old in sorted(pairs, reverse=True):
        if common and new not in found and old not in found.values():
            found[new] = old
    # One that is new must not stand under the key that another one keeps.
    kept = set(found.values())
    if any(new not in found and new in kept for new, _members in nameless):
        return {}
    return {new: old for new, old in found.items() if new != old}


def _moved(entry: Entry, bonds: Mapping[str, str]) -> Entry:
    if entry.key in bonds:
        return entry._replace(mac=_mac(bonds[entry.key]))
    if entry.parent not in bonds:
        return entry
    parent = bonds[entry.parent]
    return entry._replace(parent=parent, mac=entry.mac if entry.mac_told else _mac(parent))


def _mac(key: str) -> str:
    return key.partition("/")[0]
