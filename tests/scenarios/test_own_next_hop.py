# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server that is its own next hop, as a router or a VPN's end: a host route of its subnet names the port's own address."""

from __future__ import annotations

from tests.lab import Cloud
from tests.lab.ports import Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.place import a_server_with_one_nic
from tests.scenarios.seen import assert_boot, assert_nothing_to_do, findings_of, ip, settled, state_of, wait_until

_BEYOND4, _BEYOND6 = "10.200.0.0/16", "2001:db8:9::/48"
_OWN4, _OWN6 = "10.91.0.77", "2001:db8:1::77"


def test_a_route_by_way_of_the_server_itself_is_left_out_and_reported(cloud: Cloud, guest_factory: GuestFactory) -> None:
    subnets = [
        Subnet("10.91.0.0/24", routes=((_BEYOND4, _OWN4), ("10.201.0.0/16", "10.91.0.9"))),
        Subnet("2001:db8:1::/64", routes=((_BEYOND6, _OWN6),)),
    ]
    green = cloud.network("green", mtu=1400, subnets=subnets)
    _first, guest = a_server_with_one_nic(cloud, guest_factory)

    port = guest.server.create_port(green, fixed_ips=[_OWN4, _OWN6])
    name = guest.plug(port)

    def right() -> bool:
        addresses = {a["local"] for link in ip(guest, f"addr show dev {name}") for a in link["addr_info"]}
        routes = {route["dst"] for version in (4, 6) for route in ip(guest, f"-{version} route show dev {name}")}
        return {_OWN4, _OWN6} <= addresses and "10.201.0.0/16" in routes and not {_BEYOND4, _BEYOND6} & routes

    wait_until(right, 15 * guest.patience, "all but the routes by way of itself")
    settled(guest)
    assert state_of(guest, port) == "ok"
    told = " ".join(findings_of(guest, port))
    assert all(f"{network} via {hop} is left out" in told for network, hop in ((_BEYOND4, _OWN4), (_BEYOND6, _OWN6))), told
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    settled(guest)
    assert right() and state_of(guest, port) == "ok"
    assert_nothing_to_do(guest)
