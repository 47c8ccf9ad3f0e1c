# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What would be done, as data: the pure difference between what is wanted and what is there.

Everything here takes values and returns values. A part is changed only where it is ours, that is
where it stands on disk as the ledger says we left it; else it is drifted, and left alone.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .backends import Touch
from .desired import Item, Want
from .kernel import Nic
from .network_data import static_addresses
from .store import Owned

Place = Tuple[str, str]  # path, section


class Staged(NamedTuple):
    """A rendered part, and the entry it serves."""

    key: str
    mac: str
    name: str
    path: str
    section: str
    text: str
    mark: str  # fingerprint of its meaning
    digest: str  # of the Want it was rendered for
    alone: FrozenSet[str] = frozenset()  # marks of what cloud-init alone writes for the same entry
    earlier: FrozenSet[str] = frozenset()  # and for what the drive says, where that is superseded

    @property
    def place(self) -> Place:
        return self.path, self.section


class Change(NamedTuple):
    """One part of one file: "write", "remove", "adopt" (it means what we want: note it as ours)
    or "forget" (it is gone already)."""

    action: str
    key: str
    mac: str
    name: str
    path: str
    section: str
    text: Optional[str]
    row: Optional[Owned]  # the ledger row that will stand for it
    reason: str

    @property
    def place(self) -> Place:
        return self.path, self.section


class Drift(NamedTuple):
    """A part that somebody else changed or made; it is left alone."""

    key: str
    mac: str
    name: str
    path: str
    reason: str


class Plan(NamedTuple):
    changes: Tuple[Change, ...]
    touches: Tuple[Touch, ...]
    drifted: Tuple[Drift, ...]

    @property
    def empty(self) -> bool:
        return not self.changes and not self.touches


# In a ledger row's digest: the part is as cloud-init wrote it, and waits for a boot to be written as we would.
AS_CLOUD_INIT_WROTE = "cloud-init:"


def needs_render(
    want: Want, ledger: Sequence[Owned], disk: Mapping[Place, str], backend: str, unfinished: bool = False
) -> bool:
    """False where every part of the want stands on disk as it was written for this very want.

    With `unfinished` what cloud-init wrote, and we adopted as it was, is not good enough.
    """
    digests = {want.digest} | (set() if unfinished else {AS_CLOUD_INIT_WROTE + want.digest})
    for key in want.keys:
        rows = [row for row in ledger if row.key == key]
        if not rows:
            return True
        for row in rows:
            if row.digest not in digests or row.backend != backend or disk.get(row.place) != row.disk:
                return True
    return False


def spoken_for(want: Want, claimed: Mapping[str, str]) -> str:
    """The file of somebody else's that configures a NIC of the want as well, "" where none does."""
    return next((claimed[item.name] for item in want.items if item.name in claimed), "")


def departed(wants: Sequence[Want], ledger: Sequence[Owned], ignored: FrozenSet[str] = frozenset()) -> List[Owned]:
    """The ledger's rows of entries that are wanted no more: their NIC is gone."""
    wanted = {key for want in wants for key in want.keys}
    return [row for row in ledger if row.key not in wanted and not {row.key, row.mac, row.name} & ignored]


def unconfigured(item: Item, nic: Optional[Nic]) -> str:
    """What the kernel lacks of an entry, empty where it has it all. A lease may come and go."""
    if nic is None:
        return ""
    lacking = [cidr for cidr in static_addresses(item.entry) if not nic.has(cidr)]
    if lacking:
        return "the kernel lacks %s" % ", ".join(lacking)
    if item.entry.networks and not nic.up:
        return "the link is down"
    return ""


class _Planner:
    def __init__(
        self,
        ledger: Sequence[Owned],
        disk: Mapping[Place, str],
        backend: str,
        force: bool,
        live: bool,
    ) -> None:
        self.rows = {row.place: row for row in ledger}
        self.disk = disk
        self.backend = backend
        self.force = force
        self.live = live
        self.changes: List[Change] = []
        self.touches: List[Touch] = []
        self.drifted: List[Drift] = []
        self.taken: Set[Place] = set()

    def _ours(self, place: Place) -> bool:
        """True where the part is on disk as we left it, or not there and not expected."""
        row = self.rows.get(place)
        return self.force or self.disk.get(place) == (row.disk if row else None)

    def want(self, parts: Sequence[Staged]) -> None:
        for part in parts:
            self.taken.add(part.place)
            row = self.rows.get(part.place)
            new_row = Owned(
                part.key, part.mac, part.name, self.backend, part.path, part.section, part.mark, part.digest
            )
            there = self.disk.get(part.place)
            if there == part.mark:
                if row != new_row:
                    reason = "it means what is wanted" if row is None else "its entry means the same"
                    self._change("adopt", new_row, None, new_row, reason)
            elif row is None and there in part.alone and self.live:
                # Installed on a running server: what is there serves, and no NIC is touched for it.
                as_it_is = new_row._replace(disk=str(there), digest=AS_CLOUD_INIT_WROTE + part.digest)
                self._change("adopt", as_it_is, None, as_it_is, "cloud-init wrote it for the same entry")
            elif self._ours(part.place) or there in part.alone or (row is None and there in part.earlier):
                action = "reconfigure" if there is not None else "up"
                reason = "a new NIC"
                if row is not None and row.key == part.key and self._ours(part.place):
                    reason = "its entry changed"
                elif there in part.alone | part.earlier:
                    reason = "cloud-init wrote it"
                self._change("write", new_row, part.text, new_row, reason)
                self.touches.append(Touch(action, part.mac, part.name, reason))
            else:
                self._drift(new_row, "somebody else wrote it" if row is None else "edited by somebody else")

    def leave(self, want: Want, theirs: str) -> None:
        """A want in which a file of somebody else's has a say, "" for none."""
        if theirs and not self.force:
            for item in want.items:
                reason = "configured by %s as well" % theirs
                self.drifted.append(Drift(item.key, item.entry.mac, item.name, theirs, reason))

    def gone(self, row: Owned, reason: str) -> None:
        """A row whose entry is not wanted at this place any more."""
        if row.place in self.taken:
            return  # another NIC has the place now; what it wants replaces it
        there = self.disk.get(row.place)
        if there is None:
            self._change("forget", row, None, None, reason + ", and so is its part")
        elif self._ours(row.place):
            self._change("remove", row, None, None, reason)
            self.touches.append(Touch("down", row.mac, row.name, reason))
        else:
            self._drift(row, "edited by somebody else; " + reason)

    def kick(self, item: Item, reason: str) -> None:
        self.touches.append(Touch("kick", item.entry.mac, item.name, reason))

    def _change(self, action: str, row: Owned, text: Optional[str], new_row: Optional[Owned], reason: str) -> None:
        self.changes.append(Change(action, row.key, row.mac, row.name, row.path, row.section, text, new_row, reason))

    def _drift(self, row: Owned, reason: str) -> None:
        self.drifted.append(Drift(row.key, row.mac, row.name, row.path, reason))


def make(
    wants: Sequence[Want],
    staged: Sequence[Staged],
    disk: Mapping[Place, str],
    ledger: Sequence[Owned],
    nics: Optional[Mapping[str, Nic]],
    backend: str,
    force: bool = False,
    keep: FrozenSet[str] = frozenset(),
    claimed: Optional[Mapping[str, str]] = None,
) -> Plan:
    """The plan.

    `staged` holds the parts of the wants that need rendering (one whose rendering failed stays as
    it is). `disk` has the fingerprint of each part that is there. `nics` by name, None where
    nothing will be activated. Rows of the keys, MACs and names in `keep` are not cleaned up: the operator
    said so, or the NIC vanished a moment ago and may come back (drivers reload). `claimed` names the
    NICs that somebody else's file configures as well, and that file.
    """
    planner = _Planner(ledger, disk, backend, force, live=nics is not None)
    for want in wants:
        planner.leave(want, spoken_for(want, claimed or {}))
    rendered_keys = {part.key for part in staged}
    planner.want(staged)
    for row in ledger:
        if row.key in rendered_keys:
            planner.gone(row, "it stands under another name now")
    for row in departed(wants, ledger, keep):
        planner.gone(row, "the NIC is gone")
    if nics is not None:
        touched = {touch.name for touch in planner.touches}
        drifted = {drift.key for drift in planner.drifted}
        for item in (item for want in wants for item in want.items):
            lacks = unconfigured(item, nics.get(item.name))
            if lacks and item.name not in touched and item.key not in drifted:
                planner.kick(item, lacks)
    return Plan(tuple(planner.changes), _merged(planner.touches), tuple(planner.drifted))


def _merged(touches: Sequence[Touch]) -> Tuple[Touch, ...]:
    """One touch a name: where one NIC leaves a name and another takes it, the name is replaced."""
    by_name: Dict[str, Touch] = {}
    for touch in touches:
        other = by_name.setdefault(touch.name, touch)
        if other.action != touch.action and "down" in (other.action, touch.action):
            stays = touch if other.action == "down" else other
            by_name[touch.name] = stays._replace(action="reconfigure")
    return tuple(by_name.values())
