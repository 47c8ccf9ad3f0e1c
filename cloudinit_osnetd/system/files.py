# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Files that are whole or not there: atomic replacement, and reading what may be absent."""

import glob
import json
import logging
import os
from typing import Any, Optional

LOG = logging.getLogger(__name__)
# A name that no backend reads: networkd wants *.network, ifupdown's `source` globs skip dot files.
TEMPORARY = ".osnetd-"
_DIRECTORY_MODE = 0o755
_SELINUX = "security.selinux"


def temporary_of(path: str) -> str:
    head, tail = os.path.split(path)
    return os.path.join(head, TEMPORARY + tail)


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _like(path: str, fd: int, mode: int) -> None:
    """Give the new file the owner, the mode and the SELinux label of the one it replaces."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(fd, mode)
        return
    os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o7777)
    try:
        os.setxattr(fd, _SELINUX, os.getxattr(path, _SELINUX))
    except OSError:
        pass  # no SELinux, or a file system without labels


def make_directory(path: str) -> None:
    """Make a directory, and those above it, readable whatever the caller's umask: networkd is not root."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return  # what else than a directory is there is told by who writes below it
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        make_directory(path)
        return
    os.chmod(path, _DIRECTORY_MODE)  # mkdir's own mode is cut by the umask


def replace(path: str, text: str, mode: int = 0o644, sync: bool = True) -> None:
    """Write `text` to `path` so that at any instant either the old or the new is there."""
    make_directory(os.path.dirname(path))
    temporary = temporary_of(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as fh:
            fh.write(text)
            _like(path, fh.fileno(), mode)
            fh.flush()
            if sync:
                os.fsync(fh.fileno())
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    if sync:
        sync_directory(os.path.dirname(path))


def remove(path: str, sync: bool = False) -> bool:
    """Unlink; False where it was not there. `sync`: it stays away after a power loss."""
    try:
        os.unlink(path)
    except OSError:
        if os.path.lexists(path):
            raise
        return False  # on a file system that is read-only the kernel says that, and not that there is none
    if sync:
        sync_directory(os.path.dirname(path))
    return True


def sweep(pattern: str) -> None:
    """Remove the temporary files in a directory, or in all those that match a glob pattern."""
    for left in glob.glob(os.path.join(pattern, TEMPORARY + "*")):
        LOG.info("half-written by a run that died, removed: file=%s", left)
        try:
            remove(left)
        except OSError as exc:
            LOG.warning("not removed: file=%s error=%s", left, exc.strerror)


def read(path: str) -> Optional[str]:
    """The text of a file, None where there is none (a directory is none). Every byte survives, UTF-8 or not."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as fh:
            return fh.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def read_json(path: str) -> Any:
    """Decoded JSON; None where the file is absent or is not JSON."""
    text = read(path)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
