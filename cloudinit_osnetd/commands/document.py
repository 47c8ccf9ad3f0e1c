# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A network_data.json that is handed over: on the command line, in a file or on standard input; plain or in base64."""

import errno
import os
import sys
from typing import TYPE_CHECKING

from ..core import network_data, pushed_document
from ..core.pushed_document import Refused
from ..kernel import netlink
from .output import print_json

if TYPE_CHECKING:
    import argparse

EXIT_REFUSED = 3


def read(args: "argparse.Namespace") -> bytes:
    """Returns what `--file`, `--stdin` or the command line gives; raises Refused for what cannot be read."""
    if args.file is not None:
        return pushed_document.limited(lambda size: _from_file(args.file, size), args.file or "--file ''")
    if args.stdin:
        return pushed_document.limited(_from_stdin, "standard input")
    return os.fsencode(args.document)


def _from_file(path: str, size: int) -> bytes:
    with open(path, "rb") as fh:
        return fh.read(size)


def _from_stdin(size: int) -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdin.buffer.read(size)


def parsed(raw: bytes) -> network_data.NetworkData:
    """Returns the document. Raises Refused, with every error, if any of it is wrong: the sender can mend it."""
    data = pushed_document.parsed(raw, netlink.macs_by_name)
    if data.faults:
        raise Refused(pushed_document.fault_texts(data))
    return data


def tell_refused(args: "argparse.Namespace", refused: Refused) -> None:
    if args.json:
        print_json({"refused": refused.problems})
    else:
        sys.stderr.write("cloudinit-osnetd: refused, nothing was changed: %s\n" % "\n  ".join(refused.problems))
