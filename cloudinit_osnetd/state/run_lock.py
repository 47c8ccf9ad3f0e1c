# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lock of a run: one run at a time. The kernel releases it when the process ends."""

import fcntl
import logging
import os
import time
from contextlib import contextmanager
from typing import IO, Iterator, Optional

from ..system import paths

LOG = logging.getLogger(__name__)


class Busy(Exception):
    """Another run holds the lock; the message names its process."""


@contextmanager
def locked(timeout: Optional[float] = None) -> Iterator[IO[str]]:
    """Holds the lock. Yields its open file.

    Raises Busy if another run holds it for `timeout` seconds (None: waits for as long as it takes).
    """
    os.makedirs(paths.RUN, mode=0o755, exist_ok=True)
    os.makedirs(paths.STATE, mode=0o700, exist_ok=True)
    with open(paths.LOCK, "a+", opener=_for_root_alone) as fh:
        _lock(fh, timeout)
        _note_holder(fh, b"%d\n" % os.getpid())
        try:
            yield fh
        finally:
            _note_holder(fh, b"")


@contextmanager
def lent(lock: IO[str]) -> Iterator[None]:
    """Releases the lock while this run only waits. What was loaded before is stale afterwards."""
    _note_holder(lock, b"")
    fcntl.flock(lock, fcntl.LOCK_UN)
    yield
    _lock(lock)
    _note_holder(lock, b"%d\n" % os.getpid())


@contextmanager
def without_runs() -> Iterator[None]:
    """Excludes runs for a reader, without creating any file."""
    if not os.path.exists(paths.LOCK):  # no run since the server booted
        yield
        return
    with open(paths.LOCK) as fh:
        _lock(fh)
        yield


def at_work() -> bool:
    """True while a run has the lock."""
    try:
        with open(paths.LOCK) as fh:
            fcntl.flock(fh, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:  # no run since the server booted
        return False
    except BlockingIOError:
        return True
    return False


def _for_root_alone(path: str, flags: int) -> int:
    """Opens for root only: whoever can read a file can lock it, and would block every run."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def _lock(fh: IO[str], timeout: Optional[float] = None) -> None:
    if _lock_now(fh):
        return
    fh.seek(0)
    holder = fh.read().strip() or "unknown"
    LOG.warning("waiting for another run: pid=%s", holder)
    if timeout is None:
        fcntl.flock(fh, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + timeout
    while not _lock_now(fh):
        if time.monotonic() > deadline:
            raise Busy("another run did not end within %g s: pid=%s" % (timeout, holder))
        time.sleep(0.05)


def _lock_now(fh: IO[str]) -> bool:
    try:
        fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note_holder(fh: IO[str], text: bytes) -> None:
    try:
        os.ftruncate(fh.fileno(), 0)
        os.write(fh.fileno(), text)  # not by `fh`, which would retry when it is closed
    except OSError as exc:
        LOG.warning("lock holder not noted: error=%s", exc)
