# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""lock_holders: which processes work on a NIC, and how they are ended; with real processes and locks."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from cloudinit_osnetd.backends import ifup_command
from cloudinit_osnetd.backends.ifupdown import lock_holders as workers

DEVICES = frozenset(["lo", "ens3", "ens4", "ens41"])


@pytest.mark.parametrize(
    ("words", "serves"),
    [
        ("dhclient -4 -v -i -pf /run/dhclient.ens4.pid -I -df /var/lib/dhcp/dhclient6.ens4.leases ens4", True),
        ("/sbin/dhclient -4 -v -i -pf /run/dhclient.ens4.pid ens4 -e IF_METRIC=2100", True),
        ("dhclient ens4", True),
        ("udhcpc -n -p /run/udhcpc.ens4.pid -i ens4", True),
        ("dhcpcd -m 2100 ens4", True),
        ("dhcpcd: ens4 [ip4] [ip6]", True),
        ("dhcpcd: [manager] [ip4] [ip6]", False),
        ("dhclient", False),
        ("dhclient ens3 ens4", False),
        ("dhclient ens41", False),
        ("dhclient-script ens4", False),
        ("grep dhclient ens4", False),
        ("ifup ens4", False),
    ],
)
def test_a_dhcp_client_is_told_by_whom_it_serves(words, serves):
    assert workers.is_client(words.split(), "ens4", DEVICES) == serves


def test_a_client_of_a_nic_that_has_left_is_reported_too():
    assert workers.is_client(["dhclient", "-v", "ens9"], "ens9", DEVICES)


@pytest.mark.parametrize(
    ("words", "works"),
    [
        ("ifup --allow=hotplug ens4", True),
        ("/sbin/ifdown ens4", True),
        ("ifup ens4=home", True),
        ("/sbin/ifup -a --read-environment", False),
        ("ifup ens41", False),
        ("sh -ec ifup ens4", False),
        ("", False),
    ],
)
def test_a_worker_is_an_ifup_of_this_nic_alone(words, works):
    assert workers.is_worker(words.split(), "ens4") == works


# `ifup` as it holds a NIC: a lock on its file, a group of its own, in it a client that hears nothing and nobody ends.
IFUP = """
import fcntl, os, subprocess, sys
lock = open(sys.argv[1], "a")
os.set_inheritable(lock.fileno(), True)
fcntl.lockf(lock, fcntl.LOCK_EX)
os.setpgid(0, 0)
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
os.execvp("sh", ["ifup", "-c", "trap '' TERM; while :; do sleep 0.1; done", "ens4"])
"""


def test_who_holds_the_lock_is_ended_and_with_him_whom_he_waits_for(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_SECONDS", 0.5)
    lock = tmp_path / "ifstate.ens4"
    lock.write_text("")
    argv = [sys.executable, "-c", IFUP, str(lock)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, universal_newlines=True) as holder:
        child = int(holder.stdout.readline())
        assert workers.lockers(str(lock)) == {holder.pid}
        assert workers.lockers(str(tmp_path / "ifstate.ens5")) == set()
        deadline = time.monotonic() + 10
        while "ifup" not in workers._of_proc(str(holder.pid), "cmdline") and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            assert workers.end("ens4", str(lock), clients=False) is False
            assert holder.wait(timeout=10) != 0
        finally:
            holder.kill()
    assert workers.lockers(str(lock)) == set()
    assert not workers._alive(child)


def test_another_nics_worker_is_let_be(tmp_path):
    """And so is whoever else has a lock there: this very process."""
    lock = tmp_path / "ifstate.ens5"
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert workers.lockers(str(lock)) == {os.getpid()}
        assert workers.end("ens5", str(lock), clients=False) is False


def test_the_scope_in_which_a_nic_is_brought_up_has_its_age(tmp_path, monkeypatch):
    monkeypatch.setattr(workers.paths, "PROC", str(tmp_path))
    lock = tmp_path / "ifstate.ens4"
    lock.write_text("")
    about = os.stat(str(lock))
    place = "%02x:%02x:%d" % (os.major(about.st_dev), os.minor(about.st_dev), about.st_ino)
    rows = [(1, "", 41, place), (1, "-> ", 42, place), (2, "", 43, "0:1:2")]
    (tmp_path / "locks").write_text("".join("%d: %sPOSIX  ADVISORY  WRITE %d %s 0 EOF\n" % row for row in rows))
    unit = ifup_command.ifup_scope("ens4")
    for pid, words, inside in [
        (41, "ifup\0ens4\0", "0::/system.slice/%s.scope\n" % unit),
        (42, "/sbin/ifup\0--allow=hotplug\0ens4\0", "0::/system.slice/system-ifup.slice/ifup@ens4.service\n"),
        (43, "ifup\0ens4\0", "0::/system.slice/another.scope\n"),
    ]:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_text(words)
        (tmp_path / str(pid) / "cgroup").write_text(inside)
    assert workers.scopes("ens4", str(lock)) == {unit + ".scope"}
    assert workers.scopes("ens5", str(lock)) == set()
    assert 0 <= ifup_command.age_of(unit + ".scope") < 60
    assert ifup_command.age_of("ifup@ens4.service") is None
    assert ifup_command.age_of("osnetd-ifup-ens4.scope") is None
