# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""How long a guest takes to follow: from the kernel's event to the address, by the guest's own clock.

with Stopwatch(guest, ["10.90.0.7"]) as watch:
    guest.plug(port)
watch.seconds(timeout=20)
"""

from __future__ import annotations

import base64
import itertools
import shlex
import time
from pathlib import Path
from typing import Any, Sequence

from tests.lab.roots import LabError
from tests.lab.view import Guest

_SCRIPT = Path(__file__).with_name("inside") / "watch_nic.py"
_numbers = itertools.count(1)


class Stopwatch:
    """Started in the guest on entry: what happens from then on is timed there, whether or not anyone reads it."""

    def __init__(self, guest: Guest, addresses: Sequence[str], seconds: float = 120) -> None:
        self._guest = guest
        self._addresses = list(addresses)
        self._said = f"/run/osnetd-lab-watch-{next(_numbers)}"
        self._limit = seconds

    def __enter__(self) -> Stopwatch:
        script = base64.b64encode(_SCRIPT.read_bytes()).decode()
        words = shlex.join(["python3", f"{self._said}.py", str(self._limit), *self._addresses])
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
