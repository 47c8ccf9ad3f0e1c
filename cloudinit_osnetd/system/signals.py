# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Told to stop by a signal: at once, but for what would leave a NIC half-way; that is finished first.

A run that is killed there loses nothing either, but only the next run brings the NIC up, and there may be none: a
package that is being removed stops the service, a terminal that is gone ends what an operator has begun.
"""

import signal
import types
from contextlib import contextmanager
from typing import Any, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_now = types.SimpleNamespace(begun=0, told=0)  # how many blocks deep we are; the signal that came meanwhile


def listen() -> None:
    """From now on end as `SystemExit` does, with what was opened closed; by a shell's exit status for the signal."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) has it
            signal.signal(number, _hear)


def _hear(number: int, _frame: Any) -> None:
    if _now.begun:
        _now.told = number
    else:
        raise SystemExit(128 + number)


@contextmanager
def when_done() -> Iterator[None]:
    """Within the block nothing is stopped; what was told meanwhile holds at its end."""
    _now.begun += 1
    try:
        yield
    finally:
        _now.begun -= 1
        if _now.told and not _now.begun:
            raise SystemExit(128 + _now.told)
