# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd's links: what a reload does not do for them, and networkd's state of them."""

import os
from typing import Dict, List, Optional, Sequence

from ...core.records import Dns, Nic, Snapshot, Touch
from ...kernel import netlink
from ...system import files, paths
from ...system.command import CommandError, run

LAG = 0.5  # seconds; networkd reads the link from the kernel first, and then removes its old configuration
_OF_NETWORKD = ("bond", "vlan")  # kinds of device that networkd creates from its configuration and never deletes


def after_reload(touches: Sequence[Touch]) -> Dict[str, str]:
    """Reconfigures the links that a reload does not handle. Returns the problems by name.

    A link whose file did not change, and which the kernel shows unconfigured, is reconfigured. A link that has no file
    any more is ignored by networkd and keeps its addresses: it is taken down and, if networkd created it, deleted, if
    netdevs.reload had no reason to.
    """
    problems: Dict[str, str] = {}
    for touch in touches:
        commands = [["networkctl", "reconfigure", "--", touch.name]] if touch.action == "kick" else []
        if touch.action == "down":
            # Read again each time: deleting a bond deletes its VLANs.
            commands = _unmake(touch, netlink.snapshot())
        try:
            for command in commands:
                run(command)
        except CommandError as exc:
            problems[touch.name] = str(exc)
    return problems


def _unmake(touch: Touch, now: Snapshot) -> List[List[str]]:
    nic = _of_touch(touch, now)
    if nic is None:
        return []
    if nic.kind in _OF_NETWORKD:
        return [delete(nic)]
    return [["ip", "link", "set", "dev", nic.name, "down"], ["ip", "address", "flush", "dev", nic.name]]


def _of_touch(touch: Touch, now: Snapshot) -> Optional[Nic]:
    nic = now.named(touch.name)
    # A bond may have no configured MAC: the kernel gives it a random one when it loses its last member.
    if nic is None or (nic.mac != touch.mac and nic.kind != "bond"):
        return None  # another NIC may have its name now
    return nic


def made_by_networkd(touch: Touch, now: Snapshot) -> Optional[Nic]:
    """Returns the bond or VLAN of a touch, None for another NIC or if it does not exist."""
    nic = _of_touch(touch, now)
    return nic if nic is not None and nic.kind in _OF_NETWORKD else None


def delete(nic: Nic) -> List[str]:
    """Returns the command that deletes a device."""
    return ["ip", "link", "delete", "dev", nic.name]


def note(ifindex: int) -> Dict[str, str]:
    """Returns networkd's state of a link: its file (NETWORK_FILE), setup state (ADMIN_STATE), DNS servers (DNS)."""
    lines = (files.read(os.path.join(paths.NETWORKD_LINKS, str(ifindex))) or "").splitlines()
    return {key: value for key, equals, value in (line.partition("=") for line in lines) if equals}


def dns(ifindex: int) -> Dns:
    """Returns the servers and domains that networkd passes to systemd-resolved."""
    return Dns(frozenset(dns_in_order(ifindex)), search=frozenset(note(ifindex).get("DOMAINS", "").split()))


def dns_in_order(ifindex: int) -> List[str]:
    return note(ifindex).get("DNS", "").split()
