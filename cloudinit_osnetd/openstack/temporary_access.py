# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Opening a way to the metadata service for the moment of asking, and closing it again.

What is opened is noted first, under /run, so that a run that dies leaves nothing behind for longer
than until the next one: routes and addresses do not outlive a boot, nor does the note. What others
gave the NIC meanwhile stays.
"""

import json
import logging
import time
from contextlib import contextmanager
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence

from ..core import encoding
from ..core.records import Nic
from ..kernel import netlink
from ..system import files, paths
from ..system.command import CommandError, run
from .metadata import METADATA4

LOG = logging.getLogger(__name__)
_NOTE = paths.RUN + "/passage.json"
_DAD_SECONDS = 3.0  # duplicate address detection: one probe, a second, and some to spare
# A run that died before it knew what address it was leased: later than this, a new one is somebody else's.
_LEASE_SECONDS = 120.0
# Behind every route that anybody else could have given, so that none is shadowed.
_METRIC = "4294967000"


class NotOpened(Exception):
    """The way could not be opened; the message names the NIC."""


class Passage(NamedTuple):
    """What has to be closed again on a NIC."""

    ifindex: int
    mac: str
    at: float  # by the monotonic clock
    route: Sequence[str] = ()  # the words of a host route
    down: bool = False  # the link was down
    before: Optional[List[str]] = None  # its addresses, ip/prefix, before a lease was asked for
    leased: Optional[List[str]] = None  # the addresses of the lease, once that is had


@contextmanager
def opened(kind: str, nic: Nic, gateway: str) -> Iterator[None]:
    """Open the way of a reach.Way, and close it. Raises NotOpened."""
    nic = _nic(nic.ifindex) or nic  # others may have been asked for seconds since it was looked at
    way = Passage(nic.ifindex, nic.mac, time.monotonic(), down=not nic.up)
    try:
        if kind == "gateway":
            route = [METADATA4 + "/32", "via", gateway, "dev", nic.name, "onlink", "metric", _METRIC]
            with _closed_again(way._replace(route=route)):
                run(["ip", "-4", "route", "add"] + route)
                yield
        elif kind == "ipv6" and not nic.up:
            _need_ipv6(nic)
            with _closed_again(way):
                run(["ip", "link", "set", "dev", nic.name, "up"])
                _wait_for_link_local(nic)
                yield
        elif kind == "ipv6":
            _need_ipv6(nic)
            _wait_for_link_local(nic)
            yield
        elif kind == "lease":
            with _leased(nic, way):
                yield
        else:
            yield
    except CommandError as exc:
        raise NotOpened("metadata via %s: %s" % (nic.name, exc)) from exc


@contextmanager
def _leased(nic: Nic, way: Passage) -> Iterator[None]:
    from ..cloud_init import compat  # 65 to 100 ms, and a DHCP client: the last resort

    way = way._replace(before=_addresses4(_nic(nic.ifindex)))
    with _closed_again(way):
        try:
            with compat.lease(nic.name) as address:
                # cloud-init takes it away again, and from 22.4 on some releases take the link down.
                leased = [a for a in _addresses4(_nic(nic.ifindex)) if a.partition("/")[0] == address]
                _note(way._replace(leased=leased))
                yield
        except compat.NoLease as exc:
            _note(way._replace(leased=[]))  # what is new is somebody else's
            raise NotOpened(str(exc)) from exc


def close_leftovers() -> None:
    """Undo what a run that died has left open."""
    left = _noted()
    if left is not None:
        LOG.warning("closing a way to the metadata service that was left open")
        _close(left)


def _noted() -> Optional[Passage]:
    noted: Any = files.read_json(_NOTE)
    try:
        return encoding.read(Passage, noted) if noted is not None else None
    except TypeError:  # one that lacks what is needed
        files.remove(_NOTE)
        return None


def _note(way: Passage) -> None:
    try:
        files.replace(_NOTE, json.dumps(way._asdict()) + "\n", mode=0o600, sync=False)
    except OSError as exc:
        raise NotOpened("a way to the metadata service cannot be noted, so none is opened: %s" % exc) from exc


@contextmanager
def _closed_again(way: Passage) -> Iterator[None]:
    _note(way)
    try:
        yield
    finally:
        _close(_noted() or way)


def _close(way: Passage) -> None:
    """Undo what was opened, on the same NIC, and nothing that somebody else has done to it since."""
    nic = _nic(way.ifindex)
    if nic is not None and nic.mac == way.mac:
        if way.route:
            _try(["ip", "-4", "route", "del", *way.route])
        if way.before is not None:
            young = time.monotonic() - way.at < _LEASE_SECONDS
            new = way.leased if way.leased is not None else _addresses4(nic) if young else []
            for address in sorted(set(new) & set(_addresses4(nic)) - set(way.before)):
                _try(["ip", "-4", "addr", "del", address, "dev", nic.name])
        if way.down and nic.up and not _is_in_use(nic.ifindex):
            _try(["ip", "link", "set", "dev", nic.name, "down"])
        elif not way.down and not nic.up and way.leased is not None:
            _try(["ip", "link", "set", "dev", nic.name, "up"])
    files.remove(_NOTE)


def _try(command: List[str]) -> None:
    try:
        run(command)
    except CommandError as exc:
        LOG.info("not undone, perhaps gone already: %s", exc)


def _addresses4(nic: Optional[Nic]) -> List[str]:
    return [a.address for a in nic.addresses if ":" not in a.address] if nic else []


def _is_in_use(ifindex: int) -> bool:
    """True where somebody has given the NIC an address; an advertised one comes to any link that is up."""
    nic = _nic(ifindex)
    return nic is not None and any(
        ":" not in a.address or (a.permanent and not a.address.startswith("fe80:")) for a in nic.addresses
    )


def _nic(ifindex: int) -> Optional[Nic]:
    return next((nic for nic in netlink.snapshot().nics if nic.ifindex == ifindex), None)


def _need_ipv6(nic: Nic) -> None:
    if not netlink.has_ipv6(nic.name):
        raise NotOpened("metadata via %s (IPv6): it is switched off" % nic.name)


def _wait_for_link_local(nic: Nic) -> None:
    """A link-local address serves once no other is found to have it. Raises NotOpened."""
    deadline = time.monotonic() + _DAD_SECONDS
    while True:
        now = netlink.snapshot().named(nic.name)
        addresses = now.addresses if now else ()
        if any(a.address.startswith("fe80:") and not a.tentative for a in addresses):
            return
        if time.monotonic() > deadline:
            raise NotOpened("metadata via %s (IPv6): it has no link-local address" % nic.name)
        time.sleep(0.05)
