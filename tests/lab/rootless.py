# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lab without root, for guests that are virtual machines: as root of a user namespace of one's own.

In there are the caller's uid as 0 and a range of subordinate ones (user_namespaces(7), subuid(5)), so roots can be
bootstrapped, overlays mounted, bridges made and NICs wired to them, all of which the kernel forgets when the process ends. Containers
need the real root: systemd-nspawn does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn, Sequence

from tests.lab import qemu, run, wire
from tests.lab.call import LabError

# Ubuntu from 23.10 on: who makes a user namespace has no capability in it, unless a profile of AppArmor says so.
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
ENTER = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"]
# Names of network namespaces lie in /run/netns, and /run is not ours: a new one shows all of the old one, but for these.
# $1: where the old one goes. The rest: what to run.
OWN_RUN = """
old=$1
shift
mount --rbind /run "$old"
mount -t tmpfs -o mode=0755 tmpfs /run
for one in "$old"/*; do ln -s "$one" /run/; done
rm -f /run/netns
mkdir /run/netns
exec "$@"
"""


def go_on(argv: Sequence[str]) -> NoReturn:
    """Become this Python with these arguments, as root of a user namespace; LabError says what the machine lacks."""
    _check()
    old = (run.lab_dir() / "host-run").absolute()
    try:
        old.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise LabError(f"{old.parent} is somebody else's: say OSNETD_LAB=DIRECTORY") from error
    os.execvp(ENTER[0], [*ENTER, "sh", "-ec", OWN_RUN, "sh", str(old), sys.executable, *argv])


def _check() -> None:
    if shutil.which("newuidmap") is None:
        raise LabError("without root the lab needs newuidmap (the package uidmap)")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([*ENTER, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], **quiet, text=True)
    if done.returncode != 0 and _APPARMOR.exists() and _APPARMOR.read_text().strip() == "1":
        raise LabError(
            f"without root the lab needs a user namespace, and AppArmor gives none here: {done.stdout.strip()}\n"
            f"root can lift that: sysctl kernel.{_APPARMOR.name}=0"
        )
    if done.returncode != 0:
        raise LabError(
            "without root the lab needs a user namespace with subordinate ids (/etc/subuid, /etc/subgid), "
            f"and this machine gives none: {done.stdout.strip()}\n"
            "root can give them: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 NAME"
        )
    if wire.kind() == "dgram" and shutil.which("qemu-system-x86_64") and not qemu.has_dgram():
        raise LabError(f"without root the lab needs QEMU 7.2, or {wire.TUN}, which is not there or not yours to use")
