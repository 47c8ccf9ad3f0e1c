# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is asked of NetworkManager, by nmcli(1): loading a file, activating a profile, reapplying a device's profile."""

import re
from typing import Dict, Iterable, List, Sequence

from ...system.command import CommandError, run


def load(paths: Sequence[str]) -> None:
    """Makes NetworkManager read these files again; the profile of a file that is gone is unloaded."""
    run(["nmcli", "connection", "load", *paths])


def loaded() -> List[str]:
    """Returns the files of the loaded profiles: `load` has exit status 0 also if a file was refused."""
    out = run(["nmcli", "-t", "-f", "FILENAME", "connection", "show"])
    return [re.sub(r"\\(.)", r"\1", line) for line in out.splitlines()]


def uuid_of(path: str) -> str:
    """Returns the UUID of the loaded profile of a file, empty if there is none."""
    for line in run(["nmcli", "-t", "-f", "UUID,FILENAME", "connection", "show"]).splitlines():
        uuid, _, file = line.partition(":")
        if re.sub(r"\\(.)", r"\1", file) == path:
            return uuid
    return ""


def up(uuid: str, name: str) -> None:
    """Starts the activation and does not wait for its end, which the kernel shows."""
    run(["nmcli", "--wait", "0", "connection", "up", "uuid", uuid, "ifname", name])


def reapply(name: str) -> None:
    """Applies what was loaded since the activation to the device, which stays up."""
    run(["nmcli", "device", "reapply", name])


def disconnect(name: str) -> None:
    run(["nmcli", "device", "disconnect", name])


def refused(paths: Iterable[str]) -> Dict[str, str]:
    """Returns the problems, by path, of files that were to be loaded and are not."""
    try:
        there = frozenset(loaded())
    except CommandError as exc:
        return {path: str(exc) for path in paths}
    return {path: "NetworkManager does not load %s" % path for path in paths if path not in there}
