# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs programs; the command line, the exit status and the time go to the log, and the command to the record."""

import logging
import os
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Iterator, List, NamedTuple, Sequence

from . import paths

if TYPE_CHECKING:
    import subprocess

LOG = logging.getLogger(__name__)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# The commands of this process, for the record of a run. A run that has nothing to do has none.
ran: List[str] = []


class CommandError(Exception):
    """A program failed, does not exist, or timed out."""

    out_of_time = False


class Job(NamedTuple):
    """A program that was started."""

    text: str
    process: "subprocess.Popen[bytes]"
    out: IO[bytes]
    err: IO[bytes]
    began: float


def _scratch() -> IO[bytes]:
    """Returns an unnamed file for a program's output. If /run is full, the output is lost, but the program runs.

    It is in the staging tree if there is one, because `plan` writes nowhere else. It is not in /tmp, because to find a
    usable directory Python would create a named file there.
    """
    import tempfile  # takes 5 ms with subprocess, and most runs have no command

    for directory in (paths.STAGING, paths.RUN):
        try:
            if directory == paths.RUN:
                os.makedirs(directory, exist_ok=True)
            return tempfile.TemporaryFile(dir=directory)
        except OSError:
            pass  # there is no staging tree now, or no space
    return open(os.devnull, "w+b")


def start(argv: Sequence[str]) -> Job:
    """Starts a program. Raises CommandError if that fails."""
    import shlex
    import subprocess

    text = " ".join(shlex.quote(word) for word in argv)
    ran.append(text)
    # Files, not pipes: a daemon that the program starts would keep a pipe open, and we would wait for it.
    out, err = _scratch(), _scratch()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={"PATH": PATH, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C in a terminal must reach only us: we finish what was begun
        )
    except OSError as exc:
        out.close()
        err.close()
        raise CommandError("%s: %s" % (text, exc.strerror)) from exc
    return Job(text, process, out, err, time.monotonic())


def _wait(process: "subprocess.Popen[bytes]", timeout: float) -> bool:
    """Waits for a process to end. Returns False if it times out.

    With a timeout Popen.wait() polls, at intervals of up to 50 ms; a pidfd (Python 3.9, Linux 5.3)
    returns at once.
    """
    import select
    import subprocess

    if process.poll() is not None:
        return True  # its PID may belong to another process now
    pidfd_open = getattr(os, "pidfd_open", None)
    try:
        fd = pidfd_open(process.pid) if pidfd_open else -1
    except OSError:
        fd = -1
    if fd >= 0:
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(timeout * 1000):
                return False
        finally:
            os.close(fd)
        timeout = 5.0
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(job: Job) -> None:
    """Kills the program and its children, which would otherwise continue: `ifdown`'s DHCP client, hooks."""
    import signal

    try:
        os.killpg(job.process.pid, signal.SIGKILL)  # start() gave it a process group of its own
    except OSError:
        job.process.kill()
    job.process.wait()


def end(job: Job, timeout: float = 60.0, kill: bool = True) -> str:
    """Waits for the program to end. Returns its standard output. Raises CommandError with its last output lines.

    With `kill` False, a program that times out is left running.
    """
    with job.out, job.err:
        if not _wait(job.process, timeout):
            if kill:
                _kill(job)
            error = CommandError("%s: not done after %d s" % (job.text, time.monotonic() - job.began))
            error.out_of_time = True
            raise error
        job.out.seek(0)
        job.err.seek(0)
        out, err = (file.read().decode("utf-8", "replace") for file in (job.out, job.err))
    took = (time.monotonic() - job.began) * 1e3
    LOG.info("ran: %s (%.0f ms, exit %d)", job.text, took, job.process.returncode)
    if job.process.returncode:
        lines = (err or out).strip().splitlines()[-3:]
        raise CommandError("%s: exit %d: %s" % (job.text, job.process.returncode, " | ".join(lines)))
    return out


@contextmanager
def children_limited(names: Sequence[str], seconds: float) -> Iterator[None]:
    """Ends programs of these names after `seconds`, if other code in this process (cloud-init's) started them."""
    import threading

    timer = threading.Timer(seconds, _end_children, [names])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_children(names: Sequence[str]) -> None:
    import signal

    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid, encoding="utf-8", errors="replace") as fh:
                name, _, rest = fh.read().partition("(")[2].rpartition(")")
            if name in names and int(rest.split()[1]) == os.getpid():
                LOG.info("timed out, ended: %s (pid %s)", name, pid)
                os.kill(int(pid), signal.SIGTERM)
        except (OSError, ValueError, IndexError):
            pass  # it has ended


def run(argv: Sequence[str], timeout: float = 60.0) -> str:
    """Runs a program and returns its standard output. Raises CommandError with its last output lines."""
    return end(start(argv), timeout)
