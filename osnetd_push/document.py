# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The document from a file or from standard input, as it is: plain JSON or base64. The guest checks what it says."""

import base64
import errno
import json
import os
import select
import sys
import time
from typing import Any, FrozenSet, Sequence

from .errors import NoDocument

MAX_BYTES = 1 << 20  # of the document; the guest takes no more
_MAX_INPUT = MAX_BYTES * 3 // 2  # in base64 it is a third longer, and may be broken into lines
_AT_ONCE = 1 << 16


def read(path: str, seconds: float) -> bytes:
    """Returns the content of the file, or of standard input for "-".

    Raises NoDocument if it cannot be read, is empty or too large, or does not end in time.
    """
    name = "standard input" if path == "-" else path
    try:
        data = _read(path, name, seconds)
    except OSError as exc:
        raise NoDocument("%s: %s" % (name, exc.strerror or exc)) from exc
    text = data.strip()
    if not text:
        raise NoDocument("%s: empty" % name)
    size = len(data)
    if text[:1] not in (b"{", b"[") and size <= _MAX_INPUT:
        size = len(b"".join(text.split())) // 4 * 3 - text[-2:].count(b"=")
    if size > MAX_BYTES:
        raise NoDocument("%s: larger than a guest takes (1 MiB)" % name)
    return data


def _read(path: str, name: str, seconds: float) -> bytes:
    if path != "-":
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a FIFO is opened only once somebody writes to it
        try:
            return _all_of(fd, name, seconds)
        finally:
            os.close(fd)
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return _all_of(sys.stdin.fileno(), name, seconds)


def _all_of(fd: int, name: str, seconds: float) -> bytes:
    """Returns what can be read until its end; no more than a byte beyond what is taken."""
    until = time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    found = b""
    while len(found) <= _MAX_INPUT:
        if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            raise NoDocument("%s: it does not end: %d bytes came within %g s" % (name, len(found), seconds))
        try:
            more = os.read(fd, min(_AT_ONCE, _MAX_INPUT + 1 - len(found)))
        except BlockingIOError:
            continue  # another process was faster
        if not more:
            break
        found += more
    return found


def macs(data: bytes) -> FrozenSet[str]:
    """Returns the MACs of the document's links, in lower case. Raises NoDocument for what is no network_data.json."""
    try:
        text = data.decode("utf-8").strip()
        if not text.startswith("{"):
            text = base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
        links = json.loads(text)["links"]
        return frozenset(_mac(link) for link in links) - {""}
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise NoDocument("no network_data.json: its links cannot be read (%s: %s)" % (type(exc).__name__, exc)) from exc


def _mac(link: Any) -> str:
    mac = link.get("ethernet_mac_address") if isinstance(link, dict) else None
    return mac.lower().replace("-", ":") if isinstance(mac, str) else ""


def check_names_a_nic_of(domain: str, data: bytes, of_domain: Sequence[str]) -> None:
    """Raises NoDocument if none of the document's MACs is one of the domain's: it is another server's document."""
    named = macs(data)
    if not named.intersection(of_domain):
        raise NoDocument(
            "%s: not sent: the document has no link with a MAC of this domain (%s). Name the domain with --domain to "
            "send it anyway." % (domain, ", ".join(of_domain) or "it has no NIC")
        )
