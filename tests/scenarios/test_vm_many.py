# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""As many NICs as Nova gives a server on q35: 28."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.lab import VM, Cloud
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    settled,
    starts,
)
from tests.scenarios.stream import Stream
from tests.scenarios.test_vm_thread import assert_names_kept, reboot

pytestmark = [pytest.mark.vm, pytest.mark.deep]

NICS = 28


def test_as_many_nics_as_the_machine_takes(cloud: Cloud, vm_factory: Callable[..., VM]) -> None:
    networks = [
        cloud.network(f"net{n}", cidr=f"10.9{n}.0.0/24", gateway=f"10.9{n}.0.1", dns=[f"10.9{n}.0.2"], mtu=1400 + n) for n in range(3)
    ]
    leased = cloud.network("leased", cidr="10.93.0.0/24", dhcp=True, dns=["10.93.0.2"], mtu=1450)
    server = cloud.server("many")
    first = server.create_port(networks[0])
    guest = vm_factory(server, suite="trixie", backend="netplan", slots=NICS)
    guest.boot()
    assert_boot(guest, level="drive")
    before, stream = starts(guest), Stream(guest, first)

    others = [server.create_port([*networks, leased][n % 4]) for n in range(NICS - 1)]
    guest.plug_all(others)
    assert_follows(guest, *others, seconds=60)
    settled(guest, 60)
    # QEMU plugs one after the other, and the emulated guest's kernel takes seconds for all: runs, but not one for each.
    assert starts(guest) - before <= 4
    names = {port: str(guest.nic(port)) for port in guest.plugged}
    assert stream.lost() == ""
    assert configured_names(guest) == sorted(names.values())
    assert_nothing_to_do(guest)

    # Every second one goes while the guest runs, half of them still listed.
    stream = Stream(guest, first)
    gone = others[::2]
    for number, port in enumerate(gone):
        if number % 2:
            server.delete_port(port)
        guest.unplug(port)
    for port in gone:
        assert_gone(guest, names.pop(port), seconds=20)
    settled(guest, 60)
    assert stream.lost() == ""

    reboot(guest)
    assert_names_kept(guest, names)
    assert configured_names(guest) == sorted(names.values())
    assert_follows(guest, first, *others[1::2], seconds=30)
    assert_nothing_to_do(guest)
