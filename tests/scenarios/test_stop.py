# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A run that is told to stop while the backend is at work: the NIC is finished, and nothing is left for another run."""

from __future__ import annotations

import pytest

from tests.lab import Cloud, Container, Port
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_follows,
    assert_nothing_to_do,
    log_of,
    reconcile,
    settled,
    state_of,
    status,
    timers,
    wait_until,
)
from tests.scenarios.slow import quicken, slow_down, wait_until_at_work

INTENT = "/var/lib/cloudinit-osnetd/intent.json"


def attached_slowly(cloud: Cloud, guest: Container) -> Port:
    slow_down(guest)
    port = guest.server.create_port(cloud.networks[1])
    guest.plug(port)
    return port


def server_of(cloud: Cloud, guest_factory: GuestFactory) -> Container:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    server = cloud.server("stopped")
    server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    return guest


def assert_whole(guest: Container, *ports: Port) -> None:
    assert_follows(guest, *ports, seconds=2)
    assert guest.run(f"test -e {INTENT}", check=False).returncode == 1, "an intent is left"
    quicken(guest)
    guest.run("systemctl start cloudinit-osnetd.path")
    reconcile(guest)  # whether all that was reachable still is: that had not been judged
    assert_nothing_to_do(guest)


def test_the_service_is_stopped(cloud: Cloud, guest_factory: GuestFactory) -> None:
    guest = server_of(cloud, guest_factory)
    late = attached_slowly(cloud, guest)
    wait_until_at_work(guest)
    guest.run("systemctl stop cloudinit-osnetd.path cloudinit-osnetd.service")
    assert guest.run("systemctl show -p Result --value cloudinit-osnetd.service").stdout == "success\n"
    assert "Killing process" not in log_of(guest)
    assert_whole(guest, guest.plugged[0], late)


def test_status_while_a_nic_is_being_brought_up(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The files are written by then, the ledger is not: nobody else has changed anything."""
    guest = server_of(cloud, guest_factory)
    (first,) = guest.plugged
    slow_down(guest)
    late = guest.server.create_port(cloud.networks[1])
    guest.server.edit_port(first, fixed_ips=["10.90.0.99"])
    guest.plug(late)
    wait_until_at_work(guest)
    told = {row["mac"]: row for row in status(guest)["nics"]}
    assert [told[port.mac]["state"] for port in (first, late)] == ["pending", "pending"], told
    assert told[first.mac]["reason"].startswith("a run is bringing it up: the kernel lacks 10.90.0.99/24")
    assert_follows(guest, first, late, seconds=20)
    settled(guest)
    quicken(guest)
    assert [state_of(guest, port) for port in (first, late)] == ["ok", "ok"]


@pytest.mark.parametrize("while_it", ["waits", "asks"])
def test_a_run_that_is_stopped_while_a_nic_is_pending_leaves_a_timer(
    cloud: Cloud, guest_factory: GuestFactory, while_it: str
) -> None:
    guest = server_of(cloud, guest_factory)
    if while_it == "waits":
        guest.server.freeze_metadata()
    else:
        cloud.metadata_down("drop")
    late = guest.server.create_port(cloud.networks[1])
    name = guest.plug(late)
    wait_until(lambda: f"event: reason=added nic={name}" in log_of(guest), 15, "the run")
    if while_it == "waits":
        wait_until(lambda: state_of(guest, late) == "pending" and status(guest)["last_run"]["pending"], 15, "the wait")
    assert guest.run("systemctl is-active cloudinit-osnetd.service", check=False).stdout == "active\n"
    guest.run("systemctl stop cloudinit-osnetd.service")
    assert timers(guest) == ["cloudinit-osnetd-look.timer"]
    assert guest.run("systemctl show -p Result --value cloudinit-osnetd.service").stdout == "success\n"

    if while_it == "waits":
        guest.server.thaw_metadata()
    else:
        cloud.metadata_up()
    log = len(log_of(guest))
    assert_follows(guest, late, seconds=25)
    assert "event: reason=timer" in log_of(guest)[log:] and "reason=added" not in log_of(guest)[log:]
    settled(guest)
    assert timers(guest) == []
    assert_nothing_to_do(guest)


def test_and_none_where_nothing_is_left_to_do(cloud: Cloud, guest_factory: GuestFactory) -> None:
    guest = server_of(cloud, guest_factory)
    guest.run("systemctl stop cloudinit-osnetd.service")
    assert timers(guest) == []


def test_a_package_that_is_removed_while_a_nic_is_pending_leaves_none(cloud: Cloud, guest_factory: GuestFactory) -> None:
    guest = server_of(cloud, guest_factory)
    guest.server.freeze_metadata()
    guest.plug(guest.server.create_port(cloud.networks[1]))
    wait_until(lambda: (status(guest)["last_run"] or {}).get("pending"), 15, "the wait")
    package.remove(guest)
    assert timers(guest) == []
    assert guest.run("systemctl --failed --no-legend --plain").stdout == ""


@pytest.mark.parametrize("signal", ["INT", "HUP"])
def test_an_operators_terminal_is_closed(cloud: Cloud, guest_factory: GuestFactory, signal: str) -> None:
    """Both are for all that the terminal runs."""
    guest = server_of(cloud, guest_factory)
    guest.run("systemctl stop cloudinit-osnetd.path")
    late = attached_slowly(cloud, guest)
    # What a shell puts into the background would be deaf to INT.
    guest.run(
        f"setsid env --default-signal={signal} sh -c 'echo $$ > /run/group; exec cloudinit-osnetd reconcile' "
        "> /dev/null 2>&1 < /dev/null &"
    )
    wait_until_at_work(guest)
    guest.run(f"kill -{signal} -$(cat /run/group)")
    wait_until(lambda: not guest.run("pgrep -f '[/]cloudinit-osnetd reconcile'", check=False).stdout, 15, "the run's end")
    assert_whole(guest, guest.plugged[0], late)
