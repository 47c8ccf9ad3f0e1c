# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`show`: what a run decided and did, why, and the difference of each file."""

import argparse
import difflib
import sys
from typing import Any, Dict, List, Optional, Sequence

from ..state import history
from .history import result_of, time_of
from .output import print_json
from .report import print_decided

EXIT_NO_SUCH_RUN = 2
# What a record of an older version may lack.
_EMPTY: Dict[str, Any] = {
    "changes": [],
    "touches": [],
    "drifted": [],
    "faults": [],
    "pending": [],
    "findings": {},
    "problems": {},
}


def _last_text(earlier: Sequence[Dict[str, Any]], change: Dict[str, Any]) -> Optional[str]:
    """Returns what an earlier run wrote, adopted or removed there; None if no record tells."""
    for record in reversed(earlier):
        for other in record.get("changes", ()):
            if (other["file"], other["section"]) == (change["file"], change["section"]):
                return other["text"] or ""
    return None


def diffs(earlier: Sequence[Dict[str, Any]], record: Dict[str, Any]) -> List[str]:
    """Returns the unified diff of each part that a run wrote or removed, against the last one that is recorded."""
    lines: List[str] = []
    for change in record.get("changes", ()):
        if change["action"] not in ("write", "remove"):
            continue
        name = "%(file)s: %(section)s" % change if change["section"] else change["file"]
        before, after = _last_text(earlier, change), change["text"] or ""
        said = name + (" (not recorded)" if before is None else " (before)"), name + " (after)"
        lines += difflib.unified_diff((before or "").splitlines(), after.splitlines(), *said, lineterm="")
    return lines


def main(args: argparse.Namespace) -> int:
    records = history.read()
    numbers = [record["run"] for record in records]
    if not records or (args.run is not None and args.run not in numbers):
        kept = "runs %d to %d are kept" % (numbers[0], numbers[-1]) if records else "no run has changed anything yet"
        asked = "no run %d" % args.run if args.run is not None else "nothing to show"
        sys.stderr.write("cloudinit-osnetd: %s: %s (see cloudinit-osnetd history)\n" % (asked, kept))
        return EXIT_NO_SUCH_RUN
    place = numbers.index(args.run) if args.run is not None else len(records) - 1
    record = dict(_EMPTY, **records[place])
    lines = diffs(records[:place], record)
    if args.json:
        print_json(dict(record, diff=lines))
        return 0
    reasons = ", ".join(record.get("reasons", ())) or "unknown"
    took = "%.1f s" % record["seconds"] if isinstance(record.get("seconds"), (int, float)) else "-"
    print("run      %d: %s" % (record["run"], result_of(record)))
    print("time     %s, %s" % (time_of(record), took))
    print("reason   %s\n" % reasons)
    print_decided(dict(record, drifted=[dict({"differs": []}, **drift) for drift in record["drifted"]]))
    for command in record.get("commands", ()):
        print("command: %s" % command)
    sys.stdout.write("".join("%s\n" % line for line in [""] * bool(lines) + lines))
    return 0
