# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""IPv6 addresses that another host was found to have: probed for anew, for the other one may have left.

The kernel keeps such an address unused (dadfailed, RFC 4862), and no backend takes it up again by itself. To remove it
and to add it begins duplicate address detection anew, and touches nothing else of the NIC.
"""

import logging
import time
from typing import Dict, List, NamedTuple, Sequence

from ..core.desired import Want
from ..core.network_data import static_addresses
from ..core.records import Snapshot
from ..kernel import netlink
from ..system.command import CommandError, run

LOG = logging.getLogger(__name__)
# A second for the probe's answer, and up to one before it is sent (RFC 4862, 5.4.2).
_PROBE_SECONDS = 4.0
_POLL_SECONDS = 0.05


class Duplicate(NamedTuple):
    """A static address of a NIC of ours that another host has."""

    mac: str  # of the entry
    name: str
    address: str  # ip/prefix


def found(wants: Sequence[Want], snapshot: Snapshot) -> List[Duplicate]:
    """Those that the kernel shows of what is wanted."""
    named = {nic.name: nic for nic in snapshot.nics}
    return [
        Duplicate(item.entry.mac, item.name, one.address)
        for want in wants
        for item in want.items
        if item.name in named and not named[item.name].master
        for one in named[item.name].addresses
        if one.duplicate and one.address in static_addresses(item.entry)
    ]


def probe(duplicates: Sequence[Duplicate]) -> Dict[str, str]:
    """Take the addresses anew and await the detection; by MAC, the names of the NICs that have all of theirs now."""
    for one in duplicates:
        try:
            run(["ip", "-6", "address", "delete", one.address, "dev", one.name])
            run(["ip", "-6", "address", "add", one.address, "dev", one.name])
        except CommandError as exc:
            LOG.warning("not taken anew: nic=%s address=%s error=%s", one.name, one.address, exc)
    deadline = time.monotonic() + _PROBE_SECONDS
    while _detecting(duplicates) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    left = {(one.name, one.address) for one in _refused(duplicates)}
    names = {one.mac: one.name for one in duplicates}
    for one in duplicates:
        has = (one.name, one.address) in left
        LOG.info("taken anew: mac=%s nic=%s address=%s unique=%s", one.mac, one.name, one.address, not has)
        if has:
            names.pop(one.mac, None)
    return names


def _detecting(duplicates: Sequence[Duplicate]) -> bool:
    now = netlink.snapshot()
    return any(
        address.tentative and not address.duplicate
        for one in duplicates
        for nic in [now.named(one.name)]
        if nic is not None
        for address in nic.addresses
        if address.address == one.address
    )


def _refused(duplicates: Sequence[Duplicate]) -> List[Duplicate]:
    """Those that are not there, or not proved unique."""
    now = netlink.snapshot()
    there = {(nic.name, address.address) for nic in now.nics for address in nic.addresses if not address.tentative}
    return [one for one in duplicates if (one.name, one.address) not in there]
