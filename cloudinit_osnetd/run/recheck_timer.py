# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The transient timer that a run sets when it ends while something is pending or doubted.

The timer queues an event, so no process stays resident. If nothing is pending and nothing is doubted there is no timer.
Its state is kept under /run and is lost at a reboot, as the timer is.

systemd cannot move a timer. A new one is started under another name before the old one is stopped: a run that is killed
in between leaves two, never none, and an event too many does no harm.
"""

import itertools
import json
import logging
import os
import time
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..cloud_init.context import Settings
from ..core.truth import DOUBT_LOOK
from ..system import files, paths
from ..system.command import CommandError, run

LOG = logging.getLogger(__name__)
UNIT = "cloudinit-osnetd-look"  # prerm stops cloudinit-osnetd*.timer
_FIRST_SECONDS = 15.0  # where a run's own back-off ends
_LEAST_SECONDS = 1.0
_SOONEST_SECONDS = 0.1


class Note(NamedTuple):
    """Since when each MAC is waited for, and when the timer expires; both by the monotonic clock."""

    since: Dict[str, float]
    due: float  # 0 without a timer


def read() -> Note:
    obj = files.read_json(paths.WAITING)
    try:
        since = {str(mac): float(when) for mac, when in obj["since"].items()}
        return Note(since, float(obj["due"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return Note({}, 0.0)


def seconds_to_next(
    since: Mapping[str, float], doubted: bool, settings: Settings, now: float, retry: Optional[float] = None
) -> Optional[float]:
    """Returns the seconds until the next check; None if nothing is waited for any more.

    `retry`: seconds until an entry that was rolled back may be tried again.

    The pause is as long as the wait so far. So it doubles from check to check, up to `back_off`, and only the
    beginning of the wait has to be stored.
    """
    waits = [DOUBT_LOOK] if doubted else []
    waits += [retry] if retry is not None else []
    for began in since.values():
        age = now - began
        if age < settings.look_until:
            pause = min(max(_FIRST_SECONDS, age), settings.back_off, settings.look_until - age)
            waits.append(max(pause, _LEAST_SECONDS))
    return min(waits) if waits else None


def update(pending: Sequence[str], doubted: bool, settings: Settings, retry: Optional[float] = None) -> float:
    """Sets, moves or removes the timer. Returns the seconds until it expires, 0 without one."""
    now = time.monotonic()
    known = read()
    since = {mac: known.since.get(mac, now) for mac in pending}
    wait = seconds_to_next(since, doubted, settings, now, retry)
    wait = None if wait is None else max(wait, _SOONEST_SECONDS)
    timers = _timers()
    due = known.due if timers and known.due > now else 0.0
    obsolete: Sequence[str] = ()
    if wait is None:
        due, obsolete = 0.0, timers
    elif not 0 < due <= now + wait and _start(wait):
        due, obsolete = now + wait, timers
    _keep(Note(since, due))
    _stop(obsolete)
    return due - now if due else 0.0


class NoTimer(Exception):
    """The timer could not be started; the message says what for."""


def by(deadline: float) -> None:
    """Makes the timer expire at `deadline` (monotonic clock) at the latest. Raises NoTimer.

    It is noted as due exactly then: `update`, called with the time that is left, keeps it.
    """
    now, known = time.monotonic(), read()
    obsolete = _timers()
    if obsolete and now < known.due <= deadline:
        return
    if not _start(max(deadline - now, _SOONEST_SECONDS)):
        raise NoTimer("no timer can be started that takes it back in time")
    _keep(known._replace(due=deadline))
    _stop(obsolete)


def stop() -> None:
    """Removes the timer: nothing is waited for any more."""
    if os.path.exists(paths.WAITING) or _timers():
        update((), False, Settings())


def text_of(mac: str, settings: Settings) -> str:
    """Returns when a pending MAC is checked next, for status; empty while a run is waiting for it."""
    note, now = read(), time.monotonic()
    if mac not in note.since:
        return ""
    if note.due:
        return "next check in %d s" % max(0.0, note.due - now)
    given_up = now - note.since[mac] >= settings.look_until
    return "checked only at events, after %d s" % settings.look_until if given_up else ""


def _keep(note: Note) -> None:
    try:
        if note.since or note.due:
            files.replace(paths.WAITING, json.dumps(note._asdict()) + "\n", sync=False)
        else:
            files.remove(paths.WAITING)
    except OSError as exc:
        LOG.warning("the timer's state is not kept: error=%s", exc)


def _start(seconds: float) -> bool:
    """Starts a timer beside those that exist. Returns False, and logs the error, if none can be started."""
    if not os.path.isdir(paths.SYSTEMD):
        return False  # another init system: cron may queue events
    taken = _timers()
    names = itertools.chain([UNIT], ("%s-%d" % (UNIT, number) for number in itertools.count(2)))
    unit = next(name for name in names if name + ".timer" not in taken)
    argv = ["systemd-run", "--quiet", "--collect", "--unit=" + unit, "--on-active=%.1fs" % seconds]
    argv += ["--description=Check again what cloudinit-osnetd waits for", "--timer-property=AccuracySec=500ms"]
    try:
        run(argv + [paths.QUEUE_EVENT, "timer"])
    except CommandError as exc:
        LOG.error("timer not started: error=%s", exc)
        return False
    return True


def _timers() -> List[str]:
    """Returns the timers that exist: one, or none; more after a run that was killed while it replaced one."""
    try:
        names = os.listdir(paths.TRANSIENT_UNITS)
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(UNIT) and name.endswith(".timer"))


def _stop(timers: Sequence[str]) -> None:
    if not timers:
        return
    try:
        run(["systemctl", "stop", *timers])
    except CommandError as exc:
        LOG.warning("timer not stopped: error=%s", exc)
