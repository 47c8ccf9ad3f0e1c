# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A gateway outside the port's subnets, which Neutron allows: a neighbour all the same."""

from __future__ import annotations

from tests.lab import Cloud, netns
from tests.lab.ports import Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import assert_boot, assert_follows, assert_nothing_to_do, reconcile, settled, state_of
from tests.scenarios.serving import serving

_ROUTER4, _ROUTER6, _NEXT = "10.77.0.1", "2001:db8:77::1", "10.78.0.1"


def test_a_gateway_outside_the_subnet(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Of the first NIC, IPv4 and IPv6, from the first boot on; and of a route of a later one, attached and edited."""
    blue = cloud.network("blue", mtu=1450, subnets=[Subnet("10.90.0.0/24", _ROUTER4, dns=("10.90.0.2",)), Subnet("2001:db8:1::/64", _ROUTER6)])
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, routes=[("10.200.0.0/16", _NEXT)])
    for network, address in ((blue, _ROUTER4 + "/32"), (blue, _ROUTER6 + "/128 nodad"), (green, _NEXT + "/32")):
        netns.ip(cloud.namespace, f"addr add {address} dev {network.bridge}")
    server = cloud.server("beyond")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    settled(guest)
    assert_follows(guest, first)
    guest.run(f"ping -c 1 -W 2 {_ROUTER4} && ping -c 1 -W 2 {_ROUTER6}")

    second = server.create_port(green)
    with serving(guest, touches=[second], events=["added"], streams=[first]):
        guest.plug(second)
        assert_follows(guest, second)
    guest.run(f"ping -c 1 -W 2 {_NEXT}")
    server.edit_port(second, fixed_ips=["10.91.0.99"], mtu=1380)
    with serving(guest, touches=[second], streams=[first], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, second, seconds=5)

    guest.reboot()
    assert_boot(guest, level="store")
    settled(guest)
    assert_follows(guest, first, second)
    assert {state_of(guest, port) for port in (first, second)} == {"ok"}
    assert_nothing_to_do(guest)
