# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Sudden death: whatever kills a run, and whenever, each NIC is in the old or the new state, and the next run finishes.

`make test` strikes at each fifth of a run's operations and leaves out what takes a guest many boots (`deep`); `make sudden-death` takes all of
them, everywhere (OSNETD_STRIDE=1), and shows how many there were.
"""

from __future__ import annotations

import os
import shutil
from typing import Iterator, Sequence

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.killing import PROGRAM, QUEUE_EVENT, SERVE, SETTINGS, STRIKE, Scene
from tests.scenarios.seen import IFCFG, KEYFILES, assert_follows, assert_nothing_to_do, settled, wait_until
from tests.scenarios.strike import Operation

pytestmark = pytest.mark.long
EVERY = int(os.environ.get("OSNETD_STRIDE", "5"))
BOOT = (PROGRAM, "boot")


@pytest.fixture
def scene(cloud: Cloud, guest_factory: GuestFactory) -> Iterator[Scene]:
    """A server with five static NICs, at rest; events are queued, but start nothing."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/16", dns=["10.91.0.2"])
    red = cloud.network("red", cidr="10.92.0.0/16", dns=["10.92.0.2"])
    server = cloud.server("mortal")
    ports = [server.create_port(network) for network in (blue, green, red, red, green)]
    guest = guest_factory(server, files=SETTINGS)
    guest.boot()
    settled(guest)
    guest.run("systemctl stop cloudinit-osnetd.path")
    with Scene(cloud, guest, ports) as scene:
        scene.watch()
        yield scene


def each(scene: Scene, how: str, whose: str = "own", step: int = 1, argv: Sequence[str] = SERVE) -> Iterator[Operation]:
    """Runs, each on a new change, struck at the first operation, the second, ...: until one comes through unstruck."""
    number, count = 1, 0
    while True:
        scene.change()
        report = scene.run(number, how, whose=whose, argv=argv)
        scene.assert_whole()
        if not report.struck:
            print(f"\n{scene.guest.suite}: {how} at {count} of {len(report.operations)} operations ({whose}) of {' '.join(argv)}")
            return
        yield report.operations[number - 1]
        number, count = number + step, count + 1


def at(scene: Scene, how: str, numbers: Sequence[int], error: str = "ENOSPC") -> Iterator[Operation]:
    """The same, for these operations."""
    for number in numbers:
        scene.change()
        report = scene.run(number, how, error)
        scene.assert_whole()
        if report.struck:
            yield report.operations[number - 1]
    print(f"\n{scene.guest.suite}: {how} {error if how in ('fail', 'onward') else ''} at {len(numbers)} operations")


def on_disk(operation: Operation) -> bool:
    return operation.on_files and not operation.target.startswith(("/run/", "/tmp/", "/proc/"))


# -- kill -9 -----------------------------------------------------------------------------------------------------


def test_killed_before_each_operation(scene: Scene) -> None:
    """And after each, but for the last: between two there is nothing that it could change."""
    seen = []
    for operation in each(scene, "before", step=EVERY):
        scene.next_run()
        scene.assert_converged(operation)
        seen.append(operation)
    scene.assert_converged()
    assert {"rename", "unlink", "fsync", "execve", "write", "openat"} <= {operation.call for operation in seen} or EVERY > 1
    assert killed_after_the_last(scene)
    scene.assert_whole()
    scene.next_run()
    scene.assert_converged()
    assert_follows(scene.guest, *scene.guest.plugged)
    assert_nothing_to_do(scene.guest)


def killed_after_the_last(scene: Scene) -> bool:
    """No two runs have quite the same number of operations: one waits for what the other finds done."""
    last = len(scene.count())
    for _attempt in range(5):
        scene.change()
        report = scene.run(last, "after")
        if report.struck:
            return True
        last = len(report.operations)
    return False


@pytest.mark.deep
def test_killed_while_a_command_is_at_work(scene: Scene) -> None:
    """With the command, at its own operations: all of networkctl's, every some of ifup's and its scripts'."""
    step = max(1, len(scene.count("children")) // (200 // EVERY))
    for operation in each(scene, "before", "children", step):
        scene.next_run()
        scene.assert_converged(operation)
    assert_nothing_to_do(scene.guest)


def test_killed_and_its_command_lives_on(scene: Scene) -> None:
    commands = [operation.number for operation in scene.count() if operation.call == "execve" and operation.number > 1]
    assert commands
    for operation in at(scene, "main", commands):
        scene.next_run()
        scene.assert_converged(operation)
    assert_nothing_to_do(scene.guest)


@pytest.mark.deep
def test_a_boot_killed_before_each_operation(scene: Scene) -> None:
    """The early unit's: the next boot, or the first run after this one, finishes."""
    # A server that boots has ifupdown's state of this boot only.
    departed = "cd /run/network 2>/dev/null && for n in $(cut -d= -f1 ifstate); do [ -e /sys/class/net/$n ] || sed -i /^$n=/d ifstate; done"
    for operation in each(scene, "before", step=EVERY, argv=BOOT):
        scene.guest.run(departed, check=False)
        if operation.number % 2:
            scene.guest.run(" ".join(BOOT))
        scene.next_run("boot")
        scene.assert_converged(operation)


def test_a_service_that_is_killed_is_started_again_and_finishes(scene: Scene) -> None:
    """All of its processes at once, as `systemctl kill -s KILL` does, and what brings it back is systemd alone."""
    guest = scene.guest
    shutil.copy(STRIKE, guest.root / "root/strike.py")
    struck = guest.root / "root/struck"
    struck.write_text(
        f"#!/bin/sh\n[ -e /run/strike ] || exec {' '.join(SERVE)}\nread at </run/strike\nrm /run/strike\n"
        f"exec python3 /root/strike.py --begin={PROGRAM} --whose=own --how=unit --at=$at -- {' '.join(SERVE)}\n"
    )
    struck.chmod(0o755)
    drop_in = guest.root / "etc/systemd/system/cloudinit-osnetd.service.d/struck.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nExecStart=\nExecStart=/root/struck\n")
    guest.run("systemctl daemon-reload")
    count = len(scene.count())
    killed = "journalctl -b -o cat -u cloudinit-osnetd.service | grep -c status=9/KILL"
    # Not the very last: a run that has less to wait for than the one that was counted ends before it.
    numbers = range(2, count - count // 12, count // 6)
    assert len(numbers) == 6
    for times, number in enumerate(numbers, 1):
        scene.change()
        guest.run(f"echo {number} >/run/strike; systemctl start cloudinit-osnetd.path")
        wait_until(lambda: guest.run(killed, check=False).stdout == f"{times}\n", 20, "killed")
        settled(guest, 30)
        scene.assert_whole()
        scene.assert_converged()
        guest.run("systemctl stop cloudinit-osnetd.path")
    print(f"\n{guest.suite}: the service at {len(numbers)} of {count} operations")


@pytest.mark.deep
def test_an_early_unit_that_is_killed_does_not_cost_the_boot(scene: Scene) -> None:
    """The power goes, ports change, and the early unit of the next boot dies of a signal at some operation."""
    guest = scene.guest
    shutil.copy(STRIKE, guest.root / "root/strike.py")
    drop_in = guest.root / "etc/systemd/system/cloudinit-osnetd-early.service.d/struck.conf"
    drop_in.parent.mkdir()
    step, number, results = 12, 3, ["signal"]
    scene.unwatch()
    while results[-1] == "signal":
        drop_in.write_text(
            f"[Service]\nExecStartPre=-{QUEUE_EVENT} boot\nExecStart=\n"
            f"ExecStart=/usr/bin/python3 /root/strike.py --begin={PROGRAM} --whose=own --how=unit --at={number} -- {' '.join(BOOT)}\n"
        )
        guest.poweroff(hard=True)
        scene.change()
        guest.boot()
        settled(guest, 30)
        assert_follows(guest, *guest.plugged)
        results.append(guest.run("systemctl show --value -p Result cloudinit-osnetd-early.service").stdout.strip())
        number += step
        assert scene.leftovers() == []
        assert_nothing_to_do(guest)
    assert results[-1] == "success"
    assert len(results) > 4
    print(f"\n{guest.suite}: the early unit at {len(results) - 2} operations")


ADOPT, RELEASE = ([["/usr/bin/python3", "-I", "-B", "-m", "cloudinit_osnetd", "datasource", to] for to in ("adopt", "release")])


def test_the_cached_datasource_is_whole_at_every_instant_of_its_adoption_and_its_release(scene: Scene) -> None:
    guest = scene.guest
    load = "import pickle; print(type(pickle.load(open('/var/lib/cloud/instance/obj.pkl', 'rb'))).__module__)"
    classes = ["cloudinit.sources.DataSourceConfigDrive", "cloudinit_osnetd.sources.DataSourceConfigDrive"]

    def cached() -> str:
        return guest.run(f'python3 -c "{load}"').stdout.strip()

    for back, argv, now in ((RELEASE, ADOPT, classes[1]), (ADOPT, RELEASE, classes[0])):
        number = 1
        while True:
            guest.run(" ".join(back))
            report = scene.run(number, "before", argv=argv)
            if not report.struck:
                break
            assert cached() in classes, report.operations[-1]
            # Installed or removed once more; or given up half-way, and the other way.
            guest.run(" ".join(argv if number % 2 else back))
            assert [path for path in scene.leftovers() if "obj.pkl" in path] == [], report.operations[-1]
            guest.run(" ".join(argv))
            assert cached() == now
            number += 1
        assert number > 5
        print(f"\n{guest.suite}: {argv[-1]} at {number - 1} operations")


# -- a disk that fails -------------------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.parametrize(("how", "error"), [("onward", "ENOSPC"), ("onward", "EROFS"), ("fail", "EIO")])
def test_a_disk_that_fails_from_each_operation_on(scene: Scene, how: str, error: str) -> None:
    """It is full, it is read-only, or it fails just once."""
    operations = [operation.number for operation in scene.count() if on_disk(operation)]
    assert len(operations) > 20
    for operation in at(scene, how, operations[::EVERY], error):
        scene.assert_up()
        scene.next_run("timer")
        scene.assert_converged(operation)
    assert_nothing_to_do(scene.guest)


def test_a_run_directory_that_is_full(scene: Scene) -> None:
    operations = [operation.number for operation in scene.count() if operation.target.startswith("/run/cloudinit-osnetd")]
    for operation in at(scene, "onward", operations[:: 6 * EVERY]):
        scene.assert_up()
        scene.next_run("timer")
        scene.assert_converged(operation, void=scene.swapped_names() if "staging" in operation.target else ())


@pytest.mark.parametrize("what", ["state", "parts"])
def test_a_disk_that_is_really_full(scene: Scene, what: str) -> None:
    guest = scene.guest
    place = {"networkd": "/etc/systemd/network", "ifupdown": "/etc/network/interfaces.d", "nm": KEYFILES, "ifcfg": IFCFG}[guest.backend]
    directory = "/var/lib/cloudinit-osnetd" if what == "state" else place
    guest.run(f"cp -a {directory} /root/copy; mount -t tmpfs -o size=256k,mode=755 full {directory}; cp -a /root/copy/. {directory}/")
    if guest.backend == "networkd" and what == "parts":
        guest.run("networkctl reload; sleep 1")  # it sees new files now, and is not to see them for our doing
        scene.forget()
    for _ in range(3):
        guest.run(f"cat /dev/zero >{directory}/filler; ls -l {directory}", check=False)
        scene.change()
        before = scene.parts()
        done = guest.run(" ".join(SERVE), check=False)
        scene.said = done.stderr
        assert done.returncode == (70 if what == "state" else 3)
        assert "No space left on device" in done.stderr
        scene.assert_whole()
        if what == "state":
            assert scene.died == before
        scene.assert_up()
        guest.run(f"rm {directory}/filler")
        scene.next_run("timer")
        scene.assert_converged()


def test_etc_that_is_really_read_only(scene: Scene) -> None:
    guest = scene.guest
    for _ in range(3):
        guest.run("mount --bind /etc /etc; mount -o remount,bind,ro /etc")
        scene.change()
        before = scene.parts()
        done = guest.run(" ".join(SERVE), check=False)
        scene.said = done.stderr
        assert done.returncode == 3
        assert "Read-only file system" in done.stderr
        scene.assert_whole()
        assert scene.died == before
        scene.assert_up()
        guest.run("umount /etc")
        scene.next_run("timer")
        scene.assert_converged()
