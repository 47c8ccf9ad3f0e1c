# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""File access: atomic replacement, and reading of files that may be absent."""

import errno
import glob
import json
import logging
import os
from typing import Any, Optional

from . import labels

LOG = logging.getLogger(__name__)
# A name that no backend reads: networkd reads *.network, ifupdown's `source` globs skip dot files.
TEMPORARY = ".osnetd-"
_DIRECTORY_MODE = 0o755


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
    """Gives the new file the owner and the mode of the one that it replaces."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(fd, mode)
        return
    os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o7777)


def make_directory(path: str) -> None:
    """Creates a directory and its parents, readable whatever the umask is: networkd does not run as root."""
    if os.path.isdir(path):
        return
    try:
        with labels.as_of(path, directory=True):
            os.mkdir(path)
    except FileExistsError:
        return  # if it is not a directory, writing below it fails
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        make_directory(path)
        return
    os.chmod(path, _DIRECTORY_MODE)  # the umask limits mkdir's mode


def replace(path: str, text: str, mode: int = 0o644, sync: bool = True) -> None:
    """Writes `text` to `path` atomically: at any instant either the old or the new file is there."""
    make_directory(os.path.dirname(path))
    temporary = temporary_of(path)
    with labels.as_of(path):
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


def move(there: str, path: str) -> None:
    """Puts a file in the place of another, with its owner and mode, and the label that belongs to its new path.

    It is renamed; where the two are on different file systems (a /run/udev of its own) the copy is renamed.
    """
    try:
        labels.move(there, path)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        about, temporary = os.stat(there), temporary_of(path)
        replace(temporary, read(there) or "", mode=0o600, sync=False)  # it may have keys, of Wi-Fi for example
        os.chown(temporary, about.st_uid, about.st_gid)
        os.chmod(temporary, about.st_mode & 0o7777)
        labels.move(temporary, path)
        remove(there)


def remove(path: str, sync: bool = False) -> bool:
    """Removes a file. Returns False if it did not exist. `sync`: the removal survives a power loss."""
    try:
        os.unlink(path)
    except OSError:
        if os.path.lexists(path):
            raise
        return False  # on a read-only file system the kernel reports that instead of a missing file
    if sync:
        sync_directory(os.path.dirname(path))
    return True


def sweep(pattern: str) -> None:
    """Removes the temporary files in a directory, or in all directories that match a glob pattern."""
    for left in glob.glob(os.path.join(pattern, TEMPORARY + "*")):
        LOG.info("half-written file of an interrupted run removed: file=%s", left)
        try:
            remove(left)
        except OSError as exc:
            LOG.warning("not removed: file=%s error=%s", left, exc.strerror)


def read(path: str) -> Optional[str]:
    """Returns the text of a file, None if there is no file (or a directory). Bytes that are not UTF-8 are preserved."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as fh:
            return fh.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def read_json(path: str) -> Any:
    """Returns decoded JSON; None if the file is absent or is not JSON."""
    text = read(path)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
