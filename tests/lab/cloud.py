# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A simulated OpenStack cloud: networks on bridges in a namespace of its own, DHCP, and the metadata service."""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tests.lab import dhcp, documents, metadata, netns, run
from tests.lab.metadata import Answer, Metadata
from tests.lab.ports import Network, Port, Routes, Subnet, link_local, random_mac
from tests.lab.server import Server


class Plugged(NamedTuple):
    """A NIC: the bridge it is plugged into, the names of its veth's outer and inner end, and its MAC."""

    bridge: str
    outside: str
    inside: str
    mac: str


class Cloud:
    """Everything around the guests. A context manager; whatever happens, it is gone when the process ends.

    With `port_security` (Neutron's default) the metadata service knows a server only by the fixed IPs of its ports and
    the link-local addresses of their MACs. Without it, by the MAC behind whatever address it uses.
    """

    def __init__(self, port_security: bool = True) -> None:
        self._run = run.current()
        self.namespace = self._run.name("cloud")
        self.port_security = port_security
        self.networks: List[Network] = []
        self.servers: List[Server] = []
        self._dhcp: Dict[str, dhcp.Dhcp] = {}
        netns.add(self.namespace)
        self._forget = self._run.at_exit(self.close)
        self.metadata = Metadata(self.namespace, self._files_for)

    def __enter__(self) -> "Cloud":
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()

    def network(
        self,
        name: str,
        cidr: Optional[str] = None,
        gateway: Optional[str] = None,
        dhcp: bool = False,
        dns: Sequence[str] = (),
        mtu: Optional[int] = 1450,
        routes: Routes = (),
        lease_time: str = "10m",
        ipv6_mode: Optional[str] = None,
        subnets: Sequence[Subnet] = (),
    ) -> Network:
        """Make a network with one subnet, or with the given ones. The cloud itself has the gateway's address in it."""
        if cidr:
            first = Subnet(cidr, gateway, dhcp, tuple(dns), tuple(routes), ipv6_mode, lease_time)
            subnets = [first, *subnets]
        bridge = f"br{len(self.networks)}"
        network = Network(name, bridge, mtu, subnets)
        self._raise_bridge(network)
        self.networks.append(network)
        self.metadata.serve(name, bridge)
        self._tell_dhcp(network)
        return network

    def link_local(self, network: Network) -> str:
        """The router's own link-local address, from which it advertises itself."""
        shown = json.loads(netns.output(self.namespace, ["ip", "-json", "-6", "address", "show", "dev", network.bridge]))
        addresses = [a["local"] for a in shown[0]["addr_info"] if a["scope"] == "link"]
        return str(next(address for address in addresses if address != metadata.IPV6))

    def server(self, name: str, user_data: Optional[str] = None, uuid: Optional[str] = None) -> Server:
        server = Server(name, self._tell_dhcp, user_data, uuid)
        self.servers.append(server)
        return server

    def leases(self, network: Network) -> List[Tuple[str, str]]:
        """(MAC, address) of the DHCP leases that a network gave out."""
        return self._dhcp[network.name].leases() if network.name in self._dhcp else []

    def acknowledged(self, network: Network, port: Port) -> int:
        """How often a port's DHCP client was given a lease, or had it renewed."""
        return self.dhcp_log(network).count(f"DHCPACK({network.bridge}) {port.fixed_ips[0]} {port.mac}")

    def dhcp_log(self, network: Network) -> str:
        """What the network's DHCP server has to say; nothing where there is none."""
        return self._dhcp[network.name].log() if network.name in self._dhcp else ""

    def edit_subnet(self, network: Network, **fields: Any) -> None:
        """Change what the cloud has of a network's first subnet, for all of its ports: fields of Subnet."""
        network.subnets[0] = network.subnets[0]._replace(**fields)
        if network.name in self._dhcp:
            self._dhcp[network.name].close()  # what it serves is told at its start
        self._tell_dhcp(network)

    def stop_dhcp(self, network: Network) -> None:
        """Nobody answers DHCP in this network any more, until a port of it is created or changed."""
        self._dhcp[network.name].close()

    def router_down(self, network: Network, cidr: Optional[str] = None) -> None:
        """The gateways of a network, or of one of its subnets, answer nothing any more: no ARP, no NDP, no forwarding."""
        for subnet in self._routed(network, cidr):
            netns.ip(self.namespace, f"addr del {subnet.interface} dev {network.bridge}")

    def router_up(self, network: Network, cidr: Optional[str] = None) -> None:
        for subnet in self._routed(network, cidr):
            nodad = " nodad" if subnet.network.version == 6 else ""
            netns.ip(self.namespace, f"addr add {subnet.interface} dev {network.bridge}{nodad}")

    def _routed(self, network: Network, cidr: Optional[str]) -> List[Subnet]:
        return [subnet for subnet in network.subnets if cidr in (None, subnet.cidr)]

    def metadata_down(self, how: str = "refuse") -> None:
        """The metadata service fails: it refuses connections, or with "drop" answers nothing at all."""
        self.metadata.down(how)

    def metadata_up(self) -> None:
        self.metadata.up()

    def override(self, pattern: str, **answer: Any) -> None:
        """Answer requests whose path matches in another way: see metadata.Answer for the ways."""
        self.metadata.override(Answer(pattern, **answer))

    def requests(self) -> List[metadata.Request]:
        """What the metadata service answered, oldest first."""
        return list(self.metadata.requests)

    def close(self) -> None:
        self.metadata.close()
        for service in self._dhcp.values():
            service.close()
        netns.delete(self.namespace)
        self._forget()

    def connect(self, nics: Sequence[Plugged], namespace: str, group: int) -> None:
        """Plug NICs, all in a few milliseconds: veths whose inner ends are born in the guest's namespace, with name and MAC."""
        born = "link add {0.outside} type veth peer name {0.inside} address {0.mac} group {2} netns {1}"
        there = "link set {0.outside} master {0.bridge} up"
        netns.ip(self.namespace, *[line.format(nic, namespace, group) for line in (born, there) for nic in nics])

    def disconnect(self, outside: str) -> None:
        """Unplug it: both ends vanish."""
        netns.ip(self.namespace, f"link del {outside}")

    def _raise_bridge(self, network: Network) -> None:
        bridge = network.bridge
        commands = [
            # An address of its own: else it is the lowest of its ports', and a router's does not change when a port leaves.
            f"link add {bridge} address {random_mac()} type bridge stp_state 0 forward_delay 0",
            f"link set {bridge} up",
            f"addr add {metadata.IPV4}/32 dev {bridge}",
            # A guest without an address may come from a link-local one; the bridges share the route's metric.
            f"route append 169.254.0.0/16 dev {bridge} scope link",
            f"addr add {metadata.IPV6}/64 dev {bridge} nodad",
        ]
        for subnet in network.subnets:
            nodad = " nodad" if subnet.network.version == 6 else ""
            commands.append(f"addr add {subnet.interface} dev {bridge}{nodad}")
        netns.output(
            self.namespace, ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
        )
        netns.ip(self.namespace, *commands)
        if any(subnet.network.version == 6 for subnet in network.subnets):
            # A router says in each neighbour advertisement that it is one, else its advertised route is dropped (RFC 4861).
            netns.output(self.namespace, ["sysctl", "-qw", f"net.ipv6.conf.{bridge}.forwarding=1"])
        self._keep_carrier(bridge)

    def _keep_carrier(self, bridge: str) -> None:
        """Give a bridge a port that is always up.

        Where a guest's NIC is the only one and goes down for a moment, as it does between cloud-init's own DHCP and
        ifup's, the bridge has no carrier, and what it sends after that may get lost. Nobody is at the port's other end.
        """
        inner, outer = f"{bridge}-on", f"{bridge}-up"
        netns.ip(self.namespace, f"link add {inner} type veth peer name {outer}", f"link set {outer} arp off")
        netns.output(self.namespace, ["sysctl", "-qw", f"net.ipv6.conf.{outer}.disable_ipv6=1"])
        netns.ip(self.namespace, f"link set {outer} up", f"link set {inner} master {bridge} up")

    def _tell_dhcp(self, network: Network) -> None:
        if not dhcp.is_served(network):
            return
        if network.name not in self._dhcp:
            self._dhcp[network.name] = dhcp.Dhcp(self.namespace, network)
        ports = [port for server in self.servers for port in server.ports if port.network is network]
        self._dhcp[network.name].tell(ports)

    def _files_for(self, network: str, source: str) -> Optional[documents.Files]:
        for server in self.servers:
            for port in server.ports:
                if port.network.name == network and self._is_source(port, source):
                    return server.files()
        return None

    def _is_source(self, port: Port, source: str) -> bool:
        address = ipaddress.ip_address(source)
        if address == link_local(port.mac) or source in port.fixed_ips:
            return True
        if self.port_security:
            return False
        neighbours = netns.output(self.namespace, ["ip", "neigh", "show", source, "dev", port.network.bridge])
        return port.mac.lower() in neighbours.split()
