# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Sets up temporary access to the metadata service for one request, and removes it again.

What is set up is noted under /run first. If the run dies, the next run removes what it left behind.
Routes, addresses and the note do not outlive a boot. What other software has configured on the NIC
in the meantime stays.
"""

import ipaddress
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
_DAD_SECONDS = 3.0  # duplicate address detection: one probe, one second, and a margin
# A run may die before it knows which address it was leased. After this time a new address is other software's.
_LEASE_SECONDS = 120.0
# Higher than the metric of any route that other software sets, so that none is shadowed.
_METRIC = "4294967000"


class NotOpened(Exception):
    """The access could not be set up; the message names the NIC."""


class TemporaryAccess(NamedTuple):
    """What has to be undone on a NIC."""

    ifindex: int
    mac: str
    at: float  # seconds of the monotonic clock
    route: Sequence[str] = ()  # the arguments of ip(8) for a host route
    address: Sequence[str] = ()  # those for an address
    down: bool = False  # the link was down
    before: Optional[List[str]] = None  # its addresses, ip/prefix, before the DHCP request
    leased: Optional[List[str]] = None  # the addresses of the lease, None until there is one


@contextmanager
def opened(kind: str, nic: Nic, gateway: str) -> Iterator[str]:
    """Sets up what a choose_nic.Access of this kind needs, and removes it afterwards. Raises NotOpened.

    Yields the address that the request has to come from, empty if any will do.
    """
    nic = _nic(nic.ifindex) or nic  # requests through other NICs may have taken seconds since the snapshot
    access = TemporaryAccess(nic.ifindex, nic.mac, time.monotonic(), down=not nic.up)
    try:
        if kind == "gateway":
            route = [METADATA4 + "/32", "via", gateway, "dev", nic.name, "onlink", "metric", _METRIC]
            with _removed_afterwards(access._replace(route=route)):
                run(["ip", "-4", "route", "add"] + route)
                yield ""
        elif kind == "ipv6" and not nic.up:
            _need_ipv6(nic)
            with _removed_afterwards(access):
                run(["ip", "link", "set", "dev", nic.name, "up"])
                _wait_for_link_local(nic)
                yield ""
        elif kind == "ipv6":
            _need_ipv6(nic)
            _wait_for_link_local(nic)
            yield ""
        elif kind == "eui64":
            with _own_link_local(nic, access) as address:
                yield address
        elif kind == "lease":
            with _leased(nic, access):
                yield ""
        else:
            yield ""
    except CommandError as exc:
        raise NotOpened("metadata via %s: %s" % (nic.name, exc)) from exc


@contextmanager
def _own_link_local(nic: Nic, access: TemporaryAccess) -> Iterator[str]:
    """Adds the link-local address that is made from the MAC, where NetworkManager, for example, has made another one.

    A host address changes no route. Nobody else has it: its identifier is the port's MAC.
    """
    own = link_local_of(nic.mac)
    if not nic.up or any(a.address.partition("/")[0] == own for a in nic.addresses):
        raise NotOpened("metadata via %s (IPv6): no other link-local address to ask from" % nic.name)
    address = [own + "/128", "dev", nic.name]
    with _removed_afterwards(access._replace(address=address)):
        run(["ip", "-6", "address", "add"] + address + ["nodad"])
        _wait_for_link_local(nic, own + "/")  # `nodad` too: the kernel makes it usable in a work queue
        yield own


def link_local_of(mac: str) -> str:
    """Returns the link-local address with the identifier that is made from a MAC (RFC 4291, appendix A)."""
    octets = bytes(int(word, 16) for word in mac.split(":"))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


@contextmanager
def _leased(nic: Nic, access: TemporaryAccess) -> Iterator[None]:
    from ..cloud_init import compat  # 65 to 100 ms, and a DHCP client: the last resort

    access = access._replace(before=_addresses4(_nic(nic.ifindex)))
    with _removed_afterwards(access):
        try:
            with compat.lease(nic.name) as address:
                # cloud-init removes the address itself; from 22.4 on some releases also take the link down.
                leased = [a for a in _addresses4(_nic(nic.ifindex)) if a.partition("/")[0] == address]
                _write_note(access._replace(leased=leased))
                yield
        except compat.NoLease as exc:
            _write_note(access._replace(leased=[]))  # any new address is other software's
            raise NotOpened(str(exc)) from exc


def close_leftovers() -> None:
    """Removes the temporary access that a run left behind when it died."""
    left = _read_note()
    if left is not None:
        LOG.warning("removing temporary access to the metadata service, left behind by an earlier run")
        _remove(left)


def _read_note() -> Optional[TemporaryAccess]:
    noted: Any = files.read_json(paths.TEMPORARY_ACCESS)
    try:
        return encoding.read(TemporaryAccess, noted) if noted is not None else None
    except TypeError:  # a required field is missing
        files.remove(paths.TEMPORARY_ACCESS)
        return None


def _write_note(access: TemporaryAccess) -> None:
    try:
        files.replace(paths.TEMPORARY_ACCESS, json.dumps(access._asdict()) + "\n", mode=0o600, sync=False)
    except OSError as exc:
        raise NotOpened("no temporary access to the metadata service, because it cannot be noted: %s" % exc) from exc


@contextmanager
def _removed_afterwards(access: TemporaryAccess) -> Iterator[None]:
    _write_note(access)
    try:
        yield
    finally:
        _remove(_read_note() or access)


def _remove(access: TemporaryAccess) -> None:
    """Undoes on the same NIC what was set up, and nothing that other software has done to it since."""
    nic = _nic(access.ifindex)
    if nic is not None and nic.mac == access.mac:
        if access.route:
            _try(["ip", "-4", "route", "del", *access.route])
        if access.address:
            _try(["ip", "-6", "address", "del", *access.address])
        if access.before is not None:
            young = time.monotonic() - access.at < _LEASE_SECONDS
            new = access.leased if access.leased is not None else _addresses4(nic) if young else []
            for address in sorted(set(new) & set(_addresses4(nic)) - set(access.before)):
                _try(["ip", "-4", "addr", "del", address, "dev", nic.name])
        if access.down and nic.up and not _is_in_use(nic.ifindex):
            _try(["ip", "link", "set", "dev", nic.name, "down"])
        elif not access.down and not nic.up and access.leased is not None:
            _try(["ip", "link", "set", "dev", nic.name, "up"])
    files.remove(paths.TEMPORARY_ACCESS)


def _try(command: List[str]) -> None:
    try:
        run(command)
    except CommandError as exc:
        LOG.info("not removed, it may be gone already: %s", exc)


def _addresses4(nic: Optional[Nic]) -> List[str]:
    return [a.address for a in nic.addresses if ":" not in a.address] if nic else []


def _is_in_use(ifindex: int) -> bool:
    """True if other software has configured an address; an advertised one appears on any link that is up."""
    nic = _nic(ifindex)
    return nic is not None and any(
        ":" not in a.address or (a.permanent and not a.address.startswith("fe80:")) for a in nic.addresses
    )


def _nic(ifindex: int) -> Optional[Nic]:
    return next((nic for nic in netlink.snapshot().nics if nic.ifindex == ifindex), None)


def _need_ipv6(nic: Nic) -> None:
    if not netlink.has_ipv6(nic.name):
        raise NotOpened("metadata via %s (IPv6): IPv6 is disabled" % nic.name)


def _wait_for_link_local(nic: Nic, beginning: str = "fe80:") -> None:
    """Waits until a link-local address that begins like this can be used. Raises NotOpened."""
    deadline = time.monotonic() + _DAD_SECONDS
    while True:
        now = netlink.snapshot().named(nic.name)
        addresses = now.addresses if now else ()
        if any(a.address.startswith(beginning) and not a.tentative for a in addresses):
            return
        if time.monotonic() > deadline:
            raise NotOpened("metadata via %s (IPv6): no link-local address" % nic.name)
        time.sleep(0.05)
