# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a network_data.json says, as frozen and validated records.

Nothing behind this module meets raw JSON of a network_data again. The format is OpenStack's
(nova: doc/api_schemas/network_data.json). A document is refused whole (`Refused`) only for what
makes it unreadable; every other fault costs the link it belongs to, and is named in `faults`.

Values end in configuration files of the guest, so whatever is not an address, a number or a short
plain word is a fault: a newline in a DNS address would be a root shell in ifupdown.
"""

import ipaddress
import json
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from . import digest, records
from .fields import (
    DataError,
    gateway,
    ip_address,
    json_object,
    mac_address,
    needed,
    number,
    object_list,
    prefix_length,
    word,
)

MAX_BYTES = 1 << 20

DHCP4 = frozenset(["ipv4_dhcp"])
DHCP6 = frozenset(["ipv6_dhcp", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless"])
SLAAC = frozenset(["ipv6_slaac"])
STATIC = frozenset(["ipv4", "ipv6", "static", "static6"])
DEFAULT4, DEFAULT6 = "0.0.0.0/0", "::/0"
_Value = TypeVar("_Value")


class Refused(DataError):
    """The whole document says nothing: its size, its syntax or its shape."""


class Route(NamedTuple):
    """`network` in prefix notation, `gateway` empty for an on-link route."""

    network: str
    gateway: str
    metric: Optional[int]


class Network(NamedTuple):
    """One item of `networks`: `address` is `ip/prefix` for a static one, else empty."""

    type: str
    address: str
    routes: Tuple[Route, ...]
    dns: Tuple[str, ...]


class Entry(NamedTuple):
    """What one source says of one link, without ids, which Nova renumbers.

    Its networks and their routes stand as the document has them, for so they are rendered. Two that differ in that
    order alone are equal, and have one digest: Nova's order means nothing, and is another one now and then.
    """

    kind: str  # "phy", "bond" or "vlan"
    mac: str
    type: str
    mtu: Optional[int]
    vlan_id: Optional[int]
    parent: str  # key of a VLAN's link
    members: Tuple[str, ...]  # keys of a bond's links
    params: Tuple[Tuple[str, str], ...]  # a bond's `bond_*` fields
    networks: Tuple[Network, ...]

    @property
    def key(self) -> str:
        """MAC and kind; the VLAN id too, as a VLAN may have its parent's MAC."""
        return make_key(self.kind, self.mac, self.vlan_id)

    @property
    def canonical(self) -> "Entry":
        """The same in an order that is always the same one: what is compared and digested."""
        networks = {net._replace(routes=tuple(sorted(set(net.routes), key=str))) for net in self.networks}
        return self._replace(networks=tuple(sorted(networks, key=str)))

    @property
    def digest(self) -> str:
        return digest.of_value(entry_to_json(self.canonical))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return tuple(self) == tuple(other) or tuple(self.canonical) == tuple(other.canonical)

    def __ne__(self, other: object) -> bool:  # tuple has its own
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self.canonical))


class Fault(NamedTuple):
    """`key` is empty where the link itself cannot be told (its MAC is bad)."""

    key: str
    path: str
    problem: str


class NetworkData(NamedTuple):
    """A whole document. `faulted` keys are listed by it, but what it says of them is unusable."""

    entries: Dict[str, Entry]
    services: Tuple[str, ...]  # global DNS addresses
    faults: Tuple[Fault, ...]
    faulted: FrozenSet[str]

    @property
    def homeless(self) -> bool:
        """True where a network names no link of this document: it may be any link's."""
        return any(not fault.key for fault in self.faults if fault.path.startswith("networks"))

    @property
    def anonymous_faults(self) -> bool:
        """True where a link could not be identified: then no key can be called missing."""
        return any(not fault.key for fault in self.faults if fault.path.startswith("links"))


def make_key(kind: str, mac: str, vlan_id: Optional[int] = None) -> str:
    return "%s/%s" % (mac, kind) if vlan_id is None else "%s/%s.%d" % (mac, kind, vlan_id)


def _once(values: Sequence[_Value]) -> Tuple[_Value, ...]:
    """Each of them once, where it came first."""
    return tuple(dict.fromkeys(values))


# -- parts of a document -------------------------------------------------------------------------


def _parse_route(raw: Any, path: str, own: str) -> Route:
    obj = json_object(raw, path)
    target = obj.get("network", obj.get("destination"))
    if isinstance(target, str) and "/" in target:
        network, _, mask = target.partition("/")
        network = ip_address(network, path + ".network")
        length = prefix_length(network, mask, path + ".network")
    else:
        network = ip_address(target, path + ".network")
        length = prefix_length(network, needed(obj, "netmask", path), path + ".netmask")
    network = str(ipaddress.ip_network("%s/%d" % (network, length), strict=False))
    metric = obj.get("metric")
    return Route(
        network=network,
        gateway=gateway(obj["gateway"], path + ".gateway", network, own) if obj.get("gateway") else "",
        metric=None if metric is None else number(metric, path + ".metric", 0, 0xFFFFFFFF),
    )


def _parse_dns(services: Any, path: str) -> Tuple[str, ...]:
    found: List[str] = []
    for i, raw in enumerate(object_list(services, path)):
        where = "%s[%d]" % (path, i)
        obj = json_object(raw, where)
        if obj.get("type") == "dns":
            address = ip_address(obj.get("address"), where + ".address")
            if address not in found:
                found.append(address)
    return tuple(found)


def _parse_network(raw: Dict[str, Any], path: str) -> Network:
    kind = word(needed(raw, "type", path), path + ".type")
    if kind not in DHCP4 | DHCP6 | SLAAC | STATIC:
        raise DataError(path + ".type", "unknown network type %r" % kind)
    address = ""
    if kind in STATIC:
        value = needed(raw, "ip_address", path)
        if isinstance(value, str) and "/" in value:
            ip, _, mask = value.partition("/")
            netmask: Any = mask
        else:
            ip, netmask = value, needed(raw, "netmask", path)
        ip = ip_address(ip, path + ".ip_address")
        address = "%s/%d" % (ip, prefix_length(ip, netmask, path + ".netmask"))
    routes = [
        _parse_route(route, "%s.routes[%d]" % (path, i), address)
        for i, route in enumerate(object_list(raw.get("routes"), path + ".routes"))
    ]
    if raw.get("gateway"):
        # Not Nova's way to say it, but others' (shakenfist, hand-made drives): the default route.
        default = DEFAULT6 if ":" in ip_address(raw["gateway"], path + ".gateway") else DEFAULT4
        routes.append(Route(default, gateway(raw["gateway"], path + ".gateway", default, address), None))
    # Nova's schema has a network's DNS servers on its routes, Nova itself on the network.
    dns: Tuple[str, ...] = ()
    for i, route in enumerate(object_list(raw.get("routes"), path + ".routes")):
        dns += _parse_dns(route.get("services"), "%s.routes[%d].services" % (path, i))
    dns += _parse_dns(raw.get("services"), path + ".services")
    return Network(
        type=kind,
        address=address,
        routes=_once(routes),
        dns=_once(dns),
    )


class _Links:
    """The `links` of a document by id, with what it takes to resolve one link into another."""

    def __init__(self, raw_links: List[Any]) -> None:
        self.faults: List[Fault] = []
        self.by_id: Dict[str, Tuple[str, Dict[str, Any], str]] = {}
        self.keys: Dict[str, str] = {}  # key -> path
        for i, raw in enumerate(raw_links):
            path = "links[%d]" % i
            try:
                self._take(raw, path)
            except DataError as exc:
                self.faults.append(Fault("", exc.path, exc.problem))

    def _take(self, raw: Any, path: str) -> None:
        obj = json_object(raw, path)
        link_id = needed(obj, "id", path)
        kind = {"bond": "bond", "vlan": "vlan"}.get(str(obj.get("type")), "phy")
        if kind == "vlan":
            vlan_id: Optional[int] = number(needed(obj, "vlan_id", path), path + ".vlan_id", 0, 4094)
            mac = mac_address(needed(obj, "vlan_mac_address", path), path + ".vlan_mac_address")
        else:
            vlan_id = None
            mac = mac_address(needed(obj, "ethernet_mac_address", path), path + ".ethernet_mac_address")
        key = make_key(kind, mac, vlan_id)
        if key in self.keys:
            self.faults.append(Fault(key, path, "the same link as %s" % self.keys[key]))
            return
        self.keys[key] = path
        # Two links with one id happen in the field (shakenfist#767); the first keeps the id, and a
        # network that names it belongs to the first.
        if not isinstance(link_id, (str, int)):
            raise DataError(path + ".id", "not a string")
        if str(link_id) in self.by_id:
            self.faults.append(Fault(key, path + ".id", "id %.60r is taken" % (link_id,)))
            return
        self.by_id[str(link_id)] = (key, obj, path)

    def key_of(self, link_id: Any, path: str, kinds: Tuple[str, ...] = ("phy", "bond", "vlan")) -> str:
        if str(link_id) not in self.by_id:
            raise DataError(path, "no link has the id %.60r" % (link_id,))
        key = self.by_id[str(link_id)][0]
        if not key.partition("/")[2].startswith(kinds):
            raise DataError(path, "the link %.60r is none of %s" % (link_id, ", ".join(kinds)))
        return key


def _parse_link(links: _Links, obj: Dict[str, Any], path: str, networks: List[Network]) -> Entry:
    kind_word = obj.get("type")
    # A type that is absent or null is "bridge" to nova's consumers: physical.
    link_type = "phy" if kind_word is None else word(kind_word, path + ".type")
    mtu = obj.get("mtu")  # 0: not said, as by a Neutron that does not advertise it
    vlan_id: Optional[int] = None
    parent = ""
    members: Tuple[str, ...] = ()
    params: Tuple[Tuple[str, str], ...] = ()
    kind = "phy"
    mac = obj.get("ethernet_mac_address")
    if link_type == "vlan":
        kind = "vlan"
        vlan_id = number(obj["vlan_id"], path + ".vlan_id", 0, 4094)
        parent = links.key_of(needed(obj, "vlan_link", path), path + ".vlan_link", ("phy", "bond"))
        mac = obj["vlan_mac_address"]
    elif link_type == "bond":
        kind = "bond"
        raw = object_list(needed(obj, "bond_links", path), path + ".bond_links")
        members = tuple(sorted({links.key_of(m, "%s.bond_links[%d]" % (path, i), ("phy",)) for i, m in enumerate(raw)}))
        params = tuple(
            (name, word(value, "%s.%s" % (path, name)))
            for name, value in sorted(obj.items())
            if name.startswith("bond_") and name != "bond_links" and value is not None
            if word(name, path)
        )
    return Entry(
        kind=kind,
        mac=mac_address(mac, path),
        type=link_type,
        mtu=None if mtu is None or (mtu in (0, "0") and mtu is not False) else number(mtu, path + ".mtu", 68, 65535),
        vlan_id=vlan_id,
        parent=parent,
        members=members,
        params=params,
        networks=_once(networks),
    )


def parse(document: Any) -> NetworkData:
    """Read a decoded network_data.json.

    Raises Refused where the document as a whole says nothing: not an object, empty (`{}`, which a
    metadata service gives while its cache is cold), or without a list of links.
    """
    try:
        return _parse(document)
    except RecursionError:
        raise Refused("network_data", "nested too deeply") from None


def _parse(document: Any) -> NetworkData:
    if not isinstance(document, dict):
        raise Refused("network_data", "not an object")
    if document.get("links") is None:
        raise Refused("network_data", "has no links")
    if not isinstance(document["links"], list):
        raise Refused("network_data.links", "not a list")
    raw_networks = document.get("networks")
    if raw_networks is not None and not isinstance(raw_networks, list):
        raise Refused("network_data.networks", "not a list")

    links = _Links(document["links"])
    faults = links.faults
    bad = {fault.key for fault in faults if fault.key}
    networks: Dict[str, List[Network]] = {}
    for i, raw in enumerate(raw_networks or []):
        path = "networks[%d]" % i
        key = ""
        try:
            obj = json_object(raw, path)
            key = links.key_of(needed(obj, "link", path), path + ".link")
            networks.setdefault(key, []).append(_parse_network(obj, path))
        except DataError as exc:
            faults.append(Fault(key, exc.path, exc.problem))
            if key:
                bad.add(key)

    entries: Dict[str, Entry] = {}
    for key, obj, path in links.by_id.values():
        if key in bad:
            continue
        try:
            entries[key] = _parse_link(links, obj, path, networks.get(key, []))
        except DataError as exc:
            faults.append(Fault(key, exc.path, exc.problem))
            bad.add(key)

    services: List[str] = []
    raw_services = document.get("services")
    for i, raw in enumerate(raw_services if isinstance(raw_services, list) else []):
        try:
            services.extend(a for a in _parse_dns([raw], "services[%d]" % i) if a not in services)
        except DataError as exc:
            faults.append(Fault("", "services[%d]" % i, exc.problem))
    return NetworkData(entries, tuple(services), tuple(faults), frozenset(bad))


def parse_bytes(raw: bytes) -> NetworkData:
    """Read the bytes of a network_data.json; Refused for its size and its syntax too."""
    if len(raw) > MAX_BYTES:
        raise Refused("network_data", "larger than %d bytes" % MAX_BYTES)
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise Refused("network_data", "not JSON: %s" % exc) from None
    return parse(document)


# -- an entry on disk -----------------------------------------------------------------------------


def entry_to_json(entry: Entry) -> Dict[str, Any]:
    """An entry as JSON, for the store and for digests.

    A field that is added to Entry or Network gets a default (see records.py): then a store of an
    older version is read, and an older version reads ours and leaves the field. A Route stays three
    values: 0.1.0 knows no other number of them.
    """
    nets = [dict(records.write(net), routes=[list(route) for route in net.routes]) for net in entry.networks]
    return dict(records.write(entry), networks=nets)


def entry_from_json(obj: Dict[str, Any]) -> Entry:
    """The inverse of entry_to_json; raises KeyError, TypeError or ValueError on a damaged store."""
    networks = tuple(
        records.read(
            Network,
            net,
            {
                "routes": tuple(records.read_row(Route, Route._fields, route) for route in net["routes"]),
                "dns": tuple(net["dns"]),
            },
        )
        for net in obj["networks"]
    )
    told = {
        "members": tuple(obj["members"]),
        "params": tuple((name, value) for name, value in obj["params"]),
        "networks": networks,
    }
    return records.read(Entry, obj, told)


def takes_default(entry: Entry) -> bool:
    """True where the link brings a default route, or may: by a lease, an advertisement."""
    return any(
        not net.address or any(route.network in (DEFAULT4, DEFAULT6) for route in net.routes) for net in entry.networks
    )


def static_addresses(entry: Entry) -> Tuple[str, ...]:
    """The `ip/prefix` of each static network of an entry."""
    return tuple(net.address for net in entry.networks if net.address)


def off_subnet_gateways(entry: Entry) -> FrozenSet[str]:
    """The gateways of its static networks that no subnet of the link holds, as Neutron allows.

    The kernel takes a route through one only where it is told that the gateway is a neighbour all the same (`onlink` of
    ip-route(8)). A link-local IPv6 one always is.
    """
    subnets = [ipaddress.ip_interface(address).network for address in static_addresses(entry)]
    gateways = {route.gateway for net in entry.networks if net.address for route in net.routes if route.gateway}
    return frozenset(gateway for gateway in gateways if _is_off(ipaddress.ip_address(gateway), subnets))


def _is_off(gateway: Any, subnets: Sequence[Any]) -> bool:
    if gateway.is_unspecified or (gateway.version == 6 and gateway.is_link_local):
        return False
    return not any(gateway.version == subnet.version and gateway in subnet for subnet in subnets)
