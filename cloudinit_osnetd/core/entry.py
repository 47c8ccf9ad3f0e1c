# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a network_data says about a link, as frozen and validated records, in memory and on disk.

network_data.py makes them; the rest of the program never handles raw JSON of a network_data.
"""

import ipaddress
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Sequence, Tuple

from . import digest, encoding

DHCP4 = frozenset(["ipv4_dhcp"])
DHCP6 = frozenset(["ipv6_dhcp", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless"])
SLAAC = frozenset(["ipv6_slaac"])
STATIC = frozenset(["ipv4", "ipv6", "static", "static6"])
DEFAULT4, DEFAULT6 = "0.0.0.0/0", "::/0"
LEAST_MTU_IPV6 = 1280  # RFC 8200, 5; the kernel removes all IPv6 of a device that gets less (addrconf.c)
_NO_SERVER = ("0.0.0.0", "::")  # noqa: S104 - not bound to


class Route(NamedTuple):
    """`network` in prefix notation, `gateway` empty for an on-link route."""

    network: str
    gateway: str
    metric: Optional[int]

    @property
    def text(self) -> str:
        return "%s via %s" % (self.network, self.gateway) if self.gateway else "%s on the link" % self.network


class Network(NamedTuple):
    """One item of `networks`: `address` is `ip/prefix` for a static one, else empty."""

    type: str
    address: str
    routes: Tuple[Route, ...]
    dns: Tuple[str, ...]
    search: Tuple[str, ...] = ()  # domains
    nowhere: Tuple[str, ...] = ()  # default routes without a gateway in the document, which are ignored

    @property
    def is_ipv6(self) -> bool:
        """By its address, as cloud-init has it; a network without one is of its type's family."""
        return ":" in self.address or self.type in DHCP6 | SLAAC

    @property
    def servers(self) -> Tuple[str, ...]:
        """The DNS servers to use: none for 0.0.0.0 and ::, by which Neutron says that a subnet has none.

        See its guide (admin/config-dns-res). They stay in `dns`, so such a network is not served by the global ones.
        """
        return used_servers(self.dns)


class Entry(NamedTuple):
    """What one source says about one link, without ids, because Nova renumbers them.

    Networks and routes keep the order of the document, in which they are rendered. Two entries that differ only in that
    order are equal and have the same digest: Nova's order has no meaning and changes at times.
    """

    kind: str  # "phy", "bond" or "vlan"
    mac: str
    type: str
    mtu: Optional[int]
    vlan_id: Optional[int]
    parent: str  # key of a VLAN's link
    members: Tuple[str, ...]  # keys of a bond's links
    params: Tuple[Tuple[str, str], ...]  # a bond's `bond_*` fields, as bonding.option has them
    networks: Tuple[Network, ...]
    mac_told: bool = True  # False: `mac` is a member's or the parent's and only identifies it; the kernel chooses
    name: str = ""  # of a bond in the document; used if Context.bond_names

    @property
    def key(self) -> str:
        """The MAC and the kind; for a VLAN also its id, because it may have its parent's MAC."""
        return make_key(self.kind, self.mac, self.vlan_id)

    @property
    def excludes_ipv6(self) -> bool:
        """True if its MTU is too small: networkd and NetworkManager set 1280 unless they are told to leave IPv6 out."""
        return self.mtu is not None and self.mtu < LEAST_MTU_IPV6 and not any(net.is_ipv6 for net in self.networks)

    @property
    def canonical(self) -> "Entry":
        """The same entry in a fixed order, for comparisons and digests."""
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


def used_servers(dns: Sequence[str]) -> Tuple[str, ...]:
    """Returns DNS servers without the unspecified address, which stands for none."""
    return tuple(server for server in dns if server not in _NO_SERVER)


def make_key(kind: str, mac: str, vlan_id: Optional[int] = None) -> str:
    return "%s/%s" % (mac, kind) if vlan_id is None else "%s/%s.%d" % (mac, kind, vlan_id)


def link_id(key: str) -> str:
    """Returns how reports identify a link: a NIC by its MAC, a bond or a VLAN by its key, as its MAC may be a NIC's."""
    mac, _slash, kind = key.partition("/")
    return mac if kind == "phy" else key


# -- an entry on disk -----------------------------------------------------------------------------


def entry_to_json(entry: Entry) -> Dict[str, Any]:
    """Returns an entry as JSON, for the store and for digests.

    A new field of Entry or Network must have a default (see encoding.py): then the store of an older
    version can be read, and an older version can read this one and ignores the field. A Route must keep
    three values: 0.1.0 accepts no other number.
    """
    nets = [dict(encoding.write(net), routes=[list(route) for route in net.routes]) for net in entry.networks]
    return dict(encoding.write(entry), networks=nets)


def entry_from_json(obj: Dict[str, Any]) -> Entry:
    """The inverse of entry_to_json; raises KeyError, TypeError or ValueError on a damaged store."""
    networks = tuple(
        encoding.read(
            Network,
            net,
            {
                "routes": tuple(encoding.read_row(Route, Route._fields, route) for route in net["routes"]),
                "dns": tuple(net["dns"]),
                "search": tuple(net.get("search", ())),
                "nowhere": tuple(net.get("nowhere", ())),
            },
        )
        for net in obj["networks"]
    )
    if not all(isinstance(text, str) for net in networks for text in (net.type, net.address, *net.dns, *net.search)):
        raise TypeError("not a network: %.60r" % (obj["networks"],))
    fields = {
        "members": tuple(obj["members"]),
        "params": tuple((name, value) for name, value in obj["params"]),
        "networks": networks,
    }
    return encoding.read(Entry, obj, fields)


def takes_default(entry: Entry) -> bool:
    """True if the link brings a default route, or may bring one by a lease or an advertisement."""
    return any(
        not net.address or any(route.network in (DEFAULT4, DEFAULT6) for route in net.routes) for net in entry.networks
    )


def static_addresses(entry: Entry) -> Tuple[str, ...]:
    """Returns the `ip/prefix` of each static network of an entry."""
    return tuple(net.address for net in entry.networks if net.address)


def link_routes(entry: Entry) -> Tuple[Route, ...]:
    """Returns the on-link routes of an entry, without duplicates."""
    return tuple(dict.fromkeys(route for net in entry.networks for route in net.routes if not route.gateway))


def off_subnet_gateways(entry: Entry) -> FrozenSet[str]:
    """Returns the gateways of the static networks that are in no subnet of the link, which Neutron allows.

    The kernel accepts a route via such a gateway only with `onlink` of ip-route(8). A link-local IPv6 gateway is always
    a neighbour.
    """
    subnets = [ipaddress.ip_interface(address).network for address in static_addresses(entry)]
    gateways = {route.gateway for net in entry.networks if net.address for route in net.routes if route.gateway}
    return frozenset(gateway for gateway in gateways if _is_off(ipaddress.ip_address(gateway), subnets))


def _is_off(gateway: Any, subnets: Sequence[Any]) -> bool:
    if gateway.is_unspecified or (gateway.version == 6 and gateway.is_link_local):
        return False
    return not any(gateway.version == subnet.version and gateway in subnet for subnet in subnets)
