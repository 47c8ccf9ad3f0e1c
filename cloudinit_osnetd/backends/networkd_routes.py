# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The routes of a rendered .network file: each in a section of its own, and gateways said to be neighbours. Pure."""

import ipaddress
import re
from typing import Callable, FrozenSet, List

from ..desired import Item, wanted_metric
from ..network_data import Route, off_subnet_gateways

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
    on_the_link = _sections(item, lambda route: not route.gateway)  # which the renderer is not given: netconfig.py
    if on_the_link:
        text = text.rstrip("\n") + "\n\n" + "\n".join(on_the_link)
    said = on_link(item)
    return _GATEWAY.sub(lambda line: line[0] + "\nGatewayOnLink=yes" if line[1] in said else line[0], text)


def on_link(item: Item) -> FrozenSet[str]:
    """The gateways that networkd is told to take for neighbours.

    Those that no subnet of the port holds, which it would not ask. And all global ones of IPv6: it looks for the subnet
    among the routes that it knows of the link, and of two NICs on one network it knows the route to the subnet, which
    both have with one metric, for the first alone (systemd 257): the other's default route is never set, and the link
    is "configuring" for ever.
    """
    gateways = {route.gateway for net in item.entry.networks for route in net.routes if ":" in route.gateway}
    return off_subnet_gateways(item.entry) | frozenset(gateway for gateway in gateways if _is_global(gateway))


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
