# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A network_data.json that is handed over: on the command line, in a file or on standard input; plain or in base64."""

import base64
import binascii
import os
import sys
from typing import TYPE_CHECKING, List

from ..core import network_data, truth
from ..kernel import netlink
from .output import print_json

if TYPE_CHECKING:
    import argparse

EXIT_REFUSED = 3
# In base64 a document is a third longer, and may be broken into lines.
_MAX_INPUT = network_data.MAX_BYTES * 3 // 2


class Refused(Exception):
    """The input is no network_data that can be taken as it is; nothing was changed."""

    def __init__(self, problems: List[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read(args: "argparse.Namespace") -> bytes:
    """Returns what `--file`, `--stdin` or the command line gives; raises Refused for a file that cannot be read."""
    if args.file:
        try:
            with open(args.file, "rb") as fh:
                return fh.read(_MAX_INPUT + 1)
        except OSError as exc:
            raise Refused(["%s: %s" % (args.file, exc.strerror or exc)]) from exc
    if args.stdin:
        return sys.stdin.buffer.read(_MAX_INPUT + 1)
    return os.fsencode(args.document)


def decoded(raw: bytes) -> bytes:
    """Returns the JSON text of a document that is plain or in base64. Raises Refused."""
    if len(raw) > _MAX_INPUT:
        raise Refused(["the document is larger than %d bytes" % network_data.MAX_BYTES])
    text = raw.strip()
    if not text:
        raise Refused(["the document is empty"])
    if text[:1] in b"{[" or text.startswith(b"\xef\xbb\xbf"):
        return text
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Refused(["the document is neither JSON nor base64: %s" % exc]) from exc


def parsed(raw: bytes) -> network_data.NetworkData:
    """Returns the document. Raises Refused, with every error, if any of it is wrong: the sender can mend it."""
    try:
        data = network_data.parse_bytes(decoded(raw), netlink.macs_by_name)
    except network_data.Refused as exc:
        raise Refused([str(exc)]) from exc
    if data.faults:
        raise Refused(list(truth.observe(truth.EMPTY, "push", data, 0.0).fault_texts("push")))
    if not data.entries:
        raise Refused(["links: the document has none"])
    return data


def tell_refused(args: "argparse.Namespace", refused: Refused) -> None:
    if args.json:
        print_json({"refused": refused.problems})
    else:
        sys.stderr.write("cloudinit-osnetd: refused, nothing was changed: %s\n" % "\n  ".join(refused.problems))
