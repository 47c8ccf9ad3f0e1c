# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan's generator: it writes to a directory of ours, and what differs from the files in use is put in place."""

import glob
import logging
import os
import shutil
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set

from ...system import files, paths
from ...system.command import CommandError, run
from . import loaded_files, other_files

LOG = logging.getLogger(__name__)

# Our drop-ins for networkd's files.
DROP_IN, ADVERTISED = "cloudinit-osnetd.conf", "cloudinit-osnetd-advertised.conf"
PREFIX = "10-netplan-"  # the beginning of the names of networkd's files that the generator writes
OLD, NEW = paths.GENERATED + "/old", paths.GENERATED + "/new"
NM_PREFIX = "netplan-"  # of NetworkManager's
NM_FILES = "/run/NetworkManager/system-connections"
# What is put in place of the generator's output: files of networkd, udevd and NetworkManager. systemd reads units at
# daemon-reload.
_PLACES = ("/run/systemd/network", "/run/udev/rules.d", NM_FILES)


def run_generator(root: str) -> None:
    # The program that netplan's own command line runs; this saves Python and two more commands.
    there = [path for path in paths.NETPLAN_GENERATORS if os.path.exists(path)]
    run((there[:1] or ["netplan", "generate"]) + ["--root-dir", root])


class Change(NamedTuple):
    """A file below /run, and the one that replaces it (None: it is removed)."""

    path: str
    new: Optional[str]


def generate(root: str) -> None:
    """Makes the generator write its output for the present configuration below `root`."""
    shutil.rmtree(root, ignore_errors=True)
    for path in other_files.paths():
        files.replace(root + path, other_files.text_of(path), mode=0o600, sync=False)
    run_generator(root)


def keep_old() -> None:
    """Keeps what the generator writes for the old file, to find out later what our change makes different."""
    try:
        generate(OLD)
    except (CommandError, OSError) as exc:
        LOG.warning("netplan's generator failed for the present configuration: %s", exc)
        shutil.rmtree(OLD, ignore_errors=True)


def output(root: str) -> Dict[str, str]:
    """Returns the generator's files below `root`, by their final path."""
    return {
        path[len(root) :]: path
        for place in _PLACES
        for path in glob.glob(root + place + "/*netplan*")
        if os.path.isfile(path)
    }


def differing(new: Dict[str, str], old: Dict[str, str]) -> FrozenSet[str]:
    paths_ = set(new) | set(old)
    return frozenset(path for path in paths_ if _content(new.get(path)) != _content(old.get(path)))


def regenerate() -> FrozenSet[str]:
    """Generates from the files on disk, and puts in place what differs; returns its paths.

    Raises CommandError or OSError.
    """
    generate(NEW)
    new = output(NEW)
    changed = differing(new, output(other_files.TOP))
    for path in sorted(changed):
        put(Change(path, new.get(path)))
    return changed


def _content(path: Optional[str]) -> Optional[bytes]:
    return loaded_files.content(path) if path is not None else None


def to_change(names: Set[str]) -> List[Change]:
    """Returns what our change made different, and what is missing of the touched NICs.

    Other differences come from changes of other software or people, and we do not apply those.
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
            pass  # there is none, or a foreign file is in it
    else:
        files.make_directory(os.path.dirname(path))
        files.move(change.new, path)  # keeps the owner and mode that the generator set


def _nic_of(path: str) -> str:
    name = os.path.splitext(os.path.basename(path))[0]
    prefix = NM_PREFIX if os.path.dirname(path) == NM_FILES else PREFIX
    return name[len(prefix) :] if name.startswith(prefix) else ""
