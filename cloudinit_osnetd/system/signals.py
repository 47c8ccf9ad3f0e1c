# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Termination by a signal: at once, except within a commit, which is completed first.

If a run is killed during a commit nothing is lost, but only the next run brings the NIC up, and there may be none: the
service is stopped when the package is removed, and an operator's command ends with its terminal.
"""

import signal
import types
from contextlib import contextmanager
from typing import Any, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_now = types.SimpleNamespace(begun=0, pending=0)  # nesting depth of the blocks; the signal that arrived meanwhile


def listen() -> None:
    """Makes signals raise SystemExit, so that resources are closed; the exit status is the shell's for the signal."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup(1)
            signal.signal(number, _on_signal)


def _on_signal(number: int, _frame: Any) -> None:
    if _now.begun:
        _now.pending = number
    else:
        raise SystemExit(128 + number)


@contextmanager
def when_done() -> Iterator[None]:
    """Defers signals that arrive within the block to its end."""
    _now.begun += 1
    try:
        yield
    finally:
        _now.begun -= 1
        if _now.pending and not _now.begun:
            raise SystemExit(128 + _now.pending)
