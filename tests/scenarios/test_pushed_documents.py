# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Each document of tests/documents that has NICs alone, pushed to one running guest after the other: its backend takes what is made of it.

What is right for each of them in detail is in documents.py and, for all, in tests/unit_cloudinit. Here every static address is in the
kernel and nothing else, and the NIC is ok.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Dict, List, Set

import pytest

from tests.lab import Cloud, Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.documents import DIRECTORY, METADATA, ONE, TWO
from tests.scenarios.seen import (
    PROFILES,
    Guest,
    assert_follows,
    assert_nothing_to_do,
    ip,
    settled,
    status,
    wait_until,
)

pytestmark = pytest.mark.deep
# Before each of them: so nothing is reachable by these NICs whose loss would be a reason to roll back.
NOTHING = {"links": [{"id": mac, "type": "phy", "ethernet_mac_address": mac} for mac in (ONE, TWO)], "networks": [], "services": []}


def _documents() -> Dict[str, Any]:
    paths = [path for path in sorted(DIRECTORY.glob("*.json")) if METADATA not in path.read_text()]  # what leads it elsewhere is rolled back
    found = {path.stem: json.loads(path.read_text()) for path in paths}
    return {name: document for name, document in found.items() if {_mac(link) for link in document["links"]} <= {ONE, TWO}}


def _mac(link: Any) -> str:
    return "" if link.get("type") in ("bond", "vlan") else str(link.get("ethernet_mac_address")).lower()


def _told(document: Any) -> Dict[str, Set[str]]:
    """The static addresses by MAC."""
    found: Dict[str, Set[str]] = {}
    for link in document["links"]:
        own = [network for network in document["networks"] if network.get("link") == link["id"]]
        static = [network for network in own if "dhcp" not in network["type"] and "slaac" not in network["type"]]
        told = {str(ipaddress.ip_interface(network["ip_address"]).ip) for network in static if network.get("ip_address")}
        found[_mac(link)] = told
    return found


def _wrong(guest: Guest, document: Any) -> List[str]:
    rows = {row["mac"]: row for row in status(guest)["nics"]}
    links = {link["address"]: link for link in ip(guest, "address")}
    connected = guest.run("nmcli -t -f DEVICE,STATE device", check=False).stdout.splitlines() if guest.backend in PROFILES else []
    found = []
    for mac, told in _told(document).items():
        row, link = rows[mac], links[mac]
        if row["state"] != "ok":
            found.append(f"{row['name']} is {row['state']}: {row['reason']} {row['differs']}")
        there = {one["local"] for one in link["addr_info"] if not one.get("dynamic") and (one["scope"] == "global" or one["local"] in told)}
        if there != told:
            found.append(f"{row['name']} has {sorted(there)}, told are {sorted(told)}")
        if told and connected and f"{row['name']}:connected" not in connected:
            found.append(f"NetworkManager says {[line for line in connected if line.startswith(row['name'])]}")
    return found


def test_each_is_taken_after_the_other(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = cloud.server("pushed")
    first = server.create_port(cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450))
    here = [Subnet("192.0.2.0/24", "192.0.2.1"), Subnet("198.51.100.0/24"), Subnet("2001:db8::/64", "2001:db8::1")]
    segment = cloud.network("segment", mtu=1500, subnets=here)
    guest = guest_factory(server)
    guest.boot()
    guest.plug_all([server.create_port(segment, mac=mac, fixed_ips=[]) for mac in (ONE, TWO)])
    assert_follows(guest, first)
    bad: Dict[str, Any] = {}
    for name, document in _documents().items():
        last: List[str] = []

        def right(document: Any = document, last: List[str] = last) -> bool:
            last[:] = _wrong(guest, document)
            return not last

        for said in (NOTHING, document):
            guest.put(json.dumps(said).encode(), "/root/document.json")
            done = guest.run("cloudinit-osnetd apply --json --file /root/document.json", check=False, timeout=150)
        if done.returncode not in (0, 1):
            bad[name] = (done.returncode, done.stdout[-600:], done.stderr[-600:])
            continue
        try:
            wait_until(right, 10 * guest.patience, name)
        except AssertionError:
            bad[name] = (last, json.loads(done.stdout).get("problems"), done.stderr[-400:])
    assert bad == {}, json.dumps(bad, indent=1)
    settled(guest)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)
