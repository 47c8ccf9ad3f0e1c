# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`confirm`: what `apply --confirm-within` has pushed stays in force."""

from typing import TYPE_CHECKING, Any, Dict

from ..run.confirmation import confirm
from ..state import run_lock
from .output import complain, print_json

if TYPE_CHECKING:
    import argparse

EXIT_BUSY, EXIT_NOTHING, EXIT_TOO_LATE = 6, 8, 9


def main(args: "argparse.Namespace") -> int:
    """Ends with the exit status that the manual page lists; nothing was changed unless it is 0."""
    report: Dict[str, Any]
    try:
        answer = confirm(args.timeout)
    except run_lock.Busy as exc:
        report, text, status = {"busy": str(exc)}, "nothing was confirmed: %s" % exc, EXIT_BUSY
    else:
        if answer.run:
            report, text, status = {"confirmed": answer.run}, "confirmed: the push of run %d stays" % answer.run, 0
        elif answer.too_late:
            report, text, status = {"too_late": answer.too_late}, "too late: %s" % answer.too_late, EXIT_TOO_LATE
        else:
            text, status = "nothing to confirm: no push waits for it", EXIT_NOTHING
            report = {"nothing_to_confirm": text}
    if args.json:
        print_json(report)
    elif status:
        complain(text)
    else:
        print(text)
    return status
