# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Random servers of Nova's, one after the other on one guest: what the kernel and the resolver have is what is told, no less and no more.

A network has one to three subnets of both versions of IP: static ones, DHCP by an agent or without one, SLAAC and DHCPv6, with and without a
gateway, host routes, name servers and an MTU. A server is such networks with a few ports, which come, are edited, and go. OSNETD_SEEDS=7,8
tries others, OSNETD_SERVERS=50 as many.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

from tests.lab import Cloud, Network, Port, Server
from tests.lab.ports import Subnet, address_by_mac
from tests.scenarios.conftest import KINDS, GuestFactory, Kind
from tests.scenarios.seen import (
    NO_WIRED_CONNECTION,
    PROFILES,
    Guest,
    assert_boot,
    assert_gone,
    assert_nothing_to_do,
    ip,
    lacks,
    log_of,
    reconcile_anyway,
    settled,
    wait_until,
)

_ASKED = os.environ.get("OSNETD_SEEDS", "")
_SERVERS = int(os.environ.get("OSNETD_SERVERS", "20"))
_LOTS = [pytest.param(int(seed), _SERVERS) for seed in _ASKED.split(",") if seed] or [
    pytest.param(1, 3),
    pytest.param(2, _SERVERS, marks=pytest.mark.deep),
]
# `make test` has them on NetworkManager; the soak has the other backends.
pytestmark = [
    pytest.mark.parametrize("kind", KINDS if os.environ.get("OSNETD_KINDS") else [Kind("trixie", "nm")], ids=str),
    pytest.mark.parametrize(("seed", "servers"), _LOTS),
    pytest.mark.long,
]
_NETWORKS = 10
_SHAPES = ([4], [4], [6], [4, 6], [4, 6], [6, 4], [4, 4], [4, 4, 6], [6, 6])


class _Lots(random.Random):
    """Everything is drawn from here, so a seed is always the same."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.given: Set[str] = set()
        self.numbers = iter(range(1, 1 << 16))

    def inside(self, subnet: Subnet) -> str:
        """An address of a subnet that nobody has."""
        while True:
            address = str(subnet.network[self.randrange(2, min(subnet.network.num_addresses, 1 << 20) - 2)])
            if address not in self.given:
                self.given.add(address)
                return address

    def network(self, cloud: Cloud, number: int) -> Network:
        shape = self.choice(_SHAPES)
        subnets = [self.subnet(version, number, place, version in shape[:place]) for place, version in enumerate(shape)]
        return cloud.network(f"n{number}", mtu=self.choice([None, 1280, 1400, 1442, 1450, 1500, 8950]), subnets=subnets)

    def subnet(self, version: int, number: int, place: int, second: bool) -> Subnet:
        """`second`: the network has one of this version already, and Nova tells of that only; nothing is served here."""
        if version == 4:
            cidr = f"10.{100 + number}.{64 * place}.0/{self.choice([20, 24, 24, 26, 28])}"
            mode = None
        else:
            mode = None if second else self.choice([None, None, None, "slaac", "dhcpv6-stateless", "dhcpv6-stateful"])
            cidr = f"fd00:{100 + number}:{place}::/{64 if mode else self.choice([64, 64, 112])}"
        first = Subnet(cidr)
        gateway = self.choice([None, str(first.network[1]), str(first.network[1]), str(first.network[-2])])
        if mode:
            gateway = str(first.network[1])  # its router advertises itself
        served = version == 4 and not second and self.random() < 0.35
        self.given |= {gateway or "", first._replace(gateway=gateway).host_address}
        return first._replace(
            gateway=gateway,
            dhcp=served,
            dhcp_agent=self.random() < 0.5,
            ipv6_mode=mode,
            dns=tuple(self.inside(first) for _ in range(self.choice([0, 1, 1, 2, 3]))),
            routes=() if served or mode else self.routes(first),
        )

    def routes(self, subnet: Subnet) -> Tuple[Tuple[str, str], ...]:
        return tuple(self.route(subnet) for _ in range(self.choice([0, 0, 1, 1, 2, 4])))

    def route(self, subnet: Subnet) -> Tuple[str, str]:
        number = next(self.numbers)
        if subnet.network.version == 4:
            to = ipaddress.ip_network((0x40000000 | number << 12, 32)).supernet(new_prefix=self.choice([20, 24, 32]))
        else:
            to = ipaddress.ip_network((0x20010DB9 << 96 | number << 80, 128)).supernet(new_prefix=self.choice([48, 64, 128]))
        return str(to), self.inside(subnet)

    def addresses(self, network: Network, mac: str) -> List[str]:
        """Of some of the subnets, or of all; now and then two of one."""
        subnets = network.subnets if self.random() < 0.75 else [self.choice(network.subnets)]
        found = []
        for subnet in subnets:
            by_mac = subnet.ipv6_mode in ("slaac", "dhcpv6-stateless")
            found.append(address_by_mac(subnet.cidr, mac) if by_mac else self.inside(subnet))
            if not (subnet.dhcp or subnet.ipv6_mode) and self.random() < 0.15:
                found.append(self.inside(subnet))
        return found

    def port(self, server: Server, networks: List[Network]) -> Port:
        mac = f"fa:16:3e:{self.randrange(256):02x}:{self.randrange(256):02x}:{next(self.numbers) & 255:02x}"
        network = self.choice(networks)
        return server.create_port(network, mac=mac, fixed_ips=self.addresses(network, mac))

    def edit(self, server: Server, port: Port) -> str:
        """Change something that the document tells of the port; what it was, or "" where leases and routers say all."""
        told = [subnet for subnet, _ips in port.subnets()]
        if any(subnet.dhcp or subnet.ipv6_mode for subnet in told):
            return ""
        fields: Dict[str, Any] = {}
        for field in self.choice([["fixed_ips"], ["mtu"], ["routes"], ["dns"], ["fixed_ips", "dns"], ["mtu", "routes"], ["fixed_ips", "mtu", "routes", "dns"]]):
            if field == "fixed_ips":
                static = [subnet for subnet in port.network.subnets if not (subnet.dhcp or subnet.ipv6_mode)]
                some = static if self.random() < 0.6 else [self.choice(static)]
                fields[field] = [self.inside(subnet) for subnet in some]
            elif field == "mtu":
                fields[field] = self.randrange(1280, 1501)
            elif field == "routes":
                fields[field] = [route for subnet in told for route in self.routes(subnet)]
            else:
                fields[field] = [self.inside(subnet) for subnet in told for _ in range(self.choice([0, 1, 2]))]
        server.edit_port(port, **fields)
        return f"{port.mac} {fields}"


class _Told(Port):
    """A port with those of its subnets that Nova tells of: the first one of each version of IP. Routes are as ip(8) shows them."""

    def __init__(self, port: Port) -> None:
        vars(self).update(vars(port))
        self._port = port

    def __hash__(self) -> int:
        return hash(self._port)

    def __eq__(self, other: object) -> bool:
        return other is self._port

    def subnets(self) -> List[Tuple[Subnet, Tuple[str, ...]]]:
        first: Dict[int, Tuple[Subnet, Tuple[str, ...]]] = {}
        for subnet, ips in super().subnets():
            shown = [(to.removesuffix("/32").removesuffix("/128"), via) for to, via in subnet.routes]
            first.setdefault(subnet.network.version, (subnet._replace(routes=tuple(shown)), ips))
        return list(first.values())


def wrong(guest: Guest, server: Server, heard: Dict[Port, Set[str]]) -> List[str]:
    """In what the guest is not as its ports and its document are. `heard`: by port, the global name servers that it may have."""
    found = [f"{port.mac} ({guest.nic(port)}): {text}" for port in server.ports for text in lacks(guest, _Told(port))]
    found += _by_document(guest, server.network_data())
    found += _resolver(guest, server, heard)
    for version in (4, 6):
        ways = [(route.get("metric", 0), route["dev"]) for route in ip(guest, f"-{version} route show default")]
        best = {dev for metric, dev in ways if metric == min(ways)[0]}
        if len(best) > 1:
            found.append(f"IPv{version}: {sorted(best)} are the best way")
    return found


def _by_document(guest: Guest, document: Dict[str, Any]) -> Iterator[str]:
    """What is told word for word and is not in the kernel."""
    links = {link["address"]: link for link in ip(guest, "address")}
    for link in document.get("links", []):
        there = links.get(link["ethernet_mac_address"])
        if there is None:
            yield f"no NIC {link['ethernet_mac_address']}"
            continue
        name = there["ifname"]
        if link["mtu"] and there["mtu"] != link["mtu"]:
            yield f"{name}: MTU {there['mtu']}, told is {link['mtu']}"
        has = {f"{one['local']}/{one['prefixlen']}" for one in there["addr_info"]}
        for network in document["networks"]:
            if network["link"] == link["id"] and "ip_address" in network and not network["type"].startswith(("ipv6_slaac", "ipv6_dhcp")):
                yield from _static(guest, name, network, has)


def _static(guest: Guest, name: str, network: Dict[str, Any], has: Set[str]) -> Iterator[str]:
    length = int(ipaddress.ip_address(network["netmask"])).bit_count()
    if f"{network['ip_address']}/{length}" not in has:
        yield f"{name}: told is {network['ip_address']}/{length}, there is {sorted(has)}"
    version = ipaddress.ip_address(network["ip_address"]).version
    shown = ip(guest, f"-{version} route show dev '{name}'")
    everywhere = "0.0.0.0/0" if version == 4 else "::/0"
    there = {(str(ipaddress.ip_network(one["dst"].replace("default", everywhere))), one.get("gateway", "")) for one in shown}
    for route in network["routes"]:
        length = int(ipaddress.ip_address(route["netmask"])).bit_count()
        if (f"{route['network']}/{length}", route["gateway"]) not in there:
            yield f"{name}: told is {route['network']}/{length} via {route['gateway']}, there is {sorted(there)}"


def _resolver(guest: Guest, server: Server, heard: Dict[Port, Set[str]]) -> Iterator[str]:
    if guest.backend not in PROFILES:
        return
    lines = [line.split() for line in guest.run("cat /etc/resolv.conf").stdout.splitlines()]
    there = {line[1] for line in lines if line[:1] == ["nameserver"]}
    subnets = [subnet for port in server.ports for subnet, _ips in _Told(port).subnets()]
    may_be = {one for subnet in subnets for one in subnet.dns}.union(*(heard.get(port, ()) for port in server.ports))
    # With `dns = none`, cloud-init's, nobody writes what a lease brings.
    told = [subnet for subnet in subnets if guest.backend != "ifcfg" or not (subnet.dhcp or subnet.ipv6_mode)]
    yield from (f"resolv.conf lacks {one}" for one in sorted({one for subnet in told for one in subnet.dns} - there))
    yield from (f"resolv.conf has {one}, which is nobody's" for one in sorted(there - may_be))


def check(guest: Guest, server: Server, doing: str, heard: Dict[Port, Set[str]]) -> None:
    last: List[str] = []
    for port in server.ports:
        # It has those of all ports, as they were when it was rendered: an edit of another port is no reason to touch it.
        if not any(subnet.dns for subnet, _ips in _Told(port).subnets()):
            heard.setdefault(port, set()).update(one["address"] for one in server.network_data()["services"])

    def right() -> bool:
        last[:] = wrong(guest, server, heard)
        return not last

    try:
        wait_until(right, 25 * guest.patience, doing)
    except AssertionError:
        raise AssertionError(f"{doing}: {last}\n{json.dumps(server.network_data())}") from None


def test_the_kernel_has_what_is_told(cloud: Cloud, guest_factory: GuestFactory, seed: int, servers: int) -> None:
    lots = _Lots(seed)
    heard: Dict[Port, Set[str]] = {}
    server = cloud.server("lots")
    first = server.create_port(cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450))
    networks = [lots.network(cloud, number) for number in range(_NETWORKS)]
    guest = guest_factory(server, files=NO_WIRED_CONNECTION if lots.random() < 0.5 else None)
    guest.boot()
    settled(guest)
    check(guest, server, "boot", heard)
    for number in range(servers):
        ports = [lots.port(server, networks) for _ in range(lots.choice([1, 1, 2, 3, 4]))]
        about = f"seed {seed}, server {number}"
        if lots.random() < 0.5:
            guest.plug_all(ports)
        else:
            for port in ports:
                guest.plug(port)
        check(guest, server, f"{about}: attached", heard)
        settled(guest, seconds=30)
        for _ in range(2):
            edited = lots.edit(server, lots.choice(ports))
            if edited:
                record = reconcile_anyway(guest)
                assert not record["problems"], (about, edited, record["problems"])
                check(guest, server, f"{about}: edited {edited}", heard)
        if lots.random() < 0.15:
            guest.reboot()
            assert_boot(guest, level="store")
            check(guest, server, f"{about}: rebooted", heard)
        names = [str(guest.nic(port)) for port in ports]
        for port in ports:
            server.delete_port(port)
            guest.unplug(port)
        for name in names:
            assert_gone(guest, name)
        check(guest, server, f"{about}: detached", heard)
    settled(guest)
    assert first in server.ports and "Traceback" not in log_of(guest)
    assert_nothing_to_do(guest)
