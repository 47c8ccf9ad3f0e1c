# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Pushes that meet another push, a run at work, or a network that they cut off."""

from __future__ import annotations

import json

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    reason_of,
    settled,
    state_of,
    store_of,
    wait_until,
)
from tests.scenarios.serving import history
from tests.scenarios.test_push import a_server, encoded, push
from tests.scenarios.test_rollback import two_subnets


def test_two_pushes_at_once_end_as_one_after_the_other(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server = guest.server
    server.freeze_metadata()
    documents = {}
    for number, address in enumerate(("10.91.0.77", "10.91.0.78")):
        server.edit_port(second, fixed_ips=[address])
        documents[address] = server.network_data()
        guest.run(f"echo {encoded(documents[address])} >/root/push{number}")
    both = "for n in 0 1; do (cloudinit-osnetd apply --json --file /root/push$n >/root/said$n; echo $? >/root/ended$n) & done; wait"
    guest.run(both, timeout=120)
    assert guest.run("cat /root/ended0 /root/ended1").stdout.split() == ["0", "0"]
    runs = {json.loads(guest.run(f"cat /root/said{n}").stdout)["run"]: address for n, address in enumerate(documents)}
    assert len(runs) == 2 and [record["run"] for record in history(guest)[-2:]] == sorted(runs)
    server.edit_port(second, fixed_ips=[runs[max(runs)]])  # the later one stands
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_a_push_while_a_run_waits_for_another_nic(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server = guest.server
    server.freeze_metadata()
    third = server.create_port(second.network)
    guest.plug(third)
    wait_until(lambda: state_of(guest, third) == "pending", 10, "pending")
    server.edit_port(second, fixed_ips=["10.91.0.77"])
    code, said = push(guest, server.network_data())
    assert code == 0 and {touch["mac"] for touch in said["touches"]} == {second.mac, third.mac}, said
    assert said["seconds"] < 15, said
    assert_follows(guest, first, second, third, seconds=5)
    settled(guest, 30)  # the run that waited has nothing to wait for any more
    assert_nothing_to_do(guest)


@pytest.mark.deep
def test_a_push_that_cuts_the_guest_off_goes_back_by_itself(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """By what is not reachable any more; and then by its time: nothing of it is left to be tried again."""
    blue = two_subnets(cloud)
    server = cloud.server("cut")
    first = server.create_port(blue, fixed_ips=["10.90.0.5"])
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    settled(guest)
    before, truth = configuration(guest, first), store_of(guest)["truth"]["keys"]
    server.freeze_metadata()
    server.edit_port(first, fixed_ips=["10.99.0.5"])
    code, said = push(guest, server.network_data(), "--confirm-within 20")
    assert code == 4 and [touch["reason"] for touch in said["touches"]][-1] == "rolled back", said
    assert configuration(guest, first) == before
    assert guest.run("ping -c 1 -W 2 10.90.0.1", check=False).returncode == 0
    wait_until(lambda: "provisional" not in store_of(guest), 15, "taken back")
    settled(guest, 15)
    store = store_of(guest)
    assert store["truth"]["keys"] == truth and store["rejections"] == []
    assert configuration(guest, first) == before
    assert (state_of(guest, first), reason_of(guest, first)) == ("ok", "")
    assert guest.run("ping -c 1 -W 2 10.90.0.1", check=False).returncode == 0
