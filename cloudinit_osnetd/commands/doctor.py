# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`doctor`: checks of what goes wrong in the field, with what to do about each."""

import argparse
from typing import Dict, List, Sequence

from ..doctor import examine
from ..doctor.result import Result
from .output import coloured, print_json, printable, width, wrapped

EXIT_FAILED = 1
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def main(args: argparse.Namespace) -> int:
    """Ends with 1 if a check failed; a warning is not a failure."""
    results = examine()
    if args.bundle:
        from ..doctor.bundle import write

        write(args.bundle, results)
        print("written: %s (look through it before you send it)" % args.bundle)
    elif args.json:
        print_json({"checks": [dict(one._asdict()) for one in results], "failed": count(results)["failed"]})
    else:
        print("\n".join(screen(results, width())))
    return EXIT_FAILED if count(results)["failed"] else 0


def count(results: Sequence[Result]) -> Dict[str, int]:
    return {state: sum(one.state == state for one in results) for state in _COLOURS}


def screen(results: Sequence[Result], wide: int) -> List[str]:
    """Returns the lines of the screen, `wide` columns at most (0: any)."""
    lines: List[str] = []
    for one in results:
        label = "%-8s  %-12s  " % (one.state, one.name)
        first, *later = wrapped(printable(one.found), wide, label)
        lines += [coloured(one.state, _COLOURS[one.state]) + first[len(one.state) :], *later]
        if one.advice:
            lines += wrapped(printable("do: " + one.advice), wide, " " * len(label))
    counted = count(results)
    total = "%d checks: %s" % (len(results), ", ".join("%d %s" % (counted[s], s) for s in _COLOURS if counted[s]))
    return [*lines, "", total]
