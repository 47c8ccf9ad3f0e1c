# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server without a config drive: cloud-init asks the metadata service itself, by a DHCP lease before the network is up."""

from __future__ import annotations

import pytest

from tests.lab import Cloud
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import identity
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    settled,
    state_of,
    status,
)


@pytest.mark.parametrize("trusted_cache", [True, False], ids=["trusted", "distrusted"])
def test_a_server_without_a_drive_follows_its_ports(
    cloud: Cloud, guest_factory: GuestFactory, trusted_cache: bool
) -> None:
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400)
    server = cloud.server("web")
    first = server.create_port(leased)
    guest = guest_factory(server, datasource="OpenStack", trusted_cache=trusted_cache)
    guest.boot()
    assert_boot(guest, level="metadata")
    assert status(guest)["datasource"] == "OpenStack"
    assert_follows(guest, first)
    assert_nothing_to_do(guest)
    who = identity(guest)

    second = server.create_port(green)
    guest.plug(second)
    assert_follows(guest, second)
    settled(guest)
    assert_nothing_to_do(guest)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert identity(guest) == who
    kept = configuration(guest, first)

    # The metadata service goes on listing what is gone.
    name = str(guest.nic(second))
    guest.unplug(second)
    assert_gone(guest, name)
    settled(guest)
    assert state_of(guest, second) == "absent"
    assert configuration(guest, first) == kept
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first)
    assert identity(guest) == who


def test_the_metadata_service_is_down_at_a_reboot(cloud: Cloud, guest_factory: GuestFactory) -> None:
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400)
    server = cloud.server("web")
    first = server.create_port(leased)
    guest = guest_factory(server, datasource="OpenStack", trusted_cache=True)
    guest.boot()
    second = server.create_port(green)
    guest.plug(second)
    assert_follows(guest, first, second)
    settled(guest)
    who = identity(guest)

    cloud.metadata_down()
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert identity(guest) == who

    # With the update at each boot that a user may ask for, too.
    (guest.root / "etc/cloud/cloud.cfg.d/97_updates.cfg").write_text(
        "updates: {network: {when: [boot-new-instance, boot]}}\n"
    )
    guest.reboot(timeout=240)
    asked_in_vain = [line for line in package.warnings_since(guest) if "network_data not read again" in line]
    assert asked_in_vain or guest.suite == "bullseye"  # 20.4 has no such setting
    assert_follows(guest, first, second)
    assert identity(guest) == who
    cloud.metadata_up()
    guest.reboot()
    assert_follows(guest, first, second)
    assert identity(guest) == who
