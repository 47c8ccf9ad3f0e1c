# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""How long a guest takes to follow: from the kernel's event to the address, by the guest's own clock.

with Stopwatch(guest, ["10.90.0.7"]) as watch:  # or "10.90.0.7=1450": until the NIC is up and has this MTU as well
    guest.plug(port)
watch.seconds(timeout=20)

with Stopwatch(guest, removed="ens4") as watch:
    guest.unplug(port)
watch.removed_at(timeout=5)
"""

from __future__ import annotations

import base64
import itertools
import shlex
import time
from pathlib import Path
from typing import Any, Sequence

from tests.lab.call import LabError
from tests.lab.view import Guest

_SCRIPT = Path(__file__).with_name("inside") / "watch_nic.py"
_numbers = itertools.count(1)


class Stopwatch:
    """Started in the guest on entry: what happens from then on is timed there, whether or not anyone reads it."""

    def __init__(
        self, guest: Guest, addresses: Sequence[str] = (), removed: str | None = None, seconds: float = 120
    ) -> None:
        self._guest = guest
        self._addresses = list(addresses)
        self._removed = removed
        self._said = f"/run/osnetd-lab-watch-{next(_numbers)}"
        self._limit = seconds

    def __enter__(self) -> Stopwatch:
        script = base64.b64encode(_SCRIPT.read_bytes()).decode()
        leaving = [f"-{self._removed}"] if self._removed else []
        words = shlex.join(["python3", f"{self._said}.py", str(self._limit), *self._addresses, *leaving])
        self._guest.run(
            f"echo {script} | base64 -d > {self._said}.py && "
            f"systemd-run --quiet --collect --property=StandardOutput=file:{self._said} {words}"
        )
        self._until("ready", 30)
        return self

    def __exit__(self, *_exc: Any) -> None:
        """The watch goes on: what it is for happens after the cause."""

    def seconds(self, timeout: float, since: float | None = None) -> float | None:
        """From the event (or `since`, of the guest's monotonic clock) until all addresses were there; None: not in time."""
        self._until("address", timeout, len(self._addresses))
        lines = self._lines()
        events = [float(line[1]) for line in lines if line[0] == "event"]
        began = since if since is not None else (events[0] if events else None)
        arrived = [float(line[1]) for line in lines if line[0] == "address"]
        if began is None or len(arrived) < len(self._addresses):
            return None
        return max(arrived) - began

    def reached(self) -> int:
        """How many of the addresses are there."""
        return sum(line[0] == "address" for line in self._lines())

    def removed_at(self, timeout: float) -> float | None:
        """When the kernel told that the NIC is gone, by the guest's monotonic clock; None: not in time."""
        self._until("removed", timeout)
        return next((float(line[1]) for line in self._lines() if line[0] == "removed"), None)

    def _until(self, word: str, timeout: float, count: int = 1) -> None:
        deadline = time.monotonic() + timeout
        while sum(line[0] == word for line in self._lines()) < count:
            if time.monotonic() > deadline:
                if word == "ready":
                    raise LabError("the stopwatch did not start in the guest")
                return
            time.sleep(0.1)

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self._guest.run(f"cat {self._said}", check=False).stdout.splitlines() if line]
