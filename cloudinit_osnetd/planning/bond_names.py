# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The names of bonds that were there before us: learned from the kernel, and from what is configured on disk.

cloud-init names them by their order in the document, which means nothing; to give two of them other names is to take
both down. Pure, but for `of_disk`.
"""

import logging
from typing import Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set

from ..backends import Backend
from ..core.meaning import Meaning
from ..core.network_data import Entry
from ..core.records import Nic, Snapshot
from ..state.store import State

LOG = logging.getLogger(__name__)


class Found(NamedTuple):
    """A bond that is there. `members` are names of NICs."""

    name: str
    macs: FrozenSet[str]
    members: FrozenSet[str]


def known(state: State, nics: Mapping[str, Nic], snapshot: Optional[Snapshot], backend: Backend) -> State:
    """The state with the names of the bonds that the ledger has not: as the kernel has them, else as they are on disk.

    `snapshot` is None where the network is not up yet.
    """
    entries = {key: one.entry for key, one in state.truth.keys.items() if one.entry.kind == "bond"}
    if not set(entries) - set(state.bonds):
        return state  # as on nearly every server
    ways: List[Callable[[], Sequence[Found]]] = [lambda: of_disk(backend, nics)]
    if snapshot is not None:
        there = snapshot
        ways.insert(0, lambda: of_kernel(there))
    names = dict(state.bonds)
    for way in ways:
        if set(entries) - set(names):
            names.update(learned(entries, names, nics, way()))
    return state._replace(learned=names)


def learned(
    entries: Mapping[str, Entry], names: Mapping[str, str], nics: Mapping[str, Nic], found: Sequence[Found]
) -> Dict[str, str]:
    """By key: the names of those of `entries` that have none yet and are found. By their members first: a MAC is a
    setting, and a bond may have that of one of them."""
    new: Dict[str, str] = {}
    for by_members in (True, False):
        for key in sorted(set(entries) - set(names) - set(new)):
            entry = entries[key]
            members = {nics[mac].name for mac in (member.partition("/")[0] for member in entry.members) if mac in nics}
            free = [bond for bond in found if bond.name not in set(names.values()) | set(new.values())]
            fits = [b for b in free if (members & b.members if by_members else entry.mac and entry.mac in b.macs)]
            if len(fits) == 1:
                new[key] = fits[0].name
    return new


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
    """The bonds of the files that cloud-init writes; none where they cannot be read."""
    try:
        parts = {part.name: backend.meaning(part.text, part.name) for part in backend.staged("")}
    except (OSError, ValueError) as exc:
        LOG.warning("what is configured cannot be read: %s", exc)
        return []
    return of_parts(parts, frozenset(nic.name for nic in nics.values()))


def of_parts(parts: Mapping[str, Meaning], nics: FrozenSet[str]) -> List[Found]:
    """The bonds among parts, by their NICs' names; `nics`: the names of the hardware's."""
    members: Dict[str, Set[str]] = {}
    macs: Dict[str, Set[str]] = {}
    for name, lines in parts.items():
        for words in (line.split() for line in lines):
            if words[:2] == ["belongs", "to"]:
                members.setdefault(words[-1], set()).add(name)
            elif words[0] == "member":
                members.setdefault(name, set()).add(words[-1])
            elif words[0] == "mac" or words[:2] == ["match", "mac"]:
                macs.setdefault(name, set()).add(words[-1])
    # A VLAN has a MAC too; its name is its parent's, a dot and its number.
    bonds = set(members) | {name for name in macs if name not in nics and "." not in name}
    return [Found(n, frozenset(macs.get(n, ())), frozenset(members.get(n, ()))) for n in sorted(bonds)]
