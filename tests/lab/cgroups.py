# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The cgroup of a guest, on any host.

A host has a pure cgroup2, or a hybrid (cgroup2 beside the old controllers), or none of it mounted. The kernel's one
cgroup2 hierarchy is there in every case, so each guest sees it alone: mounted freshly over /sys/fs/cgroup in the
guest's private mount namespace. systemd from 258 on would not boot on anything else.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Optional

# Run in the guest's private mount namespace, before systemd-nspawn: $1 is the guest's cgroup.
ENTER = """
umount -l /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup || exit 1
mkdir -p "/sys/fs/cgroup/$1" && echo $$ > "/sys/fs/cgroup/$1/cgroup.procs" || exit 1
"""


def host_mount() -> Optional[Path]:
    """Where this host has its cgroup2 mounted, if anywhere."""
    with open("/proc/self/mounts") as file:
        for line in file:
            _device, point, kind = line.split()[:3]
            if kind == "cgroup2":
                return Path(point)
    return None


def remove_all(prefix: str) -> None:
    """End every process in the cgroups whose names begin so, and remove them."""
    top = host_mount()
    if top is None:
        return
    for cgroup in top.glob(f"{prefix}*"):
        _kill(cgroup)
        for directory, _subdirs, _files in os.walk(cgroup, topdown=False):
            _remove(Path(directory))


def _kill(cgroup: Path) -> None:
    try:
        (cgroup / "cgroup.kill").write_text("1")  # Linux 5.14
    except OSError:
        for procs in cgroup.rglob("cgroup.procs"):
            for pid in procs.read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def _remove(directory: Path) -> None:
    """A killed process stays in its cgroup until it is reaped: give it a moment."""
    for _attempt in range(100):
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
