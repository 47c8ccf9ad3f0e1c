# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Checks of what starts a run: units, the udev rule and the queue."""

import os
import time
from typing import List

from ..system import files, paths
from ..system.command import CommandError, run
from .result import Result, failed, ok, skipped, warning

_PATH, _SERVICE, _EARLY = "cloudinit-osnetd.path", "cloudinit-osnetd.service", "cloudinit-osnetd-early.service"
_RULE = "90-cloudinit-osnetd.rules"
_OLD_SECONDS = 120.0


def shown(unit: str, *properties: str) -> List[str]:
    """Returns properties of a unit; raises CommandError if systemd does not answer."""
    out = run(["systemctl", "show", unit, *("--property=" + one for one in properties)], timeout=10.0)
    values = dict(line.partition("=")[::2] for line in out.splitlines())
    return [values.get(one, "") for one in properties]


def units() -> List[Result]:
    """Whether pid 1 waits for events, and whether the service and the early unit ended well."""
    name = "units"
    if not os.path.isdir(paths.SYSTEMD):
        return [skipped(name, "systemd is not the init")]
    results = []
    active, state, enabled = shown(_PATH, "ActiveState", "LoadState", "UnitFileState")
    if state != "loaded":
        results.append(failed(name, "%s is %s" % (_PATH, state), _UNMASK % _PATH if state == "masked" else _REINSTALL))
    elif active != "active":
        found = "%s is %s: no event starts a run" % (_PATH, active)
        results.append(failed(name, found, "systemctl reset-failed %s; systemctl enable --now %s" % (_PATH, _PATH)))
    elif enabled != "enabled":
        results.append(failed(name, "%s is %s: not started at boot" % (_PATH, enabled), "systemctl enable " + _PATH))
    state, enabled, result = shown(_EARLY, "LoadState", "UnitFileState", "Result")
    if state != "loaded" or enabled != "enabled":
        advice = _UNMASK % _EARLY if state == "masked" else "systemctl enable " + _EARLY
        results.append(failed(name, "%s is %s, %s" % (_EARLY, state, enabled or "-"), advice))
    elif result not in ("success", ""):
        results.append(failed(name, "%s: %s" % (_EARLY, result), "journalctl -b -u " + _EARLY))
    state, active, result, status = shown(_SERVICE, "LoadState", "ActiveState", "Result", "ExecMainStatus")
    if state != "loaded":
        results.append(failed(name, "%s is %s" % (_SERVICE, state), _UNMASK % _SERVICE))
    elif active == "failed":
        found = "%s failed: %s, exit status %s" % (_SERVICE, result, status)
        advice = "cloudinit-osnetd status" if status == "3" else "journalctl -b -u " + _SERVICE
        results.append(failed(name, found, advice))
    return results or [ok(name, "%s waits for events, %s is enabled" % (_PATH, _EARLY))]


_UNMASK = "systemctl unmask %s"
_REINSTALL = "install the package again"


def udev_rule() -> List[Result]:
    """Whether udev has our rule: a file of the same name in /etc or /run replaces it."""
    name = "udev rule"
    there = [path for path in (os.path.join(top, _RULE) for top in paths.UDEV_RULES) if os.path.lexists(path)]
    if not there:
        return [failed(name, "no %s" % _RULE, _REINSTALL)]
    text = files.read(there[0]) if os.path.isfile(there[0]) else ""
    if not text or paths.QUEUE_EVENT.rpartition("/")[2] not in text:
        return [failed(name, "%s replaces our rule" % there[0], "remove it, then udevadm control --reload")]
    if not os.access(paths.QUEUE_EVENT, os.X_OK):
        return [failed(name, "%s is missing or not executable" % paths.QUEUE_EVENT, _REINSTALL)]
    if not os.path.exists(paths.UDEV_CONTROL):
        return [failed(name, "udevd does not run", "systemctl start systemd-udevd")]
    return [ok(name, there[0])]


def queue() -> List[Result]:
    """Whether events wait for longer than any run takes to begin."""
    name = "queue"
    ages = []
    for directory in (paths.QUEUE, paths.WORK):
        for entry in os.listdir(directory) if os.path.isdir(directory) else ():
            try:
                ages.append(time.time() - os.stat(os.path.join(directory, entry)).st_mtime)
            except OSError:
                continue  # it was just served
    if ages and max(ages) > _OLD_SECONDS:
        found = "%d events are not served, the oldest for %d s" % (len(ages), max(ages))
        advice = "journalctl -b -u %s; then `cloudinit-osnetd reconcile` serves them" % _SERVICE
        if _at_work():
            return [warning(name, found + "; a run is at work", advice)]
        return [failed(name, found, advice)]
    return [ok(name, "%d events waiting" % len(ages) if ages else "empty")]


def _at_work() -> bool:
    try:
        return shown(_SERVICE, "ActiveState") == ["activating"] or shown(_SERVICE, "ActiveState") == ["active"]
    except CommandError:
        return False
