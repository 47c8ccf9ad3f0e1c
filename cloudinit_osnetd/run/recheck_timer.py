# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a run that ends leaves behind while something is pending or doubted: one transient timer.

The timer queues an event, so nothing of ours stays resident. Nothing pending and nothing doubted:
no timer. What is known of it lies under /run and goes with the boot, as the timer does.
"""

import json
import logging
import os
import time
from typing import Dict, Mapping, NamedTuple, Optional, Sequence

from ..cloud_init.context import Settings
from ..core.truth import DOUBT_LOOK
from ..system import files, paths
from ..system.command import CommandError, run

LOG = logging.getLogger(__name__)
UNIT = "cloudinit-osnetd-look"  # prerm stops cloudinit-osnetd*.timer
_TIMER = "/run/systemd/transient/%s.timer" % UNIT
_FIRST_SECONDS = 15.0  # what a run's own back-off had come to
_LEAST_SECONDS = 1.0


class Note(NamedTuple):
    """Since when each MAC is waited for, and when the timer goes off; both by the monotonic clock."""

    since: Dict[str, float]
    due: float  # 0 where there is no timer


def read() -> Note:
    obj = files.read_json(paths.WAITING)
    try:
        since = {str(mac): float(when) for mac, when in obj["since"].items()}
        return Note(since, float(obj["due"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return Note({}, 0.0)


def next_look(
    since: Mapping[str, float], doubted: bool, settings: Settings, now: float, retry: Optional[float] = None
) -> Optional[float]:
    """Seconds until the next look; None where there is nobody left to look for.

    `retry`: seconds until an entry that was rolled back may be tried again.

    The pause is as long as the wait so far: it doubles from look to look, up to `back_off`, and
    nothing but the beginning has to be remembered.
    """
    waits = [DOUBT_LOOK] if doubted else []
    waits += [retry] if retry is not None else []
    for began in since.values():
        age = now - began
        if age < settings.look_until:
            pause = min(max(_FIRST_SECONDS, age), settings.back_off, settings.look_until - age)
            waits.append(max(pause, _LEAST_SECONDS))
    return min(waits) if waits else None


def leave(pending: Sequence[str], doubted: bool, settings: Settings, retry: Optional[float] = None) -> float:
    """Have the timer go off when it should, or not be there; seconds until it does, 0 without one."""
    now = time.monotonic()
    known = read()
    since = {mac: known.since.get(mac, now) for mac in pending}
    wait = next_look(since, doubted, settings, now, retry)
    there = os.path.exists(_TIMER)
    due = known.due if there and known.due > now else 0.0
    if wait is None:
        if there:
            _stop()
        due = 0.0
    elif not 0 < due <= now + wait:
        due = now + wait
        if there:
            _stop()
        if not _start(wait):
            due = 0.0
    _keep(Note(since, due))
    return due - now if due else 0.0


def over() -> None:
    """Wait for nothing any more."""
    if os.path.exists(paths.WAITING) or os.path.exists(_TIMER):
        leave((), False, Settings())


def says(mac: str, settings: Settings) -> str:
    """What becomes of the search for a pending MAC, for status; empty where a run is looking now."""
    note, now = read(), time.monotonic()
    if mac not in note.since:
        return ""
    if note.due:
        return "looked for again in %d s" % max(0.0, note.due - now)
    gone_by = now - note.since[mac] >= settings.look_until
    return "looked for at events only, after %d s" % settings.look_until if gone_by else ""


def _keep(note: Note) -> None:
    try:
        if note.since or note.due:
            files.replace(paths.WAITING, json.dumps(note._asdict()) + "\n", sync=False)
        else:
            files.remove(paths.WAITING)
    except OSError as exc:
        LOG.warning("not noted for how long is waited: %s", exc)


def _start(seconds: float) -> bool:
    if not os.path.isdir("/run/systemd/system"):
        return False  # another init: cron may queue an event
    argv = ["systemd-run", "--quiet", "--collect", "--unit=" + UNIT, "--on-active=%.1fs" % seconds]
    argv += ["--description=Look again for what cloudinit-osnetd waits for", "--timer-property=AccuracySec=500ms"]
    try:
        run(argv + [paths.QUEUE_EVENT, "timer"])
    except CommandError as exc:
        LOG.error("no timer to look again: %s", exc)
        return False
    return True


def _stop() -> None:
    try:
        run(["systemctl", "stop", UNIT + ".timer"])
    except CommandError as exc:
        LOG.warning("timer not stopped: %s", exc)
