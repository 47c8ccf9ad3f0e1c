# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply --confirm-within` and `confirm`, killed at whatever operation: confirmed or taken back, and nothing between."""

from __future__ import annotations

import json
import os
import time
from typing import Iterator, List

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.killing import PROGRAM, QUEUE_EVENT, RUN, SERVE, SETTINGS, Parts, Scene
from tests.scenarios.seen import assert_follows, assert_nothing_to_do, settled, store_of, timers, wait_until

pytestmark = pytest.mark.long
EVERY = int(os.environ.get("OSNETD_STRIDE", "5"))
STEP = 1 if EVERY == 1 else 2 * EVERY + 3  # no divisor of what a run does again and again
PUSH = (PROGRAM, "apply", "--file", "/root/pushed.json", "--confirm-within")


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
    text = json.dumps(document).replace(f'"{old}"', '"10.91.7.7"')
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
        assert now.of[name] == before.of[name] or "10.91.7.7" in now.of[name], what
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
        report = scene.run(number, "before", argv=(PROGRAM, "confirm"))
        assert "10.91.7.7" in scene.parts().of[str(scene.guest.nic(scene.edited))]
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
