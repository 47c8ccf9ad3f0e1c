# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The steps that make a NIC as it is wanted. Pure.

core/conformance.py says whether a NIC is as wanted, this says what to do about it. What a document said and is there is
ours (the ledger); what is ours and no longer wanted is removed, and nothing else.
"""

import ipaddress
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from ..core.desired import Item, wanted_metric
from ..core.entry import DHCP4, DHCP6, SLAAC, off_subnet_gateways, static_addresses
from ..core.records import Nic
from . import netsh, registry
from .netsh import Step
from .state import Link, State

RouteKey = Tuple[str, str]  # network in prefix notation, gateway or empty


class Owned(NamedTuple):
    """A ledger row: what we set on a NIC, or found there when a document said it. Routes without their metric."""

    addresses: FrozenSet[str] = frozenset()
    routes: FrozenSet[RouteKey] = frozenset()
    dns4: Tuple[str, ...] = ()
    dns6: Tuple[str, ...] = ()
    suffix: str = ""

    def with_all_of(self, other: "Owned") -> "Owned":
        """Returns the row for the time between: after an interruption either of the two may be on the NIC."""
        return Owned(
            self.addresses | other.addresses,
            self.routes | other.routes,
            other.dns4 or self.dns4,
            other.dns6 or self.dns6,
            other.suffix or self.suffix,
        )


def wanted(item: Item) -> Owned:
    """Returns all of what a NIC is to have, by its document."""
    routes = {(network, gateway) for network, gateway, _metric, _static in _wanted_routes(item)}
    dns = item.all_dns
    return Owned(
        frozenset(static_addresses(item.entry)),
        frozenset(routes),
        tuple(server for server in dns if ":" not in server),
        tuple(server for server in dns if ":" in server),
        item.all_search[0] if item.all_search else "",
    )


def steps(item: Item, nic: Nic, state: State, owned: Owned) -> List[Step]:
    """Returns what is to be done, in order: nothing is taken away before what replaces it is there."""
    link, want = state.link(nic), wanted(item)
    found: List[Step] = []
    found += _mtu(item, nic, link)
    found += _ipv6_automatic(item, nic, link)
    found += _addresses(item, nic, link)
    found += _routes(item, nic, state, owned)
    found += _surplus_addresses(nic, owned.addresses - want.addresses)
    found += _dns(nic, "ipv4", link.dns4, want.dns4, owned.dns4)
    found += _dns(nic, "ipv6", link.dns6, want.dns6, owned.dns6)
    if link.suffix != want.suffix and (want.suffix or link.suffix == owned.suffix):
        found.append(registry.Value(registry.interface_key(link.guid), "Domain", want.suffix))
    return found


def notes(item: Item, nic: Nic) -> List[str]:
    """Returns what of the document Windows cannot have, for people."""
    told = []
    types = {net.type for net in item.entry.networks}
    if types & DHCP4 and _static4(item):
        told.append("Windows has either a lease or fixed IPv4 addresses: there will be no lease")
    mtu = item.entry.mtu
    if mtu and not netsh.takes_mtu("ipv6", mtu) and nic.ipv6:
        told.append("the MTU %d is too low for IPv6" % mtu)
    if types & (DHCP6 | SLAAC) and not nic.ipv6:
        told.append("IPv6 is switched off on the NIC")
    return told


def waiting_routes(item: Item, nic: Nic, state: State) -> FrozenSet[RouteKey]:
    """Returns the routes of leases and advertisements that are still to come, whose gateways no subnet reaches yet."""
    cidrs = [a.address for a in nic.addresses]
    cidrs += [r.network for r in state.snapshot.routes if r.ifindex == nic.ifindex and not r.gateway]
    subnets = [ipaddress.ip_interface(cidr).network for cidr in cidrs]
    found = set()
    for route in [route for net in item.entry.networks if not net.address for route in net.routes if route.gateway]:
        hop = ipaddress.ip_address(route.gateway)
        reached = hop.is_unspecified or hop.is_link_local
        if not reached and not any(hop in subnet for subnet in subnets if subnet.prefixlen):
            found.add((route.network, route.gateway))
    return frozenset(found)


def search_list(items: List[Item], state: State, owned: Tuple[str, ...]) -> Optional[Tuple[str, ...]]:
    """Returns the machine's list of search domains, None to leave it.

    A connection has one suffix. If a document has more, they go to the machine's list, which Windows then uses in place
    of all suffixes: so it has all of them, the machine's own domain first. A list that is not ours stays.
    """
    if state.search and state.search != owned:
        return None
    domains = [domain for item in items for domain in item.all_search]
    first = [state.domain] if state.domain else []
    several = any(len(item.all_search) > 1 for item in items)
    list_ = tuple(dict.fromkeys(first + domains)) if several else ()
    return None if list_ == state.search else list_


def _mtu(item: Item, nic: Nic, link: Link) -> List[Step]:
    mtu = item.entry.mtu
    if not mtu or 0 < nic.max_mtu < mtu:
        return []  # conformance.check says what the device takes
    found: List[Step] = []
    if nic.mtu != mtu and netsh.takes_mtu("ipv4", mtu):
        found.append(netsh.set_mtu(nic.ifindex, "ipv4", mtu))
    if (link.mtu6 or nic.mtu) != mtu and nic.ipv6 and netsh.takes_mtu("ipv6", mtu):
        found.append(netsh.set_mtu(nic.ifindex, "ipv6", mtu))
    return found


def _ipv6_automatic(item: Item, nic: Nic, link: Link) -> List[Step]:
    """A router's advertisement says whether an address is made of it or asked for by DHCPv6; it must be listened to."""
    automatic = any(net.type in DHCP6 | SLAAC for net in item.entry.networks)
    off = automatic and nic.ipv6 and link.router_discovery is False
    return [netsh.router_discovery_on(nic.ifindex)] if off else []


def _static4(item: Item) -> List[str]:
    return [cidr for cidr in static_addresses(item.entry) if ":" not in cidr]


def _addresses(item: Item, nic: Nic, link: Link) -> List[Step]:
    found: List[Step] = []
    lacking = [cidr for cidr in static_addresses(item.entry) if not nic.has(cidr)]
    there = {a.address.partition("/")[0]: a.address for a in nic.addresses}
    static4 = _static4(item)
    if static4 and link.dhcp4:
        # Windows refuses to add an address while DHCP is on; this one takes the lease's away.
        found.append(netsh.first_address(nic.ifindex, static4[0]))
        lacking = static4[1:] + [cidr for cidr in lacking if ":" in cidr]
        there = {ip: cidr for ip, cidr in there.items() if ":" in ip}
    elif any(net.type in DHCP4 for net in item.entry.networks) and not static4 and not link.dhcp4:
        found.append(netsh.dhcp_on(nic.ifindex))
    for cidr in lacking:
        other = there.get(cidr.partition("/")[0])
        if ":" in cidr and not nic.ipv6:
            continue
        if other:
            found.append(netsh.delete_address(nic.ifindex, other))  # the same address with another prefix
        found.append(netsh.add_address(nic.ifindex, cidr))
    return found


def _surplus_addresses(nic: Nic, surplus: FrozenSet[str]) -> List[Step]:
    return [netsh.delete_address(nic.ifindex, a.address) for a in nic.addresses if a.address in surplus]


def _wanted_routes(item: Item) -> List[Tuple[str, str, Optional[int], bool]]:
    """Returns (network, gateway, metric, True if a static network's). A gateway off the subnet has a route first."""
    off = off_subnet_gateways(item.entry)
    found: List[Tuple[str, str, Optional[int], bool]] = []
    for net in item.entry.networks:
        for route in net.routes:
            if route.gateway in item.own and route.gateway:
                continue
            gateway = route.gateway
            if gateway and ipaddress.ip_address(gateway).is_unspecified:
                gateway = ""
            if gateway in off:
                found.append(("%s/%d" % (gateway, 128 if ":" in gateway else 32), "", None, bool(net.address)))
            found.append((route.network, gateway, wanted_metric(item, route), bool(net.address)))
    return list(dict.fromkeys(found))


def _routes(item: Item, nic: Nic, state: State, owned: Owned) -> List[Step]:
    there: Dict[RouteKey, Set[int]] = {}
    for route in state.snapshot.routes:
        if route.ifindex == nic.ifindex:
            there.setdefault((route.network, route.gateway), set()).add(route.metric)
    networks = {network for network, _gateway in there}
    waiting = waiting_routes(item, nic, state)
    found: List[Step] = []
    want = _wanted_routes(item)
    for network, gateway, metric, static in want:
        have = there.get((network, gateway))
        if (network, gateway) in waiting:
            continue
        if have is None:
            if (static or network not in networks) and (nic.ipv6 or ":" not in network):
                found.append(netsh.route("add", nic.ifindex, network, gateway, metric or 0))
        elif metric and metric not in have:
            found.append(netsh.route("set", nic.ifindex, network, gateway, metric))
    kept = {(network, gateway) for network, gateway, _metric, _static in want}
    surplus = (owned.routes - kept) & set(there)
    found += [netsh.route("delete", nic.ifindex, network, gateway) for network, gateway in sorted(surplus)]
    return found


def _dns(nic: Nic, fam: str, there: Tuple[str, ...], want: Tuple[str, ...], owned: Tuple[str, ...]) -> List[Step]:
    """Servers that somebody else set stay where the document names none."""
    if there == want or (not want and there != owned) or (fam == "ipv6" and not nic.ipv6):
        return []
    return list(netsh.dns_servers(nic.ifindex, fam, want))
