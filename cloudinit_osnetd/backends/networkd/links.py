# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd's links: what a reload does not do for them, and what it notes of them."""

import os
from typing import Dict, List, Sequence

from ...core.records import Dns, Snapshot, Touch
from ...kernel import netlink
from ...system import files
from ...system.command import CommandError, run

NOTES = "/run/systemd/netif/links"  # what sd-network(3) reads
LAG = 0.5  # seconds; it asks the kernel for the link first, and takes its old configuration away then
RUNNING = "/run/systemd/netif/state"  # there since networkd has started in this boot
_OF_NETWORKD = ("bond", "vlan")  # kinds of device that networkd makes of its configuration, and never unmakes


def after_reload(touches: Sequence[Touch]) -> Dict[str, str]:
    """Name the links that need it; the problems, by name.

    One whose files are as they were, and which the kernel shows unconfigured, is reconfigured. One
    that has no file any more is let be by networkd, addresses and all: it is taken down, and where it is
    a device of networkd's own making, deleted.
    """
    problems: Dict[str, str] = {}
    for touch in touches:
        commands = [["networkctl", "reconfigure", "--", touch.name]] if touch.action == "kick" else []
        if touch.action == "down":
            # Each time anew: with a bond its VLANs have gone.
            commands = _unmake(touch, netlink.snapshot())
        try:
            for command in commands:
                run(command)
        except CommandError as exc:
            problems[touch.name] = str(exc)
    return problems


def _unmake(touch: Touch, now: Snapshot) -> List[List[str]]:
    nic = now.named(touch.name)
    if nic is None:
        return []
    # A bond may be told no MAC, and the kernel gives one that has lost its last member one at random.
    if nic.mac != touch.mac and nic.kind != "bond":
        return []  # another one has its name now
    if nic.kind in _OF_NETWORKD:
        return [["ip", "link", "delete", "dev", nic.name]]
    return [["ip", "link", "set", "dev", nic.name, "down"], ["ip", "address", "flush", "dev", nic.name]]


def note(ifindex: int) -> Dict[str, str]:
    """What networkd notes of a link: its file (NETWORK_FILE), how far it is (ADMIN_STATE), its DNS servers (DNS)."""
    lines = (files.read(os.path.join(NOTES, str(ifindex))) or "").splitlines()
    return {key: value for key, equals, value in (line.partition("=") for line in lines) if equals}


def dns(ifindex: int) -> Dns:
    """The servers and domains that networkd hands to systemd-resolved."""
    return Dns(frozenset(dns_in_order(ifindex)), search=frozenset(note(ifindex).get("DOMAINS", "").split()))


def dns_in_order(ifindex: int) -> List[str]:
    return note(ifindex).get("DNS", "").split()
