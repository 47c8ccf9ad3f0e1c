# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The event queue: a directory with one empty file per event; the file's name holds its data.

An event only says that something may have changed, so one run serves any number of them. They are
moved away before work begins: a run that fails must not be started again and again by the path unit
that watches the directory, and an event that arrives during a run must not be lost.
"""

import logging
import os
from typing import Container, Iterable, List, NamedTuple

from ..system import files, paths

LOG = logging.getLogger(__name__)


class Event(NamedTuple):
    """`when` is the uptime in seconds at which it was queued, 0 if unknown."""

    when: float
    reason: str
    nic: str


def parse(name: str) -> Event:
    """Parses a file name, `<uptime>.<reason>.<nic>`; the uptime itself has a dot."""
    whole, _, rest = name.partition(".")
    part, _, rest = rest.partition(".")
    reason, _, nic = rest.partition(".")
    try:
        return Event(float("%s.%s" % (whole, part)), reason or "unknown", nic)
    except ValueError:
        return Event(0.0, "unknown", "")


def waiting() -> bool:
    try:
        return any(not name.startswith(".") for name in os.listdir(paths.QUEUE))
    except FileNotFoundError:
        return False


def take() -> List[Event]:
    """Takes every event from the queue. Returns these, and what an interrupted run had taken, oldest first."""
    os.makedirs(paths.WORK, mode=0o700, exist_ok=True)
    try:
        names = [name for name in os.listdir(paths.QUEUE) if not name.startswith(".")]
    except FileNotFoundError:
        names = []
    for name in names:
        try:
            os.rename(os.path.join(paths.QUEUE, name), os.path.join(paths.WORK, name))
        except FileNotFoundError:
            continue  # another process took it
        event = parse(name)
        LOG.info("event: reason=%s nic=%s uptime=%.2f", event.reason, event.nic or "-", event.when)
    return sorted(parse(name) for name in os.listdir(paths.WORK))


def taken() -> List[str]:
    """Returns the names of the events that were taken and are not done."""
    return os.listdir(paths.WORK) if os.path.isdir(paths.WORK) else []


def ago(reason: str, nics: Container[str]) -> float:
    """Returns the seconds since the last taken event of this kind for one of these NICs; 0.0 if there is none."""
    events = [parse(name) for name in taken()]
    when = [event.when for event in events if event.reason == reason and event.nic in nics and event.when > 0]
    # The events' clock, which may be a container's own (lxcfs).
    return max(0.0, float((files.read("/proc/uptime") or "0").split()[0]) - max(when)) if when else 0.0


def done(names: Iterable[str]) -> None:
    """Removes events that were taken: a later pass and everything that it caused are completed."""
    for name in names:
        files.remove(os.path.join(paths.WORK, name))
