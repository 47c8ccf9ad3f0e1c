# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A run that is told to stop while the backend is at work: the NIC is finished, and nothing is left for another run."""

from __future__ import annotations

import pytest

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import assert_follows, assert_nothing_to_do, log_of, reconcile, settled, wait_until
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
