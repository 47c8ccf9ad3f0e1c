# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Makes the plan: the difference between what is wanted and what exists, as data. Pure.

A part is changed only if it is ours, which means that it is on disk as the ledger says that it was
written, or that others have only added to it what is kept. Any other part has drifted and is left alone.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .. import __version__
from .conformance import check, is_duplicate_address
from .desired import Want
from .records import Owned, Snapshot, Touch

Place = Tuple[str, str]  # path, section


class Staged(NamedTuple):
    """A rendered part, and the entry for which it was rendered."""

    key: str
    mac: str
    name: str
    path: str
    section: str
    text: str
    fingerprint: str  # of its normalised text
    digest: str  # of the Want for which it was rendered
    alone: FrozenSet[str] = frozenset()  # fingerprints of what cloud-init alone writes for the same entry
    earlier: FrozenSet[str] = frozenset()  # fingerprints of what it writes for the drive's superseded entry
    same: FrozenSet[str] = frozenset()  # fingerprints of other texts with the same meaning as `text`
    bare: str = ""  # the text without what Backend.finish adds
    differs: Tuple[str, ...] = ()  # the differences of the part on disk; see meaning.differences
    unsaid: str = ""  # the lines that one of `alone` lacks, because only some releases of cloud-init write them
    rendered: str = ""  # `text` without settings of others that it keeps; empty if there are none
    found: str = ""  # the part on disk, if it has another text

    @property
    def place(self) -> Place:
        return self.path, self.section


class Change(NamedTuple):
    """One part of one file: "write", "remove", "adopt" (it means what is wanted: note it as ours) or
    "forget" (it is already gone)."""

    action: str
    key: str
    mac: str
    name: str
    path: str
    section: str
    text: Optional[str]
    row: Optional[Owned]  # its new ledger row
    reason: str
    before: Optional[str] = None  # what was on disk before the commit, empty for nothing; None if it was not read

    @property
    def place(self) -> Place:
        return self.path, self.section


EDITED = "its entry changed"  # the reason of an edit


class Drift(NamedTuple):
    """A part that somebody else changed or wrote; it is left alone."""

    key: str
    mac: str
    name: str
    path: str
    reason: str
    differs: Tuple[str, ...] = ()  # line by line, if there is a text to compare with


class Lacking(NamedTuple):
    """What the kernel lacks of a NIC whose part is as wanted."""

    key: str
    mac: str
    name: str
    ifindex: int
    lacks: str

    @property
    def is_duplicate_address(self) -> bool:
        """True if bringing the NIC up again cannot help, because another host has its addresses."""
        return all(map(is_duplicate_address, self.lacks.split("; ")))


class Plan(NamedTuple):
    changes: Tuple[Change, ...]
    touches: Tuple[Touch, ...]
    drifted: Tuple[Drift, ...]
    not_retried: Tuple[Lacking, ...] = ()  # bringing the NIC up again did not help, or cannot

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
    """False if every part of the want is on disk as it was written for this want.

    With `unfinished`, a part that cloud-init wrote and that was adopted unchanged is rendered again. With
    `by`, the version of this package, so is a part that another version rendered, so that the fixes of an
    upgrade take effect.
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


def claimed_by(want: Want, claimed: Mapping[str, str]) -> str:
    """Returns the file of other software that also configures a NIC of the want, empty if there is none."""
    return next((claimed[item.name] for item in want.items if item.name in claimed), "")


def obsolete_rows(wants: Sequence[Want], ledger: Sequence[Owned], keep: FrozenSet[str] = frozenset()) -> List[Owned]:
    """Returns the ledger's rows of entries that are no longer wanted: their NIC is gone."""
    wanted = {key for want in wants for key in want.keys}
    return [row for row in ledger if row.key not in wanted and not {row.key, row.mac, row.name} & keep]


class Options(NamedTuple):
    """What a plan takes into account beside what is wanted and what exists."""

    force: bool = False  # also changes parts that somebody else changed, and retries what did not help
    # Keys, MACs and names that are not cleaned up: the operator ignores them, or the NIC vanished a
    # moment ago and may come back, because drivers reload.
    keep: FrozenSet[str] = frozenset()
    claimed: Mapping[str, str] = {}  # name of a NIC -> the file of other software that configures it as well
    tried: FrozenSet[Lacking] = frozenset()  # not reapplied again
    correct: FrozenSet[str] = frozenset()  # keys whose parts are written again if somebody else changed them
    referred: Mapping[str, str] = {}  # name of a NIC -> what other software builds on it, so that its parts must stay
    followed: FrozenSet[Place] = frozenset()  # where others have only added to what was written: see additions.py


class _Planner:
    def __init__(
        self,
        ledger: Sequence[Owned],
        disk: Mapping[Place, str],
        backend: str,
        live: bool,
        options: Options,
    ) -> None:
        self.rows = {row.place: row for row in ledger}
        self.disk = disk
        self.backend = backend
        self.live = live
        self.options = options
        self.changes: List[Change] = []
        self.touches: List[Touch] = []
        self.drifted: List[Drift] = []
        self.not_retried: List[Lacking] = []
        self.taken: Set[Place] = set()

    def _ours(self, place: Place) -> bool:
        """True if the part is on disk as it was written, or missing and not expected, or may be overwritten."""
        row = self.rows.get(place)
        there = self.disk.get(place) == (row.disk if row else None) or place in self.options.followed
        return there or self.options.force or self._is_corrected(row)

    def _is_corrected(self, row: Optional[Owned]) -> bool:
        """True for a part of ours that is written again if somebody else changed it."""
        return row is not None and row.key in self.options.correct

    def want(self, parts: Sequence[Staged]) -> None:
        decisions = [(part, *self._decide(part)) for part in parts]
        # A NIC may have several parts: if somebody else changed one of them, all are left alone.
        drifted = {part.key for part, action, _reason in decisions if action == "drift"}
        as_it_is = {part.digest for part, action, _reason in decisions if action == "adopt as it is"}
        configured = {part.key for part in parts if part.place in self.disk}
        for part, action, reason in decisions:
            self.taken.add(part.place)
            place = self.backend, part.path, part.section
            row = Owned(part.key, part.mac, part.name, *place, part.fingerprint, part.digest, by=__version__)
            row = row._replace(written=part.rendered or part.text)
            if action == "drift":
                self._drift(row, reason, part.differs)
            elif part.key in drifted:
                continue
            elif action == "note":
                known = self.rows[part.place]._replace(disk=self.disk[part.place])
                self._change("adopt", known, None, known, reason)
            elif action.startswith("adopt"):
                self._adopt(part, row, as_it_is=action == "adopt as it is", reason=reason)
            elif not (part.digest in as_it_is and self._comes_with_a_boot(part, configured)):
                self._change("write", row, part.text, row, reason)
                # Also by a first file of routes.
                touch = "reconfigure" if part.key in configured else "up"
                self.touches.append(Touch(touch, part.mac, part.name, reason))

    def _decide(self, part: Staged) -> Tuple[str, str]:
        """Returns what is to be done with a part, and why."""
        row, there = self.rows.get(part.place), self.disk.get(part.place)
        if there == part.fingerprint or (there in part.same and self.live):
            return "adopt", "it means what is wanted" if row is None else "its entry means the same"
        same_entry = row is not None and (row.key, row.digest) == (part.key, part.digest)
        followed = there is not None and part.place in self.options.followed
        if same_entry and followed and self.live and not self.options.force:
            return "note", "others wrote it anew"  # also one without what Backend.finish adds: it is used as it is
        if row is None and there in part.alone and self.live:
            # After the installation on a running server: the existing part is used, and its NIC is not touched.
            less = ", without %s, which the next boot adds" % part.unsaid if part.unsaid else ""
            return "adopt as it is", "cloud-init wrote it for the same entry" + less
        if self._ours(part.place) or there in part.alone | part.same or (row is None and there in part.earlier):
            if row is not None and self._is_corrected(row) and there != row.disk and not self.options.force:
                return "write", "%s, and corrected" % _drift_reason(part, there is not None, True)
            if row is not None and row.key == part.key and self.options.force and there != row.disk:
                return "write", "%s, and overwritten" % _drift_reason(part, there is not None, True)
            if row is not None and row.key == part.key and self._ours(part.place):
                other = "rendered by another version" if there == row.disk else "others wrote it anew"
                return "write", EDITED if row.digest != part.digest else other
            if there not in part.alone | part.same | part.earlier:
                return "write", "a new NIC"
            return "write", "cloud-init wrote it" + (", without %s" % part.unsaid if part.unsaid else "")
        return "drift", _drift_reason(part, there is not None, row is not None)

    def _adopt(self, part: Staged, row: Owned, as_it_is: bool, reason: str) -> None:
        known, there = self.rows.get(part.place), str(self.disk.get(part.place))
        # A part with another text may lack what Backend.finish adds, and is written again at the next boot.
        plain = as_it_is or (there != part.fingerprint and (known is None or known.plain))
        row = row._replace(disk=there, plain=plain)
        if as_it_is:
            row = row._replace(by="", unsaid=part.unsaid, written=part.found)
        if row != known:
            self._change("adopt", row, None, row, reason)

    def _comes_with_a_boot(self, part: Staged, configured: Set[str]) -> bool:
        """True for a new part that cloud-init does not write, or did not when it wrote the NIC's others (`configured`).

        The lines that belong to it in parts that are adopted unchanged are written with it, at the next boot or edit.
        """
        is_new = part.place not in self.rows and part.place not in self.disk
        return is_new and (not part.alone or part.key in configured)

    def leave(self, want: Want) -> None:
        """Notes a want that a file of other software configures as well as drifted."""
        file = claimed_by(want, self.options.claimed)
        if file and not self.options.force:
            for item in want.items:
                ours = any(row.key == item.key for row in self.rows.values())
                reason = "configured by %s%s" % (file, " as well" if ours else "")
                self.drifted.append(Drift(item.key, item.entry.mac, item.name, file, reason))

    def gone(self, row: Owned, reason: str) -> None:
        """Cleans up a row whose entry is no longer wanted at this place."""
        if row.place in self.taken:
            return  # another NIC has the place now, and its part replaces this one
        there = self.disk.get(row.place)
        if there is not None and row.name in self.options.referred and not self.options.force:
            self._drift(row, "%s depends on it; %s" % (self.options.referred[row.name], reason))
        elif there is None:
            self._change("forget", row, None, None, reason + ", and so is its part")
        elif self._ours(row.place):
            self._change("remove", row, None, None, reason)
            self.touches.append(Touch("down", row.mac, row.name, reason))
        else:
            self._drift(row, "edited externally; " + reason)

    def reapply(self, found: Sequence[Lacking]) -> None:
        """Brings up again the NICs of which the kernel lacks something, unless that was tried without success."""
        drifted = {drift.key for drift in self.drifted}
        touched = {touch.name for touch in self.touches}
        for lacking in found:
            if lacking.name in touched or lacking.key in drifted:
                continue
            if (lacking in self.options.tried or lacking.is_duplicate_address) and not self.options.force:
                self.not_retried.append(lacking)
            else:
                self.touches.append(Touch("kick", lacking.mac, lacking.name, lacking.lacks))

    def _change(self, action: str, row: Owned, text: Optional[str], new_row: Optional[Owned], reason: str) -> None:
        self.changes.append(Change(action, row.key, row.mac, row.name, row.path, row.section, text, new_row, reason))

    def _drift(self, row: Owned, reason: str, differs: Sequence[str] = ()) -> None:
        self.drifted.append(Drift(row.key, row.mac, row.name, row.path, reason, tuple(differs)))


def _drift_reason(part: Staged, there: bool, known: bool) -> str:
    """Returns why a part is left alone, as far as that is known."""
    if known:
        return "changed externally" if there else "removed externally"
    return "differs from what network_data says" if part.differs else "not written by cloudinit-osnetd"


def make(
    wants: Sequence[Want],
    staged: Sequence[Staged],
    disk: Mapping[Place, str],
    ledger: Sequence[Owned],
    snapshot: Optional[Snapshot],
    backend: str,
    options: Options = Options(),  # noqa: B008 - it is immutable
) -> Plan:
    """Returns the plan.

    `staged` has the parts of the wants that need rendering; a part that could not be rendered stays as
    it is. `disk` has the fingerprint of each existing part. `snapshot` is None if nothing will be
    activated.
    """
    planner = _Planner(ledger, disk, backend, snapshot is not None, options)
    for want in wants:
        planner.leave(want)
    rendered_keys = {part.key for part in staged}
    planner.want(staged)
    for row in ledger:
        if row.key in rendered_keys:
            planner.gone(row, "it stands under another name now")
    for row in obsolete_rows(wants, ledger, options.keep):
        planner.gone(row, "the NIC is gone")
    if snapshot is not None:
        # What this plan adopts counts as it is on disk: adopting must not touch the NIC.
        adopted = [change.row for change in planner.changes if change.row is not None]
        planner.reapply(lacks(wants, [*ledger, *adopted], snapshot))
    return Plan(
        tuple(planner.changes), _merged(planner.touches), tuple(planner.drifted), tuple(planner.not_retried)
    )


def ledger_after(ledger: Sequence[Owned], changes: Sequence[Change]) -> Tuple[Owned, ...]:
    """Returns the ledger when the changes are made."""
    rows = {row.place: row for row in ledger}
    # Removals first: a place that one NIC leaves may be the one that another takes.
    for change in changes:
        if change.row is None:
            rows.pop(change.place, None)
    for change in changes:
        if change.row is not None:
            rows[change.place] = change.row
    return tuple(sorted(rows.values()))


def plain_keys(ledger: Sequence[Owned]) -> FrozenSet[str]:
    """Returns the keys whose parts are as cloud-init wrote them by itself."""
    return frozenset(row.key for row in ledger if row.plain)


def lacks(wants: Sequence[Want], ledger: Sequence[Owned], snapshot: Snapshot) -> List[Lacking]:
    """Returns what the kernel lacks of each link of which it lacks anything."""
    plain = plain_keys(ledger)
    found = []
    for want in wants:
        bondless: Dict[str, str] = {}
        for item in sorted(want.items, key=lambda item: item.entry.kind != "bond"):
            nic = snapshot.named(item.name)
            problem = check(item, snapshot, item.key in plain).lacks
            if problem and nic is None:
                # A bond that does not exist has no members: bringing it up alone would leave it without any.
                bondless.update(dict.fromkeys(item.entry.members, problem))
            problem = problem or bondless.get(item.key, "")
            if problem:
                found.append(Lacking(item.key, item.entry.mac, item.name, nic.ifindex if nic else 0, problem))
    return found


def _merged(touches: Sequence[Touch]) -> Tuple[Touch, ...]:
    """Returns one touch for each name. If one NIC loses a name and another gets it, the name is reconfigured."""
    by_name: Dict[str, Touch] = {}
    for touch in touches:
        other = by_name.setdefault(touch.name, touch)
        if other.action != touch.action and "down" in (other.action, touch.action):
            stays = touch if other.action == "down" else other
            by_name[touch.name] = stays._replace(action="reconfigure")
    return tuple(by_name.values())
