# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One run of the lab: its id, its directory, what it has to clean up, and the sweeping of dead runs.

Everything a run makes on the host carries its id (`osn-<runid>-...`) or lies in its directory. The directory holds a
file that the run keeps locked for as long as it lives: a run whose lock can be had is dead, and is swept.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

from tests.lab import cgroups
from tests.lab.progress import say

CHECKOUT = Path(__file__).resolve().parents[2]
_current: Optional["Run"] = None


def lab_dir() -> Path:
    """The lab's working data: $OSNETD_LAB, or .lab in the checkout. Must not lie on an overlay file system."""
    return Path(os.environ.get("OSNETD_LAB") or CHECKOUT / ".lab")


@contextlib.contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold a file lock, waiting for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


class Run:
    """This process's use of the lab."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(2)
        self.dir = lab_dir() / "run" / self.id
        self.dir.mkdir(parents=True)
        self._lock = open(self.dir / "lock", "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._pid = os.getpid()
        self._count = 0
        self._undo: List[Callable[[], None]] = []
        self._mutex = threading.Lock()

    def name(self, what: str) -> str:
        """A name for something on the host, unique to this run and short enough for a network device."""
        with self._mutex:
            self._count += 1
            return f"osn-{self.id}-{what}{self._count}"

    def at_exit(self, undo: Callable[[], None]) -> Callable[[], None]:
        """Have `undo` called when the run ends. Returns what forgets it again."""
        self._undo.append(undo)

        def forget() -> None:
            with contextlib.suppress(ValueError):
                self._undo.remove(undo)

        return forget

    def spawn(self, argv: List[str], **kwargs: Any) -> "subprocess.Popen[bytes]":
        """Start a process that a later sweep can find, out of the reach of the terminal's Ctrl-C."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(argv, start_new_session=True, **kwargs)
        with open(self.dir / "pids", "a") as file:
            file.write(f"{process.pid} {start_time(process.pid)}\n")
        return process

    def close(self) -> None:
        """Undo everything, newest first. A fault in one undoing does not spare the others."""
        if os.getpid() != self._pid or self._lock.closed:
            return
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # the sweep below gets what this left
                say(f"while cleaning up: {error}")
        sweep_one(self.dir)
        self._lock.close()


def current() -> Run:
    """The run of this process, begun (and dead runs swept) at the first call."""
    global _current
    if _current is None:
        if os.geteuid() != 0:
            raise PermissionError("the lab needs root: it makes network namespaces, mounts and containers")
        with locked(lab_dir() / "run.lock"):
            sweep()
            _current = Run()
        atexit.register(_current.close)
        # SIGTERM is to clean up like SIGINT does: turn it into an ordinary exit.
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    return _current


def in_user_namespace() -> bool:
    """Whether this root is only one of a user namespace: see rootless.py."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)]


def sweep() -> None:
    """Remove what dead runs left behind."""
    for directory in sorted((lab_dir() / "run").glob("*/")):
        try:
            with open(directory / "lock", "a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                say(f"sweeping what the dead run {directory.name} left")
                sweep_one(directory)
        except BlockingIOError:
            continue


def sweep_one(directory: Path) -> None:
    """Remove everything that belongs to the run of this directory: processes, cgroups, namespaces, mounts, files."""
    prefix = f"osn-{directory.name}-"
    for pid in _recorded_pids(directory / "pids"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cgroups.remove_all(prefix)
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        if name.startswith(prefix):
            subprocess.run(["ip", "netns", "del", name], check=False)
    for mount_point in reversed(mounts_below(directory)):
        subprocess.run(["umount", "--lazy", mount_point], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def mounts_below(directory: Path) -> List[str]:
    """The mount points inside a directory, in the order they were mounted."""
    with open("/proc/self/mounts") as file:
        points = [line.split()[1] for line in file]
    return [point for point in points if point.startswith(f"{directory}/")]


def start_time(pid: int) -> Optional[str]:
    """When a process started, in ticks since boot: with it a pid means one process for ever (proc(5), stat field 22)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _recorded_pids(path: Path) -> Iterator[int]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        pid, started = line.split()
        if start_time(int(pid)) == started:
            yield int(pid)
