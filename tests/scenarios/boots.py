# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the scenarios of boots have in common."""

from __future__ import annotations

from typing import Any, Dict, List

from tests.lab import Cloud, Container, Network
from tests.scenarios.seen import ip


def two_networks(cloud: Cloud) -> List[Network]:
    return [
        cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450),
        cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")]),
    ]


def network_of(guest: Container) -> Dict[str, Any]:
    """The network as the kernel has it: by MAC the name, the MTU and the addresses; and the routes."""
    links = [link for link in ip(guest, "addr") if link["ifname"] != "lo"]
    routes = [
        (route["dst"], route.get("gateway"), route["dev"], route.get("metric", 0), route.get("protocol"))
        for route in ip(guest, "route") + ip(guest, "-6 route")
    ]
    return {
        "links": {
            link["address"]: (
                link["ifname"],
                link["mtu"],
                sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]),
            )
            for link in links
        },
        "routes": sorted(routes, key=repr),
    }
