# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Keeps the key of a bond without a MAC when its members change. Pure.

A document has no permanent name for such a bond, because ids are renumbered. Its key is the lowest MAC of its members
when it first appears (document_links.py). Later it is recognised by the members that it has in common with a known
bond. With another key it would be another bond: the existing one, and everything on top of it, would be taken down.
"""

from typing import Dict, List, Mapping, Sequence, Tuple

from .network_data import Entry, NetworkData


def with_known_keys(data: NetworkData, known: Mapping[str, Entry]) -> NetworkData:
    """Returns the document with the `known` key of each bond without a MAC, and of the links on top of it."""
    if not data.nameless:
        return data  # as on nearly every server
    before = {key: entry for key, entry in known.items() if entry.kind == "bond" and not entry.mac_told}
    bonds = _matched(data.nameless, before)
    named = set(data.entries) - {key for key, _members in data.nameless}
    if not bonds or named & set(bonds.values()):
        return data
    keys: Dict[str, str] = dict(bonds)
    entries = {}
    for entry in data.entries.values():
        moved = _moved(entry, bonds)
        keys[entry.key] = moved.key
        entries[moved.key] = moved
    if len(entries) != len(data.entries):
        return data  # two links would have the same key: all keys stay as they are
    faults = tuple(fault._replace(key=keys.get(fault.key, fault.key)) for fault in data.faults)
    return data._replace(entries=entries, faults=faults, faulted=frozenset(keys.get(k, k) for k in data.faulted))


def _matched(nameless: Sequence[Tuple[str, Tuple[str, ...]]], known: Mapping[str, Entry]) -> Dict[str, str]:
    """Returns by key the known key of each bond whose key differs; most members in common first."""
    pairs: List[Tuple[int, bool, str, str]] = [
        (len(set(members) & set(before.members)), new == old, new, old)
        for new, members in nameless
        for old, before in known.items()
    ]
    found: Dict[str, str] = {}
    for common, _same, new, old in sorted(pairs, reverse=True):
        if common and new not in found and old not in found.values():
            found[new] = old
    # A new bond must not have the key that another one keeps.
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
