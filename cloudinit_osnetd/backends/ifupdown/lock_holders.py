# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Processes that work on a NIC: `ifup` or `ifdown` that hold its lock or wait for it, and DHCP clients.

udev starts ifup@NIC.service as soon as a NIC appears, with whatever stanza is on disk: one of the image, or one of a
NIC that had the name before. Without a DHCP server it holds the lock for a minute.
"""

import logging
import os
import signal
import time
from typing import Dict, FrozenSet, Iterator, List, Set

from ...system import files, paths
from ...system.command import CommandError, run

LOG = logging.getLogger(__name__)
_CLIENTS = ("dhclient", "dhcpcd", "udhcpc")
_SECONDS = 5.0  # for a process to end after a signal


def end(name: str, lock: str, clients: bool = True) -> bool:
    """Ends the processes that work on a NIC, except this one. Returns True if a DHCP client was among them.

    `lock`: ifupdown's lock file of the NIC. With `clients` false, only those that hold the lock or wait for it.
    """
    running, devices = _processes(), _devices()
    # Not `ifup --all`, which also handles other NICs: it continues when its client for this NIC ends.
    ended = {pid: running[pid] for pid in lockers(lock) if is_worker(running.get(pid, []), name)}
    units = {unit for pid in ended for unit in _unit(pid)}
    serving = {pid: words for pid, words in running.items() if clients and is_client(words, name, devices)}
    ended.update(serving)
    for pid, words in ended.items():
        LOG.warning("ended, it blocks the NIC: nic=%s pid=%d command=%s", name, pid, " ".join(words))
        _signal(pid, signal.SIGTERM)
    _await(ended)
    for unit in units:
        _reset(unit)
    return bool(serving)


def lockers(path: str) -> Set[int]:
    """Returns the processes that hold a POSIX lock on a file, or wait for one (proc(5): /proc/locks)."""
    try:
        about = os.stat(path)
    except OSError:
        return set()
    place = "%02x:%02x:%d" % (os.major(about.st_dev), os.minor(about.st_dev), about.st_ino)
    found = set()
    for line in _of_proc("locks").splitlines():
        words = line.replace("-> ", "").split()
        if len(words) > 5 and words[1] == "POSIX" and words[5] == place and words[4].isdigit():
            found.add(int(words[4]))
    return found


def clients(names: List[str]) -> Dict[str, Dict[int, str]]:
    """Returns the DHCP clients of each of these NICs that has any: the program by pid."""
    running, devices = _processes(), _devices()
    found = {
        name: {pid: os.path.basename(words[0]) for pid, words in running.items() if is_client(words, name, devices)}
        for name in names
    }
    return {name: of_nic for name, of_nic in found.items() if of_nic}


def is_worker(words: List[str], name: str) -> bool:
    """True for an `ifup` or `ifdown` of this NIC only."""
    return bool(words) and os.path.basename(words[0]) in ("ifup", "ifdown") and words[-1].partition("=")[0] == name


def is_client(words: List[str], name: str, devices: FrozenSet[str]) -> bool:
    """True for a DHCP client of this NIC only."""
    if not words:
        return False
    program = os.path.basename(words[0]).rstrip(":")
    if program not in _CLIENTS:
        return False
    if words[0] == "dhcpcd:":  # what it writes over its arguments: "dhcpcd: ens4 [ip4]"
        return words[1:2] == [name]
    return [word for word in words[1:] if word == name or word in devices] == [name]


def _processes() -> Dict[int, List[str]]:
    """Returns the command line of each other process in our network namespace: not those of containers."""
    found = {}
    ours = _network("self")
    for entry in os.listdir(paths.PROC):
        if entry.isdigit() and int(entry) != os.getpid() and ours and _network(entry) == ours:
            words = _words(entry)
            if words:
                found[int(entry)] = words
    return found


def _network(process: str) -> str:
    try:
        return os.readlink(os.path.join(paths.PROC, process, "ns/net"))
    except OSError:
        return ""  # it has ended, or is a kernel thread


def _devices() -> FrozenSet[str]:
    try:
        return frozenset(os.listdir(paths.KERNEL_NICS))
    except OSError:
        return frozenset()


def _signal(pid: int, number: int) -> None:
    """Signals the process and, if it leads a process group as `ifup` does, its children."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except OSError:
        pass  # it has ended


def _await(ended: Dict[int, List[str]]) -> None:
    """Waits until they have ended. Those that ignore the signal are killed."""
    for number in (signal.SIGKILL, 0):
        deadline = time.monotonic() + _SECONDS
        left = set(ended)
        while left and time.monotonic() < deadline:
            left = {pid for pid in left if _alive(pid)}
            time.sleep(0.01 if left else 0)
        for pid in left if number else ():
            _signal(pid, number)


def _alive(pid: int) -> bool:
    state = _of_proc(str(pid), "stat")
    return bool(state) and state.rpartition(")")[2].split()[:1] != ["Z"]


def _of_proc(*names: str) -> str:
    try:
        return files.read(os.path.join(paths.PROC, *names)) or ""
    except OSError:
        return ""  # the process has ended


def scopes(name: str, lock: str) -> Set[str]:
    """Returns the scope units in which an `ifup` or `ifdown` holds this NIC's lock or waits for it."""
    pids = [pid for pid in lockers(lock) if is_worker(_words(str(pid)), name)]
    return {unit for pid in pids for unit in _units(pid) if unit.endswith(".scope")}


def _unit(pid: int) -> Iterator[str]:
    """Yields ifupdown's unit that a process belongs to."""
    found = [unit for unit in _units(pid) if unit.startswith("ifup@") and unit.endswith(".service")]
    yield from found[:1]


def _units(pid: int) -> List[str]:
    """Returns the systemd unit that a process belongs to, once for each hierarchy of cgroups."""
    return [line.rpartition("/")[2] for line in _of_proc(str(pid), "cgroup").splitlines()]


def _words(process: str) -> List[str]:
    return _of_proc(process, "cmdline").replace("\0", " ").split()


def _reset(unit: str) -> None:
    """Clears the unit's failed state: we ended its process ourselves."""
    try:
        run(["systemctl", "reset-failed", unit])
    except CommandError:
        pass
