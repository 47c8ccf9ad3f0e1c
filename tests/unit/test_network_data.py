# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""network_data: what is read, and by what an entry is told from another."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.core.network_data import Route

from .build import A, B, C, bond, data, dhcp, dns, document, entry, link, static, vlan

# -- what is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "netmask", "cidr"),
    [
        ("10.0.0.5", "255.255.255.0", "10.0.0.5/24"),
        ("10.0.0.5", "0.0.0.0", "10.0.0.5/0"),
        ("10.0.0.5", "255.255.255.255", "10.0.0.5/32"),
        ("10.0.0.5", "255.255.254.0", "10.0.0.5/23"),
        ("10.0.0.5", 24, "10.0.0.5/24"),
        ("10.0.0.5", "24", "10.0.0.5/24"),
        ("10.0.0.5/24", None, "10.0.0.5/24"),
        ("10.0.0.5/255.255.255.0", None, "10.0.0.5/24"),
        ("FD00:0::5", "ffff:ffff:ffff:ffff::", "fd00::5/64"),
        ("fd00::5", "::", "fd00::5/0"),
        ("fd00::5", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::5/128"),
        ("fd00::5", "ffff:ffff:ffff:ffff:8000::", "fd00::5/65"),
        ("fd00::5", 64, "fd00::5/64"),
        ("fd00::5/64", None, "fd00::5/64"),
    ],
)
def test_a_static_address_carries_its_prefix_however_the_netmask_is_written(ip, netmask, cidr):
    assert [net.address for net in entry(static(ip, netmask)).networks] == [cidr]


@pytest.mark.parametrize(
    ("raw", "route"),
    [
        ({"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}, Route("0.0.0.0/0", "10.0.0.1", None)),
        ({"network": "::", "netmask": "::", "gateway": "fd00::1"}, Route("::/0", "fd00::1", None)),
        ({"network": "10.1.2.3", "netmask": "255.0.0.0", "gateway": "10.0.0.1"}, Route("10.0.0.0/8", "10.0.0.1", None)),
        ({"network": "10.0.0.0/8", "gateway": "10.0.0.1", "metric": 5}, Route("10.0.0.0/8", "10.0.0.1", 5)),
        ({"network": "10.0.0.0/8", "gateway": "10.0.0.1", "metric": "5"}, Route("10.0.0.0/8", "10.0.0.1", 5)),
        ({"destination": "10.0.0.0/8", "gateway": "10.0.0.1"}, Route("10.0.0.0/8", "10.0.0.1", None)),
        ({"network": "10.0.0.0/8", "gateway": None}, Route("10.0.0.0/8", "", None)),
        ({"network": "10.0.0.0/8", "gateway": ""}, Route("10.0.0.0/8", "", None)),
        ({"network": "10.0.0.0/8"}, Route("10.0.0.0/8", "", None)),
    ],
)
def test_a_route_is_read_in_each_of_its_forms(raw, route):
    assert entry(static(routes=[raw])).networks[0].routes == (route,)


def test_the_last_address_of_a_point_to_point_subnet_is_a_neighbour():
    read = entry(static("10.0.0.4", "255.255.255.254", gateway="10.0.0.5"))
    assert [route.gateway for route in read.networks[0].routes] == ["10.0.0.5"]


@pytest.mark.parametrize(("written", "read"), [(None, None), ("", None), (0, None), ("0", None), (1450, 1450), ("1450", 1450), (68, 68), (65535, 65535)])
def test_an_mtu_is_a_number_or_not_said(written, read):
    assert entry(mtu=written).mtu == read


@pytest.mark.parametrize("kind", sorted(network_data.DHCP4 | network_data.DHCP6 | network_data.SLAAC))
def test_a_network_that_is_not_static_has_no_address_of_its_own(kind):
    said = dict(static("fd00::5", "ffff:ffff:ffff:ffff::"), type=kind)
    assert [(net.type, net.address) for net in entry(said).networks] == [(kind, "")]


@pytest.mark.parametrize("type_", [None, "ovs", "bridge", "phy", "ethernet", "hw_veb", "vif"])
def test_any_type_but_bond_and_vlan_is_a_nic(type_):
    read = entry(type=type_)
    assert (read.kind, read.key) == ("phy", A + "/phy")


def test_macs_are_compared_in_lower_case():
    assert entry(mac=A.upper()).key == A + "/phy"


def test_an_infiniband_address_is_a_mac_too():
    long = ":".join("%02x" % n for n in range(20))
    assert entry(mac=long).key == "0c:0d:0e:11:12:13/phy", "the octets by which OpenStack knows the port"


def test_a_vlan_on_its_parents_mac_and_its_sibling_have_keys_of_their_own():
    read = data(document([link(), vlan(vlan_id=100), vlan(id="vlan2", vlan_id="101")]))
    assert sorted(read.entries) == [A + "/phy", A + "/vlan.100", A + "/vlan.101"]
    assert read.entries[A + "/vlan.101"].parent == A + "/phy"


def test_a_bond_names_its_members_by_key_and_keeps_its_parameters():
    read = data(
        document([link(), link(B, "tap2"), bond(members=["tap2", "tap1", "tap2"], bond_miimon=100, bond_x=None)])
    )
    found = read.entries[C + "/bond"]
    assert found.members == (A + "/phy", B + "/phy")
    assert found.params == (("bond_miimon", "100"), ("bond_mode", "802.3ad"))


def test_dns_may_stand_on_the_routes():
    """As in Nova's schema of a network_data, where they stand there alone."""
    routes = [
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1", "services": dns("10.0.0.3", "10.0.0.2")},
        {"network": "10.9.0.0/16", "gateway": "10.0.0.2", "services": dns("10.0.0.2")},
    ]
    (net,) = entry(static(routes=routes, services=dns("10.0.0.4", "10.0.0.3"))).networks
    assert net.dns == ("10.0.0.3", "10.0.0.2", "10.0.0.4")


def test_dns_keeps_its_order_and_loses_repetitions_and_other_services():
    said = static(services=dns("10.0.0.2", "10.0.0.1") + [{"type": "ntp", "address": "x"}] + dns("10.0.0.2"))
    assert entry(said).networks[0].dns == ("10.0.0.2", "10.0.0.1")


# -- digests ------------------------------------------------------------------------------------------

V6 = static("fd00::5", "ffff:ffff:ffff:ffff::", routes=[{"network": "::/0", "gateway": "fd00::1"}])
RICH = document(
    [link(mtu=1450), link(B, "tap2"), bond(), vlan(C, parent="bond1")],
    [
        static(routes=[{"network": "0.0.0.0/0", "gateway": "10.0.0.1"}, {"network": "10.9.0.0/16", "gateway": "10.0.0.2", "metric": 7}], services=dns("10.0.0.2", "10.0.0.3")),
        V6,
        dhcp("tap2"),
        static("10.7.0.5", link="vlan1"),
    ],
    dns("10.0.0.9"),
)  # fmt: skip


def digests(doc):
    return {key: e.digest for key, e in data(doc).entries.items()}


@given(
    st.permutations(RICH["links"]),
    st.permutations(RICH["networks"]),
    st.permutations(RICH["networks"][0]["routes"]),
    st.integers(0, 1000),
)
def test_renumbered_ids_and_another_order_leave_every_digest_as_it_was(links, networks, routes, salt):
    ids = {raw["id"]: "%s-%d" % (raw["id"], salt) for raw in links}
    links = [
        dict(raw, id=ids[raw["id"]], vif_id="x%d" % salt, **dict(
            ([("bond_links", [ids[m] for m in reversed(raw["bond_links"])])] if "bond_links" in raw else [])
            + ([("vlan_link", ids[raw["vlan_link"]])] if "vlan_link" in raw else [])
        ))
        for raw in links
    ]  # fmt: skip
    networks = [
        dict(
            raw,
            id="network%d" % i,
            link=ids[raw["link"]],
            **({"routes": routes} if len(raw.get("routes", ())) > 1 else {}),
        )
        for i, raw in enumerate(networks)
    ]
    assert digests(document(links, networks)) == digests(RICH)


@pytest.mark.parametrize(
    "edit",
    [
        lambda doc: doc["links"][0].update(mtu=1400),
        lambda doc: doc["links"][0].update(type="bridge"),
        lambda doc: doc["networks"][0].update(ip_address="10.0.0.6"),
        lambda doc: doc["networks"][0].update(netmask="255.255.0.0"),
        lambda doc: doc["networks"][0].update(gateway="10.0.0.99"),
        lambda doc: doc["networks"][0]["routes"].pop(),
        lambda doc: doc["networks"][0]["routes"][1].update(metric=8),
        lambda doc: doc["networks"][0]["services"].reverse(),
        lambda doc: doc["networks"].pop(1),
    ],
)
def test_an_edit_changes_the_digest_of_its_link_and_of_no_other(edit):
    doc = json.loads(json.dumps(RICH))
    edit(doc)
    before, after = digests(RICH), digests(doc)
    assert {key for key in before if before[key] != after[key]} == {A + "/phy"}


@pytest.mark.parametrize("key", sorted(digests(RICH)))
def test_an_entry_survives_its_way_through_json(key):
    before = data(RICH).entries[key]
    after = network_data.entry_from_json(json.loads(json.dumps(network_data.entry_to_json(before))))
    assert after == before
    assert after.digest == before.digest


def test_the_static_addresses_are_reported():
    assert network_data.static_addresses(entry(static(), V6, dhcp())) == ("10.0.0.5/24", "fd00::5/64")


@pytest.mark.parametrize(
    ("gateway", "networks", "off"),
    [
        ("10.0.0.1", [], False),
        ("10.77.0.1", [], True),
        ("10.77.0.1", [static("10.77.0.9", id="n2")], False),
        ("169.254.1.1", [], True),
        ("0.0.0.0", [], False),
        ("2001:db8::1", [static("fd00::5", 64, id="n2")], True),
        ("fe80::1", [], False),
    ],
)
def test_a_gateway_that_no_subnet_of_the_link_holds_is_reported(gateway, networks, off):
    ours = static("fd00:1::5", 64) if ":" in gateway else static()
    one = entry(dict(ours, gateway=gateway), *networks)
    assert network_data.off_subnet_gateways(one) == ({gateway} if off else set())


def test_a_gateway_that_comes_with_a_lease_is_the_leases_matter():
    assert network_data.off_subnet_gateways(entry(dhcp(gateway="10.77.0.1"), static())) == set()


def in_order(*numbers):
    """A port of two addresses, one of them with two routes; all in this order."""
    routes = [
        {"network": "192.168.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.1"},
        {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.0.0.1"},
    ]
    networks = [
        static("fd00::5", "ffff:ffff:ffff:ffff::", gateway="fd00::1"),
        static("10.0.0.9", routes=[routes[number] for number in numbers]),
    ]
    return entry(*[networks[number] for number in numbers], mtu=1450)


def test_what_is_rendered_keeps_the_documents_order():
    there, back = in_order(0, 1), in_order(1, 0)
    assert [net.address for net in there.networks] == ["fd00::5/64", "10.0.0.9/24"]
    assert [route.network for route in there.networks[1].routes] == ["192.168.0.0/16", "172.16.0.0/12"]
    assert [net.address for net in back.networks] == ["10.0.0.9/24", "fd00::5/64"]
    assert [route.network for route in back.networks[0].routes] == ["172.16.0.0/12", "192.168.0.0/16"]


def test_an_entry_in_another_order_is_the_same_one():
    there, back = in_order(0, 1), in_order(1, 0)
    assert there == back
    assert (there != back) is False
    assert hash(there) == hash(back)
    assert there.digest == back.digest
    assert there != there._replace(mtu=1400)


def test_the_digest_is_that_of_released_versions():
    """The stores of servers in the field have it (0.1.0 sorted where it read): with another one each upgrade would touch each NIC."""
    assert in_order(0, 1).digest == "26b646b1525c0296fa965d8b16cb1aea"
