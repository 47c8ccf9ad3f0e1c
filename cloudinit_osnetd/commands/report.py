# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The output of plan and reconcile, as plain data and as text."""

from typing import Any, Dict, List, Mapping, Sequence

from ..core.plan import Change, Drift
from ..core.records import Touch


def decided(
    changes: Sequence[Change],
    touches: Sequence[Touch],
    drifted: Sequence[Drift],
    faults: Sequence[str],
    problems: Mapping[str, str],
    pending: Sequence[str],
    findings: Mapping[str, Sequence[str]],
) -> Dict[str, Any]:
    """Returns the report as plain data. `changes` and `touches` are empty if nothing is, or was, to be done."""
    return {
        "changes": [_change(change) for change in changes],
        "touches": [dict(touch._asdict()) for touch in touches],
        "drifted": [dict(drift._asdict()) for drift in drifted],
        "faults": list(faults),
        "problems": dict(problems),
        "pending": list(pending),
        "findings": {link: list(said) for link, said in findings.items()},
    }


def _change(change: Change) -> Dict[str, Any]:
    told = {
        "action": change.action,
        "mac": change.mac,
        "nic": change.name,
        "file": change.path,
        "section": change.section,
        "text": change.text,
        "reason": change.reason,
    }
    return told if change.before is None else dict(told, before=change.before)


def _table(changes: Sequence[Dict[str, Any]], touches: Sequence[Dict[str, Any]], wide: int) -> List[str]:
    """Returns the lines of the table; if it is wider than `wide`, the file of a row is on a line of its own."""
    from .output import columns, printable, table, table_rows, wrapped

    rows = [[c["action"], c["nic"], c["mac"], c["file"], c["reason"]] for c in changes]
    rows += [[t["action"], t["name"], t["mac"], "", t["reason"]] for t in touches]
    header = ["ACTION", "NIC", "MAC", "FILE", "REASON"]
    lines = table(header, rows, 0)
    if not wide or all(columns(line) <= wide for line in lines):
        return lines
    first, *others = table_rows(header[:3] + header[4:], [row[:3] + row[4:] for row in rows], wide)
    lines = list(first)
    for row, short in zip(rows, others):
        lines += short + (wrapped(printable(row[3]), wide, "    ") if row[3] else [])
    return lines


def print_decided(report: Dict[str, Any]) -> None:
    from .output import printable, width, wrapped  # for people; the service needs none of it

    wide = width()
    if report["changes"] or report["touches"]:
        print("\n".join(_table(report["changes"], report["touches"], wide)))
    else:
        left = any(report[what] for what in ("drifted", "faults", "pending", "problems"))
        print(report.get("nothing", "no change" if left else "nothing to do"))
    lines: List[str] = []
    for drift in report["drifted"]:
        lines.append("drifted, left alone: %(name)s: %(reason)s (%(path)s)" % drift)
        lines += ["    " + line for line in drift["differs"]]
    lines += ["fault: " + fault for fault in report["faults"]]
    lines += ["pending: %s: no source names it yet" % mac for mac in report["pending"]]
    lines += ["finding: %s: %s" % (link, text) for link, said in sorted(report["findings"].items()) for text in said]
    names = {row["mac"]: row["nic"] for row in report["changes"]}
    names.update((touch["mac"], touch["name"]) for touch in report["touches"])
    names.update(report.get("names", {}))
    for link, text in sorted(report["problems"].items()):
        lines.append("FAILED: %s: %s" % ("%s (%s)" % (names[link], link) if names.get(link) else link, text))
    for line in lines:
        print("\n".join(wrapped(printable(line), wide, indent="    ")))


def print_next(report: Dict[str, Any]) -> None:
    """Prints what to do about what a run could not do, or has left alone."""
    if not report["problems"] and not report["drifted"]:
        return
    from ..run import advice  # a run that has no problem needs none
    from .output import printable, width, wrapped

    for step in advice.after_run(report):
        print("\n".join(wrapped(printable("next: " + step), width(), indent="    ")))
