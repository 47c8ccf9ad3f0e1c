# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Foreign profiles and unmanaged devices: NICs that NetworkManager configures from another profile, or not at all.

NetworkManager notes the profile of each active device in /run/NetworkManager/devices/IFINDEX (NetworkManager(8)), and
takes of several profiles that match a device the one with the highest autoconnect-priority. A profile that it made by
itself ("Wired connection 1") gives way to ours.
"""

import fnmatch
import glob
import os
from typing import Dict, Iterator, List, NamedTuple, Sequence

from ...core.desired import Item
from ...core.records import Nic
from ...kernel import netlink
from ...system import files
from .keyfile import DIRECTORY, SUFFIX, Values, parsed, path_of, value, words

# In the order in which a profile of a uuid replaces another one.
_DIRECTORIES = (DIRECTORY, "/run/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections")
_DEVICES = "/run/NetworkManager/devices"
_UDEV = "/run/udev/data"
_OURS = 120
_ETHERNET = ("ethernet", "802-3-ethernet")


class Profile(NamedTuple):
    path: str
    values: Values

    @property
    def uuid(self) -> str:
        return value(self.values, "connection", "uuid")

    @property
    def is_generated(self) -> bool:
        return value(self.values, ".nmmeta", "nm-generated") == "true"

    @property
    def priority(self) -> int:
        try:
            return int(value(self.values, "connection", "autoconnect-priority", "0"))
        except ValueError:
            return 0

    def is_for(self, nic: Nic) -> bool:
        """True if it names this NIC by its MAC or its name."""
        names = words(value(self.values, "match", "interface-name"))
        name, mac = value(self.values, "connection", "interface-name"), self._mac
        if not (names or name or mac):
            return False
        return (
            value(self.values, "connection", "type") in _ETHERNET
            and (not name or name == nic.name)
            and (not mac or mac == nic.mac)
            and (not names or any(fnmatch.fnmatchcase(nic.name, word) for word in names))
        )

    @property
    def _mac(self) -> str:
        found = [value(self.values, section, "mac-address") for section in _ETHERNET]
        return next(filter(None, found), "").lower()


def _profiles() -> Iterator[Profile]:
    for directory in _DIRECTORIES:
        for path in sorted(glob.glob(os.path.join(directory, "*" + SUFFIX))):
            try:
                text = files.read(path)
            except OSError:
                continue
            if text:
                yield Profile(path, parsed(text))


def claimed(items: Sequence[Item]) -> Dict[str, str]:
    """Returns by name the NICs that are not ours, with the profile that configures them or why nothing does."""
    ours = frozenset(path_of(item.name) for item in items)
    foreign = [one for one in _profiles() if one.path not in ours and not one.is_generated]
    now = netlink.snapshot()
    found = {}
    for item in items:
        nic = now.named(item.name)
        why = _claim(nic, foreign) if nic is not None else ""
        if why:
            found[item.name] = why
    return found


def _claim(nic: Nic, foreign: List[Profile]) -> str:
    device = parsed(files.read(os.path.join(_DEVICES, str(nic.ifindex))) or "")
    active = value(device, "device", "connection-uuid")
    by_udev = (files.read(os.path.join(_UDEV, "n%d" % nic.ifindex)) or "").splitlines()
    if value(device, "device", "managed") == "false" or "E:NM_UNMANAGED=1" in by_udev:
        return "other software: NetworkManager does not manage it"
    for one in foreign:
        auto = value(one.values, "connection", "autoconnect", "true") != "false"
        if one.uuid == active or (one.is_for(nic) and auto and one.priority > _OURS):
            return one.path
    return ""
