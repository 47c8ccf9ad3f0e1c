# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Sudden death: whatever kills a run, and whenever, each NIC is in the old or the new state, and the next run finishes."""

from __future__ import annotations

import time
from typing import Iterator

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.killing import SETTINGS, Scene
from tests.scenarios.seen import assert_follows, assert_nothing_to_do, settled
from tests.scenarios.strike import Operation


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


def each(scene: Scene, how: str, whose: str = "own", step: int = 1, error: str = "ENOSPC") -> Iterator[Operation]:
    """Runs, each on a new change, struck at the first operation, the second, ...: until one comes through unstruck."""
    number, began = 1, time.monotonic()
    while True:
        scene.change()
        report = scene.run(number, how, error, whose)
        scene.assert_whole()
        if not report.struck:
            scene.assert_converged()
            count = len(range(1, number, step))
            print(f"\n{scene.guest.suite}: {how} at {count} of {number - 1} operations ({whose}), {time.monotonic() - began:.0f} s")
            return
        yield report.operations[number - 1]
        number += step


def test_killed_before_each_operation(scene: Scene) -> None:
    """And after each, but for the last: between two there is nothing that it could change."""
    seen = []
    for operation in each(scene, "before"):
        scene.next_run()
        scene.assert_converged(operation)
        seen.append(operation)
    assert {"rename", "unlink", "fsync", "execve", "write", "openat"} <= {operation.call for operation in seen}
    assert len(seen) > 100
    last = len(seen)
    scene.change()
    assert scene.run(last, "after").struck
    scene.assert_whole()
    scene.next_run()
    scene.assert_converged()
    assert_follows(scene.guest, *scene.guest.plugged)
    assert_nothing_to_do(scene.guest)
