# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A push with a wrong gateway: the NIC goes back by itself, whether or not the push waits for a confirmation."""

from __future__ import annotations

import json
from typing import Any, Dict

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_follows,
    assert_nothing_to_do,
    configuration,
    reason_of,
    settled,
    state_of,
    status,
    store_of,
    timers,
    wait_until,
)
from tests.scenarios.serving import serving
from tests.scenarios.test_confirm import confirm
from tests.scenarios.test_push import a_server, push

RIGHT, WRONG = "10.90.0.1", "10.90.0.77"


def by_a_wrong_gateway(guest: Container, second: Port) -> Dict[str, Any]:
    """What the server's document says, but for the first NIC's gateway; and an edit of the second that is right."""
    guest.server.freeze_metadata()
    guest.server.edit_port(second, mtu=1380)
    document = json.loads(json.dumps(guest.server.network_data()).replace(f'"{RIGHT}"', f'"{WRONG}"'))
    assert WRONG in json.dumps(document)
    return dict(document)


def assert_rolled_back(guest: Container, code: int, said: Dict[str, Any], first: Port, kept: str) -> None:
    assert code == 4, said
    assert [t["mac"] for t in said["touches"] if t["reason"] == "rolled back"] == [first.mac], said
    assert set(said["problems"]) == {first.mac} and f"the gateway for 0.0.0.0/0 ({WRONG})" in said["problems"][first.mac], said
    assert configuration(guest, first) == kept
    assert guest.run(f"ping -c 1 -W 2 {RIGHT}", check=False).returncode == 0


def test_a_wrong_gateway_is_rolled_back_and_the_other_nic_stays(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    kept = configuration(guest, first)
    document = by_a_wrong_gateway(guest, second)
    with serving(guest, touches=[first, second], starts_of_service=0, streams=[second], nothing_to_do=False, by_hand="push"):
        code, said = push(guest, document)
        assert_rolled_back(guest, code, said, first, kept)
    assert_follows(guest, first, second)
    assert state_of(guest, first) == "failed" and "rejected until" in reason_of(guest, first)
    (step,) = [one for one in status(guest)["next"] if str(guest.nic(first)) in one]
    assert "push a corrected document" in step and "apply --forget" in step, step
    assert timers(guest) == ["cloudinit-osnetd-look.timer"]

    # The host sees its mistake.
    code, said = push(guest, guest.server.network_data())
    assert code == 0 and said["problems"] == {}, said
    assert_follows(guest, first, second)
    assert state_of(guest, first) == "ok" and timers(guest) == []
    assert_nothing_to_do(guest)


def test_an_unconfirmed_wrong_gateway_leaves_nothing_behind(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """It is rolled back at once, and the rest of the push when its time is over, which is before the end of that run."""
    first, second, guest = a_server(cloud, guest_factory)
    server, kept, before = guest.server, configuration(guest, first), store_of(guest)["truth"]["keys"]
    document = by_a_wrong_gateway(guest, second)
    code, said = push(guest, document, "--confirm-within 20")
    assert_rolled_back(guest, code, said, first, kept)
    wait_until(lambda: "provisional" not in store_of(guest), 15, "taken back")
    settled(guest)
    server.edit_port(second, mtu=1400)
    assert_follows(guest, first, second)
    assert configuration(guest, first) == kept and store_of(guest)["truth"]["keys"] == before
    assert (state_of(guest, first), reason_of(guest, first), timers(guest)) == ("ok", "", [])
    assert confirm(guest)[0] == 9
    assert_nothing_to_do(guest)

    # And one that is confirmed before the gateway is found wrong is rolled back all the same, and stays so.
    server.edit_port(second, mtu=1380)
    code, said = push(guest, document, "--confirm-within 600")
    assert_rolled_back(guest, code, said, first, kept)
    assert confirm(guest)[0] == 0
    assert state_of(guest, first) == "failed" and "rejected until" in reason_of(guest, first)
    assert_follows(guest, first, second)
    assert guest.run("cloudinit-osnetd apply --forget", check=False).returncode == 0
    server.edit_port(second, mtu=1400)
    assert_follows(guest, first, second)
    assert (state_of(guest, first), timers(guest)) == ("ok", [])
