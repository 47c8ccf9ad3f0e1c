# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`history`: lists the runs that changed something, newest first."""

import argparse
from typing import Any, Dict, List

from ..state import history
from .output import print_json, print_table, time_text


def time_of(record: Dict[str, Any]) -> str:
    """Returns the time of a record in the server's time zone."""
    return time_text(float(record.get("when") or 0))


def result_of(record: Dict[str, Any]) -> str:
    """Returns how a run ended, in a few words."""
    touches = record.get("touches", ())
    back = sorted({touch["name"] for touch in touches if touch["reason"] == "rolled back"})
    if back:
        return "rolled back: " + ", ".join(back)
    back = sorted({touch["name"] for touch in touches if touch["reason"].startswith("not confirmed")})
    if back:
        return "taken back: " + ", ".join(back)
    names = {touch["mac"]: touch["name"] for touch in record.get("touches", ())}  # where an older version wrote it
    names.update(record.get("names", {}))
    failed = [names.get(mac, mac) for mac in sorted(record.get("problems", {}))]
    return "failed: " + ", ".join(failed) if failed else "done"


def nics_of(record: Dict[str, Any]) -> str:
    names = {touch["name"] for touch in record.get("touches", ())}
    return ", ".join(sorted(names | {change["nic"] for change in record.get("changes", ())}))


def main(args: argparse.Namespace) -> int:
    records: List[Dict[str, Any]] = history.read()[::-1][: args.number]
    if args.json:
        print_json(records)
    elif records:
        rows = [[r["run"], time_of(r), ", ".join(r.get("reasons", ())), nics_of(r), result_of(r)] for r in records]
        print_table(["RUN", "TIME", "REASON", "NICS", "RESULT"], rows)
    else:
        print("no run has changed anything on this instance yet")
    return 0
