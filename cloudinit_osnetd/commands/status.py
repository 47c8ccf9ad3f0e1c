# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`status`: one screen with the sources, each NIC with its state and the reason, the last run, and what to do next."""

import argparse
import shutil
import sys
import time
from typing import Any, Dict, List

from ..run import status
from .history import nics_of, result_of
from .output import age_text, coloured, columns, print_json, printable, table_rows, time_text, width, wrapped

_STATE_COLOURS = {
    "ok": "green",
    "failed": "red",
    "pending": "yellow",
    "doubted": "yellow",
    "drifted": "yellow",
    "orphan": "yellow",
}
_LABEL = "%-11s "
_INDENT = "    "
_NOT_FROM = ("rejected until ", "rolled back: ")  # the NIC does not have what its source says
_CLEAR = "\033[H\033[2J"  # the cursor to the first line; the screen


def main(args: argparse.Namespace) -> int:
    if args.watch is not None:
        return _watch(args)
    report = status.read()
    _show(args, report)
    return _exit_status(report)


def _show(args: argparse.Namespace, report: Dict[str, Any]) -> None:
    if args.json:
        print_json(report)
    else:
        rows = shutil.get_terminal_size().lines if sys.stdout.isatty() else 0
        print("\n".join(screen(report, time.time(), width(), rows)))


def _exit_status(report: Dict[str, Any]) -> int:
    return 1 if any(row["state"] == "failed" for row in report["nics"]) else 0


def _watch(args: argparse.Namespace) -> int:
    """Shows the status again and again, until Ctrl-C: on a terminal in place, else one below the other."""
    report: Dict[str, Any] = {}
    try:
        while True:
            report = status.read()
            if sys.stdout.isatty() and not args.json:
                sys.stdout.write(_CLEAR)
            _show(args, report)
            sys.stdout.flush()
            time.sleep(args.watch)
    except KeyboardInterrupt:
        return _exit_status(report) if report else 0


def screen(report: Dict[str, Any], now: float, wide: int, rows: int) -> List[str]:
    """Returns the lines of the screen. `wide` and `rows` are those of the terminal, 0 for any."""
    level = report["boot"].get("level")
    backend = ", " + report["backend"] if report["backend"] else ""
    lines = _field("instance", "%s (%s%s)" % (report["instance_id"] or "-", report["datasource"] or "-", backend), wide)
    lines += _field("this boot", "network config from fallback level: %s" % level, wide)
    if report["hands_off"]:
        lines += _field("unmanaged", report["hands_off"], wide, "yellow")
    if report["backend"]:
        for source in report.get("sources", ()):
            lines += _source(source, report, now, wide)
    for trial in report.get("on_trial", ()):
        lines += _field("on trial", _trial_text(trial, now), wide, "yellow")
    if report["backend"]:
        if report.get("taken_back"):
            lines += _field("taken back", report["taken_back"], wide, "yellow")
        lines += _field("last run", _run_text(report.get("last_run"), now), wide)
    steps = [line for step in report.get("next", ()) for line in _field("next", step, wide, "bold")]
    nics = _nics(report["nics"], wide, rows - len(lines) - len(steps) - 3 if rows else 0)
    return lines + ([""] + nics if nics else []) + ([""] + steps if steps else [])


def _field(label: str, text: str, wide: int, colour: str = "") -> List[str]:
    first, *later = wrapped(printable(text), wide, _LABEL % label)
    return [coloured(label, colour or "dim") + first[len(label) :], *later]


def _source(source: Dict[str, Any], report: Dict[str, Any], now: float, wide: int) -> List[str]:
    """Returns the lines of one source: what it says, whether it answers, for which NICs it is in force."""
    name = source["source"]
    about = ["%d link%s" % (source["listed"], "" if source["listed"] == 1 else "s")]
    when = (report.get("last_run") or {}).get("when") or 0
    if name == "metadata" and source["answered"] and when:
        # Not a bond or a VLAN, which may have its MAC.
        names = {row["mac"]: row["name"] for row in report["nics"] if row["key"].endswith("/phy")}
        via = report.get("metadata_via") or ""
        about.append("answered %s%s" % (age_text(now - when), " via " + (names.get(via) or via) if via else ""))
    elif source["answered"] is False:
        about.append("no valid answer in the last run" if name == "metadata" else "not here any more")
    if source["changed"]:
        about.append(("pushed " if name == "push" else "last change ") + time_text(source["changed"]))
    why: Dict[str, List[str]] = {}
    for nic, reason in sorted(source["superseded"].items()):
        why.setdefault(reason, []).append(nic)
    if source["in_force"]:
        about.append("in force for " + " ".join(source["in_force"]))
    no = "not for" if source["in_force"] else "not in force for"
    about += ["%s %s: %s" % (no, " ".join(nics), reason) for reason, nics in sorted(why.items())]
    lines = _field(name, "; ".join(about), wide)
    for fault in source["faults"]:
        told = fault[len(name) + 1 :] if fault.startswith(name + " via ") else fault
        lines += wrapped(printable("fault: " + told), wide, " " * columns(_LABEL % ""))
    return lines


def _trial_text(trial: Dict[str, Any], now: float) -> str:
    left = max(0, trial["until"] - now)
    until = "until %s (%d s left); " % (time_text(trial["until"]), left) if trial["until"] else ""
    return "%s: %s%s" % (" ".join(trial["nics"]), until, trial["ends"])


def _run_text(record: Any, now: float) -> str:
    """Returns the last run of this boot: when, why, and how it ended."""
    if not isinstance(record, dict) or not record.get("when"):
        return "none since the server booted"
    nics = nics_of(record)
    result = result_of(record)
    took = record.get("seconds")
    took_text = " in %.1f s" % took if isinstance(took, (int, float)) and nics else ""
    if not nics:
        did = "nothing to do" if result == "done" else result
    elif result == "done":
        did = "%s: done%s" % (nics, took_text)
    elif result.endswith(": " + nics):  # "rolled back: ens3"
        did = result + took_text
    else:
        did = "changed %s%s; %s" % (nics, took_text, result)
    return "%s (%s), %s; %s" % (
        time_text(record["when"]), age_text(now - record["when"]), ", ".join(record.get("reasons", ())) or "-", did,
    )  # fmt: skip


def _nics(rows: List[Dict[str, Any]], wide: int, room: int) -> List[str]:
    """Returns the lines of the NICs. If there is not enough `room` (0: any), those of ok NICs have no details."""
    if not rows:
        return []
    cells = [[row["name"], row["mac"], row["state"], row.get("port", "")] for row in rows]
    header, *heads = table_rows(["NIC", "MAC", "STATE", "PORT"], cells, wide)
    details = [_details(row, wide) for row in rows]
    if room and sum(map(len, heads)) + sum(map(len, details)) + 1 > room:
        details = [[] if row["state"] == "ok" and not row["findings"] else lines for row, lines in zip(rows, details)]
    lines = [coloured(line, "bold") for line in header]
    for row, head, detail in zip(rows, heads, details):
        state = row["state"]
        head[0] = head[0].replace("  %s " % state, "  %s " % coloured(state, _STATE_COLOURS.get(state, "dim")), 1)
        lines += head + detail
    return lines


def _details(row: Dict[str, Any], wide: int) -> List[str]:
    """Returns what a NIC has, and why its state is not ok."""
    has = list(row["addresses"]) or ["no address"]
    if row["mtu"]:
        has.append("MTU %d" % row["mtu"])
    if row["source"] and not row["reason"].startswith(_NOT_FROM):
        has.append("from " + row["source"])
    texts = ([", ".join(has)] if row["name"] else []) + ([row["reason"]] if row["reason"] else [])
    texts += [*row["findings"], *row["differs"]]
    return [line for text in texts for line in wrapped(printable(text), wide, _INDENT)]
