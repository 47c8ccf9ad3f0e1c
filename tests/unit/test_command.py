# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""command: the end of a program is noticed at once, and a program that times out is ended."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from cloudinit_osnetd.system import command, paths


@pytest.fixture(params=["pidfd", "without"], autouse=True)
def both_ways(request, monkeypatch, tmp_path):
    """A pidfd tells of the end, or, before Python 3.9 and Linux 5.3, looking now and then does."""
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    if request.param == "without":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no pidfd_open")


def test_what_it_says_comes_back():
    assert command.run(["sh", "-c", "echo said"]) == "said\n"


def test_a_failure_names_the_program_its_status_and_its_last_words():
    with pytest.raises(command.CommandError, match="exit 3: no network"):
        command.run(["sh", "-c", "echo no network >&2; exit 3"])


def test_one_that_is_not_there_is_an_error():
    with pytest.raises(command.CommandError, match="nonesuch"):
        command.run(["/nonesuch"])


def test_one_that_takes_too_long_is_killed():
    job = command.start(["sleep", "30"])
    began = time.monotonic()
    with pytest.raises(command.CommandError, match="not done"):
        command.end(job, timeout=0.2)
    assert time.monotonic() - began < 10
    assert job.process.poll() == -9


def test_or_left_at_its_work():
    job = command.start(["sleep", "30"])
    with pytest.raises(command.CommandError, match="not done"):
        command.end(job, timeout=0.2, kill=False)
    assert job.process.poll() is None
    job.process.kill()
    job.process.wait()


def test_the_seconds_that_are_told_are_those_since_its_start():
    """Of several programs that were started together each one's wait begins when the one before it has ended."""
    job = command.start(["sleep", "60"])
    with pytest.raises(command.CommandError, match="not done after 31 s"):
        command.end(job._replace(began=job.began - 31), 0.05)


def test_the_words_of_a_program_lie_in_the_staging_tree_where_there_is_one(tmp_path, monkeypatch):
    """`plan` writes nowhere else."""
    monkeypatch.setattr(paths, "STAGING", str(tmp_path / "staging"))
    real, places = tempfile.TemporaryFile, []

    def noted(dir):
        file = real(dir=dir)
        places.append(dir)
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    command.run(["true"])
    assert set(places) == {paths.RUN}
    os.mkdir(paths.STAGING)
    command.run(["true"])
    assert places == [paths.RUN, paths.RUN, paths.STAGING, paths.STAGING]


def test_a_program_that_a_library_has_started_ends_after_its_time(tmp_path):
    """As cloud-init's library starts a DHCP client, and waits for it; others go on."""
    slow, other = tmp_path / "dhclient", tmp_path / "another"
    for program in (slow, other):
        shutil.copy(shutil.which("sleep"), str(program))
    beside = subprocess.Popen([str(other), "60"])
    try:
        began = time.monotonic()
        with command.children_limited(["dhclient"], 0.2):
            assert subprocess.call([str(slow), "60"]) == -signal.SIGTERM
        assert time.monotonic() - began < 10
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()


def test_and_one_that_is_done_in_time_is_left(tmp_path):
    client = tmp_path / "dhclient"
    shutil.copy(shutil.which("sleep"), str(client))
    with command.children_limited(["dhclient"], 0.2):
        pass
    assert subprocess.call([str(client), "0.5"]) == 0
