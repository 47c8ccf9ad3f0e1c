# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`plan`: shows what reconcile, or a push, would do. Only the staging tree under /run is written."""

import argparse
import difflib
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from ..apply import commit
from ..cloud_init.eligibility import NotManaged, RunContext, run_context
from ..core.network_data import NetworkData, link_id
from ..core.plan import Change
from ..core.pushed_document import Refused
from ..kernel import netlink
from ..openstack.refresh import refresh_drive, refresh_metadata, refresh_push
from ..planning import render
from ..planning.build_plan import build_plan, pending_macs
from ..run.corrections import Corrections
from ..state import failed_retries, run_lock, store
from .document import EXIT_BUSY, EXIT_REFUSED, Unfinished, parsed, read, tell_refused, tell_unfinished
from .output import print_json
from .report import decided, print_decided

EXIT_SOMETHING_TO_DO = 7  # with --exit-code


def _refreshed(on: RunContext, state: store.State, push: Optional[NetworkData]) -> Tuple[store.State, Tuple[str, ...]]:
    """Returns the state with what the sources say now, or with the push alone, and the faults."""
    if push is not None:
        return refresh_push(state, push).state, ()
    if not on.asks_openstack:
        return state, ()
    refreshed = refresh_metadata(state, netlink.snapshot(), on.context.settings.metadata_nic, may_open=False)
    drive = refresh_drive(refreshed.state)
    return drive.state, refreshed.faults + drive.faults


def _diff(on: RunContext, changes: Tuple[Change, ...]) -> List[str]:
    """Returns the unified diff of each part that would be written or removed."""
    lines: List[str] = []
    before = render.disk_texts(on.backend, [change.place for change in changes])
    for change in changes:
        if change.action in ("write", "remove"):
            old, new = before.get(change.place, ""), change.text or ""
            name = change.path if not change.section else "%s: %s" % (change.path, change.section)
            names = name + " (now)", name + " (then)"
            lines += difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="")
    return lines


def _report(on: RunContext, args: argparse.Namespace, push: Optional[NetworkData]) -> Dict[str, Any]:
    state, unfinished = commit.recovered(store.load(on.instance_id), on.backend)
    state, faults = _refreshed(on, state, push)
    snapshot = netlink.snapshot()
    nics = snapshot.by_mac()
    force = args.force or (push is not None and not (on.asks_openstack or state.ledger))  # as a push itself
    correct = Corrections(time.monotonic).keys(on.context.settings, state.ledger)
    seen = build_plan(on, state, nics, snapshot, force=force, tried=failed_retries.read(), correct=correct)
    problems = {link_id(lacking.key): lacking.lacks for lacking in seen.plan.not_retried}
    problems.update(seen.rejected)
    problems.update(seen.failures)
    report = decided(
        seen.plan.changes,
        seen.plan.touches + unfinished,
        seen.plan.drifted,
        faults,
        problems,
        pending_macs(state, nics, on.context.settings.ignore) if on.asks_openstack else (),
        {},
    )
    report["names"] = {item.link: item.name for want in seen.wants for item in want.items if item.link in problems}
    return dict(report, diff=_diff(on, seen.plan.changes)) if args.diff else report


def main(args: argparse.Namespace) -> int:
    """With --exit-code, 7 says that something would be done."""
    try:
        push = parsed(read(args)) if args.file is not None or args.stdin else None
        with run_lock.without_runs():
            on = run_context(remember=False, push=push is not None)
            report = _report(on, args, push)
    except Refused as exc:
        tell_refused(args, exc)
        return EXIT_REFUSED
    except Unfinished as exc:
        tell_unfinished(args, exc)
        return EXIT_BUSY
    except NotManaged as exc:
        report = dict(decided((), (), (), (), {}, (), {}), hands_off=str(exc))
    if args.json:
        print_json(report)
    elif "hands_off" in report:
        print("not managed: %s" % report["hands_off"])
    else:
        print_decided(report)
        sys.stdout.write("".join("%s\n" % line for line in report.get("diff", ())))
    if report["problems"]:
        return 1
    return EXIT_SOMETHING_TO_DO if args.exit_code and (report["changes"] or report["touches"]) else 0
