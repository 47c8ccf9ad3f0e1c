# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Bonds and VLANs that systemd-networkd makes of .netdev files: made again where a file wants another, or none is left.

networkd makes a device when it loads a new file, and neither changes nor removes one that is there (networkctl(1), of
`reload`). One that somebody deleted it makes again when it loads its files anew, and it joins links to a new one when
it configures them. What a device was made of is noted under /run, which goes with the boot as the device does.
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
from . import links
from .netdev_file import made_anew, parsed

KIND = ".netdev"
_PATIENCE = 2.0  # for networkd to see that a device has gone


class Files(NamedTuple):
    """Where a backend has networkd's files: the directory, and what precedes the NIC's name in theirs."""

    directory: str
    prefix: str

    def text(self, name: str, kind: str = KIND) -> str:
        return files.read(os.path.join(self.directory, self.prefix + name + kind)) or ""

    def below(self, device: str) -> List[str]:
        """The links that are joined to the device, or on which it is made."""
        found = []
        for path in sorted(glob.glob(os.path.join(self.directory, glob.escape(self.prefix) + "*.network"))):
            joins = [("Network", key, device) for key in ("Bond", "VLAN")]
            if any(line in joins for line in parsed(files.read(path) or "")):
                found.append(os.path.basename(path)[len(self.prefix) : -len(".network")])
        return found


def note(touches: Sequence[Touch], of: Files) -> None:
    """Note what the devices are made of: to be called while the old files are on disk."""
    for touch in touches:
        text = of.text(touch.name)
        if text and not os.path.exists(_noted(touch.name)):
            files.replace(_noted(touch.name), text, sync=False)


def reload(touches: Sequence[Touch], of: Files, load: Callable[[], object]) -> Dict[str, str]:
    """Have networkd load its files (`load`) and make the devices of the touched NICs; the problems, by name."""
    files_of = {touch.name: of.text(touch.name) for touch in touches if touch.action != "down"}
    wanted = {name: text for name, text in files_of.items() if text}
    there = {nic.name: nic.ifindex for nic in netlink.snapshot().nics} if wanted else {}
    outdated = [name for name, text in wanted.items() if name in there and made_anew(_made_of(name, text), text)]
    for name in outdated:
        run(["ip", "link", "delete", "dev", name])
        _await(functools.partial(_is_forgotten, there[name]))
    load()
    problems = {}
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


def to_come(name: str, of: Files) -> bool:
    """True for a device that networkd has yet to make: it is configured then, and cannot be named before."""
    return bool(of.text(name)) and netlink.snapshot().named(name) is None


def _noted(name: str) -> str:
    return os.path.join(paths.MADE, name)


def _made_of(name: str, text: str) -> str:
    """What the device was made of; what the file says where nobody has noted it."""
    return files.read(_noted(name)) or text


def _is_forgotten(ifindex: int) -> bool:
    return not links.note(ifindex)


def _await(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
