# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Retries IPv6 addresses for which duplicate address detection failed: the other host may be gone.

The kernel does not use such an address (dadfailed, RFC 4862), and no backend retries it. Removing and adding the
address restarts duplicate address detection and changes nothing else of the NIC.
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

    link: str
    mac: str  # of the entry
    name: str
    address: str  # ip/prefix


def found(wants: Sequence[Want], snapshot: Snapshot) -> List[Duplicate]:
    """Returns the wanted addresses that the kernel shows as duplicates."""
    named = {nic.name: nic for nic in snapshot.nics}
    return [
        Duplicate(item.link, item.entry.mac, item.name, one.address)
        for want in wants
        for item in want.items
        if item.name in named and not named[item.name].master
        for one in named[item.name].addresses
        if one.duplicate and one.address in static_addresses(item.entry)
    ]


def probe(duplicates: Sequence[Duplicate]) -> Dict[str, str]:
    """Adds the addresses again and waits for the detection.

    Returns, by name, the MACs of the NICs whose addresses are now all unique.
    """
    for one in duplicates:
        try:
            run(["ip", "-6", "address", "delete", one.address, "dev", one.name])
            run(["ip", "-6", "address", "add", one.address, "dev", one.name])
        except CommandError as exc:
            LOG.warning("address not added again: nic=%s address=%s error=%s", one.name, one.address, exc)
    deadline = time.monotonic() + _PROBE_SECONDS
    while _detecting(duplicates) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    left = {(one.name, one.address) for one in _refused(duplicates)}
    macs = {one.name: one.mac for one in duplicates}
    for one in duplicates:
        unique = (one.name, one.address) not in left
        LOG.info("address added again: mac=%s nic=%s address=%s unique=%s", one.mac, one.name, one.address, unique)
        if not unique:
            macs.pop(one.name, None)
    return macs


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
    """Returns those that are missing, or not known to be unique."""
    now = netlink.snapshot()
    there = {(nic.name, address.address) for nic in now.nics for address in nic.addresses if not address.tentative}
    return [one for one in duplicates if (one.name, one.address) not in there]
