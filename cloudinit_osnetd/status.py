# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What there is to say of each NIC and entry; reads, and changes nothing."""

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from . import files, kernel, paths, plan, render, source, store, waiting
from .desired import desired, left_alone
from .ground import Ground, HandsOff, ground, not_followed
from .look import pending_macs


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


def _states(on: Ground, state: store.State, snapshot: kernel.Snapshot) -> List[NicStatus]:
    nics = snapshot.by_mac()
    ignore = on.context.settings.ignore
    last = files.read_json(paths.STATUS) or {}
    items = {item.key: item for want in desired(state.truth, nics, ignore, state.bonds) for item in want.items}
    left = left_alone(state.truth, nics, ignore, state.bonds)
    faults = last.get("faults", [])
    disk = render.disk_parts(on.backend, [row.place for row in state.ledger])
    edited = {row.key for row in state.ledger if disk.get(row.place) != row.disk}
    edited |= {drift["key"] for drift in last.get("drifted", [])}
    claimed = on.backend.claimed(list(items.values()))
    rows = []
    for key, known in sorted(state.truth.keys.items()):
        entry = known.entry
        item = items.get(key)
        nic = snapshot.named(item.name) if item else nics.get(entry.mac)
        name = nic.name if nic else ""
        word, reason = "ok", ""
        if key in left and (nic is not None or entry.kind != "phy"):
            word, reason = "ignored", "osnetd.ignore"
        elif item is None:
            word, reason = "absent", "no NIC has this MAC"
        elif entry.mac in last.get("problems", {}):
            word, reason = "failed", last["problems"][entry.mac]
        elif item.name in claimed:
            word, reason = "drifted", "%s has a say in it too" % claimed[item.name]
        elif key in edited:
            word, reason = "drifted", "its configuration was changed by somebody else"
        elif known.doubted:
            word, reason = "doubted", "it went back to what was superseded a moment ago"
        elif known.orphaned:
            gone = [source for source, said in sorted(known.words.items()) if not said.listed]
            word, reason = "orphan", "no longer listed (%s), its last entry stays" % ", ".join(gone)
        elif plan.unconfigured(item, nic):
            word, reason = "failed", plan.unconfigured(item, nic)
        reason = reason or _fault(faults, entry.mac)
        addresses = tuple(a.address for a in nic.addresses) if nic else ()
        mtu = nic.mtu if nic else entry.mtu or 0
        rows.append(NicStatus(name, entry.mac, key, word, known.in_force, addresses, mtu, reason))
    for mac in pending_macs(state, nics, ignore):
        again = waiting.says(mac, on.context.settings)
        why = _fault(faults, mac) or "no source names it"
        rows.append(_row(nics[mac], "pending", why + (again and ", " + again)))
    named = {known.entry.mac for known in state.truth.keys.values()}
    rows += [
        _row(nic, "ignored", "osnetd.ignore, and no source names it")
        for mac, nic in sorted(nics.items())
        if mac not in named and (mac in ignore or nic.name in ignore)
    ]
    return rows


def _fault(faults: Sequence[str], mac: str) -> str:
    """What the last run found wrong in what a source says of this MAC, empty where nothing is."""
    return "; ".join(fault for fault in faults if mac in fault)


def _row(nic: kernel.Nic, word: str, reason: str) -> NicStatus:
    """The row of a NIC that has no entry."""
    return NicStatus(nic.name, nic.mac, "", word, "", tuple(a.address for a in nic.addresses), nic.mtu, reason)


def read() -> Dict[str, Any]:
    """The whole status as plain data, for --json and for the table."""
    snapshot = kernel.snapshot()
    report: Dict[str, Any] = {
        "instance_id": store.instance_id(),
        "datasource": source.datasource(),
        "boot": files.read_json(paths.BOOT) or {"rung": "none"},
        "last_run": files.read_json(paths.STATUS),
        "hands_off": "",
        "backend": "",
        "nics": [],
    }
    try:
        on = ground(remember=False)
    except HandsOff as exc:
        report["hands_off"] = str(exc)
        return report
    report["hands_off"] = not_followed(on.context.updates)
    state = store.load(on.instance_id)
    report["backend"] = on.backend.name
    report["metadata_via"] = state.answered
    report["nics"] = [dict(row._asdict()) for row in _states(on, state, snapshot)]
    return report
