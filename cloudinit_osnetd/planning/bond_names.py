# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Finds the names of bonds that existed before the package was installed, in the kernel and in the files on disk.

cloud-init names bonds by their order in the document, which means nothing; renaming two of them would take both down.
All functions are pure except for `of_disk`.
"""

import logging
from typing import TYPE_CHECKING, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set

from ..backends import Backend
from ..core.network_data import Entry, static_addresses
from ..core.records import Nic, Snapshot
from ..state.store import State

if TYPE_CHECKING:
    from ..core.meaning import Meaning

LOG = logging.getLogger(__name__)


class Found(NamedTuple):
    """An existing bond. `members` has the names of NICs."""

    name: str
    macs: FrozenSet[str]
    members: FrozenSet[str]
    addresses: FrozenSet[str] = frozenset()  # static ones, as `ip/prefix`


def known(state: State, nics: Mapping[str, Nic], snapshot: Optional[Snapshot], backend: Backend) -> State:
    """Returns the state with the names of the bonds that it lacks: from the kernel, or else from the files on disk.

    `snapshot` is None if the network is not up yet.
    """
    entries = {key: one.entry for key, one in state.truth.keys.items() if one.entry.kind == "bond"}
    if not set(entries) - set(state.bonds):
        return state  # as on nearly every server
    sources: List[Callable[[], Sequence[Found]]] = [lambda: of_disk(backend, nics)]
    if snapshot is not None:
        current = snapshot
        sources.insert(0, lambda: of_kernel(current))
    names = dict(state.bonds)
    for source in sources:
        if set(entries) - set(names):
            names.update(learned(entries, names, nics, source()))
    return state._replace(learned=names)


def learned(
    entries: Mapping[str, Entry], names: Mapping[str, str], nics: Mapping[str, Nic], found: Sequence[Found]
) -> Dict[str, str]:
    """Returns by key the names of those `entries` that have no name yet and are among `found`.

    Bonds are matched by their members first, because a MAC is a setting and may be that of a member. Up to 25.1
    cloud-init's files for networkd name neither the members of a bond nor its MAC if the document has none: then by its
    addresses.
    """
    new: Dict[str, str] = {}
    for by in ("members", "macs", "addresses"):
        for key in sorted(set(entries) - set(names) - set(new)):
            own = _own(entries[key], by, nics)
            free = [bond for bond in found if bond.name not in set(names.values()) | set(new.values())]
            fits = [bond for bond in free if own & getattr(bond, by)]
            if len(fits) == 1:
                new[key] = fits[0].name
    return new


def _own(entry: Entry, by: str, nics: Mapping[str, Nic]) -> FrozenSet[str]:
    """Returns what a bond's entry has of this field of Found."""
    if by == "members":
        macs = [member.partition("/")[0] for member in entry.members]
        return frozenset(nics[mac].name for mac in macs if mac in nics)
    return frozenset([entry.mac] if by == "macs" else static_addresses(entry))


def of_kernel(snapshot: Snapshot) -> List[Found]:
    bonds = [nic for nic in snapshot.nics if nic.kind == "bond"]
    return [
        Found(
            bond.name,
            frozenset([bond.current_mac]),
            frozenset(nic.name for nic in snapshot.nics if nic.master == bond.ifindex),
        )
        for bond in bonds
    ]


def of_disk(backend: Backend, nics: Mapping[str, Nic]) -> List[Found]:
    """Returns the bonds in the files that cloud-init writes; an empty list if they cannot be read."""
    try:
        staged = backend.staged("")
        parts: Dict[str, Meaning] = {}
        for part in staged:  # a NIC may have several
            parts[part.name] = parts.get(part.name, frozenset()) | backend.meaning(part.text, part.name)
        names = backend.link_names(staged)
    except (OSError, ValueError) as exc:
        LOG.warning("the network configuration cannot be read: %s", exc)
        return []
    known = {name: frozenset(_by_name(line, names) for line in lines) for name, lines in parts.items()}
    return of_parts(known, frozenset(nic.name for nic in nics.values()))


def _by_name(line: str, names: Mapping[str, str]) -> str:
    before, _, word = line.rpartition(" ")
    return "belongs to " + names[word] if before == "belongs to" and word in names else line


def of_parts(parts: "Mapping[str, Meaning]", nics: FrozenSet[str]) -> List[Found]:
    """Returns the bonds among `parts`, which are by name of the NIC; `nics` has the names of hardware NICs."""
    members: Dict[str, Set[str]] = {}
    macs: Dict[str, Set[str]] = {}
    addresses: Dict[str, Set[str]] = {}
    for name, lines in parts.items():
        for words in (line.split() for line in lines):
            if words[:2] == ["belongs", "to"]:
                members.setdefault(words[-1], set()).add(name)
            elif words[0] == "member":
                members.setdefault(name, set()).add(words[-1])
            elif words[0] == "mac" or words[:2] == ["match", "mac"]:
                macs.setdefault(name, set()).add(words[-1])
            elif words[0] == "address":
                addresses.setdefault(name, set()).add(words[-1])
    # A VLAN has these too; its name is that of its parent, a dot and its number.
    bonds = set(members) | {name for name in {*macs, *addresses} if name not in nics and "." not in name}
    return [
        Found(name, *(frozenset(by_name.get(name, ())) for by_name in (macs, members, addresses)))
        for name in sorted(bonds)
    ]
