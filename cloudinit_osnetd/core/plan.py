# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What would be done, as data: the pure difference between what is wanted and what is there.

Everything here takes values and returns values. A part is changed only where it is ours, that is
where it stands on disk as the ledger says we left it; else it is drifted, and left alone.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .. import __version__
from .conformance import check, is_duplicate_address
from .desired import Want
from .records import Owned, Snapshot, Touch

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
    same: FrozenSet[str] = frozenset()  # marks of what is written otherwise and means the same as `text`
    bare: str = ""  # the text without what Backend.finish adds
    differs: Tuple[str, ...] = ()  # in what the part on disk does; see meaning.differences
    unsaid: str = ""  # what one of `alone` does not say, where releases of cloud-init differ in whether they say it

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
    differs: Tuple[str, ...] = ()  # line by line, where there is another text to compare with


class Lacking(NamedTuple):
    """What the kernel lacks of a NIC whose part is right."""

    key: str
    mac: str
    name: str
    ifindex: int
    lacks: str

    @property
    def is_duplicate_address(self) -> bool:
        """True where no touch of the NIC can help: another host has its addresses."""
        return all(map(is_duplicate_address, self.lacks.split("; ")))


class Plan(NamedTuple):
    changes: Tuple[Change, ...]
    touches: Tuple[Touch, ...]
    drifted: Tuple[Drift, ...]
    hopeless: Tuple[Lacking, ...] = ()  # no touch has helped these

    @property
    def empty(self) -> bool:
        return not self.changes and not self.touches


def needs_render(
    want: Want,
    ledger: Sequence[Owned],
    disk: Mapping[Place, str],
    backend: str,
    unfinished: bool = False,
    by: Optional[str] = None,
) -> bool:
    """False where every part of the want stands on disk as it was written for this very want.

    With `unfinished` what cloud-init wrote, and we adopted as it was, is not good enough. Nor is, where
    `by` names a version of ours, what another one rendered: what it mended is to hold after an upgrade.
    """
    for key in want.keys:
        rows = [row for row in ledger if row.key == key]
        if not rows:
            return True
        for row in rows:
            if row.digest != want.digest or row.backend != backend or disk.get(row.place) != row.disk:
                return True
            if (unfinished and row.plain) or (by is not None and not row.plain and row.by != by):
                return True
    return False


def spoken_for(want: Want, claimed: Mapping[str, str]) -> str:
    """The file of somebody else's that configures a NIC of the want as well, "" where none does."""
    return next((claimed[item.name] for item in want.items if item.name in claimed), "")


def departed(wants: Sequence[Want], ledger: Sequence[Owned], ignored: FrozenSet[str] = frozenset()) -> List[Owned]:
    """The ledger's rows of entries that are wanted no more: their NIC is gone."""
    wanted = {key for want in wants for key in want.keys}
    return [row for row in ledger if row.key not in wanted and not {row.key, row.mac, row.name} & ignored]


class _Planner:
    def __init__(
        self,
        ledger: Sequence[Owned],
        disk: Mapping[Place, str],
        backend: str,
        force: bool,
        live: bool,
        referred: Mapping[str, str],
    ) -> None:
        self.rows = {row.place: row for row in ledger}
        self.disk = disk
        self.backend = backend
        self.force = force
        self.live = live
        self.referred = referred
        self.changes: List[Change] = []
        self.touches: List[Touch] = []
        self.drifted: List[Drift] = []
        self.taken: Set[Place] = set()

    def _ours(self, place: Place) -> bool:
        """True where the part is on disk as we left it, or not there and not expected."""
        row = self.rows.get(place)
        return self.force or self.disk.get(place) == (row.disk if row else None)

    def want(self, parts: Sequence[Staged]) -> None:
        judged = [(part, *self._judge(part)) for part in parts]
        # A NIC may have several parts: where one is somebody else's, the NIC is left to him.
        theirs = {part.key for part, action, _reason in judged if action == "drift"}
        as_it_is = {part.digest for part, action, _reason in judged if action == "adopt as it is"}
        for part, action, reason in judged:
            self.taken.add(part.place)
            row = Owned(part.key, part.mac, part.name, self.backend, part.path, part.section, part.mark, part.digest)
            row = row._replace(by=__version__)
            if action == "drift":
                self._drift(row, reason, part.differs)
            elif part.key in theirs:
                continue
            elif action.startswith("adopt"):
                self._adopt(part, row, as_it_is=action == "adopt as it is", reason=reason)
            elif not (part.digest in as_it_is and self._is_ours_alone(part)):
                self._change("write", row, part.text, row, reason)
                touch = "reconfigure" if part.place in self.disk else "up"
                self.touches.append(Touch(touch, part.mac, part.name, reason))

    def _judge(self, part: Staged) -> Tuple[str, str]:
        """What is to be done with a part, and why."""
        row, there = self.rows.get(part.place), self.disk.get(part.place)
        if there == part.mark or (there in part.same and self.live):
            return "adopt", "it means what is wanted" if row is None else "its entry means the same"
        if row is None and there in part.alone and self.live:
            # Installed on a running server: what is there serves, and no NIC is touched for it.
            less = ", without %s, which the next boot adds" % part.unsaid if part.unsaid else ""
            return "adopt as it is", "cloud-init wrote it for the same entry" + less
        if self._ours(part.place) or there in part.alone | part.same or (row is None and there in part.earlier):
            if row is not None and row.key == part.key and self._ours(part.place):
                return "write", "its entry changed" if row.digest != part.digest else "rendered by another version"
            if there not in part.alone | part.same | part.earlier:
                return "write", "a new NIC"
            return "write", "cloud-init wrote it" + (", without %s" % part.unsaid if part.unsaid else "")
        return "drift", _strange(part, there is not None, row is not None)

    def _adopt(self, part: Staged, row: Owned, as_it_is: bool, reason: str) -> None:
        known, there = self.rows.get(part.place), str(self.disk.get(part.place))
        # What is not to the letter ours may lack what Backend.finish adds, and is written anew at a boot.
        plain = as_it_is or (there != part.mark and (known is None or known.plain))
        row = row._replace(disk=there, plain=plain)
        if as_it_is:
            row = row._replace(by="", unsaid=part.unsaid)
        if row != known:
            self._change("adopt", row, None, row, reason)

    def _is_ours_alone(self, part: Staged) -> bool:
        """True for a new part that cloud-init does not write.

        What belongs to it in the parts that are adopted as they are is written with it, at the next boot or edit.
        """
        return not part.alone and part.place not in self.rows and part.place not in self.disk

    def leave(self, want: Want, theirs: str) -> None:
        """A want in which a file of somebody else's has a say, "" for none."""
        if theirs and not self.force:
            for item in want.items:
                ours = any(row.key == item.key for row in self.rows.values())
                reason = "configured by %s%s" % (theirs, " as well" if ours else "")
                self.drifted.append(Drift(item.key, item.entry.mac, item.name, theirs, reason))

    def gone(self, row: Owned, reason: str) -> None:
        """A row whose entry is not wanted at this place any more."""
        if row.place in self.taken:
            return  # another NIC has the place now; what it wants replaces it
        there = self.disk.get(row.place)
        if there is not None and row.name in self.referred and not self.force:
            self._drift(row, "%s stands on it; %s" % (self.referred[row.name], reason))
        elif there is None:
            self._change("forget", row, None, None, reason + ", and so is its part")
        elif self._ours(row.place):
            self._change("remove", row, None, None, reason)
            self.touches.append(Touch("down", row.mac, row.name, reason))
        else:
            self._drift(row, "edited by somebody else; " + reason)

    def kick(self, lacking: Lacking) -> None:
        self.touches.append(Touch("kick", lacking.mac, lacking.name, lacking.lacks))

    def _change(self, action: str, row: Owned, text: Optional[str], new_row: Optional[Owned], reason: str) -> None:
        self.changes.append(Change(action, row.key, row.mac, row.name, row.path, row.section, text, new_row, reason))

    def _drift(self, row: Owned, reason: str, differs: Sequence[str] = ()) -> None:
        self.drifted.append(Drift(row.key, row.mac, row.name, row.path, reason, tuple(differs)))


def _strange(part: Staged, there: bool, known: bool) -> str:
    """Why a part is left alone: what is known of it, and no more."""
    if known:
        return "changed by somebody else" if there else "removed by somebody else"
    return "differs from what network_data says" if part.differs else "somebody else wrote it"


def make(
    wants: Sequence[Want],
    staged: Sequence[Staged],
    disk: Mapping[Place, str],
    ledger: Sequence[Owned],
    snapshot: Optional[Snapshot],
    backend: str,
    force: bool = False,
    keep: FrozenSet[str] = frozenset(),
    claimed: Optional[Mapping[str, str]] = None,
    tried: FrozenSet[Lacking] = frozenset(),
    referred: Optional[Mapping[str, str]] = None,
) -> Plan:
    """The plan.

    `staged` holds the parts of the wants that need rendering (one whose rendering failed stays as
    it is). `disk` has the fingerprint of each part that is there. `snapshot` is None where nothing
    will be activated. Rows of the keys, MACs and names in `keep` are not cleaned up: the operator
    said so, or the NIC vanished a moment ago and may come back (drivers reload). `claimed` names the
    NICs that somebody else's file configures as well, and that file. What is in `tried` is not
    kicked again. `referred` has by name the NICs whose parts must stay for the sake of what
    somebody else builds on them.
    """
    planner = _Planner(ledger, disk, backend, force, live=snapshot is not None, referred=referred or {})
    for want in wants:
        planner.leave(want, spoken_for(want, claimed or {}))
    rendered_keys = {part.key for part in staged}
    planner.want(staged)
    for row in ledger:
        if row.key in rendered_keys:
            planner.gone(row, "it stands under another name now")
    for row in departed(wants, ledger, keep):
        planner.gone(row, "the NIC is gone")
    hopeless = []
    if snapshot is not None:
        left_alone = {drift.key for drift in planner.drifted}
        touched = {touch.name for touch in planner.touches}
        # What is adopted only now counts as it stands: nothing was to be touched for that.
        adopted = [change.row for change in planner.changes if change.row is not None]
        for lacking in lacks(wants, [*ledger, *adopted], snapshot):
            if lacking.name in touched or lacking.key in left_alone:
                continue
            if (lacking in tried or lacking.is_duplicate_address) and not force:
                hopeless.append(lacking)
            else:
                planner.kick(lacking)
    return Plan(tuple(planner.changes), _merged(planner.touches), tuple(planner.drifted), tuple(hopeless))


def plain_keys(ledger: Sequence[Owned]) -> FrozenSet[str]:
    """The keys whose parts stand as cloud-init wrote them by itself."""
    return frozenset(row.key for row in ledger if row.plain)


def lacks(wants: Sequence[Want], ledger: Sequence[Owned], snapshot: Snapshot) -> List[Lacking]:
    """What the kernel lacks of what is wanted, for each link of which it lacks anything."""
    plain = plain_keys(ledger)
    found = []
    for want in wants:
        bondless: Dict[str, str] = {}
        for item in sorted(want.items, key=lambda item: item.entry.kind != "bond"):
            nic = snapshot.named(item.name)
            said = check(item, snapshot, item.key in plain).lacks
            if said and nic is None:
                # Nobody is a member of a bond that does not exist: to bring it up alone would leave it without any.
                bondless.update(dict.fromkeys(item.entry.members, said))
            said = said or bondless.get(item.key, "")
            if said:
                found.append(Lacking(item.key, item.entry.mac, item.name, nic.ifindex if nic else 0, said))
    return found


def _merged(touches: Sequence[Touch]) -> Tuple[Touch, ...]:
    """One touch a name: where one NIC leaves a name and another takes it, the name is replaced."""
    by_name: Dict[str, Touch] = {}
    for touch in touches:
        other = by_name.setdefault(touch.name, touch)
        if other.action != touch.action and "down" in (other.action, touch.action):
            stays = touch if other.action == "down" else other
            by_name[touch.name] = stays._replace(action="reconfigure")
    return tuple(by_name.values())
