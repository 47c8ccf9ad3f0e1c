# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd's files below /run as it has loaded them, kept so that a reload does not treat others as changed.

netplan's generator rewrites every file at each `systemctl daemon-reload`, which any package's installation runs. The
content is the same, but networkd compares device, inode, mtime and size (systemd 252 to 262: stat-util.c,
stat_inode_unmodified; only the mtime up to 250), and a reload then reconfigures every link: leases are released and
their addresses are gone for a moment. So each file that networkd has read is kept by a hard link, and the same inode is
restored before a reload. The atime shows that a file was read: the generator leaves it as old as the content.
"""

import contextlib
import glob
import os
from typing import Dict, FrozenSet, Iterator, Optional

from ...system import paths

_PATTERNS = ("*.network", "*.netdev")


def content(path: str) -> Optional[bytes]:
    """Returns the file's bytes without changing its atime; None if there is no file."""
    try:
        with open(path, "rb", opener=_untraced) as file:
            return file.read()
    except FileNotFoundError:
        return None


def _untraced(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # only the owner may use O_NOATIME
        return os.open(path, flags)


def note(skip: FrozenSet[str] = frozenset()) -> None:
    """Keeps the files as they are now: networkd has just loaded them, or is about to."""
    os.makedirs(paths.LOADED, mode=0o700, exist_ok=True)
    now = _files(paths.NETWORKD_RUNTIME_FILES)
    for name in _files(paths.LOADED):
        if name not in now:
            os.unlink(os.path.join(paths.LOADED, name))
    for name in now:
        if name not in skip:
            _link(os.path.join(paths.NETWORKD_RUNTIME_FILES, name), os.path.join(paths.LOADED, name))


@contextlib.contextmanager
def held(changed: FrozenSet[str]) -> Iterator[None]:
    """During a reload, puts the loaded inodes in place, except for the files of these names.

    A file that other software changed without a reload is restored afterwards, still unread.
    """
    put_aside: Dict[str, str] = {}
    now = _files(paths.NETWORKD_RUNTIME_FILES)
    for name, kept in _files(paths.LOADED).items():
        there = now.get(name)
        if name in changed or there is None or os.path.samefile(kept, there) or _read(there) or not _read(kept):
            continue
        if content(kept) != content(there):
            put_aside[name] = os.path.join(paths.LOADED, name + ".aside")
            _link(there, put_aside[name])
        _link(kept, there)
    try:
        yield
        note(skip=frozenset(put_aside))
    finally:
        for name, aside in put_aside.items():
            os.rename(aside, os.path.join(paths.NETWORKD_RUNTIME_FILES, name))


def _files(directory: str) -> Dict[str, str]:
    found = [path for pattern in _PATTERNS for path in glob.glob(os.path.join(directory, pattern))]
    return {os.path.basename(path): path for path in found if os.path.isfile(path)}


def _read(path: str) -> bool:
    """True if the file was read since it was written (relatime: the first read counts)."""
    about = os.stat(path)
    return about.st_atime_ns > about.st_mtime_ns


def _link(there: str, place: str) -> None:
    """Adds a name for a file, and replaces what has that name."""
    if os.path.exists(place) and os.path.samefile(there, place):
        return
    temporary = place + ".osnetd"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.link(there, temporary)
    os.rename(temporary, place)
