# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The routes of a rendered .network file: one section for each, and gateways marked as on-link. Pure."""

import ipaddress
import re
from typing import Callable, FrozenSet, List, Optional

from ...core.desired import Item, wanted_metric
from ...core.network_data import DEFAULT6, DHCP6, SLAAC, Route, off_subnet_gateways

_SECTION = re.compile(r"^\[Route\][ \t]*\n(?:(?!\[).*\n?)*", re.MULTILINE)
_GATEWAY = re.compile(r"^Gateway=(\S+)[ \t]*$(?!\nGatewayOnLink=)", re.MULTILINE)


def finished(text: str, item: Item) -> str:
    """Returns `text` with a section for each route of the port, and `GatewayOnLink=` where networkd needs it.

    cloud-init before 23.1 writes one section for all routes, sorted by key, of which networkd uses the last value of
    each key. Which gateway belongs to which destination is lost, so the sections are generated again from the entry.
    """
    wanted = _sections(item, lambda route: bool(route.gateway))
    there = _SECTION.findall(text)
    if len(there) < len(wanted) and any(_is_of_several(section) for section in there):
        text = _SECTION.sub("", text).rstrip("\n") + "\n\n" + "\n".join(wanted)
    on_the_link = _sections(item, lambda route: not route.gateway)  # the renderer does not get these: network_config.py
    if on_the_link:
        text = text.rstrip("\n") + "\n\n" + "\n".join(on_the_link)
    left_out = advertised(item)
    if left_out:
        text = _SECTION.sub(lambda section: "" if _is_one_of(section[0], left_out) else section[0], text)
    words = dict.fromkeys(_by_advertisement(item), "no")
    words.update(dict.fromkeys(on_link(item), "yes"))
    return _GATEWAY.sub(lambda line: line[0] + _on_link_line(words.get(line[1])), text)


def on_link(item: Item) -> FrozenSet[str]:
    """Returns the gateways that are marked as on-link for networkd.

    These are the gateways outside of the port's subnets, which networkd would otherwise refuse, and all global IPv6
    gateways. networkd looks for their subnet among the routes of the link. With two NICs on one network, both have the
    route to the subnet with the same metric, and networkd (systemd 257) knows it for the first NIC only: the other
    NIC's default route is never set, and its link stays "configuring".
    """
    gateways = {route.gateway for net in item.entry.networks for route in net.routes if ":" in route.gateway}
    known = off_subnet_gateways(item.entry) | frozenset(gateway for gateway in gateways if _is_global(gateway))
    return known - _by_advertisement(item)


def advertised(item: Item) -> FrozenSet[Route]:
    """Returns the IPv6 default routes that are left to router advertisements: those in advertised subnets.

    networkd would set such a route before the first advertisement, as if the gateway were on-link (which it assumes for
    a file without `Address=`). With another NIC on the same network the kernel knows the subnet through that NIC and
    refuses the route: the link is "failed" and never gets an address. The router that advertises the subnet advertises
    itself too. Other routes through that subnet wait for the advertisement: `GatewayOnLink=no`.
    """
    gateways = _by_advertisement(item)
    routes = (route for net in item.entry.networks for route in net.routes)
    return frozenset(route for route in routes if route.network == DEFAULT6 and route.gateway in gateways)


def _by_advertisement(item: Item) -> FrozenSet[str]:
    """Returns the global gateways in advertised subnets that are in no static subnet of the port."""
    networks = item.entry.networks
    subnets = [ipaddress.ip_interface(net.address).network for net in networks if net.address]
    routes = [route for net in networks if net.type in SLAAC | DHCP6 for route in net.routes]
    gateways = [route.gateway for route in routes if ":" in route.gateway]
    return frozenset(
        gw for gw in gateways if _is_global(gw) and not any(ipaddress.ip_address(gw) in subnet for subnet in subnets)
    )


def _on_link_line(word: Optional[str]) -> str:
    return "" if word is None else "\nGatewayOnLink=" + word


def _is_one_of(section: str, routes: FrozenSet[Route]) -> bool:
    values = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
    place = values.get("Destination", DEFAULT6).strip(), values.get("Gateway", "").strip()
    return place in {(route.network, route.gateway) for route in routes}


def _is_global(gateway: str) -> bool:
    address = ipaddress.ip_address(gateway)
    return not address.is_link_local and not address.is_unspecified


def _is_of_several(section: str) -> bool:
    """True if a key occurs twice: several routes in one section."""
    keys = [line.partition("=")[0] for line in section.splitlines() if "=" in line]
    return len(set(keys)) < len(keys)


def _sections(item: Item, which: Callable[[Route], bool]) -> List[str]:
    """Returns the sections of these routes, without those through the server's own address.

    They are written as by cloud-init from 23.1 on, in the order of the entry.
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
