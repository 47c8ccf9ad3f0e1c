# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply`, `apply --confirm-within` and `confirm`, killed or without power at whatever operation: nothing between old and new."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import Iterator, List, Sequence, Tuple

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.killing import PROGRAM, QUEUE_EVENT, RUN, SERVE, SETTINGS, STRIKE, Parts, Scene
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    settled,
    store_of,
    timers,
    wait_until,
)
from tests.scenarios.strike import Operation, Report

pytestmark = pytest.mark.long
EVERY = int(os.environ.get("OSNETD_STRIDE", "5"))
STEP = 1 if EVERY == 1 else 2 * EVERY + 3  # no divisor of what a run does again and again
APPLY, CONFIRM = (PROGRAM, "apply", "--file", "/root/pushed.json"), (PROGRAM, "confirm")
PUSH = (*APPLY, "--confirm-within")
NEW = "10.91.7.7"


@pytest.fixture
def scene(cloud: Cloud, guest_factory: GuestFactory) -> Iterator[Scene]:
    """A server with three static NICs, of which one is pushed another address; events are queued, but start nothing."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/16", dns=["10.91.0.2"])
    server = cloud.server("mortal")
    ports = [server.create_port(network) for network in (blue, green, green)]
    guest = guest_factory(server, files=SETTINGS)
    guest.boot()
    settled(guest)
    guest.run("systemctl stop cloudinit-osnetd.path")
    document = server.network_data()
    old = ports[1].fixed_ips[0]
    text = json.dumps(document).replace(f'"{old}"', f'"{NEW}"')
    assert text != json.dumps(document)
    (guest.root / "root/pushed.json").write_text(text)
    with Scene(cloud, guest, ports) as scene:
        yield scene


def queued(scene: Scene) -> List[str]:
    """The events that the next run serves: also those that a run which was killed had taken."""
    places = (scene.guest.running_root / RUN / name for name in ("queue", "work"))
    return [name for place in places if place.is_dir() for name in os.listdir(place)]


def is_pushed(scene: Scene) -> bool:
    return "provisional" in store_of(scene.guest)


def assert_woken(scene: Scene, what: str) -> None:
    """Whatever became of the run: nobody else has to start the one that takes the push back."""
    ahead = lambda: timers(scene.guest) or [name for name in queued(scene) if ".timer" in name]  # noqa: E731
    # Its timer's own service may be about to queue the event.
    wait_until(ahead, 1, f"a timer, or its event, {what}")


def assert_back(scene: Scene, before: Parts, what: str) -> None:
    """By one run, that of its own timer's event, the server is as it was, and nothing is left of the push."""
    if is_pushed(scene):
        wait_until(lambda: any(".timer" in name for name in queued(scene)), 5, f"the event of its timer {what}")
    wait_until(lambda: timers(scene.guest) == [], 5, "no timer")
    if not queued(scene):
        scene.guest.run(f"{QUEUE_EVENT} operator")  # it was killed before it had begun to change anything
    scene.next_run()
    assert scene.parts() == before, what
    address = set(scene.edited.fixed_ips)
    wait_until(lambda: scene._kernel()[str(scene.guest.nic(scene.edited))] == address, 5, f"{what}: {address} in the kernel")
    store = store_of(scene.guest)
    assert "provisional" not in store and '"push"' not in json.dumps(store["truth"]), what
    assert scene.leftovers() == [], what


def test_a_push_that_is_killed_is_taken_back(scene: Scene) -> None:
    before, number = scene.parts(), 1
    while True:
        began = time.monotonic()
        report = scene.run(number, "before", argv=(*PUSH, "1"))
        what = f"after {report.operations[number - 1] if report.struck else 'all'}"
        now = scene.parts()
        name = str(scene.guest.nic(scene.edited))
        assert {key: text for key, text in now.of.items() if key != name} == {k: t for k, t in before.of.items() if k != name}
        assert now.of[name] == before.of[name] or NEW in now.of[name], what
        assert now == before or is_pushed(scene), what
        if is_pushed(scene):
            assert_woken(scene, what)
        time.sleep(max(0.0, 1.1 - (time.monotonic() - began)))
        assert_back(scene, before, what)
        if not report.struck:
            break
        number += STEP
    print(f"\n{scene.guest.suite}: killed at {number // STEP} of {len(report.operations)} operations of apply --confirm-within")
    assert number > 3 * STEP
    assert_nothing_to_do(scene.guest)


@pytest.mark.deep
def test_taking_back_that_is_killed_is_completed(scene: Scene) -> None:
    before, number = scene.parts(), 1
    while True:
        scene.guest.run(" ".join((*PUSH, "0.5")))
        wait_until(lambda: any(".timer" in name for name in queued(scene)), 5, "the event of its timer")
        report = scene.run(number, "before", argv=SERVE)
        what = f"after {report.operations[number - 1] if report.struck else 'all'}"
        # The event is removed last, and systemd starts the service again for it.
        assert queued(scene) or not is_pushed(scene), what
        assert_back(scene, before, what)
        if not report.struck:
            break
        number += STEP
    assert number > 3 * STEP
    assert_nothing_to_do(scene.guest)


def test_a_push_that_is_killed_while_it_replaces_a_timer_is_taken_back(scene: Scene) -> None:
    """Before and after each command to systemd: the timer of the earlier push is there until the new one is."""
    before = scene.parts()
    scene.guest.run(" ".join((*PUSH, "3000")))
    shorter = (*PUSH, "600")
    report = scene.run(argv=shorter)
    programs = ("/systemd-run", "/systemctl")
    told = [one.number for one in report.operations if one.call == "execve" and one.target.endswith(programs)]
    assert len(told) == 2 and len(timers(scene.guest)) == 1, report.operations
    for how in ("before", "after"):
        for number in told:
            scene.guest.run("cloudinit-osnetd apply --forget")
            assert (scene.parts(), timers(scene.guest)) == (before, [])
            scene.guest.run(" ".join((*PUSH, "3000")))
            report = scene.run(number, how, argv=shorter)
            assert report.struck and is_pushed(scene), report
            assert timers(scene.guest) != [], f"killed {how} {report.operations[number - 1]}"
    code = scene.guest.run(" ".join((*PUSH, "0.5")), check=False).returncode
    assert code == 0
    wait_until(lambda: any(".timer" in name for name in queued(scene)), 5, "the event of its timer")
    assert_back(scene, before, "the last one")


def test_a_confirmation_that_is_killed_has_come_or_has_not(scene: Scene) -> None:
    before, number, confirmed = scene.parts(), 1, 0
    while True:
        scene.guest.run(" ".join((*PUSH, "600")))
        report = scene.run(number, "before", argv=CONFIRM)
        assert NEW in scene.parts().of[str(scene.guest.nic(scene.edited))]
        there = "provisional" in store_of(scene.guest)
        confirmed += not there
        assert report.struck or not there
        assert scene.guest.run("cloudinit-osnetd confirm", check=False).returncode == (0 if there else 8)
        assert "provisional" not in store_of(scene.guest)
        scene.guest.run("cloudinit-osnetd apply --forget")
        assert scene.parts() == before
        if not report.struck:
            break
        number += 1 if EVERY == 1 else 3
    assert number > 3 and confirmed
    assert_follows(scene.guest, *scene.guest.plugged)


# -- the power is cut --------------------------------------------------------------------------------------------
#
# At that instant all processes are killed, and nothing of the disk's cache is lost. `assert_synced` shows that at most
# the last write could be, which is the cut before it. Disks whose cache is lost: test_power_cut.py.


def cut(scene: Scene, number: int, argv: Sequence[str]) -> Tuple[Report, str]:
    """The power goes before the n-th operation, and comes again. The report of the run, and in words where it ended."""
    report = scene.run(number, "before", argv=argv)
    scene.guest.poweroff(hard=True)
    died = scene.parts()
    name = next(name for name, text in scene.before.of.items() if scene.old_address in text)
    what = f"cut before {report.operations[number - 1]}" if report.struck else "cut after all"
    for one in {*scene.before.of, *died.of}:
        assert died.of[one] == scene.before.of[one] or (one == name and NEW in died.of[one]), what
    assert died.rest == scene.before.rest, what
    scene.guest.boot()
    settled(scene.guest)
    assert_boot(scene.guest, level="store")
    assert scene.leftovers() == [], what
    return report, what


def remember(scene: Scene) -> None:
    scene.before, scene.old_address = scene.parts(), scene.edited.fixed_ips[0]


def has(scene: Scene) -> str:
    """The address of the NIC that is pushed: the same on disk and in the kernel, or the test fails."""
    name = str(scene.guest.nic(scene.edited))
    address = NEW if NEW in scene.parts().of[name] else scene.old_address
    wait_until(lambda: scene._kernel()[name] == {address}, 5, f"{address} on {name}")
    pushed = {key for key, one in store_of(scene.guest)["truth"]["keys"].items() if "push" in json.dumps(one)}
    assert bool(pushed) == (address == NEW), pushed
    return address


def on_disk(operations: Sequence[Operation]) -> List[Operation]:
    return [one for one in operations if one.on_files and not one.target.startswith(("/run/", "/tmp/", "/proc/", "/sys/"))]


def assert_synced(operations: Sequence[Operation]) -> None:
    """A file is on the disk before it gets its name, and its name is before anything else is written there."""
    ours = [one for one in on_disk(operations) if "/history" not in one.target]
    renames = [at for at, one in enumerate(ours) if one.call.startswith("rename")]
    assert renames
    for at in renames:
        before, after = ours[at - 1], ours[at + 1]
        directory, name = os.path.split(ours[at].target)
        assert (before.call, before.target) == ("fsync", f"{directory}/.osnetd-{name}"), (before, ours[at])
        assert (after.call, after.target) == ("fsync", directory), (ours[at], after)


def after_the_part(scene: Scene, argv: Sequence[str]) -> List[int]:
    """The operation after which the new part is on the disk, and the NIC is as it was."""
    operations = scene.run(argv=argv).operations
    scene.guest.run("cloudinit-osnetd apply --forget")
    assert scene.parts() == scene.before
    assert_synced(operations)
    (part,) = [one for one in on_disk(operations) if one.call.startswith("rename") and one.target.startswith("/etc/")]
    return [part.number + 2]


def each(scene: Scene, once: bool, argv: Sequence[str]) -> Iterator[int]:
    """The points to cut at: one, or all of a stride, for as long as the caller asks."""
    return iter(after_the_part(scene, argv) if once else range(1, 10000, STEP))


ONCE_AND_EACH = pytest.mark.parametrize("once", [True, pytest.param(False, marks=pytest.mark.deep)], ids=["once", "each"])


@ONCE_AND_EACH
def test_an_unconfirmed_push_without_power_is_taken_back_by_the_boot(scene: Scene, once: bool) -> None:
    remember(scene)
    for number in each(scene, once, (*PUSH, "600")):
        report, what = cut(scene, number, (*PUSH, "600"))
        assert (has(scene), is_pushed(scene), timers(scene.guest)) == (scene.old_address, False, []), what
        assert scene.parts() == scene.before, what
        assert scene.guest.run("cloudinit-osnetd confirm", check=False).returncode in (8, 9), what
        if not report.struck:
            break
    assert once or number > 3 * STEP
    assert_nothing_to_do(scene.guest)


@pytest.mark.deep
def test_a_push_without_power_is_in_force_or_was_none(scene: Scene) -> None:
    remember(scene)
    seen = []
    for number in each(scene, False, APPLY):
        report, what = cut(scene, number, APPLY)
        seen.append(has(scene))
        assert_nothing_to_do(scene.guest)
        if not report.struck:
            break
        if seen[-1] == NEW:
            scene.guest.run("cloudinit-osnetd apply --forget")
        assert scene.parts() == scene.before, what
    assert seen == sorted(seen, key=[scene.old_address, NEW].index) and set(seen) == {scene.old_address, NEW}, seen


@ONCE_AND_EACH
def test_a_confirmation_without_power_has_come_or_has_not(scene: Scene, once: bool) -> None:
    remember(scene)
    seen = []
    step = 1 if EVERY == 1 else 3
    for number in [4] if once else range(1, 1000, step):
        scene.guest.run(" ".join((*PUSH, "600")))
        report, what = cut(scene, number, CONFIRM)
        seen.append(has(scene))
        assert scene.guest.run("cloudinit-osnetd confirm", check=False).returncode == (8 if seen[-1] == NEW else 9), what
        assert not is_pushed(scene) and timers(scene.guest) == [], what
        if not report.struck:
            break
        if seen[-1] == NEW:
            scene.guest.run("cloudinit-osnetd apply --forget")
        assert scene.parts() == scene.before, what
    assert once or (seen == sorted(seen, key=[scene.old_address, NEW].index) and set(seen) == {scene.old_address, NEW}), seen
    assert_nothing_to_do(scene.guest)


@pytest.mark.deep
def test_taking_back_without_power_is_completed_by_the_boot(scene: Scene) -> None:
    remember(scene)
    number = 1
    while True:
        scene.guest.run("systemctl stop cloudinit-osnetd.path")
        scene.guest.run(" ".join((*PUSH, "0.5")))
        wait_until(lambda: any(".timer" in name for name in queued(scene)), 5, "the event of its timer")
        report, what = cut(scene, number, SERVE)
        assert (has(scene), is_pushed(scene), timers(scene.guest)) == (scene.old_address, False, []), what
        assert scene.parts() == scene.before, what
        if not report.struck:
            break
        number += STEP
    assert number > 3 * STEP
    assert_nothing_to_do(scene.guest)


@pytest.mark.deep
def test_a_boot_that_is_killed_while_it_takes_a_push_back(scene: Scene) -> None:
    """What the early unit has not done the first run does."""
    guest = scene.guest
    remember(scene)
    shutil.copy(STRIKE, guest.root / "root/strike.py")
    drop_in = guest.root / "etc/systemd/system/cloudinit-osnetd-early.service.d/struck.conf"
    drop_in.parent.mkdir()
    number, result = 1, "signal"
    while result == "signal":
        guest.run(" ".join((*PUSH, "600")))
        struck = f"/usr/bin/python3 /root/strike.py --begin={PROGRAM} --whose=own --how=unit --at={number} -- {PROGRAM} boot"
        drop_in.write_text(f"[Service]\nExecStart=\nExecStart={struck}\n")
        guest.poweroff(hard=True)
        guest.boot()
        settled(guest)
        result = guest.run("systemctl show --value -p Result cloudinit-osnetd-early.service").stdout.strip()
        assert (has(scene), is_pushed(scene), scene.leftovers()) == (scene.old_address, False, []), number
        assert scene.parts() == scene.before, number
        number += STEP
    assert result == "success" and number > 3 * STEP
    assert_nothing_to_do(guest)
