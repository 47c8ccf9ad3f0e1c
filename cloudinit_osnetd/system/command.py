# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Running a program, with its name, its end and its time in the log and in the record."""

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

# Every command of this process, for the record of a run: a second run must have none.
ran: List[str] = []


class CommandError(Exception):
    """A program that failed, was not there, or took too long."""

    out_of_time = False


class Job(NamedTuple):
    """A program that was started."""

    text: str
    process: "subprocess.Popen[bytes]"
    out: IO[bytes]
    err: IO[bytes]
    began: float


def _scratch() -> IO[bytes]:
    """A file without a name. Where /run is full its words are lost, not the program.

    In the staging tree where there is one: `plan` writes nowhere else. Not in /tmp: to find out which directory serves,
    Python would make a file there that has a name.
    """
    import tempfile  # with subprocess 5 ms, and most runs have no command

    for directory in (paths.STAGING, paths.RUN):
        try:
            if directory == paths.RUN:
                os.makedirs(directory, exist_ok=True)
            return tempfile.TemporaryFile(dir=directory)
        except OSError:
            pass  # no staging tree is there now, or no room
    return open(os.devnull, "w+b")


def start(argv: Sequence[str]) -> Job:
    """Start a program. Raises CommandError where it cannot be."""
    import shlex
    import subprocess

    text = " ".join(shlex.quote(word) for word in argv)
    ran.append(text)
    # Files, not pipes: a daemon that the program leaves behind would keep a pipe open, and us waiting.
    out, err = _scratch(), _scratch()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={"PATH": PATH, "LC_ALL": "C"},
            start_new_session=True,  # a terminal's Ctrl-C is for us, who finish what is begun
        )
    except OSError as exc:
        out.close()
        err.close()
        raise CommandError("%s: %s" % (text, exc.strerror)) from exc
    return Job(text, process, out, err, time.monotonic())


def _wait(process: "subprocess.Popen[bytes]", timeout: float) -> bool:
    """Wait for a process to end; False where it does not in time.

    With a timeout Popen.wait() looks now and then, every 50 ms at last; a pidfd (Python 3.9, Linux
    5.3) tells at once.
    """
    import select
    import subprocess

    if process.poll() is not None:
        return True  # and its number may be another's
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
    """Kill the program and whom it waits for, who would go on without it: `ifdown`'s client, hooks."""
    import signal

    try:
        os.killpg(job.process.pid, signal.SIGKILL)  # a group of its own by start()
    except OSError:
        job.process.kill()
    job.process.wait()


def end(job: Job, timeout: float = 60.0, kill: bool = True) -> str:
    """Wait for its end; its standard output. Raises CommandError with what it said.

    `kill` False leaves a program that takes longer at its work.
    """
    with job.out, job.err:
        if not _wait(job.process, timeout):
            if kill:
                _kill(job)
            error = CommandError("%s: not done within %d s" % (job.text, timeout))
            error.out_of_time = True
            raise error
        job.out.seek(0)
        job.err.seek(0)
        out, err = (file.read().decode("utf-8", "replace") for file in (job.out, job.err))
    took = (time.monotonic() - job.began) * 1e3
    LOG.info("ran: %s (%.0f ms, exit %d)", job.text, took, job.process.returncode)
    if job.process.returncode:
        said = (err or out).strip().splitlines()[-3:]
        raise CommandError("%s: exit %d: %s" % (job.text, job.process.returncode, " | ".join(said)))
    return out


@contextmanager
def children_limited(names: Sequence[str], seconds: float) -> Iterator[None]:
    """Programs of these names that others start in this process, as cloud-init's library does, end after so long."""
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
                LOG.info("ended, it took too long: %s (pid %s)", name, pid)
                os.kill(int(pid), signal.SIGTERM)
        except (OSError, ValueError, IndexError):
            pass  # it is gone


def run(argv: Sequence[str], timeout: float = 60.0) -> str:
    """Run a program to its end; its standard output. Raises CommandError with what it said."""
    return end(start(argv), timeout)
