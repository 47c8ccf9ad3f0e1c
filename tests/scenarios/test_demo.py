# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The demo tells the truth, and leaves nothing behind, also when it is interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from tests.lab.run import CHECKOUT

# What a guest needs so that apt installs it, and nothing more: it follows no port.
CONTROL = """\
Package: cloudinit-osnetd
Version: 0
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: nothing
"""


@contextlib.contextmanager
def demo(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process group of its own, as a shell would start it. Ended here if the test did not see to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.demo"],
        cwd=CHECKOUT,
        env={**os.environ, "GUEST": "container", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("moment", ["== boot", "== attach: a static", "== reboot"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_an_interrupted_demo_leaves_nothing_behind(moment: str, number: signal.Signals) -> None:
    assert interrupted_at(moment, number, "container") == []


@pytest.mark.vm
def test_an_interrupted_demo_in_a_vm_leaves_nothing_behind() -> None:
    assert interrupted_at("== attach: a static", signal.SIGINT, "vm") == []


def interrupted_at(moment: str, number: signal.Signals, guest: str) -> list[str]:
    """What a demo left that was sent a signal when it came to this heading."""
    with demo({"GUEST": guest}) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith(moment))
        run = run_of(process.pid)
        os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == (128 + number if number is signal.SIGTERM else 130), said
    return left_behind(run)


def test_a_demo_of_a_package_that_does_nothing_says_so(tmp_path: Path) -> None:
    """No tick comes from the demo itself: with a package that follows no port, every attached one is a cross."""
    control = tmp_path / "package" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(CONTROL)
    deb = tmp_path / "nothing.deb"
    subprocess.run(["dpkg-deb", "--build", str(control.parent.parent), str(deb)], check=True, stdout=subprocess.DEVNULL)
    with demo({"OSNETD_DEB": str(deb), "OSNETD_DEMO_PATIENCE": "2", "PYTHONIOENCODING": "utf-8"}) as process:
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 1, said
    verdicts = [line.split()[:2] for line in said.partition("== in short")[2].splitlines() if line[:1] in "✔✘" and line]
    assert verdicts == [
        ["✔", "boot"],
        ["✘", "attach:"],
        ["✘", "attach:"],
        ["✘", "edit"],
        ["✘", "detach"],
        ["✘", "reboot"],
    ], said


def run_of(pid: int) -> str:
    """The id of the lab's run in a process: it holds the lock of its directory open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            path = link.readlink()
            if path.name == "lock" and path.parent.parent.name == "run":
                return path.parent.name
    raise AssertionError(f"process {pid} has no run of the lab")


def left_behind(run: str) -> list[str]:
    """Everything on this host that carries the run's id."""
    name = f"osn-{run}-"
    found = [f"namespace {one}" for one in os.listdir("/run/netns") if one.startswith(name)]
    found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            process = Path("/proc", pid)
            ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"  # the host's init will reap it
            if not ended and (
                name.encode() in (process / "cmdline").read_bytes() or name in (process / "cgroup").read_text()
            ):
                found.append(f"process {pid}")
    links = subprocess.run(["ip", "-brief", "link"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return found + [f"device {line}" for line in links.splitlines() if name in line]
