# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What was committed and not yet judged, when the run was killed or the power went, is judged by the next run."""

from __future__ import annotations

import json
import time
from typing import Callable, List, Tuple

import pytest

from tests.lab import Cloud, Container, Port, Server
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    log_of,
    proved_unique,
    reason_of,
    reconcile,
    settled,
    starts,
    state_of,
    wait_until,
)
from tests.scenarios.serving import history
from tests.scenarios.stream import Stream
from tests.scenarios.test_rollback import two_subnets

Scene = Tuple[Server, Container, Port, Port, Port]


@pytest.fixture
def on_trial(cloud: Cloud, guest_factory: GuestFactory) -> Callable[[], Scene]:
    """The server, its guest and ports: one by an edit of which it was cut off 5 s ago, one untouched, one attached meanwhile."""

    def begin() -> Scene:
        blue = two_subnets(cloud)
        green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
        server = cloud.server("trial")
        first, second = server.create_port(blue, fixed_ips=["10.90.0.5"]), server.create_port(green)
        guest = guest_factory(server)
        guest.boot()
        assert_boot(guest, level="drive")
        assert_follows(guest, first, second)
        server.edit_port(first, fixed_ips=["10.99.0.5"])
        sibling = server.create_port(green)
        guest.plug(sibling)
        wait_until(lambda: "10.99.0.5" in configuration(guest, first), 10, "committed")
        assert_follows(guest, sibling, seconds=5)
        assert state_of(guest, first) in ("ok", "failed") and reason_of(guest, first).startswith("not confirmed yet")
        time.sleep(5)
        assert guest.run("ping -c 1 -W 1 10.90.0.1", check=False).returncode != 0
        assert noted(guest)
        return server, guest, first, second, sibling

    return begin


def noted(guest: Container) -> str:
    """The note of what is on trial."""
    return str(json.loads(guest.run("cat /var/lib/cloudinit-osnetd/store.json").stdout)["on_trial"])


def assert_taken_back(guest: Container, first: Port, others: List[Port], kept: str, reason: str) -> None:
    """By one run, for this reason: the first NIC and no other; and it is reachable."""
    record = history(guest)[-1]
    assert [(t["action"], t["mac"], t["reason"]) for t in record["touches"]] == [("reconfigure", first.mac, "rolled back")]
    assert reason in record["reasons"]
    assert set(record["problems"]) == {first.mac} and "the gateway for 0.0.0.0/0" in record["problems"][first.mac]
    assert configuration(guest, first) == kept
    assert guest.run("ping -c 1 -W 2 10.90.0.1", check=False).returncode == 0
    assert_follows(guest, *others)
    assert noted(guest) == "" and "rejected until" in reason_of(guest, first)
    assert "confirming the change of an interrupted run" in log_of(guest)


def assert_taken_anew(server: Server, guest: Container, first: Port, others: List[Port]) -> None:
    """What the cloud says next is followed as ever."""
    proved_unique(guest)
    server.edit_port(first, fixed_ips=["10.90.0.6"])
    record = reconcile(guest)
    assert {t["mac"] for t in record["touches"]} == {first.mac} and record["seconds"] < 5
    assert_follows(guest, first, *others)
    assert_nothing_to_do(guest)


def test_killed_before_it_is_judged_the_service_starts_again_and_goes_back(on_trial: Callable[[], Scene]) -> None:
    server, guest, first, second, sibling = on_trial()
    before = starts(guest)
    streams = [Stream(guest, second), Stream(guest, sibling)]
    try:
        guest.run("systemctl kill -s KILL cloudinit-osnetd.service")
        wait_until(lambda: noted(guest) == "", 60, "judged")
        settled(guest, 15, fails=True)
    finally:
        lost = [stream.lost() for stream in streams]
    assert lost == ["", ""]
    assert starts(guest) == before + 1
    kept = configuration(guest, first)
    assert "10.90.0.5" in kept and "10.99.0.5" not in kept
    assert_taken_back(guest, first, [second, sibling], kept, "added")
    assert_taken_anew(server, guest, first, [second, sibling])


def test_without_power_before_it_is_judged_the_boots_run_goes_back(on_trial: Callable[[], Scene]) -> None:
    server, guest, first, second, sibling = on_trial()
    guest.poweroff(hard=True)
    guest.boot()
    # Offline nothing can be judged: the boot is on what was committed.
    assert "10.99.0.5" in configuration(guest, first) and noted(guest)
    assert reason_of(guest, first).startswith("not confirmed yet")
    assert_follows(guest, second, sibling)
    wait_until(lambda: noted(guest) == "", 75, "judged")
    settled(guest, 15, fails=True)
    kept = configuration(guest, first)
    assert "10.90.0.5" in kept and "10.99.0.5" not in kept
    assert_taken_back(guest, first, [second, sibling], kept, "boot")
    assert starts(guest) == 1
    # And the next boot is on the old part at once.
    guest.reboot()
    settled(guest, fails=True)
    assert configuration(guest, first) == kept
    assert guest.run("ping -c 1 -W 2 10.90.0.1", check=False).returncode == 0
    assert_taken_anew(server, guest, first, [second, sibling])


def test_an_edit_that_was_to_blame_for_nothing_stays(cloud: Cloud, on_trial: Callable[[], Scene]) -> None:
    """The router answers by the time of the next run."""
    _server, guest, first, second, sibling = on_trial()
    guest.run("systemctl kill -s KILL cloudinit-osnetd.service")
    cloud.router_up(first.network, "10.99.0.0/24")
    wait_until(lambda: noted(guest) == "", 30, "judged")
    settled(guest, 15)
    assert "rolled back" not in log_of(guest)
    assert_follows(guest, first, second, sibling)
    assert state_of(guest, first) == "ok" and reason_of(guest, first) == ""
    assert_nothing_to_do(guest)
