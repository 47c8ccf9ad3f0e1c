# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`osnetd-push --server --print`, asked of a real Neutron: the document, as the guest's own package reads it."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any, Dict, Optional

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.core.entry import Entry, Route
from tests.neutron.conftest import Neutron

TOP = Path(__file__).resolve().parent.parent.parent


def push(neutron: Neutron, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(neutron.clouds)}
    argv = [str(neutron.python), "-m", "osnetd_push", "--os-cloud", "lab", *words]
    return subprocess.run(argv, cwd=TOP, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)


def entries(neutron: Neutron, server: str, *words: str) -> Dict[str, Entry]:
    """What a guest that is handed the document takes from it, by MAC."""
    done = push(neutron, "--server", server, "--print", *words)
    assert done.returncode == 0, done.stderr
    read = network_data.parse_bytes(done.stdout.encode())
    assert read.faults == ()
    return {entry.mac: entry for entry in read.entries.values()}


def network(neutron: Neutron, *subnets: Dict[str, Any], **fields: Any) -> Any:
    """A network and its subnets."""
    made = neutron.create("network", **fields)
    said = [{"network_id": made["id"], "ip_version": 6 if ":" in one["cidr"] else 4, "enable_dhcp": False, **one} for one in subnets]
    return (made, *[neutron.create("subnet", **one) for one in said])


def port(neutron: Neutron, of: Dict[str, Any], server: str, addresses: Optional[Any] = None, **fields: Any) -> Dict[str, Any]:
    fixed = {} if addresses is None else {"fixed_ips": [{"ip_address": one} for one in addresses]}
    return neutron.create("port", network_id=of["id"], device_id=server, device_owner="compute:nova", **fixed, **fields)


def told(entry: Entry) -> Any:
    return [(net.type, net.address, [tuple(route)[:2] for route in net.routes], net.dns, net.search) for net in entry.networks]


def test_every_address_subnet_route_server_and_domain(neutron: Neutron) -> None:
    server = str(uuid.uuid4())
    blue, *_subnets = network(
        neutron,
        {"cidr": "10.90.0.0/24", "dns_nameservers": ["10.90.0.2", "10.90.0.3"], "host_routes": [{"destination": "10.200.0.0/16", "nexthop": "10.90.0.9"}]},
        {"cidr": "10.91.0.0/25", "gateway_ip": None},
        {"cidr": "2001:db8:1::/64", "gateway_ip": "2001:db8:1::1", "dns_nameservers": ["2001:db8:1::2"]},
        name="blue", mtu=1400, dns_domain="blue.example.",
    )  # fmt: skip
    first = port(neutron, blue, server, ["10.90.0.11", "10.90.0.12", "10.91.0.11", "2001:db8:1::11", "2001:db8:1::12"])
    red, _subnet = network(neutron, {"cidr": "192.0.2.0/24", "host_routes": [{"destination": "0.0.0.0/0", "nexthop": "192.0.2.254"}]})
    second = port(neutron, red, server, ["192.0.2.10"])
    bare = port(neutron, red, server, [])
    port(neutron, red, str(uuid.uuid4()), ["192.0.2.11"])  # another server's

    found = entries(neutron, server)
    assert set(found) == {first["mac_address"], second["mac_address"], bare["mac_address"]}
    assert found[first["mac_address"]].mtu == 1400
    out, inner = ("0.0.0.0/0", "10.90.0.1"), ("10.200.0.0/16", "10.90.0.9")
    search = ("blue.example",)
    assert sorted(told(found[first["mac_address"]])) == sorted([
        ("ipv4", "10.90.0.11/24", [out, inner], ("10.90.0.2", "10.90.0.3"), search),
        ("ipv4", "10.90.0.12/24", [], (), search),
        ("ipv4", "10.91.0.11/25", [], (), search),
        ("ipv6", "2001:db8:1::11/64", [("::/0", "2001:db8:1::1")], ("2001:db8:1::2",), search),
        ("ipv6", "2001:db8:1::12/64", [], (), search),
    ])  # fmt: skip
    # The host route is the default route, as Neutron's own DHCP server has it.
    assert told(found[second["mac_address"]]) == [("ipv4", "192.0.2.10/24", [("0.0.0.0/0", "192.0.2.254")], (), ())]
    assert found[bare["mac_address"]].networks == ()

    # An edit is in the next document.
    neutron.change("port", first, fixed_ips=[{"ip_address": "10.90.0.12"}])
    neutron.change("network", blue, dns_domain="other.example.", mtu=1300)
    edited = entries(neutron, server)[first["mac_address"]]
    assert (edited.mtu, told(edited)) == (1300, [("ipv4", "10.90.0.12/24", [out, inner], ("10.90.0.2", "10.90.0.3"), ("other.example",))])


def test_dhcp_is_left_where_nova_leaves_it(neutron: Neutron) -> None:
    server = str(uuid.uuid4())
    leased, subnet = network(neutron, {"cidr": "10.92.0.0/24", "enable_dhcp": True}, mtu=1420)
    alone, twice = port(neutron, leased, server, ["10.92.0.11"]), port(neutron, leased, server, ["10.92.0.12", "10.92.0.13"])
    # No agent serves the subnet yet, whatever it says of itself.
    assert [net.type for net in entries(neutron, server)[alone["mac_address"]].networks] == ["ipv4"]

    neutron.create("port", network_id=leased["id"], device_owner="network:dhcp", fixed_ips=[{"ip_address": "10.92.0.2"}])
    found = entries(neutron, server)
    assert told(found[alone["mac_address"]]) == [("ipv4_dhcp", "", [], (), ())] and found[alone["mac_address"]].mtu == 1420
    # A lease is one address.
    assert [net.address for net in found[twice["mac_address"]].networks] == ["10.92.0.12/24", "10.92.0.13/24"]

    static = entries(neutron, server, "--static")[alone["mac_address"]]
    assert [(net.type, net.address, net.routes) for net in static.networks] == [("ipv4", "10.92.0.11/24", (Route("0.0.0.0/0", "10.92.0.1", None),))]
    neutron.change("subnet", subnet, enable_dhcp=False)
    assert [net.type for net in entries(neutron, server)[alone["mac_address"]].networks] == ["ipv4"]


def test_advertised_and_stateful_addresses(neutron: Neutron) -> None:
    server = str(uuid.uuid4())
    for number, mode in enumerate(("slaac", "dhcpv6-stateless", "dhcpv6-stateful")):
        made, _subnet = network(neutron, {"cidr": f"2001:db8:{number + 16:x}::/64", "enable_dhcp": True, "ipv6_ra_mode": mode, "ipv6_address_mode": mode})
        port(neutron, made, server)
    found = sorted(net.type for entry in entries(neutron, server).values() for net in entry.networks)
    assert found == ["ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless", "ipv6_slaac"]
    static = sorted(net.type for entry in entries(neutron, server, "--static").values() for net in entry.networks)
    assert static == ["ipv6", "ipv6_dhcpv6-stateless", "ipv6_slaac"]


def test_more_ports_than_an_answer_holds(neutron: Neutron) -> None:
    """serve.py has Neutron put three objects into an answer."""
    server = str(uuid.uuid4())
    made, _subnet = network(neutron, {"cidr": "10.93.0.0/24"})
    macs = [port(neutron, made, server)["mac_address"] for _number in range(8)]
    assert set(entries(neutron, server)) == set(macs)


def test_what_is_not_there(neutron: Neutron) -> None:
    none = push(neutron, "--server", str(uuid.uuid4()), "--print")
    assert none.returncode == 26 and "has no port" in none.stderr, none.stderr
    no_cloud = push(neutron, "--server", str(uuid.uuid4()), "--print", "--os-cloud", "no-such")
    assert no_cloud.returncode == 26 and "no-such" in no_cloud.stderr, no_cloud.stderr
    no_nova = push(neutron, "--server", "by-its-name", "--print")
    assert no_nova.returncode == 26 and "Traceback" not in no_nova.stderr, no_nova.stderr
