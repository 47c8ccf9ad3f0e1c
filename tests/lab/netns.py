# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Network namespaces of the host: made and removed, commands and sockets inside them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from typing import Callable, List, Sequence, TypeVar

from tests.lab.call import LabError

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def add(name: str) -> None:
    # `ip netns add` goes back to the namespace that it came from, which a mere user may do only where it is his own.
    _run(["unshare", "--net", "ip", "netns", "add", name])
    ip(name, "link set lo up")


def delete(name: str) -> None:
    if os.path.exists(f"/run/netns/{name}"):
        _run(["ip", "netns", "del", name])


def ip(namespace: str, *commands: str) -> None:
    """Run `ip` commands in a namespace, in one process; the first failure raises."""
    _run(["ip", "-n", namespace, "-batch", "-"], "\n".join(commands) + "\n")


def output(namespace: str, argv: Sequence[str]) -> str:
    return _run(enter(namespace) + list(argv))


def enter(namespace: str) -> List[str]:
    """What to put before a command to run it in a namespace. (`ip netns exec` would remount /sys as well.)"""
    return ["nsenter", f"--net=/run/netns/{namespace}"]


def within(namespace: str, function: Callable[[], T]) -> T:
    """Call a function in a thread that is in the namespace. A socket made there stays there, whoever uses it later."""
    results: List[T] = []
    errors: List[BaseException] = []

    def work() -> None:
        try:
            with open(f"/run/netns/{namespace}") as file:
                if _libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _run(argv: List[str], text: str = "") -> str:
    done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed: {done.stdout.strip()}\n{text}".rstrip())
    return done.stdout
