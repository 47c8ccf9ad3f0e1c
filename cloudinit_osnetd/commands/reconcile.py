# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`reconcile`: run by an operator, or by the service for the queued events."""

import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Dict

from ..cloud_init.eligibility import NotManaged
from ..run.reconcile import run
from ..run.record import Record
from ..state import event_queue
from ..system import command, files, paths
from .report import decided

if TYPE_CHECKING:
    import argparse

LOG = logging.getLogger(__name__)
_REPORT = "cloudinit-osnetd-report.service"
# Used by the service only. A Python that cannot start exits with 1 as well, and the events are not served then (see
# serve-queue).
EXIT_NIC_FAILED = 3


def as_json(record: Record) -> Dict[str, Any]:
    """Returns a record as plain data."""
    report = decided(
        record.changes,
        record.touches,
        record.drifted,
        record.faults,
        record.problems,
        record.pending,
        record.findings,
    )
    return dict(
        report,
        reasons=sorted(set(record.reasons)),
        commands=list(record.commands),
        doubted=list(record.doubted),
        passes=record.passes,
        seconds=round(record.seconds, 3),
        next_check=round(record.next_check, 1),
        run=record.run,
        answered=dict(record.answered),
        names=dict(record.names),
        **({"confirm_by": round(record.confirm_by, 1)} if record.confirm_by else {}),
    )


def _write_status(report: Dict[str, Any]) -> None:
    """Writes the file that `status` reads; for root only: it has lines of files that nobody else may read."""
    text = json.dumps(dict(report, when=round(time.time(), 3)), indent=1) + "\n"
    if os.path.exists(paths.STATUS) and os.stat(paths.STATUS).st_mode & 0o077:
        os.chmod(paths.STATUS, 0o600)  # the new file gets the mode of the old one, and 0.1.0's was for all
    files.replace(paths.STATUS, text, mode=0o600, sync=False)


def note(record: Record) -> None:
    """Writes the record of a run that goes on."""
    try:
        _write_status(as_json(record))
    except OSError as exc:
        LOG.error("status not written: error=%s", exc)


def keep(record: Record) -> None:
    """Keeps the final record for status and the history. A full disk does not make a completed run fail."""
    report = as_json(record)
    try:
        _write_status(report)
        if report["changes"] or report["touches"]:
            from ..state import history  # most runs change nothing

            history.remember(report)
    except OSError as exc:
        LOG.error("record not kept: error=%s", exc)


def announce(report: Dict[str, Any]) -> None:
    """Starts the unit that tells cloud-init's reporting framework of a run that changed something, if anybody listens.

    The run is over: its events are removed and the lock is free. A slow or dead webhook holds up nothing.
    """
    if not report["changes"] and not report["touches"]:
        return
    cached = files.read_json(paths.CONTEXT)
    if not isinstance(cached, dict) or not cached.get("reports") or not os.path.isdir(paths.SYSTEMD):
        return
    # Every start counts towards the unit's limit, also one that went well: the eleventh run in an hour would not be
    # reported. The limit is for the tries for one run. The command fails if the unit is not loaded.
    for words in (["reset-failed"], ["start", "--no-block"]):
        try:
            command.run(["systemctl", *words, _REPORT], timeout=10.0)
        except command.CommandError as exc:
            if words[0] == "start":
                LOG.warning("run not reported yet: error=%s", exc)


def _adopt_datasource() -> None:
    from ..cloud_init import datasource_cache  # at a boot only

    try:
        said = datasource_cache.adopt_again()
    except datasource_cache.PickleError as exc:
        LOG.warning("datasource: %s", exc)
    else:
        if said:
            LOG.info("datasource: %s", said)


def _serve_queue() -> int:
    """Serves events until none is left: before systemd 246 a path unit does not check again."""
    status = 0
    while True:
        events = event_queue.take()
        if not events:
            return status
        names = event_queue.taken()
        try:
            report = as_json(run([event.reason for event in events], note=note, keep=keep))
        except NotManaged as exc:
            LOG.info("not managed: %s", exc)
            event_queue.done(names)
            continue
        announce(report)
        if "boot" in report["reasons"]:
            _adopt_datasource()
        for link, problem in report["problems"].items():
            LOG.error("failed: mac=%s problem=%s", link, problem)
        for link, said in report["findings"].items():
            LOG.info("finding: mac=%s finding=%s", link, "; ".join(said))
        LOG.info(
            "settled: changes=%d passes=%d pending=%s seconds=%.3f next_check=%.0f",
            len(report["changes"]), report["passes"], ",".join(report["pending"]) or "-", report["seconds"],
            report["next_check"],
        )  # fmt: skip
        status = EXIT_NIC_FAILED if report["problems"] else 0


def main(args: "argparse.Namespace") -> int:
    if args.queue:
        return _serve_queue()
    from .output import print_json
    from .report import print_decided, print_next

    try:
        report = as_json(run(["operator"], force=args.force, patient=args.wait, note=note, keep=keep))
    except NotManaged as exc:
        if args.json:
            print_json({"hands_off": str(exc), "changes": [], "touches": [], "commands": []})
        else:
            print("not managed: %s" % exc)
        return 0
    announce(report)
    if args.json:
        print_json(report)
    else:
        print_decided(report)
        print_next(report)
    return 1 if report["problems"] else 0
