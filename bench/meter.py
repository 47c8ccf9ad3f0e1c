# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a guest used: CPU time by its cgroups, memory by its processes. Read from outside, so the reading costs it nothing."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Iterator, NamedTuple

from bench.contenders import SLICE
from tests.lab import Container, LabError, cgroups
from tests.lab.progress import say

_QUIET_SECONDS = 0.5
_QUIET_CPU = 0.004  # seconds of CPU in that time


class Cpu(NamedTuple):
    """Seconds of CPU time: of what the contender started, and of the whole guest."""

    agent: float
    guest: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.agent - before.agent, self.guest - before.guest)


class Meter:
    def __init__(self, guest: Container) -> None:
        mount = cgroups.host_mount()
        if mount is None:
            raise LabError("the bench needs a cgroup2 that is mounted on this machine")
        self._guest = mount / guest.name
        payload = self._guest / "payload"
        self._agent = (payload if payload.exists() else self._guest) / SLICE
        self.beside = False  # something else is at work in the guest: then only the contender's rest is waited for

    def cpu(self) -> Cpu:
        return Cpu(_usage(self._agent), _usage(self._guest))

    def settle(self, limit: float) -> bool:
        """Wait until nothing of the contender runs and the guest is quiet; False where it is not in time."""
        deadline = time.monotonic() + limit
        before, since = self.cpu().guest, time.monotonic()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            used = self.cpu().guest - before
            if self._busy() or (used > _QUIET_CPU and not self.beside):
                before, since = self.cpu().guest, time.monotonic()
            elif time.monotonic() - since >= _QUIET_SECONDS:
                return True
        say(f"{self._guest.name} is not at rest after {limit:.0f} s")
        return False

    def _busy(self) -> bool:
        return "populated 1" in _read(self._agent / "cgroup.events")

    def processes(self) -> list[int]:
        """The contender's, as the host numbers them."""
        return [int(line) for procs in _files(self._agent, "cgroup.procs") for line in _read(procs).split()]


class Peak:
    """The largest resident set of any process of the contender, in MiB, while the block runs.

    Looked at every few milliseconds, which takes CPU time from the guest: not for a run whose time counts.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.mib = 0.0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.004):
            self.mib = max([self.mib, *map(_high_water, self._meter.processes())])


def _usage(cgroup: Path) -> float:
    words = _read(cgroup / "cpu.stat").split()
    return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else 0.0


def _high_water(pid: int) -> float:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _read(path: Path) -> str:
    """Empty where it has gone: a unit that ends takes its cgroup with it, at any moment."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _files(top: Path, name: str) -> Iterator[Path]:
    """The files of this name in a tree that may shrink meanwhile; Path.rglob raises where a directory has gone (3.8 to 3.12)."""
    for directory, _inside, names in os.walk(top):
        if name in names:
            yield Path(directory, name)
