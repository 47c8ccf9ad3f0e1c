# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""SELinux: a file that is written has the label that the policy has for its path, as if its backend had written it.

By itself a new file gets the type of its directory, which is not always that of the file: the directory may be new, or
have been made without SELinux. cloud-init calls restorecon(3) after it has written, through Python's `selinux`; that is
not installed everywhere, and in between there is a file that its reader may not read. So the label is looked up before,
in libselinux, which systemd and mount are linked with, and the kernel is told to create the file with it
(setfscreatecon(3)). Without SELinux all of this is one look for a file that is not there.
"""

import logging
import os
import stat
from contextlib import contextmanager
from typing import Iterator, Optional

from . import paths

LOG = logging.getLogger(__name__)
ATTRIBUTE = "security.selinux"
# What setfscreatecon(3) writes to. Of this thread alone, in Linux 3.17 and later.
_CREATE_AS = "/proc/thread-self/attr/fscreate"
# Our own directories: the policy module gives each its type, and what is in them inherits it.
_OURS = (paths.STATE + "/", paths.RUN + "/")


@contextmanager
def as_of(path: str, directory: bool = False) -> Iterator[None]:
    """What is created meanwhile, whatever its name, gets the label that belongs to `path`.

    If that is not known or not permitted, it gets the kernel's choice: its network matters more than its label.
    """
    label = wanted(path, directory)
    if label is None or not _create_as(label):
        yield
        return
    try:
        yield
    finally:
        _create_as(b"")


def move(there: str, path: str) -> None:
    """Renames a file, and gives it the label that belongs to its new path: rename(2) keeps the old one."""
    label = wanted(path)
    if label is not None and label != _of(there):
        try:
            os.setxattr(there, ATTRIBUTE, label + b"\0")
        except OSError as exc:
            LOG.warning("not labelled: file=%s label=%s error=%s", path, label.decode(), exc.strerror)
    os.rename(there, path)


def wanted(path: str, directory: bool = False) -> Optional[bytes]:
    """Returns the label of a path: the policy's, or if it has none that of the file there. None without SELinux."""
    if path.startswith(_OURS) or not os.path.exists(paths.SELINUX):
        return None
    try:
        return _of_policy(path, stat.S_IFDIR if directory else stat.S_IFREG) or _of(path)
    except (OSError, AttributeError) as exc:  # no libselinux, or one without what is needed
        LOG.warning("label not looked up: file=%s error=%s", path, exc)
        return _of(path)


def _of_policy(path: str, kind: int) -> Optional[bytes]:
    """Asks matchpathcon(3), which knows the policy's patterns, the administrator's (semanage fcontext) and aliases."""
    import ctypes  # only where SELinux is

    library = ctypes.CDLL("libselinux.so.1", use_errno=True)
    label = ctypes.c_char_p()
    if library.matchpathcon(ctypes.c_char_p(os.fsencode(path)), ctypes.c_uint(kind), ctypes.byref(label)) != 0:
        return None  # <<none>>: the policy leaves it to whoever creates it
    try:
        return label.value
    finally:
        library.freecon(label)


def _of(path: str) -> Optional[bytes]:
    try:
        return os.getxattr(path, ATTRIBUTE).rstrip(b"\0")
    except OSError:
        return None  # no such file, or a file system without labels


def _create_as(label: bytes) -> bool:
    """Tells the kernel the label of what this thread creates; none: its own choice again. False if it may not be."""
    try:
        fd = os.open(_CREATE_AS, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, label)  # an empty write takes it back
        finally:
            os.close(fd)
    except OSError as exc:
        LOG.warning("label not set for what is created: label=%s error=%s", label.decode(), exc.strerror)
        return False
    return True
