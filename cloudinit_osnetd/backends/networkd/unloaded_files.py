# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""networkd's files in /etc that were changed without its being told, and stay so in the reloads of other NICs.

networkd tells a changed file by its inode, time and size (loaded_files.py). Where a file changes, and the NIC is not
to be reconfigured for it, the inode that networkd has loaded is kept beside it by a hard link with a name that
networkd does not read, and takes the file's place for the moment of a reload. The link's name says of which life of
networkd's it is: a new one has loaded the file as it is. A run that dies in that moment leaves the new inode under a
second name, from which whoever comes next, or the next boot, puts it back: both are on disk all the time.
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
    """Before a file is replaced: keep what is loaded. False where that cannot be."""
    life = dns_over_dbus.invocation()
    try:
        if not life or not os.path.isfile(path):
            return False
        there = _all(os.path.dirname(path))
        if path not in there:
            os.link(path, _beside(path, _LOADED + life))
        return True
    except OSError as exc:
        LOG.warning("not kept: file=%s error=%s", path, exc)
        return False


def forget(path: str) -> None:
    """What is loaded from now on is the file as it is."""
    for left in glob.glob(glob.escape(_beside(path, _LOADED)) + "*"):
        _unlink(left)


def _all(directory: str) -> Dict[str, str]:
    """By path: the inodes that this networkd has loaded in the files' stead. Those of an earlier life go."""
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
    """For the time of a reload: what networkd has loaded in its place, but for the files of these paths."""
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
    """Put in place what a run that died had put aside. `boot`: networkd has loaded nothing yet."""
    for coming in glob.glob(os.path.join(glob.escape(directory), ".*" + _COMING)):
        path = os.path.join(directory, os.path.basename(coming)[1 : -len(_COMING)])
        LOG.warning("put back after a run that died: file=%s", path)
        os.rename(coming, path)
    for kept in glob.glob(os.path.join(glob.escape(directory), ".*" + _LOADED + "*")) if boot else ():
        _unlink(kept)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
