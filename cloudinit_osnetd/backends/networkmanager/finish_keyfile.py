# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Completes a keyfile of cloud-init's renderer, which leaves to NetworkManager's defaults what Neutron expects.

- The method of each family follows from the port's networks alone. Releases before 23.2 do not know a static IPv6
  subnet. `dhcp` for a stateful network gets neither a prefix nor a default route: `auto` follows the advertisement.
  Without a section a family is `auto`: a NIC without networks asks for a lease, a port with IPv4 only takes an
  advertised address and default route that it may not use. `link-local` keeps the way to fe80::a9fe:a9fe.
- Interface identifiers are EUI-64, as Neutron computes the addresses of a port.
- The metric of all routes is set, because NetworkManager's default counts up with each activation. A default route
  beside an advertised one gets the next metric: with the same one NetworkManager makes both a single multipath route.
- Address conflict detection is off: no static address waits for it, and a conflict is reported instead of a NIC without
  an address.
- A family whose configuration depends on others may fail without the other family's static addresses. So may IPv6 in
  any case, because the kernel refuses all of it where IPv6 is switched off, and IPv4 would be gone with it. A boot
  still waits for static addresses to be proved unique.
- A boot waits for the lease of the first NIC only. NetworkManager counts a NIC as configured once its IPv6 link-local
  address is there, if IPv4 may fail; it asks for the lease until one comes. Otherwise a server that nobody answers
  holds each boot for a minute. See ProfileActivator.boot.
"""

import ipaddress
from typing import Dict, List, Optional, Tuple

from ...core.desired import Item
from ...core.network_data import DEFAULT6, DHCP4, DHCP6, SLAAC, Route
from .keyfile import numbered, parsed, value, with_values

# NetworkManager's own default for the first NIC of type ethernet, without its count.
_FIRST_METRIC = 100
# Milliseconds for duplicate address detection, which takes one or two seconds. Without it the NIC counts as configured
# as soon as the other family is.
UNIQUE_IN = "5000"
_PRIORITY = "120"  # cloud-init's since 23.2: such a profile comes before one that is made with the defaults

_Changes = Dict[str, Optional[str]]


def finished(text: str, item: Item) -> str:
    """Returns a rendered keyfile with what the renderer does not say."""
    if not value(parsed(text), "connection", "autoconnect-priority"):
        text = with_values(text, "connection", {"autoconnect-priority": _PRIORITY})
    text = _with_device(text, item)
    values = parsed(text)
    if value(values, "connection", "master") or value(values, "connection", "controller"):
        return text  # a bond's member has no addresses
    wanted = methods(item)
    for family in ("ipv4", "ipv6"):
        there = parsed(text).get(family, {})
        changes: _Changes = {"method": wanted[family]}
        if wanted[family] in ("auto", "manual"):
            changes["route-metric"] = str(item.metric or _FIRST_METRIC)
            changes["may-fail"] = "true" if may_fail(wanted, family, bool(item.metric)) else "false"
            changes["required-timeout"] = UNIQUE_IN if waits_to_be_unique(wanted, family) else None
            changes.update(_routes(there, item, family, advertised=(family, wanted[family]) == ("ipv6", "auto")))
            changes.update(_dns(item, family))
        else:
            left_out = ("may-fail", "required-timeout", "dns", "dns-search", "route-metric")
            changes.update(dict.fromkeys(left_out))
        if wanted[family] == "manual" and family == "ipv4":
            changes["dad-timeout"] = "0"
        if family == "ipv6":
            changes["addr-gen-mode"] = "eui64"
        text = with_values(text, family, changes)
    return text


def methods(item: Item) -> Dict[str, str]:
    """Returns the method of each family."""
    types = {net.type for net in item.entry.networks}
    static = [net for net in item.entry.networks if net.address and net.type not in DHCP4 | DHCP6 | SLAAC]
    without = "ignore" if item.entry.excludes_ipv6 else "link-local"
    by_version = {ipaddress.ip_interface(net.address).version for net in static}
    return {
        "ipv4": "auto" if types & DHCP4 else "manual" if 4 in by_version else "disabled",
        "ipv6": "auto" if types & (DHCP6 | SLAAC) else "manual" if 6 in by_version else without,
    }


def may_fail(methods: Dict[str, str], family: str, later: bool = False) -> bool:
    """True if a family waits for others or is IPv6, and the other family of the NIC has a configuration too.

    `later`: it is not the server's first NIC. So may IPv4 then that waits for a lease, whatever the other family has.
    """
    other = methods["ipv6" if family == "ipv4" else "ipv4"]
    if later and family == "ipv4" and methods[family] == "auto":
        return True
    return (methods[family] == "auto" or family == "ipv6") and other in ("auto", "manual")


def waits_to_be_unique(methods: Dict[str, str], family: str) -> bool:
    """True if static addresses of a family that may fail are tentative at first."""
    return methods[family] == "manual" and may_fail(methods, family)


def _with_device(text: str, item: Item) -> str:
    """Adds the MTU and the MAC of a bond or a VLAN: without them a bond gets a random MAC."""
    entry = item.entry
    if entry.kind == "phy":
        return text
    changes: _Changes = {}
    if entry.mtu:
        changes["mtu"] = str(entry.mtu)
    if entry.mac_told:
        changes["cloned-mac-address"] = entry.mac.upper()
    return with_values(text, "ethernet", changes) if changes else text


def _wanted_routes(item: Item, family: str) -> List[Route]:
    version = 4 if family == "ipv4" else 6
    routes = [route for net in item.entry.networks for route in net.routes if route.gateway not in item.own]
    return [route for route in routes if ipaddress.ip_network(route.network).version == version]


def _routes(there: Dict[str, str], item: Item, family: str, advertised: bool) -> _Changes:
    """Returns the routes that need a metric of their own, and those without a gateway, which no renderer gets."""
    wanted = {(route.network, route.gateway or ""): route for route in _wanted_routes(item, family)}
    changes: _Changes = {}
    known = set()
    number = 0
    for key, text in numbered(there, "route"):
        number += 1
        place = _place(text)
        known.add(place)
        route = wanted.get(place)
        if route is not None and route.metric is None and advertised and route.network == DEFAULT6:
            route = route._replace(metric=(item.metric or _FIRST_METRIC) + 1)
        if route is not None and route.metric is not None:
            changes[key] = _line(route)
    for place, route in wanted.items():
        if place not in known and not route.gateway:
            number += 1
            changes["route%d" % number] = _line(route)
    return changes


def _line(route: Route) -> str:
    words = [route.network, route.gateway or ""]
    if route.metric is not None:
        words.append(str(route.metric))
    return ",".join(words).rstrip(",")


def _place(text: str) -> Tuple[str, str]:
    """Returns destination and gateway of a route's line in their normal forms."""
    to, _, via = text.partition(",")
    via = via.partition(",")[0]
    try:
        return str(ipaddress.ip_network(to, strict=False)), str(ipaddress.ip_address(via)) if via else ""
    except ValueError:
        return to, via


def _dns(item: Item, family: str) -> _Changes:
    """Returns the name servers of this family; the search domains are in both, as cloud-init writes them."""
    version = 4 if family == "ipv4" else 6
    servers = [server for server in item.all_dns if ipaddress.ip_address(server).version == version]
    return {
        "dns": "".join(server + ";" for server in servers) or None,
        "dns-search": "".join(domain + ";" for domain in item.all_search) or None,
    }
