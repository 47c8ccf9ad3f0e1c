# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The only NIC of a server is replaced: nothing is left to ask through but the new one, which nobody has configured."""

from __future__ import annotations

import pytest

from tests.lab import VM, Port, Subnet
from tests.scenarios.place import Place
from tests.scenarios.seen import (
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    settled,
    state_of,
    status,
)
from tests.scenarios.serving import serving
from tests.scenarios.test_vm_thread import assert_names_kept, reboot

pytestmark = [pytest.mark.vm, pytest.mark.deep]

_SIX = Subnet("2001:db8:6::/64", "2001:db8:6::1", dns=("2001:db8:6::53",))


@pytest.mark.parametrize("how", ["static", "dhcp", "ipv6"])
def test_the_only_nic_is_replaced(place: Place, guest: VM, how: str) -> None:
    for port in (place.second, place.first):
        name = str(guest.nic(port))
        place.server.delete_port(port)
        guest.unplug(port)
        assert_gone(guest, name)
    settled(guest)
    assert configured_names(guest) == []

    new = _new(place, how)
    with serving(guest, touches=[new], events=["added"], settles_in=60):
        guest.plug(new)
        assert_follows(guest, new, seconds=30)
    assert status(guest)["metadata_via"] == new.mac
    assert state_of(guest, new) == "ok"

    names = {new: str(guest.nic(new))}
    reboot(guest)
    assert_follows(guest, new, seconds=25)
    assert_names_kept(guest, names)
    assert configured_names(guest) == list(names.values())
    assert_nothing_to_do(guest)


def _new(place: Place, how: str) -> Port:
    if how == "static":  # behind a router: its network is another than the old one's
        return place.server.create_port(place.amber)
    if how == "dhcp":
        return place.server.create_port(place.second.network)
    return place.server.create_port(place.cloud.network("six", mtu=1400, subnets=[_SIX]), fixed_ips=["2001:db8:6::77"])
