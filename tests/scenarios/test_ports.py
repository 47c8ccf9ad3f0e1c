# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Ports come, change and go, in the orders that an operator's day brings."""

from __future__ import annotations

import time

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    reconcile,
    starts,
    state_of,
    status,
    wait_until,
)
from tests.scenarios.serving import serving

pytestmark = pytest.mark.every_kind


def test_boot_from_the_drive_then_attach_edit_and_detach(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2", "10.91.4.3"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")])
    server = cloud.server("day")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first)
    assert starts(guest) == 1
    last = status(guest)["last_run"]
    assert (set(last["reasons"]), last["touches"], last["faults"]) == ({"boot", "added"}, [], [])
    assert_nothing_to_do(guest)

    port = server.create_port(green)
    with serving(guest, touches=[port], events=["added"]):
        name = guest.plug(port)
        assert_follows(guest, port, seconds=5)
    assert name == guest.nic(port)

    edits = [
        dict(fixed_ips=["10.91.7.77"]),
        dict(mtu=1340),
        dict(routes=[("10.201.0.0/16", "10.91.4.8"), ("10.202.3.0/24", "10.91.5.1")]),
        dict(dns=["10.91.4.44"]),
        dict(routes=[]),
        dict(fixed_ips=["10.91.7.78"], mtu=1500, routes=[("10.200.0.0/16", "10.91.4.9")], dns=["10.91.4.45", "10.91.4.3"]),
    ]
    for edit in edits:
        server.edit_port(port, **edit)
        with serving(guest, touches=[port], starts_of_service=0):
            reconcile(guest)
            assert_follows(guest, port, seconds=1)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, port)
    assert_nothing_to_do(guest)

    server.delete_port(port)
    with serving(guest, touches=[port], events=["removed"]):
        guest.unplug(port)
        assert_gone(guest, name)
    assert state_of(guest, port) == "unknown"


def test_the_metadata_lags_behind_the_ports_and_a_lease_outlives_the_run(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420, lease_time="2m")
    server = cloud.server("lag")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    dynamic = server.create_port(leased)
    with serving(guest, touches=[dynamic], events=["added"]):
        guest.plug(dynamic)
        assert_follows(guest, dynamic)
    given = cloud.acknowledged(leased, dynamic)
    assert given >= 1
    if guest.backend == "ifupdown":
        inside = guest.run("systemd-cgls --no-pager -u cloudinit-osnetd.service", check=False).stdout
        assert "dhclient" not in inside

    # The metadata does not know of the port for twenty seconds more.
    server.freeze_metadata()
    late = server.create_port(green)
    with serving(guest, touches=[late], events=["added"], streams=[first, dynamic], settles_in=30):
        name = guest.plug(late)
        wait_until(lambda: state_of(guest, late) == "pending", 5, "the NIC is looked for")
        time.sleep(20)
        assert state_of(guest, late) == "pending"
        server.thaw_metadata()
        # Within one step of the back-off, which has come to fifteen seconds.
        assert_follows(guest, late, seconds=16)
    assert guest.run("systemctl list-timers --all --no-legend 'cloudinit-osnetd*'").stdout == ""

    # It lists the port for thirty seconds after the detach.
    server.freeze_metadata()
    server.delete_port(late)
    with serving(guest, touches=[late], events=["removed"], streams=[first, dynamic]):
        guest.unplug(late)
        assert_gone(guest, name)
    assert state_of(guest, late) == "absent"
    # Whatever looks again meanwhile changes nothing.
    time.sleep(30)
    assert_nothing_to_do(guest)
    server.thaw_metadata()
    reconcile(guest)
    assert state_of(guest, late) == "unknown"

    # The client that the run left behind has asked for its lease again by now.
    wait_until(lambda: cloud.acknowledged(leased, dynamic) > given, 75, "the lease renewed")
    assert_follows(guest, first, dynamic)
    assert_nothing_to_do(guest)
