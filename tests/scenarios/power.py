# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A power cut at every write to a disk, without cutting any power: from the notes of what a guest has written.

QEMU notes each write and each flush (block/blklogwrites.c; the format is dm-log-writes', Documentation/admin-guide/
device-mapper/log-writes.rst). What was flushed is on the disk whatever happens. Of what came after that, any part may
be: the writes up to some point, as they came, or some of them and not others, for a disk's cache keeps no order.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import BinaryIO, Iterator, List, NamedTuple, Sequence, Tuple

_SECTOR = 512
_FLUSH, _FUA, _DISCARD = 1, 2, 4


class Write(NamedTuple):
    offset: int
    data: bytes


def noted(log: Path, begin: int, end: int) -> Tuple[List[Write], List[List[Write]]]:
    """What was written before `begin` (the log's size then), and from there to `end`, flush by flush."""
    before: List[Write] = []
    rounds: List[List[Write]] = [[]]
    with log.open("rb") as file:
        file.seek(_SECTOR)
        while file.tell() < end:
            place = file.tell()
            sector, count, flags, _length = struct.unpack("<4Q", file.read(_SECTOR)[:32])
            if flags & _FLUSH and place >= begin and rounds[-1]:
                rounds.append([])
            if flags & _DISCARD or not count:
                continue
            write = Write(sector * _SECTOR, file.read(count * _SECTOR))
            (before if place < begin else rounds[-1]).append(write)
            if flags & _FUA and place >= begin:
                rounds.append([])
    return before, [writes for writes in rounds if writes]


def cuts(writes: Sequence[Write], seed: int) -> Iterator[List[Write]]:
    """What may be on the disk of the writes since the last flush: the first so many, or half of them by lot."""
    for count in range(1, len(writes) + 1):
        yield list(writes[:count])
    if len(writes) > 2:
        dice = random.Random(seed)
        for _ in range(2):
            yield [write for write in writes if dice.random() < 0.5]


@contextlib.contextmanager
def written(disk: BinaryIO, writes: Sequence[Write]) -> Iterator[None]:
    """These writes are on the disk for the time of the block."""
    old: List[Write] = []
    for write in writes:
        disk.seek(write.offset)
        old.append(Write(write.offset, disk.read(len(write.data))))
        put(disk, [write])
    disk.flush()
    yield
    put(disk, old[::-1])


def put(disk: BinaryIO, writes: Sequence[Write]) -> None:
    for write in writes:
        disk.seek(write.offset)
        disk.write(write.data)
    disk.flush()


def recovered(disk: Path, directories: Sequence[str], to: Path) -> None:
    """Let a copy's file system recover from its journal, as a kernel does that mounts it, and take directories out."""
    copy = to / "disk.raw"
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
    done = subprocess.run(["e2fsck", "-E", "journal_only", "-y", copy], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for directory in directories:
        shutil.rmtree(to / directory.lstrip("/"), ignore_errors=True)
        place = (to / directory.lstrip("/")).parent
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["debugfs", "-R", f"rdump {directory} {place}", copy], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
