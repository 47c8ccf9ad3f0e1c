# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Opening a way to the metadata service for the moment of asking, and closing it again.

What is opened is noted first, under /run, so that a run that dies leaves nothing behind for longer
than until the next one: routes and addresses do not outlive a boot, nor does the note.
"""

import json
import logging
import time
from contextlib import contextmanager
from typing import Iterator, List

from . import files, kernel, paths
from .command import CommandError, run
from .kernel import Nic
from .source import METADATA4

LOG = logging.getLogger(__name__)
_NOTE = paths.RUN + "/passage.json"
_DAD_SECONDS = 3.0  # duplicate address detection: one probe, a second, and some to spare
# Behind every route that anybody else could have given, so that none is shadowed.
_METRIC = "4294967000"


class NotOpened(Exception):
    """The way could not be opened; the message names the NIC."""


@contextmanager
def opened(kind: str, nic: Nic, gateway: str) -> Iterator[None]:
    """Open the way of a reach.Way, and close it. Raises NotOpened."""
    try:
        if kind == "gateway":
            route = [METADATA4 + "/32", "via", gateway, "dev", nic.name, "onlink", "metric", _METRIC]
            with _undone([["ip", "-4", "route", "del"] + route]):
                run(["ip", "-4", "route", "add"] + route)
                yield
        elif kind == "ipv6" and not nic.up:
            _need_ipv6(nic)
            with _undone([["ip", "link", "set", "dev", nic.name, "down"]]):
                run(["ip", "link", "set", "dev", nic.name, "up"])
                _wait_for_link_local(nic)
                yield
        elif kind == "ipv6":
            _need_ipv6(nic)
            _wait_for_link_local(nic)
            yield
        elif kind == "lease":
            with _undone([["ip", "-4", "addr", "flush", "dev", nic.name, "scope", "global"]]):
                from . import compat  # 65 to 100 ms, and a DHCP client: the last resort

                with compat.lease(nic.name):
                    yield
        else:
            yield
    except CommandError as exc:
        raise NotOpened("metadata via %s: %s" % (nic.name, exc)) from exc


def close_leftovers() -> None:
    """Undo what a run that died has left open."""
    noted = files.read_json(_NOTE)
    if isinstance(noted, list):
        LOG.warning("closing a way to the metadata service that was left open")
        _undo([list(map(str, command)) for command in noted])


@contextmanager
def _undone(commands: List[List[str]]) -> Iterator[None]:
    try:
        files.replace(_NOTE, json.dumps(commands) + "\n", mode=0o600, sync=False)
    except OSError as exc:
        raise NotOpened("a way to the metadata service cannot be noted, so none is opened: %s" % exc) from exc
    try:
        yield
    finally:
        _undo(commands)


def _undo(commands: List[List[str]]) -> None:
    for command in commands:
        try:
            run(command)
        except CommandError as exc:
            LOG.info("not undone, perhaps gone already: %s", exc)
    files.remove(_NOTE)


def _need_ipv6(nic: Nic) -> None:
    if (files.read("/proc/sys/net/ipv6/conf/%s/disable_ipv6" % nic.name) or "1").strip() != "0":
        raise NotOpened("metadata via %s (IPv6): it is switched off" % nic.name)


def _wait_for_link_local(nic: Nic) -> None:
    """A link-local address serves once no other is found to have it. Raises NotOpened."""
    deadline = time.monotonic() + _DAD_SECONDS
    while True:
        now = kernel.snapshot().named(nic.name)
        addresses = now.addresses if now else ()
        if any(a.address.startswith("fe80:") and not a.tentative for a in addresses):
            return
        if time.monotonic() > deadline:
            raise NotOpened("metadata via %s (IPv6): it has no link-local address" % nic.name)
        time.sleep(0.05)
