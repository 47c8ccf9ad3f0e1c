# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager: the changed files are loaded, and just their profiles are activated or reapplied.

It is the same for keyfiles, for ifcfg files and for the keyfiles that netplan's generator writes: a subclass says which
file NetworkManager loads for a NIC, and what the profile in it is.
"""

import logging
import os
import re
import time
from typing import Dict, FrozenSet, List, Optional, Sequence, Set

from ...core.desired import Item
from ...core.network_data import DHCP4
from ...core.records import Dns, Touch
from ...kernel import netlink
from ...system import files
from ...system.command import CommandError
from ..base import Activator, first_of
from . import nmcli, reapply
from .keyfile import Values, value

LOG = logging.getLogger(__name__)
# NetworkManager learns of a new device from udev, as we do.
_KNOWN_SECONDS, _FIRST_PAUSE = 3.0, 0.1
# With systemd-resolved the other file names its stub.
_RESOLVERS = ("/run/NetworkManager/no-stub-resolv.conf", "/run/NetworkManager/resolv.conf")
# What systemd-resolved was told of a link, by its index.
_RESOLVED = "/run/systemd/resolve/netif/%d"
# NetworkManager.conf(5): defaults of a setting that a profile does not have, for one device.
_AT_BOOT = "/run/NetworkManager/conf.d/50-cloudinit-osnetd.conf"
_WAIT = "[connection-cloudinit-osnetd]\nmatch-device=interface-name:=%s\nipv4.required-timeout=%d\n"
_LEASE_MILLISECONDS = 60000  # as long as NetworkManager-wait-online.service waits
_PLAIN = re.compile(r"[\w.@-]+\Z")  # other characters separate devices in a list


class ProfileActivator(Activator):
    def __init__(self) -> None:
        self._waiting: Set[str] = set()  # NICs whose change would cost them their lease
        self._before: Dict[str, Values] = {}  # the profiles that are replaced

    def file_of(self, name: str) -> str:
        """Returns the file that NetworkManager loads for the NIC `name`."""
        raise NotImplementedError

    def profile_of(self, name: str) -> Values:
        """Returns the profile that is on disk for the NIC, with the sections and keys of a keyfile; empty if none."""
        raise NotImplementedError

    def recover(self, boot: bool = False) -> None:
        reapply.recover()

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        """Makes the boot wait for the lease of the first NIC, if that was not always the first.

        The profiles of all NICs but the one that came first say that IPv4 may fail while it waits for a lease, and do
        not change when another becomes the first.
        """
        first = first_of(items)
        if first is None or first.name in left or not first.metric or not _PLAIN.match(first.name):
            return
        if not {net.type for net in first.entry.networks} & DHCP4:
            return
        try:
            files.replace(_AT_BOOT, _WAIT % (first.name, _LEASE_MILLISECONDS), sync=False)
        except OSError as exc:
            LOG.warning("the boot will not wait for a lease: nic=%s error=%s", first.name, exc)

    def before(self, touches: Sequence[Touch]) -> None:
        """Keeps the profiles that are replaced: the difference decides whether a reapply applies it."""
        for touch in touches:
            if touch.action == "reconfigure":
                self._before[touch.name] = self.profile_of(touch.name)

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Loads the files of these NICs, and activates their profiles. Those of NICs that are gone are unloaded."""
        for touch in touches:
            if touch.action == "down":
                reapply.wait_no_more(touch.name)
                self._disconnect(touch)
        try:
            if touches:
                nmcli.load([self.file_of(touch.name) for touch in touches])
        except CommandError as exc:
            return {touch.name: str(exc) for touch in touches}
        coming = [touch for touch in touches if touch.action != "down"]
        refused = nmcli.refused([self.file_of(touch.name) for touch in coming]) if coming else {}
        problems = {}
        for touch in self._in_order(coming):
            try:
                problem = refused.get(self.file_of(touch.name)) or self._activated(touch)
            except CommandError as exc:
                problem = str(exc)
            if problem:
                problems[touch.name] = problem
        self._before = {}
        self._waiting.clear()
        return problems

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        """Returns what systemd-resolved has of the NIC. Without it, all servers and domains that NetworkManager has:
        they are in one resolv.conf then, which is for the whole server."""
        told = files.read(_RESOLVED % ifindex)
        if told is not None:
            return dns_of_link(told)
        return dns_of(next(filter(None, map(files.read, _RESOLVERS)), None))

    def unapplied(self) -> FrozenSet[str]:
        return reapply.waiting()

    def _activated(self, touch: Touch) -> str:
        """Makes the loaded profile that of the device. Returns why it is not, empty if it is. Raises CommandError."""
        if touch.name in self._waiting:
            return reapply.wait_for_server(touch.name)
        now = self.profile_of(touch.name)
        then = now if touch.action == "kick" else self._before.get(touch.name)
        if then and self._can_reapply(then, now, touch):
            if reapply.loses_lease(touch.name, then, now):
                return reapply.wait_for_server(touch.name)
            if _reapplied(touch.name, then, now):
                reapply.wait_no_more(touch.name)
                return ""
        self._up(touch.name)
        reapply.wait_no_more(touch.name)
        return ""

    def _can_reapply(self, then: Values, now: Values, touch: Touch) -> bool:
        if touch.action == "kick":  # brings back what the kernel lost
            return reapply.is_active(touch.name, self._uuid_of(touch.name))
        return reapply.serves(then, now) and reapply.is_active(touch.name, self._uuid_of(touch.name))

    def _uuid_of(self, name: str) -> str:
        """Returns the UUID of the NIC's profile; of a file without one, the one that NetworkManager made up."""
        return value(self.profile_of(name), "connection", "uuid") or nmcli.uuid_of(self.file_of(name))

    def _in_order(self, touches: Sequence[Touch]) -> List[Touch]:
        """Returns bonds before their members and VLANs after their parents."""
        kinds = {"bond": 0, "vlan": 2}
        types = {touch.name: value(self.profile_of(touch.name), "connection", "type") for touch in touches}
        return sorted(touches, key=lambda touch: kinds.get(types[touch.name], 1))

    def _up(self, name: str) -> None:
        """Activates the profile in this NIC's file; waits a moment for NetworkManager to know the NIC."""
        uuid = self._uuid_of(name)
        deadline, pause = time.monotonic() + _KNOWN_SECONDS, _FIRST_PAUSE
        while True:
            try:
                nmcli.up(uuid, name)
                return
            except CommandError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause *= 2

    def _disconnect(self, touch: Touch) -> None:
        """Takes down a NIC that stays but has lost its part: an own "Wired connection" would take it otherwise."""
        nic = netlink.snapshot().named(touch.name)
        there = os.path.exists(self.file_of(touch.name))
        if nic is None or (nic.mac != touch.mac and nic.kind != "bond") or there:
            return
        try:
            nmcli.disconnect(touch.name)
        except CommandError as exc:
            LOG.info("not disconnected: nic=%s error=%s", touch.name, exc)


def dns_of(text: Optional[str]) -> Optional[Dns]:
    """Returns the servers and domains of a resolv.conf(5); None without a file."""
    if text is None:
        return None
    lines = [line.split() for line in text.splitlines()]
    servers = frozenset(line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1)
    search = frozenset(word for line in lines if line[:1] == ["search"] for word in line[1:])
    return Dns(servers, search=search)


def dns_of_link(text: str) -> Dns:
    """Returns the servers and search domains in systemd-resolved's note of a link."""
    said = {key: word.split() for key, _, word in (line.partition("=") for line in text.splitlines())}
    domains = [word for word in said.get("DOMAINS", []) if not word.startswith("~")]  # others choose the link only
    return Dns(frozenset(said.get("SERVERS", [])), search=frozenset(domains))


def _reapplied(name: str, then: Values, now: Values) -> bool:
    """Reapplies the loaded profile to an active device. False if it must be activated."""
    try:
        with reapply.ipv6_kept(name, then, now):
            reapply.make_way(name, then, now)
            nmcli.reapply(name)
        return True
    except CommandError as exc:
        LOG.info("not reapplied, it is activated: nic=%s error=%s", name, exc)
        return False
