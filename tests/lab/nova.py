# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""network_data.json as Nova makes it, with its gaps.

What Nova leaves out matters as much as what it says: a port without a subnet is not told at all; of each IP version
only the first subnet and its first address are told; a DHCP network carries no address; the MTU is null as soon as
any of the port's subnets is served by a DHCP agent (which has a port, so an address of its own; OVN's own DHCP has
none). tests/nova compares this module with Nova's own serializer,
`get_network_metadata` of nova/virt/netutils.py.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

# The VIF types that Nova tells as they are; any other is told as "phy" (nova/network/model.py, LEGACY_EXPOSED_VIF_TYPES).
_TOLD_TYPES = ("bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif")

Json = Dict[str, Any]


class Subnet(NamedTuple):
    """A subnet as one port sees it: `addresses` are the port's fixed IPs in it."""

    cidr: str
    addresses: Tuple[str, ...]
    gateway: Optional[str] = None
    dns: Tuple[str, ...] = ()
    routes: Tuple[Tuple[str, str], ...] = ()  # (destination, gateway)
    dhcp_server: Optional[str] = None  # the address of a DHCP agent's port
    enable_dhcp: bool = False  # told by Neutron whoever serves it; Nova heeds it from 2025.1 on
    ipv6_mode: Optional[str] = None  # slaac, dhcpv6-stateless, dhcpv6-stateful

    @property
    def version(self) -> int:
        return ipaddress.ip_network(self.cidr).version


class Vif(NamedTuple):
    """A port of a server, as Nova's network info cache has it."""

    id: str
    mac: str
    network_id: str
    devname: Optional[str] = None  # tap and the first 11 characters of the id
    type: Optional[str] = "ovs"
    mtu: Optional[int] = None
    subnets: Tuple[Subnet, ...] = ()


def network_data(vifs: Sequence[Vif]) -> Json:
    """Serialise a server's ports, in their order."""
    links: List[Json] = []
    networks: List[Json] = []
    services: List[Json] = []
    for vif in vifs:
        if not vif.subnets:
            continue
        link = _link(vif, len(links))
        links.append(link)
        for version in (4, 6):
            subnet = next((subnet for subnet in vif.subnets if subnet.version == version), None)
            if subnet is None or not subnet.addresses:
                continue
            networks.append(_network(vif, subnet, len(networks), link["id"]))
            services += [service for service in _services(subnet) if service not in services]
    return {"links": links, "networks": networks, "services": services} if vifs else {}


def _link(vif: Vif, number: int) -> Json:
    return {
        "id": vif.devname or f"interface{number}",
        "vif_id": vif.id,
        "type": vif.type if vif.type in _TOLD_TYPES else "phy",
        "mtu": None if any(subnet.dhcp_server for subnet in vif.subnets) else vif.mtu,
        "ethernet_mac_address": vif.mac,
    }


def _network(vif: Vif, subnet: Subnet, number: int, link_id: str) -> Json:
    is_dhcp = subnet.ipv6_mode is None and bool(subnet.dhcp_server or subnet.enable_dhcp)
    suffix = "_dhcp" if is_dhcp else f"_{subnet.ipv6_mode}" if subnet.ipv6_mode else ""
    network: Json = {"id": f"network{number}", "type": f"ipv{subnet.version}{suffix}", "link": link_id}
    if not is_dhcp:
        network["ip_address"] = subnet.addresses[0]
        network["netmask"] = str(ipaddress.ip_network(subnet.cidr).netmask)
        everywhere = "::/0" if subnet.version == 6 else "0.0.0.0/0"
        network["routes"] = [_route(everywhere, subnet.gateway)] if subnet.gateway else []
        network["routes"] += [_route(destination, gateway) for destination, gateway in subnet.routes]
    network["network_id"] = vif.network_id
    if not is_dhcp:
        network["services"] = _services(subnet)
    return network


def _route(destination: str, gateway: str) -> Json:
    network = ipaddress.ip_network(destination)
    return {"network": str(network.network_address), "netmask": str(network.netmask), "gateway": gateway}


def _services(subnet: Subnet) -> List[Json]:
    return [{"type": "dns", "address": address} for address in subnet.dns]
