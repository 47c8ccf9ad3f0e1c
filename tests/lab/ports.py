# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Networks, ports and servers: what a cloud's API would show, and how Nova sees it."""

from __future__ import annotations

import ipaddress
import random
import uuid
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

from tests.lab import nova

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Routes = Sequence[Tuple[str, str]]


class Subnet(NamedTuple):
    """A subnet of a network. `dhcp`: the cloud serves it by DHCP (IPv4); `ipv6_mode`: by RA, or RA and DHCPv6.

    dhcp_agent: served by Neutron's agent, which has an address of its own in the subnet, or by OVN itself, which has
    none. Nova tells the MTU of the latter's networks only.
    metadata_route: DHCP gives a route to the metadata service; False: none, its router answers for it.
    advertised: a provider's own router advertises itself there (IPv6), of which Neutron knows nothing.
    """

    cidr: str
    gateway: Optional[str] = None
    dhcp: bool = False
    dns: Tuple[str, ...] = ()
    routes: Tuple[Tuple[str, str], ...] = ()
    ipv6_mode: Optional[str] = None
    lease_time: str = "10m"
    dhcp_agent: bool = True
    metadata_route: bool = True
    advertised: bool = False

    @property
    def network(self) -> Any:
        return ipaddress.ip_network(self.cidr)

    @property
    def host_address(self) -> str:
        """The address of the cloud's own end in the subnet: the gateway, or the last one where there is none."""
        if self.gateway and ipaddress.ip_address(self.gateway) in self.network:
            return self.gateway
        return str(self.network.network_address + self.network.num_addresses - 2)

    @property
    def interface(self) -> str:
        """That address with the subnet's prefix length."""
        return f"{self.host_address}/{self.network.prefixlen}"


class Network:
    """A network: its subnets, and the bridge that carries it inside the cloud's namespace."""

    def __init__(self, name: str, bridge: str, mtu: Optional[int], subnets: Sequence[Subnet]) -> None:
        self.name = name
        self.id = str(uuid.uuid4())
        self.bridge = bridge
        self.mtu = mtu
        self.subnets = list(subnets)
        # Nor a router's or a name server's: a route by way of the server itself is none.
        self._given = {subnet.host_address for subnet in subnets}
        for subnet in subnets:
            self._given |= {subnet.gateway or "", *subnet.dns, *(gateway for _destination, gateway in subnet.routes)}

    def new_addresses(self) -> List[str]:
        """A random free address in each subnet. None is given twice, so an old lease is never in the way."""
        return [self._new_address(subnet) for subnet in self.subnets]

    def _new_address(self, subnet: Subnet) -> str:
        first, size = subnet.network.network_address, min(subnet.network.num_addresses, 2**16)
        while True:
            address = str(first + random.randrange(2, size - 1))
            if address not in self._given:
                self._given.add(address)
                return address


class Port:
    """A port: a MAC on a network, with fixed IPs. `mtu`, `dns`, `routes`: this port's own, where a test edited them."""

    def __init__(self, network: Network, mac: Optional[str], fixed_ips: Optional[Sequence[str]]) -> None:
        self.id = str(uuid.uuid4())
        self.network = network
        self.mac = mac or random_mac()
        self.fixed_ips = list(network.new_addresses() if fixed_ips is None else fixed_ips)
        self.mtu = network.mtu
        self.dns: Optional[Tuple[str, ...]] = None
        self.routes: Optional[Tuple[Tuple[str, str], ...]] = None

    def __repr__(self) -> str:
        return f"<Port {self.mac} on {self.network.name}: {', '.join(self.fixed_ips) or 'no address'}>"

    @property
    def devname(self) -> str:
        """The id of its link in network_data.json: the name of its tap on the compute host."""
        return f"tap{self.id[:11]}"

    def subnets(self) -> List[Tuple[Subnet, Tuple[str, ...]]]:
        """The subnets that the port has an address in, with this port's edits and addresses."""
        found = []
        for subnet in self.network.subnets:
            inside = tuple(ip for ip in self.fixed_ips if ipaddress.ip_address(ip) in subnet.network)
            if inside:
                # A name server is told with the subnet of its own IP version only.
                dns = subnet.dns if self.dns is None else _same_version(self.dns, subnet)
                routes = subnet.routes if self.routes is None else _same_version(self.routes, subnet)
                found.append((subnet._replace(dns=dns, routes=routes), inside))
        return found

    def vif(self) -> nova.Vif:
        """The port as Nova has it."""
        return nova.Vif(
            id=self.id,
            mac=self.mac,
            network_id=self.network.id,
            devname=self.devname,
            mtu=self.mtu,
            subnets=tuple(
                nova.Subnet(
                    cidr=subnet.cidr,
                    addresses=addresses,
                    gateway=subnet.gateway,
                    dns=subnet.dns,
                    routes=subnet.routes,
                    dhcp_server=subnet.host_address if _is_served(subnet) and subnet.dhcp_agent else None,
                    enable_dhcp=_is_served(subnet),
                    ipv6_mode=subnet.ipv6_mode,
                )
                for subnet, addresses in self.subnets()
            ),
        )


def random_mac() -> str:
    """A MAC as Neutron gives it out: base fa:16:3e."""
    return "fa:16:3e:" + ":".join(f"{random.randrange(256):02x}" for _ in range(3))


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The IPv6 link-local address that a MAC makes (RFC 4291, appendix A)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    interface = bytes(octets[:3] + [0xFF, 0xFE] + octets[3:])
    return ipaddress.IPv6Address(bytes([0xFE, 0x80] + [0] * 6) + interface)


def address_by_mac(cidr: str, mac: str) -> str:
    """The address that stateless autoconfiguration makes of a MAC, which Neutron gives such a port (RFC 4291)."""
    interface = int(link_local(mac)) & ((1 << 64) - 1)
    return str(ipaddress.ip_network(cidr).network_address + interface)


def _is_served(subnet: Subnet) -> bool:
    return subnet.dhcp or subnet.ipv6_mode is not None


def _same_version(items: Any, subnet: Subnet) -> Any:
    version = subnet.network.version

    def address(item: Any) -> str:
        return item if isinstance(item, str) else item[1]

    return tuple(item for item in items if ipaddress.ip_address(address(item)).version == version)
