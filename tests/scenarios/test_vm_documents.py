# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Documents of other projects and clouds, told to a running virtual machine one after the other: its NICs come and go.

One boot for each kind of guest, which is gone back to; test_documents.py boots for each document. OSNETD_KINDS with virtual
machines (trixie-networkd-vm, bookworm-ifupdown-vm) has it on these.
"""

from __future__ import annotations

from typing import Iterator, List

import pytest

from tests.lab import VM, Cloud, Network, Server
from tests.scenarios.conftest import KINDS, Kind, a_machine
from tests.scenarios.documents import CASES, Case, segment
from tests.scenarios.place import a_server_with_one_nic
from tests.scenarios.seen import (
    assert_follows,
    assert_nothing_to_do,
    configured_names,
    ip,
    reconcile,
    settled,
    wait_until,
)
from tests.scenarios.test_documents import add_to, assert_after_a_reboot
from tests.scenarios.test_vm_netplan import generated, reference

pytestmark = [pytest.mark.vm, pytest.mark.deep]


@pytest.fixture(scope="module", name="kind", params=[kind for kind in KINDS if kind.is_vm] or [Kind("trixie", "netplan")], ids=str)
def a_kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module", name="booted")
def booted_once(kind: Kind) -> Iterator[VM]:
    """A server with one static port; the only DNS servers are those of the documents."""
    with Cloud() as cloud:
        made: List[VM] = []

        def factory(server: Server) -> VM:
            made.append(a_machine(cloud, server, kind.suite, kind.backend))
            return made[0]

        try:
            first, guest = a_server_with_one_nic(cloud, factory)
            cloud.edit_subnet(first.network, dns=())
            reconcile(guest)
            guest.snapshot()
            yield guest
        finally:
            for one in made:
                one.destroy()


@pytest.fixture(name="guest")
def gone_back_to(request: pytest.FixtureRequest, booted: VM) -> VM:
    request.node.guests = [booted]
    booted.server.compose = lambda document: document
    booted.restore()
    return booted


def _segment(cloud: Cloud, case: Case) -> Network:
    there = {(network.name, any(subnet.dhcp for subnet in network.subnets), network.mtu): network for network in cloud.networks}
    return there.get(("segment", case.dhcp, case.mtu)) or segment(cloud, case)


def _devices(guest: VM) -> List[str]:
    return sorted(str(link["ifname"]) for link in ip(guest, "link"))


@pytest.mark.parametrize("case", [case for case in CASES if not case.leads_metadata_elsewhere], ids=lambda case: case.name)
def test_its_nics_come_and_go(guest: VM, case: Case) -> None:
    server, (first,) = guest.server, guest.plugged
    before, names = _devices(guest), configured_names(guest)
    ports = add_to(guest, case, _segment(guest.cloud, case))
    if guest.backend == "netplan":
        # Of its own NICs: an edit of DNS alone, like that of the first one, waits in netplan's file for the next boot.
        own, wanted = ([line for line in text.splitlines() if names[0] not in line] for text in (generated(guest), reference(guest)))
        assert own == wanted, "the next boot would make something else of the file"
    if not case.needs_modules:
        return

    assert_after_a_reboot(guest, case)
    assert_follows(guest, first)

    # Bonds and VLANs are unmade by us alone.
    server.compose = lambda document: document
    for port in ports:
        server.delete_port(port)
        guest.unplug(port)
    wait_until(lambda: _devices(guest) == before, 15 * guest.patience, f"nothing of it is left: {before}")
    wait_until(lambda: configured_names(guest) == names, 15 * guest.patience, f"no configuration of it is left: {names}")
    settled(guest)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)
