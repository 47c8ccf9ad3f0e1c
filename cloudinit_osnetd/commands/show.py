# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`show`: what a run decided and did, why, and the difference of each file."""

import argparse
import difflib
from typing import Any, Dict, List, Sequence, Tuple

from ..state import history
from .history import result_of, time_of
from .output import complain, print_json
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


def _follow(texts: Dict[Tuple[str, str], str], change: Dict[str, Any]) -> None:
    """Records in `texts`, by file and section, what a change left there; an adopted text is not in the record."""
    place = change["file"], change["section"]
    if change["action"] in ("write", "remove", "forget"):
        texts[place] = change["text"] or ""
    else:
        texts.pop(place, None)


def diffs(earlier: Sequence[Dict[str, Any]], record: Dict[str, Any]) -> List[str]:
    """Returns the unified diff of each part that a run wrote or removed, in the order in which it did so.

    It is against what was on disk before. Where the record does not have that (a rollback, an older version), it is
    against what a run left there last, this one included; what early boot, other software or a person wrote since is in
    no record.
    """
    texts: Dict[Tuple[str, str], str] = {}
    for before in earlier:
        for change in before.get("changes", ()):
            _follow(texts, change)
    lines: List[str] = []
    for change in record.get("changes", ()):
        if change["action"] in ("write", "remove"):
            name = "%(file)s: %(section)s" % change if change["section"] else change["file"]
            old, how = change.get("before"), "before"
            if old is None:
                old = texts.get((change["file"], change["section"]))
                how = "not recorded" if old is None else "last recorded"
            new = change["text"] or ""
            names = "%s (%s)" % (name, how), name + " (after)"
            lines += difflib.unified_diff((old or "").splitlines(), new.splitlines(), *names, lineterm="")
        _follow(texts, change)
    return lines


def main(args: argparse.Namespace) -> int:
    records = history.read()
    numbers = [record["run"] for record in records]
    if not records or (args.run is not None and args.run not in numbers):
        kept = "runs %d to %d are kept" % (numbers[0], numbers[-1]) if records else "no run has changed anything yet"
        asked = "no run %d" % args.run if args.run is not None else "nothing to show"
        complain("%s: %s (see `cloudinit-osnetd history`)" % (asked, kept))
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
    if lines:
        print("\n" + "\n".join(lines))
    return 0
