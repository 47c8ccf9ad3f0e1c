# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Running a program, with its name, its end and its time in the log and in the record."""

import logging
import shlex
import subprocess
import time
from typing import List, Sequence

LOG = logging.getLogger(__name__)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# Every command of this process, for the record of a run: a second run must have none.
ran: List[str] = []


class CommandError(Exception):
    """A program that failed, was not there, or took too long."""


def run(argv: Sequence[str], timeout: float = 60.0) -> str:
    """Run a program to its end; its standard output. Raises CommandError with what it said."""
    text = " ".join(shlex.quote(word) for word in argv)
    ran.append(text)
    began = time.monotonic()
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            universal_newlines=True,
            env={"PATH": PATH, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandError("%s: not done within %d s" % (text, timeout)) from None
    except OSError as exc:
        raise CommandError("%s: %s" % (text, exc.strerror)) from exc
    LOG.info("ran: %s (%.0f ms, exit %d)", text, (time.monotonic() - began) * 1e3, done.returncode)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise CommandError("%s: exit %d: %s" % (text, done.returncode, " | ".join(said)))
    return done.stdout
