# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The routes of a rendered .network file: each in a section of its own, and gateways said to be neighbours. Pure."""

import ipaddress
import re
from typing import Callable, FrozenSet, List, Optional

from ...core.desired import Item, wanted_metric
from ...core.network_data import DEFAULT6, DHCP6, SLAAC, Route, off_subnet_gateways

_SECTION = re.compile(r"^\[Route\][ \t]*\n(?:(?!\[).*\n?)*", re.MULTILINE)
_GATEWAY = re.compile(r"^Gateway=(\S+)[ \t]*$(?!\nGatewayOnLink=)", re.MULTILINE)


def finished(text: str, item: Item) -> str:
    """`text` with a section for each route of the port, and `GatewayOnLink=` where networkd needs to be told.

    cloud-init before 23.1 writes one section for all routes, sorted by key, of which networkd takes the last of each:
    one gateway of two, and no telling which destination was whose. The sections are then made anew from the entry.
    """
    wanted = _sections(item, lambda route: bool(route.gateway))
    there = _SECTION.findall(text)
    if len(there) < len(wanted) and any(_is_of_several(section) for section in there):
        text = _SECTION.sub("", text).rstrip("\n") + "\n\n" + "\n".join(wanted)
    on_the_link = _sections(item, lambda route: not route.gateway)  # which the renderer is not given: network_config.py
    if on_the_link:
        text = text.rstrip("\n") + "\n\n" + "\n".join(on_the_link)
    left_out = advertised(item)
    if left_out:
        text = _SECTION.sub(lambda section: "" if _is_one_of(section[0], left_out) else section[0], text)
    words = dict.fromkeys(_by_advertisement(item), "no")
    words.update(dict.fromkeys(on_link(item), "yes"))
    return _GATEWAY.sub(lambda line: line[0] + _on_link_line(words.get(line[1])), text)


def on_link(item: Item) -> FrozenSet[str]:
    """The gateways that networkd is told to take for neighbours.

    Those that no subnet of the port holds, which it would not ask. And all global ones of IPv6: it looks for the subnet
    among the routes that it knows of the link, and of two NICs on one network it knows the route to the subnet, which
    both have with one metric, for the first alone (systemd 257): the other's default route is never set, and the link
    is "configuring" for ever.
    """
    gateways = {route.gateway for net in item.entry.networks for route in net.routes if ":" in route.gateway}
    known = off_subnet_gateways(item.entry) | frozenset(gateway for gateway in gateways if _is_global(gateway))
    return known - _by_advertisement(item)


def advertised(item: Item) -> FrozenSet[Route]:
    """The IPv6 default routes that are left to the router's advertisement: those of subnets that it advertises.

    networkd sets such a route before the first advertisement, as if the gateway were on the link (it takes that for
    said where a file has no `Address=`). With another NIC on the same network the kernel knows the subnet by that one,
    and refuses the route for good: the link is "failed", and never has an address. The router that advertises the
    subnet advertises itself too. Other routes of that subnet wait for the advertisement: `GatewayOnLink=no`.
    """
    gateways = _by_advertisement(item)
    routes = (route for net in item.entry.networks for route in net.routes)
    return frozenset(route for route in routes if route.network == DEFAULT6 and route.gateway in gateways)


def _by_advertisement(item: Item) -> FrozenSet[str]:
    """The global gateways of subnets that are advertised, and that no static subnet of the port holds."""
    networks = item.entry.networks
    subnets = [ipaddress.ip_interface(net.address).network for net in networks if net.address]
    routes = [route for net in networks if net.type in SLAAC | DHCP6 for route in net.routes]
    told = [route.gateway for route in routes if ":" in route.gateway]
    return frozenset(
        one for one in told if _is_global(one) and not any(ipaddress.ip_address(one) in subnet for subnet in subnets)
    )


def _on_link_line(word: Optional[str]) -> str:
    return "" if word is None else "\nGatewayOnLink=" + word


def _is_one_of(section: str, routes: FrozenSet[Route]) -> bool:
    said = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
    place = said.get("Destination", DEFAULT6).strip(), said.get("Gateway", "").strip()
    return place in {(route.network, route.gateway) for route in routes}


def _is_global(gateway: str) -> bool:
    address = ipaddress.ip_address(gateway)
    return not address.is_link_local and not address.is_unspecified


def _is_of_several(section: str) -> bool:
    """True where a key comes twice: several routes in one section."""
    keys = [line.partition("=")[0] for line in section.splitlines() if "=" in line]
    return len(set(keys)) < len(keys)


def _sections(item: Item, which: Callable[[Route], bool]) -> List[str]:
    """These of the routes, less those by way of this server itself.

    As cloud-init writes them from 23.1 on, in the order of the entry.
    """
    sections: List[str] = []
    for route in (route for net in item.entry.networks for route in net.routes if route.gateway not in item.own):
        if not which(route):
            continue
        lines = ["[Route]", "Destination=" + route.network]
        if route.gateway:
            lines.append("Gateway=" + route.gateway)
        metric = wanted_metric(item, route)
        if metric is not None:
            lines.append("Metric=%d" % metric)
        section = "\n".join(lines) + "\n"
        if section not in sections:
            sections.append(section)
    return sections
