# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A network_data.json means to the legacy program what it means to the package."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Set

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudinit_osnetd.core import network_data, truth

from .conftest import MACS, TOP, document, link, static

DOCUMENTS = sorted((TOP / "tests" / "documents").glob("*.json"))
# What hosts of openstack-networkd push: the example of its README.
ANCESTORS = Path(__file__).with_name("openstack-networkd.base64")


def theirs(raw: bytes) -> Dict[str, Any]:
    """By the package: of each physical link that is not a bond's member what is wanted, global DNS included."""
    said = network_data.parse_bytes(raw)
    members = {member for entry in said.entries.values() for member in entry.members}
    own = {net.address.partition("/")[0] for entry in said.entries.values() for net in entry.networks if net.address}
    found = {}
    for key, entry in said.entries.items():
        if entry.kind == "phy" and key not in members:
            dns = [server for net in entry.networks for server in net.servers]
            search = [domain for net in entry.networks for domain in net.search]
            found[entry.mac] = (
                entry.mtu,
                # The package leaves those by way of the server itself out a little later: core.desired.Item.own.
                [(net.type, net.address, routes_of(net, own)) for net in entry.networks],
                list(dict.fromkeys(dns + (list(network_data.used_servers(said.services)) if truth.needs_services(entry) else []))),
                list(dict.fromkeys(search + (list(said.search) if truth.needs_search(entry) else []))),
            )
    return found


def routes_of(net: network_data.Network, own: Set[str]) -> List[Any]:
    return sorted((tuple(route) for route in net.routes if route.gateway not in own), key=repr)


def ours(legacy: ModuleType, raw: bytes) -> Dict[str, Any]:
    said = legacy.parse_bytes(raw)
    return {
        one.mac: (
            one.mtu,
            [(net.kind, net.address, sorted(map(tuple, net.routes), key=repr)) for net in one.networks],
            list(one.dns),
            list(one.search),
        )
        for one in said.links.values()
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_documents_of_others_are_read_as_the_package_reads_them(legacy: ModuleType, path: Path) -> None:
    raw = path.read_bytes()
    assert ours(legacy, raw) == theirs(raw)


def test_the_ancestors_own_document(legacy: ModuleType) -> None:
    raw = base64.b64decode(ANCESTORS.read_bytes())
    said = ours(legacy, ANCESTORS.read_bytes())  # told apart by itself
    assert said == theirs(raw)
    route = ("0.0.0.0/0", "192.168.5.1", None)
    assert said == {"00:15:5d:64:98:60": (1450, [("ipv4", "192.168.5.17/24", [route])], ["8.8.8.8"], [])}


# Values that people and programs put into each field, right and wrong ones.
ODD: List[Any] = [
    None, "", 0, "0", -1, True, 1.5, [], {}, "x\ny", "é", " ", "10.0.0.5", "10.0.0.5/24", "10.0.0.5/33", "10.0.0.5/", "010.0.0.1",
    "2001:db8::5", "2001:db8::5/64", "fe80::1%eth0", "::", "ff02::1", "ff::1", "2001:db8::7", "0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1",
    "10.0.0.255", "255.255.255.0", "255.0.255.0", "ffff:ffff::", 24, "24", 64, 129, 1500, "1500", 67, 70000, "default", "ipv4_dhcp",
    "ipv6_slaac", "vif", 1279, 1e3, ["10.0.0.1"], ["10.0.0.1", "x"], [None], "10.0.0.1, 10.0.0.2", "example.com", "-x.example", "a" * 300,
    "FA:16:3E:00:00:00", "fa:16:3e:00:00:0", "80:00:02:08:fe:80:00:00:00:00:00:00:fa:16:3e:00:03:00:00:05", "fa-16-3e-00-00-00",
]  # fmt: skip
FIELDS = [
    ("links", 0, field) for field in ("id", "mtu", "ethernet_mac_address")
] + [
    ("networks", 0, field)
    for field in ("link", "type", "ip_address", "netmask", "routes", "gateway", "services", "dns_nameservers", "dns_search")
] + [
    ("route", 0, field) for field in ("network", "netmask", "gateway", "metric", "destination")
] + [("services", 0, field) for field in ("address", "type", "search")]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field[0]}.{field[2]}")
def test_each_field_with_each_odd_value_is_taken_and_refused_alike(legacy: ModuleType, field: Any) -> None:
    where, number, name = field
    for value in ODD:
        said = document(link(0), link(1), static(0, "10.0.0.5/24", "10.0.0.1"), static(1, "10.1.0.5/24"), dns=["10.0.0.53"])
        item = said["networks"][0]["routes"][0] if where == "route" else said[where][number]
        item[name] = value
        raw = json.dumps(said).encode()
        assert ours(legacy, raw) == theirs(raw), value
        faults = [(fault.path, fault.mac) for fault in legacy.parse_bytes(raw).faults if fault.costs]
        expected = [(fault.path, fault.mac) for fault in network_data.parse_bytes(raw).faults if fault.costs]
        if where == "services":  # the package names the item, not its field
            faults = [(path.rpartition(".")[0] or path, mac) for path, mac in faults]
        assert sorted(faults) == sorted(expected), value


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([odd for odd in ODD if isinstance(odd, str)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["links", "networks", "id", "link", "type", "routes"]), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(any_json)
def test_no_document_breaks_it(legacy: ModuleType, said: Any) -> None:
    raw = json.dumps(said).encode()
    try:
        legacy.parse_bytes(raw)
    except legacy.Refused:
        return


def test_a_bond_and_a_vlan_are_refused_by_name_and_cost_nobody_else(legacy: ModuleType) -> None:
    said = document(
        link(0),
        link(1),
        {"id": "bond0", "type": "bond", "bond_links": ["tap1"]},
        {"id": "vlan", "type": "vlan", "vlan_link": "tap0", "vlan_id": 7},
        static(0, "10.0.0.5/24"),
        {"id": "n", "link": "vlan", "type": "ipv4", "ip_address": "10.7.0.5", "netmask": "24"},
    )
    found = legacy.parse_document(said)
    assert list(found.links) == [MACS[0]]
    assert found.alone == {MACS[1]}
    assert [legacy.fault_text(fault) for fault in found.faults] == [
        "links[2].type (link bond0): a bond is not set up by this program",
        "links[3].type (link vlan): a vlan is not set up by this program",
    ]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "neither JSON nor base64"),
        (b"hello", "neither JSON nor base64"),
        (b"{", "not JSON"),
        (b"{}", "has no links"),
        (b'{"links": {}}', "not a list"),
        (b'{"links": [], "networks": 3}', "not a list"),
        (b'{"links": [], "networks": {}}', "not a list"),
        (base64.b64encode(b"[]"), "not an object"),
        (base64.b64encode(b'"\xff"'), "not JSON"),
        (b'{"links": ' + b"[" * 100000, "not JSON"),
        (b'{"links": []' + b" " * (1 << 20) + b"}", "larger than 1048576 bytes"),
    ],
)
def test_what_is_no_network_data_is_refused(legacy: ModuleType, raw: bytes, problem: str) -> None:
    with pytest.raises(legacy.Refused, match=problem):
        legacy.parse_bytes(raw)


def test_order_means_nothing(legacy: ModuleType) -> None:
    one = document(link(0), static(0, "10.0.0.5/24", "10.0.0.1", [("10.8.0.0/16", "10.0.0.2")]), static(0, "10.0.0.6/24"))
    other = json.loads(json.dumps(one))
    other["networks"].reverse()
    other["networks"][1]["routes"].reverse()
    said = [legacy.link_to_json(legacy.parse_document(each).links[MACS[0]]) for each in (one, other)]
    assert said[0] == said[1]
    assert legacy.link_to_json(legacy.link_from_json(said[0])) == said[0]


def test_a_route_by_way_of_the_server_itself_is_left_out_and_reported(legacy: ModuleType) -> None:
    said = document(link(0), link(1), static(0, "10.0.0.5/24", "10.0.0.1"), static(1, "10.1.0.5/24", "", [("10.9.0.0/16", "10.0.0.5")]))
    found = legacy.parse_document(said)
    assert found.links[MACS[1]].networks[0].routes == ()
    assert [fault.problem for fault in found.faults] == ["10.9.0.0/16 via this server itself, left out"]
    assert not found.faults[0].costs


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([link(0, mtu=1279), static(0, "10.0.0.5/24"), static(0, "2001:db8::5/64")], "less than IPv6 needs"),
        ([link(0, mtu=1279), {"id": "n", "link": "tap0", "type": "ipv6_slaac"}], "less than IPv6 needs"),
        ([link(0), dict(static(0, "10.0.0.5/24"), ip_address="10.0.0.5/16")], "/24, but the address says 10.0.0.5/16"),
        ([link(0), dict(static(0, "10.0.0.5/24"), netmask="0.0.0.0")], "every address would be a neighbour"),
    ],
)
def test_what_contradicts_itself_is_told_and_read_alike(legacy: ModuleType, items: Any, problem: str) -> None:
    raw = json.dumps(document(*items)).encode()
    assert ours(legacy, raw) == theirs(raw) != {}
    for faults in (legacy.parse_bytes(raw).faults, network_data.parse_bytes(raw).faults):
        (fault,) = faults
        assert problem in fault.problem and not fault.costs


def test_a_subnet_without_a_dns_server_is_not_served_by_the_global_ones(legacy: ModuleType) -> None:
    said = document(link(0), link(1), dict(static(0, "10.0.0.5/24"), dns_nameservers=["0.0.0.0"]), static(1, "10.1.0.5/24"), dns=["0.0.0.0", "10.1.0.53"])
    raw = json.dumps(said).encode()
    assert ours(legacy, raw) == theirs(raw)
    assert [list(one.dns) for one in legacy.parse_bytes(raw).links.values()] == [[], ["10.1.0.53"]]
