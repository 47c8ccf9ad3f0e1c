# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The queue-event script: one event is one file, whose name holds its data."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "udev" / "queue-event"
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def queue_event(request, tmp_path):
    """Run the script, its queue below tmp_path. Any POSIX shell may be the guest's /bin/sh."""
    script = tmp_path / "queue-event"
    script.write_text(SCRIPT.read_text(encoding="utf-8").replace("/run/cloudinit-osnetd", str(tmp_path / "run")))

    def run(*args, **options):
        argv = [*request.param, str(script), *args]
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, **options)

    return run


def names(tmp_path):
    return sorted(os.listdir(str(tmp_path / "run" / "queue")))


@pytest.mark.parametrize("reason", ["added", "removed", "boot", "push", "timer", "operator"])
def test_each_reason_is_queued(queue_event, tmp_path, reason):
    assert queue_event(reason).returncode == 0
    (name,) = names(tmp_path)
    assert re.match(r"^\d{10}\.\d\d\.%s$" % reason, name)


@pytest.mark.parametrize("nic", ["ens4", "eth0.100", "a.b.c", "wlx0123456789ab", "café"])
def test_a_nic_comes_last_whatever_its_name(queue_event, tmp_path, nic):
    assert queue_event("added", nic).returncode == 0
    (name,) = names(tmp_path)
    assert name.split(".", 3)[2:] == ["added", nic]


@pytest.mark.parametrize("nic", ["../../etc/passwd", ".", "..", "a b", "a\nb", "a:b", "sixteen-bytes-ab"])
def test_what_no_nic_can_be_called_costs_the_name_not_the_event(queue_event, tmp_path, nic):
    done = queue_event("added", nic)
    assert done.returncode == 0
    assert "cannot be the name of a NIC" in done.stderr
    (name,) = names(tmp_path)
    assert name.endswith(".added")


@pytest.mark.parametrize("args", [(), ("moved",), ("",), ("added", "ens4", "ens5"), ("../boot",)])
def test_a_wrong_call_is_refused_and_queues_nothing(queue_event, tmp_path, args):
    assert queue_event(*args).returncode == 2
    assert not (tmp_path / "run").exists()


def test_the_uptime_is_the_kernels_and_names_sort_by_it(queue_event, tmp_path):
    before = float(Path("/proc/uptime").read_text().split()[0])
    queue_event("boot")
    after = float(Path("/proc/uptime").read_text().split()[0])
    (name,) = names(tmp_path)
    seconds, hundredths = name.split(".")[:2]
    assert before <= float(seconds + "." + hundredths) <= after
    assert len(seconds) == 10


def test_the_queue_is_roots_alone_and_the_directory_above_may_be_read(queue_event, tmp_path):
    queue_event("boot", preexec_fn=lambda: os.umask(0))
    queue = tmp_path / "run" / "queue"
    assert stat.S_IMODE(queue.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE(queue.stat().st_mode) == 0o700
    (event,) = queue.iterdir()
    assert stat.S_IMODE(event.stat().st_mode) == 0o600


def test_it_says_so_when_it_cannot_write(queue_event, tmp_path):
    (tmp_path / "run").write_text("in the way")
    done = queue_event("boot")
    assert done.returncode == 1
    assert "cannot make" in done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
def test_once_the_queue_is_there_it_starts_no_process(queue_event, tmp_path):
    queue_event("boot")
    script = str(tmp_path / "queue-event")
    traced = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=clone,clone3,fork,vfork,execve", "dash", script, "added", "ens4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert traced.returncode == 0
    assert len(traced.stderr.splitlines()) == 1, traced.stderr
