# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A port as the cloud lists it, a NIC as the guest has it, and where the two differ."""

from __future__ import annotations

import ipaddress
import json
from typing import Any, NamedTuple, Protocol

from tests.lab.ports import Port


class Guest(Protocol):
    """What is looked at here: a Container or a VM."""

    def run(self, command: str, check: bool = True, timeout: float = 60) -> Any: ...


class Nic(NamedTuple):
    """A NIC in the kernel's words, its name servers in those of resolved or resolvconf. Addresses carry their prefix."""

    name: str
    mac: str
    up: bool
    mtu: int
    addresses: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]  # (destination, gateway)
    dns: tuple[str, ...]


class Wanted(NamedTuple):
    """What a port's owner may expect of the guest. `mtu` is None where Nova does not tell it."""

    mtu: int | None
    addresses: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    dns: tuple[str, ...]


# One command for all, since each costs a third of a second in an emulated guest. One JSON value or text a part.
_PART = "--- part ---"
_LOOK = f"""
ip -json address; echo '{_PART}'
ip -json route; echo '{_PART}'
ip -json -6 route; echo '{_PART}'
if command -v resolvectl >/dev/null; then resolvectl dns
else cd /run/resolvconf/interface 2>/dev/null && grep -H ^nameserver *; fi
true
"""


def look(guest: Guest) -> dict[str, Nic]:
    """The guest's NICs by MAC, without the loopback."""
    addresses, routes4, routes6, dns = guest.run(_LOOK).stdout.split(_PART)
    links = json.loads(addresses or "[]")
    routes = json.loads(routes4.strip() or "[]") + json.loads(routes6.strip() or "[]")
    servers = _name_servers(dns)
    return {link["address"]: _nic(link, routes, servers) for link in links if link.get("link_type") == "ether"}


def wanted(port: Port) -> Wanted:
    """Nova tells the first fixed IP of the first subnet of each IP version; DHCP gives that one too."""
    subnets = {subnet.network.version: (subnet, ips) for subnet, ips in reversed(port.subnets())}
    addresses, routes, dns = [], [], []
    for _version, (subnet, ips) in sorted(subnets.items()):
        addresses.append(f"{ips[0]}/{subnet.network.prefixlen}")
        routes += [("default", subnet.gateway)] if subnet.gateway else []
        routes += list(subnet.routes)
        dns += list(subnet.dns)
    told = port.mtu if not any(subnet.dhcp for subnet, _ips in port.subnets()) else None
    return Wanted(told, tuple(addresses), tuple(routes), tuple(dns))


def differences(port: Port, nic: Nic | None) -> list[str]:
    """In what the guest does not follow the port, for people; empty where it does."""
    if nic is None:
        return ["no NIC with this MAC"]
    want = wanted(port)
    found = [] if nic.up else ["the link is down"]
    found += [f"no address {address}" for address in want.addresses if address not in nic.addresses]
    found += [f"address {address} is not the port's" for address in nic.addresses if not _is_of(address, want)]
    if want.mtu is not None and nic.mtu != want.mtu:
        found.append(f"MTU {nic.mtu}, not {want.mtu}")
    found += [
        f"no route {destination} via {gateway}"
        for destination, gateway in want.routes
        if (destination, gateway) not in nic.routes
    ]
    found += [f"name server {server} is not in use" for server in want.dns if server not in nic.dns]
    return found


def _is_of(address: str, want: Wanted) -> bool:
    """Whether an address is the port's, or one that IPv6 made by itself."""
    return address in want.addresses or ipaddress.ip_interface(address).version == 6


def _nic(link: dict[str, Any], routes: list[dict[str, Any]], servers: dict[str, list[str]]) -> Nic:
    name = link["ifname"]
    own = [(route["dst"], route.get("gateway", "")) for route in routes if route.get("dev") == name]
    return Nic(
        name=name,
        mac=link["address"],
        up="UP" in link["flags"] and link["operstate"] != "DOWN",
        mtu=link["mtu"],
        addresses=tuple(f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"),
        routes=tuple(own),
        dns=tuple(servers.get(name, ())),
    )


def _name_servers(text: str) -> dict[str, list[str]]:
    """From `resolvectl dns` ("Link 2 (ens3): 10.0.0.1") or resolvconf's files ("ens3.inet:nameserver 10.0.0.1")."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("Link ") and "):" in line:
            name, _, rest = line.partition("(")[2].partition("):")
            found.setdefault(name, []).extend(rest.split())
        elif ":nameserver " in line:
            file, _, server = line.partition(":nameserver ")
            found.setdefault(file.rpartition(".")[0], []).append(server.strip())
    return found
