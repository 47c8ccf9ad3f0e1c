# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Parses the `networks` and `services` of a network_data: each item gives a record or a DataError that names the field.

What the format leaves open is read as cloud-init reads it (sources/helpers/openstack.py: convert_net_json, and
net/network_state.py: _normalize_subnet).
"""

import ipaddress
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from .entry import DEFAULT4, DEFAULT6, DHCP4, DHCP6, SLAAC, STATIC, Network, Route
from .fields import (
    DataError,
    addresses,
    domains,
    gateway,
    ip_address,
    json_object,
    may_be_of_a_nic,
    needed,
    number,
    object_list,
    prefix_length,
    word,
)


class Services(NamedTuple):
    """DNS servers and search domains, in order, without duplicates."""

    dns: Tuple[str, ...] = ()
    search: Tuple[str, ...] = ()

    def and_then(self, other: "Services") -> "Services":
        return Services(_each_once(self.dns + other.dns), _each_once(self.search + other.search))


def _each_once(items: Sequence[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def parse_network(raw: Dict[str, Any], path: str) -> Network:
    kind = word(needed(raw, "type", path), path + ".type")
    if kind not in DHCP4 | DHCP6 | SLAAC | STATIC:
        raise DataError(path + ".type", "unknown network type %r" % kind)
    address = ""
    if kind in STATIC:
        value = needed(raw, "ip_address", path)
        ip, slash, mask = value.partition("/") if isinstance(value, str) else (value, "", "")
        if slash and not mask:
            raise DataError(path + ".ip_address", "not an IP address: %.60r" % (value,))
        ip = ip_address(ip, path + ".ip_address")
        if not may_be_of_a_nic(ip):
            raise DataError(path + ".ip_address", "not an address that a NIC can have: %s" % ip)
        address = "%s/%d" % (ip, prefix_length(ip, mask or raw.get("netmask"), path + ".netmask"))
    raw_routes = object_list(raw.get("routes"), path + ".routes")
    routes = [_parse_route(route, "%s.routes[%d]" % (path, i), address) for i, route in enumerate(raw_routes)]
    if raw.get("gateway") not in (None, "") and kind not in DHCP4 | DHCP6:
        # The default route, in a form that Nova does not use but others do (shakenfist, hand-made drives). A lease has
        # its own default route, so cloud-init's renderers ignore the field of a DHCP network.
        default = DEFAULT6 if ":" in ip_address(raw["gateway"], path + ".gateway") else DEFAULT4
        routes.append(Route(default, gateway(raw["gateway"], path + ".gateway", default, address), None))
    services = _services_of(raw, raw_routes, path)
    return Network(
        type=kind,
        address=address,
        routes=tuple(dict.fromkeys(route for route in routes if not _is_redundant(route, address))),
        dns=services.dns,
        search=services.search,
        nowhere=tuple(sorted({r.network for r in routes if not r.gateway and r.network in (DEFAULT4, DEFAULT6)})),
    )


def doubts(raw: Dict[str, Any], network: Network, path: str) -> List[DataError]:
    """Returns what contradicts itself in a network that can be used all the same, as cloud-init uses it."""
    if not network.address:
        return []
    ip, _slash, length = network.address.partition("/")
    if length == "0":
        return [DataError(path + ".netmask", "no netmask of an address: every address would be a neighbour")]
    netmask = raw.get("netmask")
    if "/" in raw["ip_address"] and netmask not in (None, ""):
        try:
            told = prefix_length(ip, netmask, path + ".netmask")
        except DataError as exc:
            return [exc]
        if str(told) != length:
            return [DataError(path + ".netmask", "/%d, but the address says %s" % (told, network.address))]
    return []


def _parse_route(raw: Any, path: str, own: str) -> Route:
    obj = json_object(raw, path)
    # cloud-init's other name for it, which counts if both are there.
    target = obj.get("network") if obj.get("destination") in (None, "") else obj["destination"]
    if target == "default":
        target = DEFAULT6 if ":" in str(obj.get("gateway")) else DEFAULT4
    network, slash, mask = target.partition("/") if isinstance(target, str) else (target, "", "")
    if slash and not mask:
        raise DataError(path + ".network", "not a network: %.60r" % (target,))
    network = ip_address(network, path + ".network")
    if mask:
        length = prefix_length(network, mask, path + ".network")
    elif obj.get("netmask") in (None, "") and ipaddress.ip_address(network).is_unspecified:
        length = 0  # cloud-init uses /24 and /64 here too, which is never what is meant
    else:
        length = prefix_length(network, obj.get("netmask"), path + ".netmask")
    network = str(ipaddress.ip_network("%s/%d" % (network, length), strict=False))
    metric = obj.get("metric")
    return Route(
        network=network,
        gateway=gateway(obj.get("gateway"), path + ".gateway", network, own),
        metric=None if metric is None else number(metric, path + ".metric", 0, 0xFFFFFFFF),
    )


def _is_redundant(route: Route, own: str) -> bool:
    """True for a default route without a gateway (CloudStack's form of having none), and for the subnet's route."""
    if route.gateway:
        return False
    return route.network in (DEFAULT4, DEFAULT6) or (bool(own) and route.network == str(_subnet(own)))


def _subnet(own: str) -> Any:
    return ipaddress.ip_interface(own).network


def _services_of(raw: Dict[str, Any], raw_routes: List[Any], path: str) -> Services:
    """Returns the services of one network: Nova's schema has DNS servers in the routes, Nova itself in the network.

    If neither has any, those in `dns_nameservers` and `dns_search` are used (Ironic, Nova's spec, Talos, Airship).
    """
    found = Services()
    for i, route in enumerate(raw_routes):
        found = found.and_then(_parse_own(route.get("services"), "%s.routes[%d].services" % (path, i)))
    found = found.and_then(_parse_own(raw.get("services"), path + ".services"))
    fields = Services(
        tuple(addresses(raw.get("dns_nameservers"), path + ".dns_nameservers")),
        tuple(domains(raw.get("dns_search"), path + ".dns_search")),
    )
    return Services(found.dns or fields.dns, found.search + fields.search).and_then(Services())


def _parse_own(raw: Any, path: str) -> Services:
    found = Services()
    for i, service in enumerate(object_list(raw, path)):
        where = "%s[%d]" % (path, i)
        if json_object(service, where).get("type") == "dns":
            found = found.and_then(_parse_dns(service, where))
    return found


def _parse_dns(service: Dict[str, Any], path: str) -> Services:
    servers = addresses(needed(service, "address", path), path + ".address")
    if not servers:
        raise DataError(path + ".address", "not an IP address: %.60r" % (service["address"],))
    return Services(tuple(servers), tuple(domains(service.get("search"), path + ".search")))


def parse_global(raw: Any, path: str) -> Services:
    """Parses a global service. cloud-init uses each service with an address as a DNS server, whatever its type."""
    service = json_object(raw, path)
    try:
        return _parse_dns(service, path)
    except DataError:
        if service.get("type") == "dns":
            raise
        return Services()  # another type of service, whose address is a name or a text

