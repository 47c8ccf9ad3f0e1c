# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Early boot: the same flow, offline, before any network service starts.

Nothing is fetched and nothing is activated. The files are updated for the NICs that are present now, and the backend
then starts with them. If nothing has changed since the last run, cloudinit is not imported; if nothing has changed
since an earlier boot, this is not reached (unchanged_boot.py).
"""

import json
import logging
import os
import sys
import time
from typing import Any, Dict, FrozenSet

from ..apply import commit
from ..cloud_init.eligibility import RunContext, permit, run_context
from ..core.records import Nic
from ..kernel import netlink
from ..openstack.refresh import RefreshResult, refresh_drive
from ..planning.build_plan import build_plan, log_plan, written_for_removed_nics
from ..state import run_lock, store
from ..system import files, paths
from ..system.command import CommandError, run
from . import boot_inputs

LOG = logging.getLogger(__name__)
_SETTLE_SECONDS = 10


def _nics(state: store.State) -> Dict[str, Nic]:
    """Returns the NICs by MAC. Waits for udev only if a configured NIC is missing or a NIC is not named yet."""
    nics = netlink.snapshot().by_mac(early=True)
    expected = {row.mac for row in state.ledger if row.key.endswith("/phy")}
    if expected - set(nics) or netlink.awaits_udev(nics.values()):
        try:
            run(["udevadm", "settle", "--timeout=%d" % _SETTLE_SECONDS], timeout=_SETTLE_SECONDS + 5)
        except CommandError as exc:
            LOG.warning("udev has not settled: %s", exc)
        nics = netlink.snapshot().by_mac(early=True)
    return nics


def _names() -> Dict[str, str]:
    """Returns by MAC the NIC names that the datasource override passed to cloud-init at this boot."""
    noted = files.read_json(paths.BOOT)
    names = noted.get("names") if isinstance(noted, dict) else None
    return names if isinstance(names, dict) else {}


def _take_back(on: RunContext) -> None:
    """Takes back, on disk, a push that was not confirmed before the reboot."""
    from ..apply import provisional_push

    state, _unfinished = commit.recover(store.load(on.instance_id), on.backend)
    if provisional_push.is_due(state, time.monotonic()):
        taken = provisional_push.take_back(on, state, _nics(state), provisional_push.REBOOTED, live=False)
        store.save(taken.state)


def _written_anew(on: RunContext, state: store.State) -> FrozenSet[str]:
    """Returns the keys whose file was written during this boot, on a server that is not OpenStack's.

    Where it finds no datasource in its first stage, cloud-init writes a network of its own at each boot, over what was
    pushed: DHCP on one NIC. Nobody else writes them so early; on OpenStack's servers it writes ours (the ladder).
    """
    if on.asks_openstack:
        return frozenset()
    try:
        began = os.stat(paths.CLOUD_BEGAN).st_mtime
        return frozenset(row.key for row in state.ledger if _mtime(row.path) >= began)
    except OSError:
        return frozenset()


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def early() -> Dict[str, Any]:
    """Updates the configuration on disk. Raises NotManaged if the server is not managed."""
    began = time.monotonic()
    with run_lock.locked():
        # If nothing waits for the network, cloud-init's next stage runs at the same time and rewrites its files.
        on = run_context(booting=True)
        inputs = boot_inputs.read(on)
        store.sweep(on.backend)
        on.backend.recover(boot=True)
        if store.load(on.instance_id).provisional:
            _take_back(on)
        permit(on, ["boot"], new_instance=not store.load(on.instance_id).truth.keys)
        state, _unfinished = commit.recover(store.load(on.instance_id), on.backend)
        store.clear_intent()
        refreshed = refresh_drive(state) if on.asks_openstack else RefreshResult(state, (), False)
        state = refreshed.state
        nics = _nics(state)
        if not state.ledger:
            state = state._replace(ledger=written_for_removed_nics(on, state, nics, _names()))
        seen = build_plan(on, state, nics, None, correct=_written_anew(on, state))
        state = state._replace(metrics=seen.metrics, unwanted={})  # the kernel has no addresses yet
        log_plan(seen.plan)
        outcome = commit.commit(seen.plan, state, on.backend, seen.templates, activate=False)
        state = state._replace(ledger=outcome.ledger)
        left = frozenset([drift.name for drift in seen.plan.drifted])
        changed = frozenset([change.name for change in seen.plan.changes if change.action in ("write", "remove")])
        on.backend.boot([item for want in seen.wants for item in want.items], left, changed)
        store.save(state)
        report = {
            "changes": len([c for c in seen.plan.changes if c.action in ("write", "remove")]),
            "adopted": len([c for c in seen.plan.changes if c.action == "adopt"]),
            "drifted": [drift.name for drift in seen.plan.drifted],
            "problems": dict(seen.failures, **outcome.problems),
            "faults": list(refreshed.faults),
            "imported_cloudinit": "cloudinit" in sys.modules,
            "milliseconds": round((time.monotonic() - began) * 1e3, 1),
        }
        boot_inputs.keep(inputs, on, state, report)
    return report


def note(report: Dict[str, Any]) -> None:
    """Keeps the report of the early flow, for status.

    It has a file of its own, because cloud-init's network stage may be writing the one with the fallback level.
    """
    files.replace(paths.EARLY, json.dumps(report) + "\n", sync=False)
