# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""networkd's files in /etc that were changed without a reload, and must not be loaded by the reloads of other NICs.

networkd detects a changed file by inode, time and size (loaded_files.py). If a file changes and the NIC is not to be
reconfigured for it, the inode that networkd has loaded is kept by a hard link, with a name that networkd does not read.
It takes the file's place during a reload. The link's name contains the invocation of networkd: after a restart networkd
has loaded the file as it is. If a run is interrupted during a reload, the new inode remains under a second name, and
the next run or the next boot restores it: both inodes are on disk all the time.
"""

import contextlib
import glob
import logging
import os
from typing import Container, Dict, Iterator

from . import dns_over_dbus

LOG = logging.getLogger(__name__)
_LOADED, _COMING = ".loaded-", ".coming"


def _beside(path: str, ending: str) -> str:
    return os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ending)


def keep(path: str) -> bool:
    """Keeps the loaded inode before a file is replaced. Returns False if that is not possible."""
    life = dns_over_dbus.invocation()
    try:
        if not life or not os.path.isfile(path):
            return False
        there = _all(os.path.dirname(path))
        if path not in there:
            os.link(path, _beside(path, _LOADED + life))
        return True
    except OSError as exc:
        LOG.warning("loaded file not kept: file=%s error=%s", path, exc)
        return False


def forget(path: str) -> None:
    """Drops the kept inode: networkd loads the file as it is from now on."""
    for left in glob.glob(glob.escape(_beside(path, _LOADED)) + "*"):
        _unlink(left)


def _all(directory: str) -> Dict[str, str]:
    """Returns, by path, the inodes that this networkd has loaded instead. Those of an earlier process are removed."""
    life, found = dns_over_dbus.invocation(), {}
    for kept in glob.glob(os.path.join(glob.escape(directory), ".*" + _LOADED + "*")):
        name, _, whose = os.path.basename(kept)[1:].rpartition(_LOADED)
        if whose == life and life:
            found[os.path.join(directory, name)] = kept
        else:
            _unlink(kept)
    return found


@contextlib.contextmanager
def held(directory: str, changed: Container[str]) -> Iterator[None]:
    """During a reload, puts the loaded inodes in place, except for the files of these paths."""
    aside = []
    try:
        for path, kept in _all(directory).items():
            if path in changed or not os.path.isfile(path) or os.path.samefile(path, kept):
                forget(path)
                continue
            os.link(path, _beside(path, _COMING))
            aside.append(path)
            temporary = _beside(path, ".osnetd")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.link(kept, temporary)
            os.rename(temporary, path)
        yield
    finally:
        for path in aside:
            os.rename(_beside(path, _COMING), path)


def recover(directory: str, boot: bool = False) -> None:
    """Restores the files that an interrupted run had moved aside. `boot`: networkd has not loaded anything yet."""
    for coming in glob.glob(os.path.join(glob.escape(directory), ".*" + _COMING)):
        path = os.path.join(directory, os.path.basename(coming)[1 : -len(_COMING)])
        LOG.warning("restored after an interrupted run: file=%s", path)
        os.rename(coming, path)
    for kept in glob.glob(os.path.join(glob.escape(directory), ".*" + _LOADED + "*")) if boot else ():
        _unlink(kept)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
