# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The thin thread: a server boots from its drive, ports come, change and go, and every reboot is right."""

from __future__ import annotations

import pytest

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    NO_WIRED_CONNECTION,
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    configured_names,
    log_of,
    reconcile,
    settled,
    state_of,
    status,
)

pytestmark = pytest.mark.every_kind


@pytest.mark.quick
def test_a_server_follows_its_ports(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2", "10.91.4.3"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")])
    amber = cloud.network("amber", cidr="10.93.0.0/26", dns=["10.93.0.2"], mtu=1300, routes=[("10.210.0.0/16", "10.93.0.9")])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("web")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)

    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    # Parts are finished with what cloud-init's renderers cannot say, before the network starts on them.
    assert status(guest)["boot"]["early"]["drifted"] == []
    assert_nothing_to_do(guest)
    kept = configuration(guest, first)

    # A static port is attached.
    static = server.create_port(amber)
    name = guest.plug(static)
    assert_follows(guest, static)
    settled(guest)
    assert f"reason=added nic={name}" in log_of(guest), "not by the udev rule's event"
    assert configuration(guest, first) == kept
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, static)
    assert_nothing_to_do(guest)

    # A DHCP port is attached.
    dynamic = server.create_port(leased)
    guest.plug(dynamic)
    assert_follows(guest, dynamic)
    settled(guest)
    assert (dynamic.mac, dynamic.fixed_ips[0]) in cloud.leases(leased)
    assert configuration(guest, first) == kept
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, static, dynamic)

    # A port is edited: no event in the guest, the operator asks.
    server.edit_port(static, fixed_ips=["10.93.0.44"], mtu=1290, routes=[("10.211.0.0/16", "10.93.0.8")], dns=["10.93.0.3"])
    record = reconcile(guest)
    assert {touch["mac"] for touch in record["touches"]} == {static.mac}
    assert_follows(guest, static)
    assert configuration(guest, first) == kept
    assert_nothing_to_do(guest)

    # A port is detached while the metadata still lists it.
    name = str(guest.nic(static))
    guest.unplug(static)
    assert_gone(guest, name)
    settled(guest)
    assert state_of(guest, static) == "absent"
    assert_follows(guest, first, second, dynamic)
    assert configuration(guest, first) == kept
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, dynamic)
    assert len(configured_names(guest)) == 3

    # A port that the drive lists is detached, and the drive will list it for ever.
    name = str(guest.nic(second))
    server.delete_port(second)
    guest.unplug(second)
    assert_gone(guest, name)
    settled(guest)
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, dynamic)
    assert len(configured_names(guest)) == 2
    assert configuration(guest, first) == kept
    assert_nothing_to_do(guest)


@pytest.mark.parametrize("trusted_cache", [True, False], ids=["trusted", "distrusted"])
def test_a_nic_that_the_drive_lists_is_gone_at_the_next_boot(
    cloud: Cloud, guest_factory: GuestFactory, trusted_cache: bool
) -> None:
    """Swapped while powered off: nobody saw an event, and the drive is wrong about both."""
    blue = cloud.network("blue", cidr="172.20.0.0/16", gateway="172.20.0.1", dns=["172.20.0.53"], mtu=9000)
    green = cloud.network("green", cidr="192.168.7.0/25", mtu=None)
    server = cloud.server("swap")
    first, listed = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server, trusted_cache=trusted_cache, files=NO_WIRED_CONNECTION)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, listed)

    guest.poweroff()
    guest.unplug(listed)
    server.delete_port(listed)
    new = server.create_port(green)
    guest.plug(new)
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, new)
    assert status(guest)["boot"]["early"]["changes"] == 1, "the listed NIC's part was not removed early"
    assert_nothing_to_do(guest)
