# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Completes the ifcfg file of cloud-init's renderer, for NetworkManager and for the network-scripts.

For the same reasons as in a keyfile (networkmanager/finish_keyfile.py): the method of each family follows from the
port's networks alone, metrics are set, no static address waits for conflict detection. And:
- `DHCPV6C=yes IPV6_AUTOCONF=no`, for a stateful network, gets neither a prefix nor a default route.
- Without IPV6INIT neither NetworkManager nor the scripts touch IPv6, and the kernel follows any advertisement.
- DNS1 of the last subnet replaces those of the others.
- Up to 24.1 cloud-init writes NM_CONTROLLED=no, with which NetworkManager does not take the profile.
"""

import ipaddress
from typing import Dict, List, Optional, Set

from ...core.desired import Item
from ...core.network_data import DEFAULT4, DEFAULT6, DHCP4, DHCP6, SLAAC, Route, off_subnet_gateways, static_addresses
from ..networkmanager import finish_keyfile
from . import ifcfg_file
from .ifcfg_file import Values

# NetworkManager's own default for the first NIC of type ethernet, without its count.
_FIRST_METRIC = 100
_PRIORITY = "120"  # as in cloud-init's keyfiles: such a profile comes before one that is made with the defaults
_MOST_SERVERS = 10  # NetworkManager reads DNS1 to DNS10

_Changes = Dict[str, Optional[str]]


def for_networkmanager(text: str, item: Item) -> str:
    values = ifcfg_file.parsed(text)
    changes: _Changes = {"NM_CONTROLLED": None, "AUTOCONNECT_PRIORITY": _PRIORITY}
    changes.update(device(values, item))
    if "MASTER" not in values:  # a bond's member has no addresses
        changes.update(_families(item))
        changes.update(dns(item, _served(item)))
        changes.update(_gateways(item, scripts=False))
        for family, version in (("IPV4", 4), ("IPV6", 6)):
            configured = version in _served(item)
            changes[family + "_ROUTE_METRIC"] = str(_metric(item, version)) if configured else None
            may_fail = _may_fail(item, version)
            changes[family + "_FAILURE_FATAL"] = "yes" if configured and not may_fail else None
            unique = _static(item, version) and not _dynamic(item, version)
            changes[family + "_REQUIRED_TIMEOUT"] = finish_keyfile.UNIQUE_IN if may_fail and unique else None
        if _static(item, 4):
            changes["ARPING_WAIT"] = "0"
    return ifcfg_file.with_values(text, changes)


def for_scripts(text: str, item: Item) -> str:
    """ifup reads METRIC for the default route of GATEWAY and of a lease; other metrics are in the files of routes.

    Without NOZEROCONF it adds a route to 169.254.0.0/16 on each NIC, and the metadata service is in that network.
    """
    values = ifcfg_file.parsed(text)
    changes: _Changes = {"NM_CONTROLLED": "no", "NOZEROCONF": "yes"}
    if item.entry.kind == "vlan":
        changes["VID"] = str(item.entry.vlan_id)  # otherwise ifup cuts the parent's name from the VLAN's
    changes.update(device(values, item))
    if "MASTER" not in values:
        changes.update(_families(item))
        changes.update(dns(item, [4, 6]))
        changes.update({"IPV4_ROUTE_METRIC": None, "IPV6_ROUTE_METRIC": None})
        changes.update(_gateways(item, scripts=True))
        metric = _told(item, DEFAULT4) or item.metric
        changes["METRIC"] = str(metric) if metric else None
        if _static(item, 4):
            numbers = [key[len("IPADDR") :] for key in values if ifcfg_file.ADDRESS.match(key)]
            changes.update(("ARPCHECK" + number, "no") for number in numbers)  # each address is checked by itself
        if _types(item) & DHCP4:
            # Otherwise a server that is silent for a minute is never asked again.
            changes["PERSISTENT_DHCLIENT"] = "yes"
    return ifcfg_file.with_values(text, changes)


def device(values: Values, item: Item) -> _Changes:
    """Returns the MAC of a NIC, a bond or a VLAN, the MTU of the latter two, and a bond's options."""
    entry = item.entry
    changes: _Changes = {}
    if entry.kind == "phy":
        if values.get("HWADDR"):  # 22.4 gives a bond's second member the MAC of the first
            changes["HWADDR"] = entry.mac
        return changes
    if entry.mtu:
        changes["MTU"] = str(entry.mtu)
    if entry.mac_told:
        changes["MACADDR"] = entry.mac
    if entry.kind == "bond":
        changes["BONDING_OPTS"] = _bond_options(values.get("BONDING_OPTS", ""), item) or None
    return changes


def _bond_options(there: str, item: Item) -> str:
    words = there.split()
    known = {word.partition("=")[0] for word in words}
    for name, value in item.entry.params:
        option = name[len("bond_") :] if name.startswith("bond_") else name
        if option not in known:
            words.append("%s=%s" % (option, value.replace(" ", ",")))
    return " ".join(words)


# -- families ---------------------------------------------------------------------------------------


def _types(item: Item) -> Set[str]:
    return {net.type for net in item.entry.networks}


def _static(item: Item, version: int) -> bool:
    """True if the NIC has a static address of this family."""
    dynamic = DHCP4 | DHCP6 | SLAAC
    static = [net for net in item.entry.networks if net.address and net.type not in dynamic]
    return any(ipaddress.ip_interface(net.address).version == version for net in static)


def _dynamic(item: Item, version: int) -> bool:
    return bool(_types(item) & (DHCP4 if version == 4 else DHCP6 | SLAAC))


def _served(item: Item) -> List[int]:
    """Returns the versions of IP that have a configuration."""
    return [version for version in (4, 6) if _static(item, version) or _dynamic(item, version)]


def _may_fail(item: Item, version: int) -> bool:
    """True if a family waits for others or is IPv6, and the other family of the NIC has a configuration too.

    And if it is IPv4 that waits for a lease, on a NIC that is not the server's first: no boot waits for it.
    """
    if version == 4 and _dynamic(item, version) and item.metric:
        return True
    return (_dynamic(item, version) or version == 6) and len(_served(item)) == 2


def _families(item: Item) -> _Changes:
    """Returns the methods. Without a network of IPv6 only its link-local address is there."""
    changes: _Changes = {
        "BOOTPROTO": "dhcp" if _dynamic(item, 4) else "none",
        "IPV6INIT": "no" if item.entry.excludes_ipv6 else "yes",
        "IPV6_AUTOCONF": "yes" if _dynamic(item, 6) else "no",
        "DHCPV6C": "yes" if _types(item) & DHCP6 else None,
    }
    if _dynamic(item, 6):
        changes["IPV6_FORCE_ACCEPT_RA"] = None  # "no", if the port has a static address of IPv6 too
    return changes


def dns(item: Item, versions: List[int]) -> _Changes:
    """Returns the name servers of these families, and takes away what the renderer wrote besides them."""
    servers = [one for one in item.all_dns if ipaddress.ip_address(one).version in versions][:_MOST_SERVERS]
    changes: _Changes = {"DNS%d" % number: None for number in range(1, _MOST_SERVERS + 1)}
    changes.update({"DNS%d" % number: server for number, server in enumerate(servers, 1)})
    search = " ".join(item.all_search) or None
    changes["DOMAIN"] = search if 4 in versions else None
    # NetworkManager reads DOMAIN with the addresses of IPv4 only.
    changes["IPV6_DOMAIN"] = search if versions == [6] else None
    return changes


# -- routes -----------------------------------------------------------------------------------------


def wanted_routes(item: Item, version: int) -> List[Route]:
    found = [route for net in item.entry.networks for route in net.routes if route.gateway not in item.own]
    return [route for route in found if ipaddress.ip_network(route.network).version == version]


def _told(item: Item, network: str) -> Optional[int]:
    """Returns the metric that the document gives a default route."""
    version = ipaddress.ip_network(network).version
    told = [route.metric for route in wanted_routes(item, version) if route.network == network]
    return next((metric for metric in told if metric is not None), None)


def _is_in_file(item: Item, route: Route, scripts: bool) -> bool:
    """True for a default route that neither GATEWAY nor IPV6_DEFAULTGW can express."""
    version = ipaddress.ip_network(route.network).version
    if _dynamic(item, version):
        # NetworkManager ignores GATEWAY beside a lease, and so does ifup. Beside an advertised default route, one with
        # the same metric would make both a single multipath route.
        return True
    # The scripts have no metric for IPV6_DEFAULTGW, and take a GATEWAY in the subnet of the first address only.
    return scripts and (version == 6 or not _is_in_first_subnet(item, str(route.gateway)))


def _is_in_first_subnet(item: Item, gateway: str) -> bool:
    networks = [ipaddress.ip_interface(one).network for one in static_addresses(item.entry) if ":" not in one]
    return bool(networks) and ipaddress.ip_address(gateway) in networks[0]


def _in_gateway(item: Item, version: int, scripts: bool) -> Optional[Route]:
    """Returns the default route that is GATEWAY or IPV6_DEFAULTGW: the first one, if these can express it."""
    defaults = [one for one in wanted_routes(item, version) if one.network in (DEFAULT4, DEFAULT6) and one.gateway]
    return defaults[0] if defaults and not _is_in_file(item, defaults[0], scripts) else None


def _gateways(item: Item, scripts: bool) -> _Changes:
    """Returns the gateways, without those whose default routes are in the files of routes."""
    routes = {"GATEWAY": _in_gateway(item, 4, scripts), "IPV6_DEFAULTGW": _in_gateway(item, 6, scripts)}
    return {key: None if route is None else route.gateway for key, route in routes.items()}


def _metric(item: Item, version: int) -> int:
    """Returns the metric of a family's routes: GATEWAY has no other one."""
    told = None if _dynamic(item, version) else _told(item, DEFAULT4 if version == 4 else DEFAULT6)
    return told if told is not None else item.metric or _FIRST_METRIC


def in_files(item: Item, version: int, scripts: bool) -> List[ifcfg_file.Line]:
    """Returns what the file of routes has: the routes without the one that is GATEWAY or IPV6_DEFAULTGW.

    A default route beside an advertised one has the next metric. A family's further default routes, which the renderer
    does not accept, are here.
    """
    found: List[ifcfg_file.Line] = []
    advertised = version == 6 and _dynamic(item, 6)
    off = off_subnet_gateways(item.entry) if scripts else frozenset()
    for route in wanted_routes(item, version):
        if route == _in_gateway(item, version, scripts):
            continue
        is_default = route.network in (DEFAULT4, DEFAULT6) and bool(route.gateway)
        metric = route.metric if route.metric is not None else item.metric or None
        if is_default and advertised and route.metric is None:
            metric = (item.metric or _FIRST_METRIC) + 1
        more = "onlink" if route.gateway in off else ""
        line = ifcfg_file.Line(route.network, route.gateway or "", "" if metric is None else str(metric), more)
        if line not in found:
            found.append(line)
    return found
