# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`rollback [RUN]`: the NICs back as they were before a run, until a source says something new for them."""

from typing import TYPE_CHECKING, Any, Dict

from ..cloud_init.eligibility import NotManaged
from ..run.reconcile import run
from ..run.record import Undo
from ..run.undo import NoSuchRun, NothingToUndo, NotKept
from ..state import run_lock
from .output import complain, print_json
from .reconcile import announce, as_json, keep, note
from .report import print_decided, print_next

if TYPE_CHECKING:
    import argparse

EXIT_NIC_FAILED, EXIT_NO_SUCH_RUN, EXIT_ROLLED_BACK = 1, 2, 4
EXIT_NOT_MANAGED, EXIT_BUSY, EXIT_NOTHING, EXIT_TOO_LATE = 5, 6, 8, 9
# Nothing was changed: the JSON key, and the exit status.
_REFUSALS = {
    NoSuchRun: ("no_such_run", EXIT_NO_SUCH_RUN),
    NotManaged: ("hands_off", EXIT_NOT_MANAGED),
    run_lock.Busy: ("busy", EXIT_BUSY),
    NothingToUndo: ("nothing_to_roll_back", EXIT_NOTHING),
    NotKept: ("too_late", EXIT_TOO_LATE),
}


def main(args: "argparse.Namespace") -> int:
    """Ends with the exit status that the manual page lists; nothing was changed where it is 2, 5, 6, 8 or 9."""
    report: Dict[str, Any]
    try:
        report = as_json(run(["rollback"], patient=False, note=note, keep=keep, undo=Undo(args.run, args.timeout)))
    except tuple(_REFUSALS) as exc:
        word, status = _REFUSALS[type(exc)]
        if args.json:
            print_json({word: str(exc)})
        else:
            complain(str(exc) if word == "nothing_to_roll_back" else "nothing was changed: %s" % exc)
        return status
    announce(report)
    if args.json:
        print_json(report)
    else:
        print_decided(dict(report, nothing="nothing to do: the NICs are as they were before that run"))
        print_next(report)
    if any(touch["reason"] == "rolled back" for touch in report["touches"]):
        return EXIT_ROLLED_BACK
    return EXIT_NIC_FAILED if report["problems"] else 0
