# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The place of the scenarios in virtual machines: one server, booted once and gone back to for each of them.

A boot takes minutes where QEMU has to emulate on a busy machine, going back takes seconds. So does the start of a server that
has its uuid, MACs and addresses from a scenario: `boot_known`.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, NamedTuple, Tuple, Union

import pytest

from tests.lab import VM, Cloud, Container, Network, Port, Server
from tests.scenarios.seen import assert_boot, assert_follows, settled

KNOWN = "6e09f1b2-0000-4000-8000-00000000a0{:02}"  # the uuid of a server that is the same in any cloud


def boot_known(guest: Union[VM, Container]) -> None:
    """Boot; a virtual machine starts where the first boot of an earlier one of the same server ended."""
    if isinstance(guest, VM):
        guest.boot(saved=True)
    else:
        guest.boot()


def a_server_with_one_nic(cloud: Cloud, guest_factory: Callable[..., Any], **options: Any) -> Tuple[Port, Any]:
    """A server with one static port, the same in any cloud; its guest has booted, the service has ended."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    server = cloud.server("found", uuid=KNOWN.format(2))
    first = server.create_port(blue, mac="fa:16:3e:a0:02:01", fixed_ips=["10.90.0.13"])
    guest = guest_factory(server, **options)
    boot_known(guest)
    assert_boot(guest, level="drive")
    assert_follows(guest, first)
    settled(guest)
    return first, guest


class Place(NamedTuple):
    """A server with a static port and a DHCP port, and a network to attach more to."""

    cloud: Cloud
    server: Server
    first: Port
    second: Port
    amber: Network


def make_place(cloud: Cloud) -> Place:
    """The same in any cloud, so that a guest that has booted once is found again."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    amber = cloud.network(
        "amber", cidr="10.93.0.0/26", gateway="10.93.0.1", dns=["10.93.0.2"], mtu=1300, routes=[("10.210.0.0/16", "10.93.0.9")]
    )
    server = cloud.server("web", uuid="6e09f1b2-0000-4000-8000-00000000a001")
    first = server.create_port(blue, mac="fa:16:3e:a0:00:01", fixed_ips=["10.90.0.11"])
    second = server.create_port(leased, mac="fa:16:3e:a0:00:02", fixed_ips=["10.92.0.12"])
    return Place(cloud, server, first, second, amber)


@pytest.fixture(scope="module", name="place")
def a_place() -> Iterator[Place]:
    with Cloud() as cloud:
        yield make_place(cloud)


@pytest.fixture(scope="module", name="booted")
def booted_once(place: Place) -> Iterator[VM]:
    with VM(place.cloud, place.server, suite="trixie", backend="netplan") as guest:
        guest.boot(saved=True)
        settled(guest, 30)
        guest.snapshot()
        yield guest


@pytest.fixture(name="guest")
def gone_back_to(request: pytest.FixtureRequest, booted: VM) -> VM:
    """The place's server as it was after its first boot, with netplan on trixie."""
    request.node.guests = [booted]
    booted.restore()
    return booted
