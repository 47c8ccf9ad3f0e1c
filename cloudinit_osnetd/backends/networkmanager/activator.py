# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager: the changed files are loaded, and just their profiles are activated or reapplied."""

import functools
import logging
import os
import time
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set

from ...core.records import Dns, Touch
from ...kernel import netlink
from ...system import files
from ...system.command import CommandError
from ..base import Activator
from . import nmcli, reapply
from .keyfile import parsed, path_of, value

LOG = logging.getLogger(__name__)
# NetworkManager learns of a new device from udev, as we do.
_KNOWN_SECONDS, _FIRST_PAUSE = 3.0, 0.1
_NO_SERVER = (
    "no DHCP server answers, so NetworkManager would lose the lease: the profile is loaded, and applied at the next "
    "boot, or by `reconcile --force` once a server answers"
)
# With systemd-resolved the other file names its stub.
_RESOLVERS = ("/run/NetworkManager/no-stub-resolv.conf", "/run/NetworkManager/resolv.conf")


class NetworkManagerActivator(Activator):
    def __init__(self) -> None:
        self._waiting: Set[str] = set()  # NICs whose change would cost them their lease

    def recover(self, boot: bool = False) -> None:
        reapply.recover()

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """Reapplies what a device takes while it is up. What needs an activation is left to `after`."""
        found: Dict[str, Callable[[], bool]] = {}
        self._waiting.clear()
        for touch in touches:
            old = files.read(path_of(touch.name)) if touch.action == "reconfigure" else None
            new = coming.get(touch.name)
            if old is None or new is None or not reapply.serves(old, new, touch.name):
                continue
            if reapply.loses_lease(touch.name, old, new):
                self._waiting.add(touch.name)
                continue
            found[touch.name] = functools.partial(_load_and_reapply, touch.name, old, new)
        return found

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Loads the files of these NICs, and activates their profiles. Those of NICs that are gone are unloaded."""
        for touch in touches:
            if touch.action == "down":
                _disconnect(touch)
        try:
            nmcli.load([path_of(touch.name) for touch in touches])
        except CommandError as exc:
            return {touch.name: str(exc) for touch in touches}
        coming = [touch for touch in touches if touch.action != "down"]
        refused = nmcli.refused([path_of(touch.name) for touch in coming]) if coming else {}
        problems = {}
        for touch in _in_order(coming):
            try:
                if path_of(touch.name) in refused:
                    problems[touch.name] = refused[path_of(touch.name)]
                elif touch.name in self._waiting or (touch.action == "kick" and _would_lose_lease(touch.name)):
                    problems[touch.name] = _NO_SERVER
                elif touch.action != "kick" or not _reapplied(touch.name):
                    _up(touch.name)
            except CommandError as exc:
                problems[touch.name] = str(exc)
        return problems

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        """Returns all servers and domains that NetworkManager has, because it notes nowhere whose they are."""
        text = next(filter(None, map(files.read, _RESOLVERS)), None)
        if text is None:
            return None
        lines = [line.split() for line in text.splitlines()]
        servers = frozenset(line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1)
        search = frozenset(word for line in lines if line[:1] == ["search"] for word in line[1:])
        return Dns(servers, search=search)


def _would_lose_lease(name: str) -> bool:
    text = files.read(path_of(name)) or ""
    return reapply.loses_lease(name, text, text)


def _load_and_reapply(name: str, old: str, new: str) -> bool:
    path = path_of(name)
    try:
        nmcli.load([path])
        if nmcli.refused([path]):
            return False
        with reapply.ipv6_kept(name, old, new):
            nmcli.reapply(name)
        return True
    except CommandError as exc:
        LOG.info("not reapplied, it is activated: nic=%s error=%s", name, exc)
        return False


def _reapplied(name: str) -> bool:
    """Reapplies an active profile, which brings back what the kernel lost. False if it must be activated."""
    nic = netlink.snapshot().named(name)
    if nic is None or not nic.up or not reapply.is_active(name):
        return False
    try:
        nmcli.reapply(name)
    except CommandError:
        return False
    return True


def _in_order(touches: Sequence[Touch]) -> List[Touch]:
    """Returns bonds before their members and VLANs after their parents."""
    kinds = {"bond": 0, "vlan": 2}
    texts = {touch.name: parsed(files.read(path_of(touch.name)) or "") for touch in touches}
    return sorted(touches, key=lambda touch: kinds.get(value(texts[touch.name], "connection", "type"), 1))


def _up(name: str) -> None:
    """Activates the profile in this NIC's file; waits a moment for NetworkManager to know the NIC."""
    uuid = value(parsed(files.read(path_of(name)) or ""), "connection", "uuid")
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


def _disconnect(touch: Touch) -> None:
    """Takes down a NIC that stays but has lost its part: an own "Wired connection" would take it otherwise."""
    nic = netlink.snapshot().named(touch.name)
    if nic is None or (nic.mac != touch.mac and nic.kind != "bond") or os.path.exists(path_of(touch.name)):
        return
    try:
        nmcli.disconnect(touch.name)
    except CommandError as exc:
        LOG.info("not disconnected: nic=%s error=%s", touch.name, exc)
