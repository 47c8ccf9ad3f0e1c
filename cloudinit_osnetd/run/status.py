# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The state of each NIC and each entry. Reads only, and changes nothing."""

import time
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ..apply import commit, pending_confirmation, provisional_push, stale_addresses
from ..apply.verify import dns_findings
from ..cloud_init import instance
from ..cloud_init.eligibility import NotManaged, RunContext, not_followed, run_context
from ..core import provisional, rejections, truth
from ..core.conformance import CONFORMS, check
from ..core.desired import desired, names_of_bonds, unmanaged
from ..core.network_data import link_id, make_key
from ..core.records import Nic, Snapshot
from ..kernel import netlink
from ..planning import additions, bond_names, render
from ..planning.build_plan import pending_macs
from ..state import findings as findings_kept
from ..state import run_lock, store
from ..system import files, paths
from . import advice, corrections, recheck_timer, source_status

_TRIES = 5


class NicStatus(NamedTuple):
    """One row: a NIC with an entry, a NIC without one, or an entry without a NIC."""

    name: str
    mac: str
    key: str
    state: str  # ok, absent, pending, orphan, doubted, drifted, ignored, failed
    source: str
    addresses: Tuple[str, ...]  # of the kernel
    mtu: int
    reason: str
    findings: Tuple[str, ...] = ()
    differs: Tuple[str, ...] = ()  # of a drifted one: + is wanted and not on disk, - is on disk and not wanted
    port: str = ""  # the id of its port, if a source told it


class _View:
    """Everything that the status is derived from, read once."""

    def __init__(self, on: RunContext, state: store.State, snapshot: Snapshot, at_work: FrozenSet[str]) -> None:
        now = time.time()
        self.at_work = at_work  # names of the NICs that a run is bringing up now
        self.settings = on.context.settings
        self.snapshot, self.nics = snapshot, snapshot.by_mac()
        self.state = state = bond_names.known(state, self.nics, snapshot, on.backend)
        self.last = files.read_json(paths.STATUS) or {}
        self.rejected = rejections.in_force(state.truth, state.rejections, now)
        self.asks_openstack = on.asks_openstack
        believed = rejections.apply(state.truth, state.rejections, now)
        named = names_of_bonds(state.bonds, state.truth, self.nics, on.context.bond_names)
        wanted = desired(believed, self.nics, self.settings.ignore, named, state.metrics)
        self.items = {item.key: item for want in wanted for item in want.items}
        self.left = unmanaged(state.truth, self.nics, self.settings.ignore, named)
        disk = render.disk_parts(on.backend, [row.place for row in state.ledger])
        # What others have made of our parts: if they have only added to one, it is ours, and its NIC is followed.
        self.by_others = additions.changes(on.backend, state.ledger, disk)
        followed = {place for place, change in self.by_others.items() if self._is_followed(change)}
        edited = [row for row in state.ledger if disk.get(row.place) != row.disk and row.place not in followed]
        self.edited = {row.key for row in edited}
        self.place_of = {row.place: row.key for row in state.ledger}
        self.drifted = {drift["key"]: drift for drift in self.last.get("drifted", [])}
        self.claimed = on.backend.claimed(list(self.items.values()))
        self.left_over = stale_addresses.certainly_stale(state, self.items, snapshot) if state.unwanted else {}
        self.kept_findings = findings_kept.read()
        self.on_trial = pending_confirmation.keys(state)
        self.plain = {row.key for row in state.ledger if row.plain}
        self.unsaid = {row.key: row for row in state.ledger if row.plain and row.unsaid}
        self.unused_dns = dns_findings(list(self.items.values()), on.backend, snapshot)

    def _is_followed(self, change: additions.Change) -> bool:
        return change.followed and not (change.lines and self.settings.drift == "correct")

    def _changes(self, key: str) -> List[additions.Change]:
        return [change for place, change in sorted(self.by_others.items()) if self.place_of[place] == key]

    def _added(self, key: str) -> Tuple[str, ...]:
        """Returns what others have added to the part of a link, as a finding."""
        lines = [line for change in self._changes(key) if self._is_followed(change) for line in change.lines]
        return ("others have added to its configuration: " + "; ".join(lines),) if lines else ()

    def _differs(self, key: str) -> Tuple[str, ...]:
        """Returns what others have changed of a part, as the last run found it or as it is now."""
        if key in self.drifted:
            return tuple(self.drifted[key].get("differs", ()))
        return tuple(line for change in self._changes(key) if not self._is_followed(change) for line in change.lines)

    def of_entry(self, key: str) -> NicStatus:
        known, item = self.state.truth.keys[key], self.items.get(key)
        entry = known.entry
        nic = self.snapshot.named(item.name) if item else self.nics.get(entry.mac)
        verdict = check(item, self.snapshot, key in self.plain) if item else CONFORMS
        word, reason = self._word(key, known, nic, verdict.lacks)
        if key in self.on_trial and word in ("ok", "failed"):
            reason = "; ".join(filter(None, ["not confirmed yet", reason]))
        refused = self.state.truth.refused(key)
        if refused and word != "ignored" and refused not in reason:
            # It keeps its network. But a check for states other than ok must show that edits are refused.
            word = "failed" if word in ("ok", "doubted", "orphan") else word
            kept = "its new entry is refused, its last valid entry is kept: " + refused
            reason = "; ".join(filter(None, [reason, kept]))
        findings = verdict.findings + (self.unused_dns.get(item.link, ()) if item and entry.networks else ())
        findings += self.kept_findings.get(link_id(key), ())
        if key in self.unsaid:
            row = self.unsaid[key]
            findings += ("%s lacks %s: it is written at the next boot or edit" % (row.path, row.unsaid),)
        findings += self._added(key)
        findings += tuple(stale_addresses.text_of(address) for address in sorted(self.left_over.get(key, ())))
        if item is None and entry.kind != "phy":
            nic = None  # it is a parent or a member that has this MAC
        return NicStatus(
            name=nic.name if nic else item.name if item else "",
            mac=entry.mac,
            key=key,
            state=word,
            source=known.in_force,
            addresses=_addresses(nic) if nic else (),
            mtu=nic.mtu if nic else entry.mtu or 0,
            reason=reason or self._fault(entry.mac),
            findings=() if word in ("ignored", "drifted") else findings + self._minor(key),
            differs=self._differs(key) if word == "drifted" else (),
            port=_port(known),
        )

    def _word(self, key: str, known: truth.KeyTruth, nic: Optional[Nic], lacks: str) -> Tuple[str, str]:
        """Returns the state, and the reason if it is not "ok"."""
        item, link = self.items.get(key), link_id(key)
        if key in self.left and (nic is not None or known.entry.kind != "phy"):
            return "ignored", "osnetd.ignore"
        refused = self.rejected.get(key)
        if refused is not None and nic is not None and not refused.lasting:
            return "failed", str(refused)
        if refused is not None and nic is not None and item is None:
            return "ok", str(refused)
        if item is None:
            beneath = [self.state.truth.refused(one) for one in (known.entry.parent, *known.entry.members) if one]
            if any(beneath):
                return "failed", "its parent or a member is refused: " + "; ".join(filter(None, beneath))
            return "absent", "no NIC has this MAC"
        if item.name in self.at_work:
            return ("pending", "a run is bringing it up: " + lacks) if lacks else ("ok", "")
        if link in self.last.get("problems", {}):
            return "failed", str(self.last["problems"][link])
        if item.name in self.claimed:
            return "drifted", "also configured by %s" % self.claimed[item.name]
        if key in self.drifted:
            path, reason = (self.drifted[key].get(word, "") for word in ("path", "reason"))
            told = "%s: %s" % (path, reason)
            return "drifted", told + (self._corrected(key) if key in self.edited else "")
        if key in self.edited:
            return "drifted", "its configuration was changed externally" + self._corrected(key)
        if known.doubted:
            return "doubted", "its source returned to an entry that was replaced a moment ago"
        if known.orphaned:
            gone = [source for source, said in sorted(known.statements.items()) if not said.listed]
            return "orphan", "no longer listed (%s), its last entry is kept" % ", ".join(gone)
        return ("failed", lacks) if lacks else ("ok", str(refused or ""))

    def _corrected(self, key: str) -> str:
        text = corrections.text_of(key, self.settings, time.monotonic())
        return text and ", " + text

    def without_entry(self) -> Iterator[NicStatus]:
        """Yields the rows of NICs that no source lists."""
        ignore = self.settings.ignore
        for mac in pending_macs(self.state, self.nics, ignore):
            again = recheck_timer.text_of(mac, self.settings)
            refused = self.state.truth.refused(make_key("phy", mac))
            if not self.asks_openstack and not refused:
                yield _row(self.nics[mac], "ignored", "nothing was pushed for it, and this server is not OpenStack's")
                continue
            why = refused or self._fault(mac) or "no source names it"
            yield _row(self.nics[mac], "failed" if refused else "pending", why + (again and ", " + again))
        named = {known.entry.mac for known in self.state.truth.keys.values()}
        for mac, nic in sorted(self.nics.items()):
            if mac not in named and (mac in ignore or nic.name in ignore):
                yield _row(nic, "ignored", "osnetd.ignore, and no source names it")

    def refused_devices(self) -> Iterator[NicStatus]:
        """Yields the rows of bonds and VLANs that a source lists with an error and that were never valid before."""
        known = self.state.truth
        wrong = {fault.key: fault for said in known.faults.values() for fault in said if fault.costs and fault.key}
        for key, fault in sorted(wrong.items()):
            if key not in known.keys and not key.endswith("/phy"):
                yield NicStatus("", fault.mac, key, "failed", "", (), 0, known.refused(key))

    def _minor(self, key: str) -> Tuple[str, ...]:
        """Returns the faults of single fields of a link: they are ignored, while the rest of its entry is used."""
        return tuple(fault.text for fault in self.state.truth.faults_of(key) if not fault.costs)

    def _fault(self, mac: str) -> str:
        """Returns the faults that the last run found in a source's data for this MAC, empty if none."""
        return "; ".join(fault for fault in self.last.get("faults", []) if mac in fault)


def _states(on: RunContext, snapshot: Snapshot) -> Tuple[store.State, List[NicStatus]]:
    """Returns the state and its rows as of one moment, even if a run is changing them."""
    tries = 0
    while True:
        tries += 1
        stamp, intent = store.stamp(), store.read_intent()
        state, touches = commit.match_disk(store.load(on.instance_id), intent, on.backend)
        names = frozenset(touch.name for touch in touches if touch.action != "down")
        view = _View(on, state, snapshot, names if names and run_lock.at_work() else frozenset())
        if store.stamp() == stamp or tries == _TRIES:
            return state, _rows(view)


def _rows(view: _View) -> List[NicStatus]:
    state = view.state
    rows = [view.of_entry(key) for key in sorted(state.truth.keys)]
    rows += list(view.refused_devices()) + list(view.without_entry())
    # As `ip link` shows them, then those that the kernel does not have.
    present = {nic.name: nic.ifindex for nic in view.snapshot.nics}
    return sorted(rows, key=lambda row: (row.name not in present, present.get(row.name, 0), row.name))


def _port(known: truth.KeyTruth) -> str:
    """Returns the id of a key's port, as the source in force told it, or else any other."""
    told = [known.statement.port] + [known.statements[source].port for source in sorted(known.statements)]
    return next(filter(None, told), "")


def _differs(before: truth.Truth, now: truth.Truth, key: str) -> bool:
    """True if another entry is in force for a key, or other global DNS that it uses; a push says these of every NIC."""
    if key not in before.keys or key not in now.keys:
        return True
    return rejections.content(before.keys[key]) != rejections.content(now.keys[key])


def _on_trial(state: store.State, names: Mapping[str, str], managed: bool = True) -> List[Dict[str, Any]]:
    """Returns the changes that are in force and may be rolled back, each with its NICs, and until when.

    `until` is in seconds since the epoch, 0 if it depends on a run; `ends` says what decides.
    """
    trials: List[Dict[str, Any]] = []
    held = provisional.read(state.provisional) if state.provisional else None
    if held is not None:
        pushed = sorted(names.get(key) or key for key in held.changed if _differs(held.truth, state.truth, key))
        until, ends = round(held.until, 1), "taken back unless `cloudinit-osnetd confirm` comes"
        if not managed:
            until, ends = 0.0, "taken back once the network is managed again"
            if provisional_push.reason(state) != provisional_push.REBOOTED:
                ends += ", unless `cloudinit-osnetd confirm` comes"
        trials.append({"nics": pushed, "until": until, "ends": ends, "run": held.run})
    keys = pending_confirmation.keys(state)
    if keys:
        ends = "the run at work checks it" if run_lock.at_work() else "the next run checks it"
        trials.append({"nics": sorted(names.get(key) or key for key in keys), "until": 0.0, "ends": ends})
    return trials


def _addresses(nic: Nic) -> Tuple[str, ...]:
    return tuple(address.address for address in nic.addresses)


def _row(nic: Nic, word: str, reason: str) -> NicStatus:
    """Returns the row of a NIC that has no entry."""
    return NicStatus(nic.name, nic.mac, "", word, "", _addresses(nic), nic.mtu, reason)


def _boot() -> Dict[str, Any]:
    """Returns the fallback level that provided this boot's network config, and what the early unit did."""
    noted, early = files.read_json(paths.BOOT), files.read_json(paths.EARLY)
    boot = dict(noted) if isinstance(noted, dict) else {"level": "none"}
    return boot if early is None else dict(boot, early=early)


def _refused_whole(last_run: Any) -> List[str]:
    """Returns the faults of documents that the last run could not use at all: the earlier entries are kept."""
    faults = last_run.get("faults", []) if isinstance(last_run, dict) else []
    return [str(fault) for fault in faults if ": network_data" in str(fault) or str(fault).startswith("network_data")]


def read() -> Dict[str, Any]:
    """Returns the whole status as plain data, for --json and for the table."""
    snapshot = netlink.snapshot()
    report: Dict[str, Any] = {
        "instance_id": instance.instance_id(),
        "datasource": instance.datasource(),
        "boot": _boot(),
        "last_run": files.read_json(paths.STATUS),
        "hands_off": "",
        "backend": "",
        "faults": [],
        "nics": [],
        "sources": [],
        "on_trial": [],
        "taken_back": "",
        "next": [],
    }
    try:
        on = run_context(remember=False)
    except NotManaged as exc:
        report["hands_off"] = str(exc)
        if report["instance_id"]:
            state = store.load(report["instance_id"])
            report["on_trial"] = _on_trial(state, {row.key: row.name for row in state.ledger}, managed=False)
        report["next"] = advice.next_steps(report)
        return report
    report["hands_off"] = not_followed(on.context.updates)
    state, rows = _states(on, snapshot)
    report["backend"] = on.backend.name
    report["metadata_via"] = state.answered
    kept = [text for of in truth.RANK for text in state.truth.fault_texts(of)]
    report["faults"] = kept + [text for text in _refused_whole(report["last_run"]) if text not in kept]
    report["nics"] = [dict(row._asdict()) for row in rows]
    names = {row.key: row.name for row in rows if row.key and row.name}
    report["sources"] = source_status.sources(state, report["last_run"], names)
    report["on_trial"] = _on_trial(state, names)
    report["next"] = advice.next_steps(report)
    report["taken_back"] = state.taken_back
    return report
