# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An IPv6 address that another host has, and has no more: it is probed for anew, by force and by a timer."""

from __future__ import annotations

import contextlib
from typing import Iterator

import pytest

from tests.lab import Cloud, Network, netns
from tests.lab.ports import Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.place import a_server_with_one_nic
from tests.scenarios.seen import (
    assert_follows,
    assert_nothing_to_do,
    log_of,
    reason_of,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    timers,
    wait_until,
)

_OWN = "2001:db8:1::77"
_DUAL = [
    Subnet("10.91.0.0/24", dns=("10.91.0.2",)),
    Subnet("2001:db8:1::/64", "2001:db8:1::1", dns=("2001:db8:1::53",)),
]


@contextlib.contextmanager
def another_host(cloud: Cloud, network: Network) -> Iterator[None]:
    """The network's own bridge has the port's address, and answers for it."""
    netns.ip(cloud.namespace, f"addr add {_OWN}/128 dev {network.bridge} nodad")
    try:
        yield
    finally:
        netns.ip(cloud.namespace, f"addr del {_OWN}/128 dev {network.bridge}")


@pytest.mark.parametrize("way", ["force", "timer"])
def test_a_duplicate_address_is_taken_anew(cloud: Cloud, guest_factory: GuestFactory, way: str) -> None:
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    green = cloud.network("green", mtu=1400, subnets=_DUAL)
    port = guest.server.create_port(green, fixed_ips=["10.91.0.77", _OWN])
    with another_host(cloud, green):
        name = guest.plug(port)
        settled(guest, 60, fails=True)
        assert state_of(guest, port) == "failed" and f"another host has {_OWN}/64" in reason_of(guest, port)
        # On an emulated machine it may have fired by now; then it is set again.
        wait_until(lambda: timers(guest) == ["cloudinit-osnetd-look.timer"], 15 * guest.patience, "it is looked at again")
        # While it is there nothing else is taken down for it.
        since = guest.run(f"cat /sys/class/net/{name}/carrier_down_count").stdout
        guest.run("/usr/lib/cloudinit-osnetd/queue-event timer")
        wait_until(lambda: "unique=False" in log_of(guest), 15 * guest.patience, "it was probed for")
        settled(guest, 30, fails=True)
        assert guest.run(f"cat /sys/class/net/{name}/carrier_down_count").stdout == since
        assert "10.91.0.77" in guest.run(f"ip address show dev {name}").stdout
        # Nobody asked for another try.
        assert reconcile_anyway(guest)["commands"] == []
    if way == "force":
        reconcile(guest, "--force")
    else:
        guest.run("systemctl start cloudinit-osnetd-look.service")  # as the timer does
        settled(guest, 30)
        assert "unique=True" in log_of(guest)
    assert_follows(guest, first, port)
    assert state_of(guest, port) == "ok"
    assert timers(guest) == []
    assert_nothing_to_do(guest)
