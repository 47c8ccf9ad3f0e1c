# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A network_data.json that is handed over: on the command line, in a file or on standard input; plain or in base64."""

import errno
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from ..core import network_data, pushed_document
from ..core.pushed_document import Refused
from ..kernel import netlink
from .output import complain, print_json, printable, width, wrapped

if TYPE_CHECKING:
    import argparse

EXIT_REFUSED, EXIT_BUSY = 3, 6
_SECONDS = 60.0  # `plan` has no --timeout
_LEAST_SECONDS = 5.0  # `--timeout 0` means not to wait for another run; the writer of a pipe needs its moment
_AT_ONCE = 1 << 16


class Unfinished(Exception):
    """The document did not come to its end in time: from a pipe that its writer keeps open."""


def read(args: "argparse.Namespace") -> bytes:
    """Returns what `--file`, `--stdin` or the command line gives.

    Raises Refused for what cannot be read, Unfinished if it does not end within `--timeout`.
    """
    seconds = max(_LEAST_SECONDS, getattr(args, "timeout", _SECONDS))
    if args.file is not None:
        return pushed_document.limited(lambda size: _from_file(args.file, size, seconds), args.file or "--file ''")
    if args.stdin:
        return pushed_document.limited(lambda size: _from_stdin(size, seconds), "standard input")
    return os.fsencode(args.document)


def _from_file(path: str, size: int, seconds: float) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a FIFO is opened only once somebody writes to it
    try:
        return _all_of(fd, size, seconds, path)
    finally:
        os.close(fd)


def _from_stdin(size: int, seconds: float) -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return _all_of(sys.stdin.fileno(), size, seconds, "standard input")


def _all_of(fd: int, size: int, seconds: float, name: str) -> bytes:
    """Returns what can be read until its end, `size` bytes at most. Raises Unfinished."""
    until = time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    found = b""
    while len(found) < size:
        if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            text = "%s: it does not end: %d bytes came within %g s" % (printable(name), len(found), seconds)
            raise Unfinished(text)
        try:
            more = os.read(fd, min(_AT_ONCE, size - len(found)))
        except BlockingIOError:
            continue  # another process was faster
        if not more:
            break
        found += more
    return found


def parsed(raw: bytes) -> network_data.NetworkData:
    """Returns the document. Raises Refused, with every error, if any of it is wrong: the sender can mend it."""
    data = pushed_document.parsed(raw, netlink.macs_by_name)
    if data.faults:
        raise Refused(pushed_document.fault_texts(data))
    return data


def tell_unfinished(args: "argparse.Namespace", unfinished: Unfinished) -> None:
    if args.json:
        print_json({"unfinished": str(unfinished)})
    else:
        complain("nothing was changed: %s" % unfinished)


def tell_refused(args: "argparse.Namespace", refused: Refused) -> None:
    if args.json:
        print_json({"refused": refused.problems})
    else:
        one = " " + refused.problems[0] if len(refused.problems) == 1 else ""
        complain("refused, nothing was changed:" + one)
        for problem in () if one else refused.problems:
            sys.stderr.write("\n".join(wrapped(problem, width(), "  ", "    ")) + "\n")
