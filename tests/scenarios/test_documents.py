# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Documents as other projects and clouds write them, at a first boot, over a reboot, and of NICs that come later."""

from __future__ import annotations

from typing import List

import pytest

from tests.lab import Cloud, Network, Port, foreign
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.documents import CASES, Case, segment, wrong
from tests.scenarios.seen import (
    Guest,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    log_of,
    settled,
    status,
    wait_until,
)

# A bond or a VLAN takes a module of the guest's own kernel.
pytestmark = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.on("vm", "netplan") if case.needs_modules else ()) for case in CASES], ids=lambda case: case.name
)


def assert_right(guest: Guest, case: Case, seconds: float = 15) -> None:
    last = ["not looked at"]

    def right() -> bool:
        last[:] = wrong(guest, case)
        return not last

    try:
        wait_until(right, seconds * guest.patience, case.name)
    except AssertionError:
        raise AssertionError(f"{case.file}: {last}") from None


def assert_told(guest: Guest, *macs: str) -> None:
    """Status has nothing against these NICs."""
    rows = [row for row in status(guest)["nics"] if not macs or row["mac"] in macs]
    assert {row["state"] for row in rows} == {"ok"}, rows


def add_to(guest: Guest, case: Case, network: Network) -> List[Port]:
    """Tell the document on the metadata service, beside the guest's one port of Nova's, and plug its NICs; their ports."""
    (first,) = guest.plugged
    ports = foreign.tell(guest.server, case.document, network)
    guest.plug_all(ports)
    assert_right(guest, case)
    settled(guest)
    assert "reason=added" in log_of(guest)
    assert {row["source"] for row in status(guest)["nics"] if row["mac"] != first.mac} == {"metadata"}
    assert_follows(guest, first)
    assert_told(guest)
    assert_nothing_to_do(guest)
    return ports


def assert_after_a_reboot(guest: Guest, case: Case) -> None:
    guest.reboot()
    assert_boot(guest, level="store")
    settled(guest)
    assert_right(guest, case)
    assert_told(guest)
    assert_nothing_to_do(guest)


def test_from_the_first_boot_on(cloud: Cloud, guest_factory: GuestFactory, case: Case) -> None:
    server = cloud.server("foreign")
    foreign.tell(server, case.document, segment(cloud, case))
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    settled(guest)
    assert_right(guest, case)
    assert_told(guest)
    assert_nothing_to_do(guest)
    assert_after_a_reboot(guest, case)


def test_of_nics_that_come_later(cloud: Cloud, guest_factory: GuestFactory, case: Case) -> None:
    """Heard on the metadata service, beside a port of Nova's."""
    if case.leads_metadata_elsewhere:
        pytest.skip("it takes the metadata service away, so it is rolled back; at a first boot it is seen")
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", mtu=1450)  # global DNS is the document's alone
    server = cloud.server("grown")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    settled(guest)

    add_to(guest, case, segment(cloud, case))
    assert_after_a_reboot(guest, case)
    assert_follows(guest, first)
