# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan's generator: it writes below a directory of ours, and what differs from what is in force is put in place."""

import glob
import os
import shutil
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set

from ...system import files, paths
from ...system.command import run
from . import loaded_files, other_files

# Our drop-ins of such a file.
DROP_IN, ADVERTISED = "cloudinit-osnetd.conf", "cloudinit-osnetd-advertised.conf"
PREFIX = "10-netplan-"  # how the names of networkd's files begin that the generator writes
OLD, NEW = paths.GENERATED + "/old", paths.GENERATED + "/new"
# What of the generator's output is put in place: networkd's and udevd's. systemd reads units at a daemon-reload only.
_PLACES = ("/run/systemd/network", "/run/udev/rules.d")
# Since 1.2 the generator is content with units, and another program writes the rest.
GENERATORS = (
    "/usr/libexec/netplan/configure",
    "/usr/libexec/netplan/generate",
    "/usr/lib/netplan/generate",
    "/lib/netplan/generate",
)


def run_generator(root: str) -> None:
    # The program that netplan's own command line runs: Python and two more commands less.
    there = [path for path in GENERATORS if os.path.exists(path)]
    run((there[:1] or ["netplan", "generate"]) + ["--root-dir", root])


class Change(NamedTuple):
    """A file below /run, and the one that replaces it (None: it goes)."""

    path: str
    new: Optional[str]


def generate(root: str) -> None:
    """Have the generator write below `root` what it makes of the configuration as it is."""
    shutil.rmtree(root, ignore_errors=True)
    for path in other_files.paths():
        files.replace(root + path, other_files.text_of(path), mode=0o600, sync=False)
    run_generator(root)


def output(root: str) -> Dict[str, str]:
    """The generator's files below `root`, by where they belong."""
    return {
        path[len(root) :]: path
        for place in _PLACES
        for path in glob.glob(root + place + "/*netplan*")
        if os.path.isfile(path)
    }


def differing(new: Dict[str, str], old: Dict[str, str]) -> FrozenSet[str]:
    paths_ = set(new) | set(old)
    return frozenset(path for path in paths_ if _content(new.get(path)) != _content(old.get(path)))


def _content(path: Optional[str]) -> Optional[bytes]:
    return loaded_files.content(path) if path is not None else None


def to_change(names: Set[str]) -> List[Change]:
    """What our change made different, and what is not there of the NICs touched.

    What else differs was changed by others and is not for us to put in force.
    """
    new, now = output(NEW), output(other_files.TOP)
    differ = differing(new, now)
    ours = differing(new, output(OLD)) if os.path.isdir(OLD) else frozenset()
    changed = {path for path in differ if path in ours or _nic_of(path) in names}
    return [Change(path, new.get(path)) for path in sorted(changed)]


def put(change: Change) -> None:
    path = other_files.TOP + change.path
    if change.new is None:
        files.remove(path)
        try:
            for name in (DROP_IN, ADVERTISED):
                files.remove(os.path.join(path + ".d", name))
            os.rmdir(path + ".d")
        except OSError:
            pass  # there is none, or somebody else's is in it
    else:
        files.make_directory(os.path.dirname(path))
        os.rename(change.new, path)  # with the owner and mode that the generator gave it


def _nic_of(path: str) -> str:
    name = os.path.splitext(os.path.basename(path))[0]
    return name[len(PREFIX) :] if name.startswith(PREFIX) else ""
