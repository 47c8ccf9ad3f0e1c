# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs in a guest: says what was written while a command ran, as inotify(7) tells it.

    watch_writes.py DIRECTORY,... COMMAND...

Prints each path that was made, changed, moved, removed or closed after it had been open for writing, one a line, sorted.
The directories are watched with all that is in them; of a directory that comes to be meanwhile just that it came. Ends as the
command does.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys

# linux/inotify.h: IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE
_EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200
_IN_Q_OVERFLOW = 0x4000
_HEAD = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK)
        self._directories: dict[int, str] = {}

    def add(self, top: str) -> None:
        for directory, _names, _files in os.walk(top):
            number = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _EVENTS)
            if number < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
            self._directories[number] = directory

    def written(self) -> set[str]:
        """The paths of what has happened since the last call."""
        paths = set()
        while True:
            try:
                data = os.read(self._fd, 1 << 20)
            except BlockingIOError:
                return paths
            while data:
                number, mask, _cookie, size = _HEAD.unpack_from(data)
                name = data[_HEAD.size : _HEAD.size + size].rstrip(b"\0")
                data = data[_HEAD.size + size :]
                if mask & _IN_Q_OVERFLOW:
                    raise OverflowError("more was written than inotify could tell")
                paths.add(os.path.join(self._directories[number], os.fsdecode(name)).rstrip("/"))


def main(directories: str, *command: str) -> int:
    watch = Watch()
    for top in directories.split(","):
        watch.add(os.path.realpath(top))
    watch.written()
    done = subprocess.run(command, stdout=subprocess.PIPE)
    for path in sorted(watch.written()):
        print(path)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
