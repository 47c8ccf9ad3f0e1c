# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply`: takes a network_data.json that a host or an operator hands over, and configures the NICs by it."""

import base64
import binascii
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List

from ..cloud_init import instance
from ..cloud_init.eligibility import NotManaged
from ..core import network_data, truth
from ..kernel import netlink
from ..run.reconcile import Push, run
from ..state import store
from ..system import paths
from .output import print_json
from .reconcile import as_json, keep, note
from .report import print_decided

if TYPE_CHECKING:
    import argparse

EXIT_NIC_FAILED, EXIT_REFUSED, EXIT_ROLLED_BACK, EXIT_NOT_MANAGED, EXIT_BUSY = 1, 3, 4, 5, 6
# In base64 a document is a third longer, and may be broken into lines.
_MAX_INPUT = network_data.MAX_BYTES * 3 // 2


class Refused(Exception):
    """The input is no network_data that can be taken as it is; nothing was changed."""

    def __init__(self, problems: List[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _read(args: "argparse.Namespace") -> bytes:
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


def _await_cloud_init(until: float) -> None:
    """Waits for cloud-init's local stage, which finds the instance: a host may push while its guest boots."""
    while not (os.path.exists(paths.CLOUD_RAN) and instance.instance_id()):
        if time.monotonic() > until or os.path.exists(paths.CLOUD_DISABLED):
            return  # and run() says what is missing
        time.sleep(0.2)


def _status(report: Dict[str, Any]) -> int:
    if any(touch["reason"] == "rolled back" for touch in report["touches"]):
        return EXIT_ROLLED_BACK
    return EXIT_NIC_FAILED if report["problems"] else 0


def _tell(args: "argparse.Namespace", report: Dict[str, Any], text: str = "") -> None:
    if args.json:
        print_json(report)
    elif text:
        sys.stderr.write("cloudinit-osnetd: %s\n" % text)
    else:
        print_decided(report)


def main(args: "argparse.Namespace") -> int:
    """Ends with the exit status that the manual page lists; nothing was changed where it is 3, 5 or 6."""
    began = time.monotonic()
    try:
        data = None if args.forget else parsed(_read(args))
        _await_cloud_init(began + args.timeout)
        left = max(0.0, began + args.timeout - time.monotonic())
        report = as_json(run(["push"], patient=False, note=note, keep=keep, push=Push(data, left)))
    except Refused as exc:
        _tell(args, {"refused": exc.problems}, "refused, nothing was changed: " + "\n  ".join(exc.problems))
        return EXIT_REFUSED
    except NotManaged as exc:
        _tell(args, {"not_managed": str(exc)}, "not managed, nothing was changed: %s" % exc)
        return EXIT_NOT_MANAGED
    except store.Busy as exc:
        _tell(args, {"busy": str(exc)}, "nothing was changed: %s" % exc)
        return EXIT_BUSY
    _tell(args, report)
    return _status(report)
