# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Bonds and VLANs that systemd-networkd creates from .netdev files, created again if changed or missing.

networkd creates a device when it loads a new file, and neither changes nor removes an existing one (networkctl(1),
`reload`). It creates a deleted device again when it loads its files again, and adds links to a new device when it
configures them. The file that a device was created from is kept under /run until the reboot.
"""

import functools
import glob
import os
import time
from typing import Callable, Dict, List, NamedTuple, Sequence

from ...core.records import Touch
from ...kernel import netlink
from ...system import files, paths
from ...system.command import CommandError, run
from . import dns_over_dbus, links
from .netdev_file import must_recreate, parsed

KIND = ".netdev"
_PATIENCE = 2.0  # until networkd has seen that a device is gone


class Files(NamedTuple):
    """Where a backend's networkd files are: the directory, and what precedes the NIC's name in their names."""

    directory: str
    prefix: str

    def text(self, name: str, kind: str = KIND) -> str:
        return files.read(os.path.join(self.directory, self.prefix + name + kind)) or ""

    def below(self, device: str) -> List[str]:
        """Returns the links that are members of the device, or on which it is created."""
        found = []
        for path in sorted(glob.glob(os.path.join(self.directory, glob.escape(self.prefix) + "*.network"))):
            joins = [("Network", key, device) for key in ("Bond", "VLAN")]
            if any(line in joins for line in parsed(files.read(path) or "")):
                found.append(os.path.basename(path)[len(self.prefix) : -len(".network")])
        return found


def note(touches: Sequence[Touch], of: Files) -> None:
    """Keeps the files that the devices were created from. To be called while the old files are on disk."""
    for touch in touches:
        text = of.text(touch.name)
        if text and not os.path.exists(_noted(touch.name)):
            files.replace(_noted(touch.name), text, sync=False)


def reload(touches: Sequence[Touch], of: Files, load: Callable[[], object]) -> Dict[str, str]:
    """Makes networkd load its files (`load`) and create the touched devices. Returns the problems by name."""
    problems = _delete_unwanted([touch for touch in touches if touch.action == "down"])
    files_of = {touch.name: of.text(touch.name) for touch in touches if touch.action != "down"}
    wanted = {name: text for name, text in files_of.items() if text}
    there = {nic.name: nic.ifindex for nic in netlink.snapshot().nics} if wanted else {}
    outdated = [name for name, text in wanted.items() if name in there and must_recreate(_made_of(name, text), text)]
    for name in outdated:
        run(["ip", "link", "delete", "dev", name])
        _await(functools.partial(_is_forgotten, there[name]))
    load()
    new = [name for name in wanted if name in outdated or name not in there]
    reloaded = {touch.name for touch in touches if touch.action in ("up", "reconfigure")}
    for below in sorted({link for name in new for link in of.below(name)} - reloaded):
        try:
            run(["networkctl", "reconfigure", "--", below])
        except CommandError as exc:
            problems[below] = str(exc)
    for name, text in wanted.items():
        files.replace(_noted(name), text, sync=False)
    return problems


def _delete_unwanted(touches: Sequence[Touch]) -> Dict[str, str]:
    """Deletes the bonds and VLANs whose files are gone. Returns the problems by name.

    It comes before the reload. A bond that is deleted later takes its members down while networkd configures them by
    their new files, and networkd may then wait for ever for what it had set already.
    """
    problems: Dict[str, str] = {}
    indexes: List[int] = []
    for touch in touches:
        # Read again each time: deleting a bond deletes its VLANs.
        nic = links.made_by_networkd(touch, netlink.snapshot())
        if nic is not None:
            try:
                run(links.delete(nic))
                indexes.append(nic.ifindex)
            except CommandError as exc:
                problems[touch.name] = str(exc)
    _await(lambda: all(_is_forgotten(ifindex) for ifindex in indexes))
    return problems


def missing(name: str, of: Files) -> bool:
    """True for a device that networkd has not created yet: it is configured on creation, and not by name before."""
    return bool(of.text(name)) and netlink.snapshot().named(name) is None


def _noted(name: str) -> str:
    return os.path.join(paths.MADE, name)


def _made_of(name: str, text: str) -> str:
    """Returns the text that the device was created from; `text` if it was not kept."""
    return files.read(_noted(name)) or text


def _is_forgotten(ifindex: int) -> bool:
    return not links.note(ifindex)


def _await(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


def after_reload(touches: Sequence[Touch], files_: Files) -> Dict[str, str]:
    """Does what a reload leaves to do for these NICs, devices that are missing left out; the problems, by name."""
    for touch in touches:
        dns_over_dbus.forget(touch.name)  # the reload has loaded their files
    there = [touch for touch in touches if touch.action != "kick" or not missing(touch.name, files_)]
    return links.after_reload(there)
