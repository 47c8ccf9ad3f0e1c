# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-nspawn, started so that a full guest with udev works in a given network namespace.

What it takes, each learnt from a guest that did not boot or did not see its NICs:
- The network namespace is entered first: with --network-namespace-path, a writable /sys shows the host's NICs.
- udevd and device units need a writable /sys. The capabilities that reach the host through it are dropped.
- pid 1 listens to udev only if /run/udev/control exists when it starts (sd-device-monitor's check for containers).
- nspawn ends when the guest reboots (--keep-unit); whoever started it starts it again.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import MappingProxyType
from typing import List, Mapping, Optional

from tests.lab import cgroups, netns, run

# Clock, modules, raw ports and the host's log: the guest's root is the host's root, and a guest must not reach them.
_DROPPED = "CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO,CAP_SYS_BOOT,CAP_SYSLOG,CAP_WAKE_ALARM"
_ENVIRONMENT = {
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
}


class Nspawn:
    """One boot of a container."""

    def __init__(
        self,
        name: str,
        root: Path,
        namespace: str,
        scratch: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        udev = _udev_directory(scratch / "udev")
        argv = ["systemd-nspawn", "--quiet", f"--directory={root}", f"--machine={name}", "--boot"]
        argv += ["--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--console=pipe"]
        argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", f"--bind={udev}:/run/udev"]
        argv += [f"--setenv={key}={value}" for key, value in environment.items()]
        argv += ["--capability=all", f"--drop-capability={_DROPPED}"]
        # "slave": a namespace that the host unmounts must not live on in this private copy of the mounts.
        prepare = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", f'{cgroups.ENTER}shift; exec "$@"', "sh"]
        # Its standard input is the guest's /dev/console, whose mode and owner the guest sets: were it /dev/null, then the
        # host's /dev/null would be closed to everybody but root.
        nobody, never = os.pipe()
        os.close(never)
        with open(scratch / "console", "ab") as console, os.fdopen(nobody) as stdin:
            self.process = run.current().spawn(
                netns.enter(namespace) + prepare + [name] + argv,
                env={**os.environ, **_ENVIRONMENT},
                stdin=stdin,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._leader: Optional[int] = None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def leader(self) -> Optional[int]:
        """The guest's pid 1, as the host numbers it; None while there is none."""
        if self._leader is None and self.alive:
            self._leader = _find_init(self.process.pid)
        return self._leader if self.alive else None

    def wait(self, timeout: float) -> bool:
        """Wait for the guest to end by itself."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        cgroups.remove_all(self.name)
        return True

    def kill(self) -> None:
        """Cut the power."""
        cgroups.remove_all(self.name)
        self.process.kill()
        self.process.wait()


def enter(leader: int, argv: List[str]) -> List[str]:
    """The command that runs `argv` inside the guest: all of its namespaces, a clean environment."""
    environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"]
    environment.append(f"TERM={os.environ.get('TERM', 'dumb')}")
    # --root: where the lab itself runs in a chroot, the root of the guest's mount namespace is still the machine's own.
    return ["nsenter", f"--target={leader}", "--root", "-m", "-u", "-i", "-n", "-p", "-C", "--", *environment, *argv]


def _udev_directory(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    here = os.open(path, os.O_PATH)
    try:  # by way of the directory's descriptor: the path may be longer than a socket's address can be
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.bind(f"/proc/self/fd/{here}/control")
    finally:
        os.close(here)
    return path


def _find_init(ancestor: int) -> Optional[int]:
    """The descendant of a process that is pid 1 of a namespace of its own (proc(5), NSpid)."""
    waiting = [ancestor]
    while waiting:
        pid = waiting.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            waiting += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
        numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(numbers) > 1 and numbers[-1] == "1" and os.readlink(f"/proc/{pid}/exe").endswith("systemd"):
            return pid
    return None
