# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Compares what the kernel shows of a NIC with what is wanted. Pure.

A problem is something that the backend must have done by now. A finding depends on others and may
still come: a lease, an advertisement, a carrier, the end of duplicate address detection. A finding
is reported; it never causes a wait, a reapply or a rollback.
"""

import ipaddress
from typing import Iterator, List, NamedTuple, Optional, Tuple

from .desired import Item, wanted_metric
from .network_data import DEFAULT4, DEFAULT6, DHCP4, DHCP6, SLAAC, Network, Route, static_addresses
from .records import Nic, Snapshot


class CheckResult(NamedTuple):
    problems: Tuple[str, ...] = ()
    findings: Tuple[str, ...] = ()
    carrier: bool = True  # without a carrier a backend may not configure the NIC yet
    leased: bool = True  # False while a lease or an advertisement is still to come

    @property
    def lacks(self) -> str:
        return "; ".join(self.problems)


CONFORMS = CheckResult()
_DUPLICATE = "another host has "


def is_duplicate_address(problem: str) -> bool:
    """True if another host has the address, which no backend can fix. See duplicate_addresses.py."""
    return problem.startswith(_DUPLICATE)


def check(item: Item, snapshot: Snapshot, plain: bool = False) -> CheckResult:
    """Checks one link. A NIC that does not exist, and a link that depends on one, has no problems.

    `plain`: the part on disk is what cloud-init wrote by itself, without assigned metrics. If two NICs
    have the same route, the kernel then refuses the second one.
    """
    nic = snapshot.named(item.name)
    if nic is None:
        return CheckResult(("%s does not exist" % item.name,)) if _could_exist(item, snapshot) else CONFORMS
    entry = item.entry
    if entry.networks and not nic.up:
        return CheckResult(("the link is down",))
    lacking, off = _lacking_addresses(item, nic)
    problems = ["the kernel lacks %s" % ", ".join(lacking)] if lacking else []
    problems += [_DUPLICATE + "%s too" % a.address for a in nic.addresses if a.duplicate]
    new = [a for a in nic.addresses if a.tentative and not a.duplicate and not a.address.startswith("fe80:")]
    findings = ["DAD of %s is under way" % a.address for a in new]
    findings += ["IPv6 is switched off: no %s" % ", ".join(off)] if off else []
    by_lease = any(net.type in DHCP4 for net in entry.networks)
    if entry.mtu is not None and nic.mtu != entry.mtu and not nic.master:
        why = _refuses_mtu(item, nic, snapshot)
        # A lease may bring another MTU. An MTU that the kernel refuses is refused at every attempt.
        (findings if by_lease or why else problems).append("the MTU is %d, not %d%s" % (nic.mtu, entry.mtu, why))
    routes = list(_lacking_routes(item, nic, snapshot, plain))
    missing = [text for text, needed in routes if needed]
    if missing:
        problems.append("the kernel lacks the route %s" % ", ".join(missing))
    findings += ["no route %s" % text for text, needed in routes if not needed]
    findings += _left_out(item) + _not_members(item, nic, snapshot) + list(item.notes)
    if nic.master and problems:
        # A bridge or VRF of other software has its addresses or routes now: bringing the NIC up again would remove it.
        findings, problems = ["it belongs to %s" % _name(nic.master, snapshot), *problems, *findings], []
    to_come = _to_come(entry.networks, nic)
    findings += to_come
    if entry.networks and not nic.carrier:
        return CheckResult((), tuple(["there is no carrier"] + problems + findings), False, not to_come)
    return CheckResult(tuple(problems), tuple(findings), True, not to_come)


def _refuses_mtu(item: Item, nic: Nic, snapshot: Snapshot) -> str:
    """Returns why the kernel refuses an MTU this high, empty if that is not known."""
    wanted = item.entry.mtu or 0
    parent = snapshot.named(nic.name.rpartition(".")[0]) if nic.kind == "vlan" else None
    if 0 < nic.max_mtu < wanted:
        return ": the device takes %d at the most" % nic.max_mtu
    if parent and parent.mtu < wanted:
        return ": %s has %d" % (parent.name, parent.mtu)
    return ""


def _could_exist(item: Item, snapshot: Snapshot) -> bool:
    """True for a bond with an existing member and a VLAN with an existing parent: the backend creates those."""
    if item.entry.kind == "phy":
        return False
    here = snapshot.by_mac()
    below = item.entry.members if item.entry.kind == "bond" else (item.entry.parent,)
    if any(key.partition("/")[2] == "phy" for key in below):
        return any(key.partition("/")[0] in here for key in below)
    # A VLAN on a bond: the bond's MAC may be that of another device, so the parent is found by its name.
    parent, _dot, number = item.name.rpartition(".")
    return number != str(item.entry.vlan_id) or snapshot.named(parent) is not None


def _not_members(item: Item, nic: Nic, snapshot: Snapshot) -> List[str]:
    """Returns which NICs are here and not in this bond, though they are to be its members.

    Only a finding: who took a NIC out of a bond, or put it into another device, had a reason.
    """
    if item.entry.kind != "bond":
        return []
    here = snapshot.by_mac()
    members = [here[mac] for mac in (key.partition("/")[0] for key in item.entry.members) if mac in here]
    names = sorted(member.name for member in members if member.master != nic.ifindex)
    return ["not a member of it: %s" % ", ".join(names)] if names else []


def _name(ifindex: int, snapshot: Snapshot) -> str:
    return next((nic.name for nic in snapshot.nics if nic.ifindex == ifindex), "another device")


def _lacking_addresses(item: Item, nic: Nic) -> Tuple[List[str], List[str]]:
    """Returns the static addresses that are missing, and those that cannot exist because IPv6 is switched off."""
    lacking = [cidr for cidr in static_addresses(item.entry) if not nic.has(cidr)]
    off = [cidr for cidr in lacking if ":" in cidr and not nic.ipv6]
    return [cidr for cidr in lacking if cidr not in off], off


def _to_come(networks: Tuple[Network, ...], nic: Nic) -> List[str]:
    """Returns what is still to come from a lease or an advertisement."""
    static = {net.address for net in networks}
    brought = [a.address for a in nic.addresses if a.address not in static and not a.address.startswith("fe80:")]
    missing = []
    if any(net.type in DHCP4 for net in networks) and all(":" in address for address in brought):
        missing.append("no DHCP lease yet")
    if any(net.type in DHCP6 | SLAAC for net in networks) and all(":" not in address for address in brought):
        missing.append("no IPv6 address by advertisement or DHCPv6 yet")
    return missing


def _lacking_routes(item: Item, nic: Nic, snapshot: Snapshot, plain: bool) -> Iterator[Tuple[str, bool]]:
    """Yields (route, True if that is a problem) for each route that the kernel lacks."""
    there = {(r.network, r.gateway, r.metric) for r in snapshot.routes if r.ifindex == nic.ifindex}
    # Not named like a function of the module: up to Python 3.12.3 the comprehensions would lose it (cpython#118513).
    networks = {network for network, _via, _metric in there}
    wanted = [(net, route) for net in item.entry.networks for route in net.routes if route.gateway not in item.own]
    gateways = {(route.network, _gateway(route)) for _net, route in wanted}
    for net, route in wanted:
        metric = None if plain else wanted_metric(item, route)
        found = [m for n, via, m in there if (n, via) == (route.network, _gateway(route))]
        if metric in found or (found and not metric):
            continue
        # A link with two subnets, each with a gateway: the kernel keeps one of the two default routes.
        instead = any((n, via) in gateways for n, via, _metric in there if n == route.network)
        # If the address is still to come, the route comes with it, or an advertised one replaces it.
        if net.address or route.network not in networks:
            text = "%s%s%s" % (
                route.network,
                " via %s" % route.gateway if route.gateway else "",
                " metric %d" % metric if metric else "",
            )
            if not found:
                by_another = _by_another(route, metric, nic, snapshot)
                text += ": the kernel has it by %s, and takes one of the same metric" % by_another if by_another else ""
                instead = instead or bool(by_another)
            switched_off = ":" in route.network and not nic.ipv6
            yield text, bool(net.address) and not plain and not switched_off and (bool(found) or not instead)


def _by_another(route: Route, metric: Optional[int], nic: Nic, snapshot: Snapshot) -> str:
    """Returns the name of another NIC with a route to the same network and of the same metric.

    The kernel keeps only one of them (ip(8) gets EEXIST, networkd replaces the other NIC's). Bringing either NIC up
    again does not help, so the route that works stays. Default routes are left out: their metric differs for each NIC.
    """
    if route.network in (DEFAULT4, DEFAULT6):
        return ""
    default = (1024,) if ":" in route.network else (0,)  # the kernel's metric for a route without one
    metrics = (metric,) if metric else default
    same = (r for r in snapshot.routes if r.network == route.network and r.metric in metrics)
    return next((_name(r.ifindex, snapshot) for r in same if r.ifindex != nic.ifindex), "")


def _left_out(item: Item) -> List[str]:
    """Returns the routes via an address of this server itself, which the kernel refuses."""
    return [
        "the route %s is left out: that next hop is this server itself" % route.text
        for net in item.entry.networks
        for route in net.routes
        if route.gateway in item.own
    ]


def _gateway(route: Route) -> str:
    """Returns the gateway as the kernel shows it: an unspecified address is no gateway."""
    return "" if not route.gateway or ipaddress.ip_address(route.gateway).is_unspecified else route.gateway
