# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`rollback [RUN]`: the NICs back as they were before a run."""

from __future__ import annotations

import json
from typing import Any, Dict, Tuple

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    configured_names,
    file_of,
    ip,
    reason_of,
    reconcile,
    settled,
    state_of,
    timers,
    wait_until,
)
from tests.scenarios.serving import serving
from tests.scenarios.test_push import a_nocloud_server, a_server, push


def rollback(guest: Container, run: str = "") -> Tuple[int, Dict[str, Any]]:
    """The exit status of `rollback --json`, and what it says."""
    done = guest.run(f"cloudinit-osnetd rollback --json {run}", check=False, timeout=120)
    return done.returncode, json.loads(done.stdout)


def test_back_as_before_a_run_until_a_source_says_something_new(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server, before, old = guest.server, configuration(guest, second), second.fixed_ips
    assert rollback(guest)[0] == 8
    server.freeze_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.77"], mtu=1380)
    pushed = server.network_data()
    code, said = push(guest, pushed)
    assert code == 0, said
    assert rollback(guest, "99")[0] == 2
    cloud.metadata_down("drop")
    with serving(guest, touches=[second], starts_of_service=0, nothing_to_do=False, by_hand="rollback"):
        code, back = rollback(guest)
    assert code == 0 and [touch["mac"] for touch in back["touches"]] == [second.mac], back
    assert back["run"] == said["run"] + 1
    cloud.metadata_up()
    server.edit_port(second, fixed_ips=old, mtu=1400)
    assert_follows(guest, first, second, seconds=2)
    assert configuration(guest, second) == before
    assert (state_of(guest, second), f"as before run {said['run']}" in reason_of(guest, second)) == ("ok", True)
    assert_nothing_to_do(guest)  # the sources repeat what they said
    assert reconcile(guest, "--force")["touches"] == []
    assert timers(guest) == []
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)

    assert push(guest, pushed)[0] == 0  # once more: it is meant
    server.edit_port(second, fixed_ips=["10.91.0.77"], mtu=1380)
    assert_follows(guest, first, second)
    assert reason_of(guest, second) == ""
    assert rollback(guest, str(said["run"]))[0] == 0  # and what came after it
    assert configuration(guest, second) == before
    assert rollback(guest)[0] == 0  # the rollback itself
    assert_follows(guest, first, second)
    assert rollback(guest, str(said["run"]))[0] == 0
    server.thaw_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.79"])
    reconcile(guest)
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_a_new_nic_is_taken_out_again(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    third = guest.server.create_port(second.network)
    guest.plug(third)
    assert_follows(guest, first, second, third)
    settled(guest)
    name = str(guest.nic(third))
    code, said = rollback(guest)
    assert code == 0 and {touch["mac"] for touch in said["touches"]} == {third.mac}, said
    assert name not in configured_names(guest)
    wait_until(lambda: not any(a["family"] == "inet" for a in ip(guest, f"addr show dev {name}")[0]["addr_info"]), 5, "no address")
    assert "as before run" in reason_of(guest, third)
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_an_edit_that_was_overwritten_by_force_is_put_back(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    (old,) = second.fixed_ips
    file = file_of(guest, second)
    guest.run(f"sed -i 's/{old}/10.91.0.99/; s/10.91.0.2\\b/10.91.0.3/' {file}")
    edited = configuration(guest, second)
    assert "10.91.0.99" in edited and reconcile(guest)["touches"] == []
    assert state_of(guest, second) == "drifted"

    forced = reconcile(guest, "--force")
    assert [touch["mac"] for touch in forced["touches"]] == [second.mac]
    assert_follows(guest, first, second)
    shown = guest.run("cloudinit-osnetd show").stdout.splitlines()
    assert [line for line in shown if line.startswith("-") and "10.91.0.99" in line], shown
    code, said = rollback(guest)
    assert code == 0 and {touch["mac"] for touch in said["touches"]} == {second.mac}, said
    assert configuration(guest, second) == edited
    has = [a["local"] for a in ip(guest, f"-4 addr show dev {guest.nic(second)}")[0]["addr_info"]]
    assert has == ["10.91.0.99"], has
    assert f"as before run {forced['run']}" in reason_of(guest, second)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)
    guest.reboot()
    assert_boot(guest, level="store")
    assert configuration(guest, second) == edited

    code, said = rollback(guest)  # of the rollback
    assert code == 0 and {touch["mac"] for touch in said["touches"]} == {second.mac}, said
    assert_follows(guest, first, second)
    assert (state_of(guest, second), reason_of(guest, second)) == ("ok", "")
    assert_nothing_to_do(guest)
    assert rollback(guest)[0] == 0  # and of that one
    assert configuration(guest, second) == edited and f"as before run {said['run']}" in reason_of(guest, second)

    # Edited once more since: that is nobody's to overwrite.
    guest.run(f"sed -i 's/10.91.0.3/10.91.0.4/' {file}")
    assert rollback(guest)[0] == 0
    assert state_of(guest, second) == "drifted" and "10.91.0.4" in configuration(guest, second)
    reconcile(guest, "--force")
    assert_follows(guest, first, second)


def test_what_other_software_had_written_is_put_back(cloud: Cloud, guest_factory: GuestFactory) -> None:
    port, guest = a_nocloud_server(cloud, guest_factory)
    server = guest.server
    before = configuration(guest, port)
    assert push(guest, server.network_data())[0] == 0
    assert_follows(guest, port)
    code, said = rollback(guest)
    assert code == 0, said
    assert configuration(guest, port) == before
    has = lambda: [a["local"] for a in ip(guest, "-4 addr show dev ens3")[0]["addr_info"]]  # noqa: E731
    wait_until(lambda: has() == ["10.91.0.200"], 10, "back")
    code, said = rollback(guest)  # of the rollback
    assert code == 0, said
    assert_follows(guest, port)
    assert rollback(guest)[0] == 0
    wait_until(lambda: has() == ["10.91.0.200"], 10, "back")
    assert configuration(guest, port) == before
    assert push(guest, server.network_data())[0] == 0
    assert_follows(guest, port)
