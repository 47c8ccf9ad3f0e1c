# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`plan`: shows what reconcile would do. Only the staging tree under /run is written."""

import argparse
from typing import Any, Dict

from ..apply import commit
from ..cloud_init.eligibility import NotManaged, RunContext, run_context
from ..kernel import netlink
from ..openstack.refresh import refresh_drive, refresh_metadata
from ..planning.build_plan import build_plan, pending_macs
from ..state import failed_retries, store
from .output import print_json
from .report import decided, print_decided


def _report(on: RunContext, force: bool) -> Dict[str, Any]:
    state, unfinished = commit.recovered(store.load(on.instance_id), on.backend)
    snapshot = netlink.snapshot()
    refreshed = refresh_metadata(state, snapshot, on.context.settings.metadata_nic, may_open=False)
    drive = refresh_drive(refreshed.state)
    nics = snapshot.by_mac()
    seen = build_plan(on, drive.state, nics, snapshot, force=force, tried=failed_retries.read())
    problems = {lacking.mac: lacking.lacks for lacking in seen.plan.not_retried}
    problems.update(seen.rejected)
    problems.update(seen.failures)
    return decided(
        seen.plan.changes,
        seen.plan.touches + unfinished,
        seen.plan.drifted,
        refreshed.faults + drive.faults,
        problems,
        pending_macs(drive.state, nics, on.context.settings.ignore),
        {},
    )


def main(args: argparse.Namespace) -> int:
    try:
        with store.without_runs():
            report = _report(run_context(remember=False), args.force)
    except NotManaged as exc:
        report = dict(decided((), (), (), (), {}, (), {}), hands_off=str(exc))
    if args.json:
        print_json(report)
    elif "hands_off" in report:
        print("not managed: %s" % report["hands_off"])
    else:
        print_decided(report)
    return 1 if report["problems"] else 0
