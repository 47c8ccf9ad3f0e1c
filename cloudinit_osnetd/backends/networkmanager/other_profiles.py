# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Foreign profiles and unmanaged devices: NICs that NetworkManager configures from another profile, or not at all.

NetworkManager notes the profile of each active device in /run/NetworkManager/devices/IFINDEX (NetworkManager(8)), and
takes of several profiles that match a device the one with the highest autoconnect-priority. So ours would win over an
operator's, and it is not written where a foreign profile names the NIC already. A profile that NetworkManager made by
itself ("Wired connection 1") gives way to ours. Of a device that it does not manage there is no file, or the file does
not say `managed=true`; so it is for a moment also after the device was added.
"""

import fnmatch
import glob
import os
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

from ...core.desired import Item
from ...core.records import Nic
from ...kernel import netlink
from ...system import files
from .keyfile import DIRECTORY, SUFFIX, Values, parsed, path_of, value, words

# In the order in which a profile of a uuid replaces another one.
_DIRECTORIES = (DIRECTORY, "/run/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections")
_DEVICES = "/run/NetworkManager/devices"
_UDEV = "/run/udev/data"
_SETTLES, _POLL_SECONDS = 2.0, 0.02  # until NetworkManager has taken a new device, at most
_OURS = 120
_ETHERNET = ("ethernet", "802-3-ethernet")
UNMANAGED = "an operator (NetworkManager does not manage it)"


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

    @property
    def starts(self) -> bool:
        """True if NetworkManager activates it by itself."""
        return value(self.values, "connection", "autoconnect", "true") != "false"

    def is_for_just(self, nic: Nic) -> bool:
        """True if it names this NIC, and not by a pattern that fits others like it as well."""
        names = words(value(self.values, "match", "interface-name"))
        name = value(self.values, "connection", "interface-name")
        return self.is_for(nic) and bool(name or self._mac or nic.name in names)

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


def claimed(items: Sequence[Item], ours: str = "", also: Sequence[Profile] = ()) -> Dict[str, str]:
    """Returns by name the NICs that are not ours, with the profile that configures them or why nothing does.

    `ours`: the beginning of the paths of our profiles, cloud-init's keyfiles if empty. `also`: foreign profiles that
    are not in keyfiles.
    """
    # Also under another name: a NIC that comes back with one is taken by the profile of its MAC.
    beginning = ours or path_of("")[: -len(SUFFIX)]
    foreign = [one for one in _profiles() if not one.path.startswith(beginning) and not one.is_generated]
    foreign += also
    now = netlink.snapshot()
    found = {}
    for item in items:
        nic = now.named(item.name)
        own = any(os.path.exists(beginning + item.name + suffix) for suffix in ("", SUFFIX))
        why = _claim(nic, foreign, own) if nic is not None else ""
        if why:
            found[item.name] = why
    return found


def _claim(nic: Nic, foreign: List[Profile], own: bool) -> str:
    """Returns why a NIC is not ours, empty if it is. `own`: it has a profile of ours."""
    device = _device(nic)
    active = value(device or {}, "device", "connection-uuid")
    by_udev = (files.read(os.path.join(_UDEV, "n%d" % nic.ifindex)) or "").splitlines()
    if (device is not None and value(device, "device", "managed") != "true") or "E:NM_UNMANAGED=1" in by_udev:
        return UNMANAGED
    for one in foreign:
        if active and one.uuid == active:
            return one.path
        if one.starts and ((one.is_for(nic) and one.priority > _OURS) or (not own and one.is_for_just(nic))):
            return one.path
    return ""


def _device(nic: Nic) -> Optional[Values]:
    """Returns NetworkManager's note of a device, None if it does not run. Waits for a new device to be taken."""
    deadline = time.monotonic() + _SETTLES
    while os.path.isdir(_DEVICES) and os.listdir(_DEVICES):
        noted = parsed(files.read(os.path.join(_DEVICES, str(nic.ifindex))) or "")
        # Both directory and file are written anew with each change of a device.
        changed = max(_changed(_DEVICES), _changed(os.path.join(_UDEV, "n%d" % nic.ifindex)))
        quiet = time.time() - changed > _SETTLES
        if value(noted, "device", "managed") or quiet or time.monotonic() > deadline:
            return noted
        time.sleep(_POLL_SECONDS)
    return None


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
