# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What cannot be settled yet is looked for again, by a timer, and only for so long."""

from __future__ import annotations

import json
import time
from typing import Any, Dict

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_follows,
    assert_nothing_to_do,
    log_of,
    reason_of,
    reconcile,
    settled,
    state_of,
    timers,
    wait_until,
)

LOOK = "cloudinit-osnetd-look.timer"


def settings(**values: Any) -> Dict[str, str]:
    return {"etc/cloud/cloud.cfg.d/92_osnetd-test.cfg": json.dumps({"osnetd": values})}


def test_a_nic_that_nobody_names_for_longer_than_a_run_lives_is_configured_when_somebody_does(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("patient")
    first = server.create_port(blue)
    guest = guest_factory(server, files=settings(patience=2, back_off=2))
    guest.boot()
    assert_follows(guest, first)
    settled(guest)
    assert timers(guest) == []

    cloud.metadata_down()
    late = server.create_port(green)
    name = guest.plug(late)
    wait_until(lambda: timers(guest) == [LOOK], 30, "a timer left behind")
    assert f"reason=added nic={name}" in log_of(guest)
    assert state_of(guest, late) == "pending"
    assert "next check in" in reason_of(guest, late)
    wait_until(lambda: log_of(guest).count("reason=timer") >= 2, 30, "looks by the timer")

    cloud.metadata_up()
    back_off = 2
    assert_follows(guest, late, seconds=back_off + 5)
    settled(guest)
    assert timers(guest) == []
    assert "added" not in log_of(guest).split("reason=timer", 1)[1], "not by the timer's event"
    assert_nothing_to_do(guest)


def test_the_search_has_an_end_and_an_event_begins_it_anew(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("given-up")
    first = server.create_port(blue)
    guest = guest_factory(server, files=settings(patience=1, back_off=1, look_until=4))
    guest.boot()
    settled(guest)

    server.freeze_metadata()
    stranger = server.create_port(green)
    guest.plug(stranger)
    wait_until(lambda: timers(guest) == [LOOK], 30, "a timer left behind")
    wait_until(lambda: "only at events" in reason_of(guest, stranger), 40, "given up")
    settled(guest)
    assert timers(guest) == []
    assert state_of(guest, stranger) == "pending"
    looked = log_of(guest).count("reason=timer")
    time.sleep(3)
    assert log_of(guest).count("reason=timer") == looked

    server.thaw_metadata()
    guest.run("/usr/lib/cloudinit-osnetd/queue-event operator")
    assert_follows(guest, first, stranger)


def test_an_edit_seen_old_and_new_in_turn_is_applied_once(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Nova's API workers keep their answers for 15 s each, and a Nova that cannot ask Neutron answers with nothing."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    server = cloud.server("flicker")
    first, edited = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, edited)

    old = json.dumps(server.network_data()).encode()
    server.edit_port(edited, fixed_ips=["10.91.0.77"], mtu=1350)
    record = reconcile(guest)
    assert {touch["mac"] for touch in record["touches"]} == {edited.mac}
    assert_follows(guest, edited)

    def assert_idle() -> None:
        record = reconcile(guest)
        assert (record["changes"], record["touches"], record["commands"]) == ([], [], []), record

    until = time.monotonic() + 15
    while time.monotonic() < until:
        cloud.override("*network_data.json", body=old, times=1)
        assert_idle()
        assert state_of(guest, edited) == "doubted"
        assert timers(guest) == [LOOK]
        assert_idle()
        assert state_of(guest, edited) == "ok"
        time.sleep(0.5)
    assert timers(guest) == []
    cloud.override("*network_data.json", body=b"{}", times=4)
    for _ in range(4):
        assert_idle()
    cloud.override("*network_data.json", body=_renumbered(server.network_data()))
    assert_idle()
    assert_follows(guest, first, edited)
    settled(guest)
    history = [json.loads(line) for line in guest.run("cat /var/lib/cloudinit-osnetd/history.jsonl").stdout.splitlines()]
    assert sum(bool(record["touches"]) for record in history) == 1


def _renumbered(document: Dict[str, Any]) -> bytes:
    """The same links and networks in another order, under other ids."""
    text = json.dumps({**document, "links": document["links"][::-1], "networks": document["networks"][::-1]})
    for number, link in enumerate(document["links"]):
        text = text.replace(f'"{link["id"]}"', f'"interface{number}"')
    for number, network in enumerate(document["networks"]):
        text = text.replace(f'"{network["id"]}"', f'"other{number}"')
    return text.encode()
