# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Documents of other projects (tests/documents): what is read from each, and what an invalid link affects."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.core import network_data, truth
from cloudinit_osnetd.core.desired import desired
from cloudinit_osnetd.core.network_data import DEFAULT4, DEFAULT6, Route

from .build import A, B, C, bond, data, dhcp, dns, document, entry, link, nic, nics, static, vlan
from .test_network_data_faults import any_json

DIRECTORY = Path(__file__).parent.parent / "documents"
ONE, TWO, THREE = ("00:00:5e:00:53:0%d" % n for n in (1, 2, 3))
OUT = Route(DEFAULT4, "192.0.2.1", None)


HERE = {"ens3": ONE, "ens4": TWO, "ens5": THREE}  # MACs by name


def read(name):
    return network_data.parse_bytes(next(DIRECTORY.glob(name + "-*.json")).read_bytes(), lambda: HERE)


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.name.partition("-")[0])
def test_nothing_is_wrong_with_any_of_them(path):
    said = read(path.name.partition("-")[0])
    assert said.faults == ()
    assert len(said.entries) == len(json.loads(path.read_text())["links"])


@pytest.mark.parametrize(
    ("name", "key", "networks"),
    [
        ("01", ONE + "/bond", [("192.0.2.10/24", (OUT,), (), ())]),
        ("02", ONE + "/vlan.100", [("192.0.2.10/24", (OUT,), (), ())]),
        ("03", THREE + "/bond", [("192.0.2.10/24", (OUT,), (), ())]),
        ("05", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53", "192.0.2.54"), ("example.com",))]),
        ("06", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53",), ())]),
        ("11", TWO + "/phy", [("198.51.100.10/24", (), (), ())]),
        ("12", ONE + "/phy", [("192.0.2.10/24", (OUT, Route("198.51.100.0/24", "", None)), (), ())]),
        (
            "13",
            ONE + "/phy",
            [("192.0.2.10/24", (OUT,), (), ()), ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), (), ())],
        ),
        (
            "50",
            "00:00:5e:00:53:11/vlan.101",
            [("192.0.2.10/24", (OUT,), (), ()), ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), (), ())],
        ),
        (
            "50",
            "00:00:5e:00:53:12/vlan.401",
            [
                (
                    "198.51.100.10/24",
                    (Route("198.18.0.0/15", "198.51.100.1", None), Route("203.0.113.7/32", "198.51.100.1", None)),
                    (),
                    (),
                )
            ],
        ),
        (
            "51",
            ONE + "/phy",
            [("", (Route(DEFAULT6, "2001:db8::1", None),), ("2001:db8::53",), ()), ("192.0.2.10/24", (OUT,), (), ())],
        ),
        ("51", TWO + "/phy", [("", (), (), ())]),
        ("52", ONE + "/vlan.100", [("192.0.2.10/24", (OUT,), (), ())]),
        ("14", ONE + "/phy", [("", (Route("198.51.100.0/24", "192.0.2.65", None),), ("192.0.2.66",), ())]),
        ("19", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53",), ())]),
        (
            "25",
            TWO + "/vlan.41",
            [
                ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), (), ()),
                ("192.0.2.10/25", (OUT,), ("192.0.2.53", "192.0.2.54"), ()),
            ],
        ),
        ("25", ONE + "/phy", [("198.51.100.10/25", (), (), ())]),
        (
            "27",
            ONE + "/phy",
            [
                ("192.0.2.10/24", (OUT,), (), ()),
                (
                    "2001:db8::10/64",
                    (Route(DEFAULT6, "2001:db8::1", None), Route("2001:db8:9::/48", "2001:db8::2", None)),
                    (),
                    (),
                ),
            ],
        ),
        ("28", THREE + "/bond", [("", (), (), ())]),
        ("29", ONE + "/vlan.101", [("192.0.2.10/24", (OUT,), (), ())]),
        ("30", TWO + "/phy", [("", (Route("2001:db8:8::/48", "fe80::1", None),), (), ())]),
        (
            "33",
            ONE + "/phy",
            [
                ("192.0.2.10/32", (Route("203.0.113.1/32", "", None), Route(DEFAULT4, "203.0.113.1", None)), (), ()),
                ("2001:db8::10/128", (Route(DEFAULT6, "2001:db8:ffff::1", None),), (), ()),
            ],
        ),
        ("34", "00:00:5e:00:53:ab/vlan.22", [("198.51.100.10/24", (), (), ())]),
        ("38", TWO + "/phy", [("", (), (), ())]),
        ("39", TWO + "/phy", [("", (), (), ()), ("", (), (), ())]),
        ("40", "00:00:5e:00:53:17/vlan.7", [("192.0.2.10/24", (OUT,), (), ())]),
        (
            "42",
            ONE + "/phy",
            [
                (
                    "192.0.2.10/24",
                    (OUT, Route("198.51.100.0/24", "192.0.2.2", None), Route("203.0.113.0/25", "192.0.2.2", None)),
                    (),
                    (),
                ),
            ],
        ),
        ("44", ONE + "/phy", [("192.0.2.10/24", (OUT,), (), ())]),
        (
            "45",
            ONE + "/phy",
            [
                ("192.0.2.10/24", (OUT, Route("198.51.100.0/24", "192.0.2.1", None)), (), ()),
                ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), (), ()),
            ],
        ),
        ("46", ONE + "/phy", [("192.0.2.10/24", (OUT,), (), ())]),
        ("47", TWO + "/phy", [("198.51.100.10/24", (Route(DEFAULT4, "198.51.100.1", 200),), (), ())]),
        ("49", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53", "192.0.2.54"), ("example.com",))]),
        ("54", ONE + "/phy", [("192.0.2.10/24", (OUT,), (), ())]),
        (
            "55",
            ONE + "/phy",
            [("192.0.2.10/24", (OUT,), (), ()), ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), ("2001:db8::53",), ())],
        ),
        (
            "56",
            ONE + "/phy",
            [
                ("192.0.2.10/24", (OUT, Route("198.51.100.0/24", "192.0.2.2", None)), (), ()),
                (
                    "2001:db8::10/64",
                    (Route(DEFAULT6, "2001:db8::1", None), Route("2001:db8:9::/48", "2001:db8::2", None)),
                    (),
                    (),
                ),
            ],
        ),
        (
            "57",
            ONE + "/phy",
            [
                ("192.0.2.10/24", (Route("128.0.0.0/1", "192.0.2.1", None), Route("0.0.0.0/1", "192.0.2.1", None)), (), ()),
                ("2001:db8::10/64", (Route("8000::/1", "2001:db8::1", None), Route("::/1", "2001:db8::1", None)), (), ()),
            ],
        ),
        ("58", TWO + "/phy", [("2001:db8:1::10/64", (Route(DEFAULT6, "fe80::1", None),), (), ())]),
        ("60", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53",), ()), ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), (), ())]),
        ("61", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53",), ())]),
        ("64", ONE + "/phy", [("", (), (), ()), ("2001:db8::10/128", (), ("192.0.2.53",), ())]),
        ("71", TWO + "/phy", [("198.51.100.10/24", (Route(DEFAULT4, "198.51.100.1", None),), (), ())]),
        ("101", ONE + "/phy", [("203.0.113.10/25", (), (), ())]),
        ("101", TWO + "/vlan.42", [("198.51.100.10/25", (), (), ())]),
        ("102", ONE + "/phy", [("192.0.2.10/24", (OUT,), ("192.0.2.53",), ())]),
        ("102", TWO + "/vlan.100", [("198.51.100.10/24", (), (), ())]),
        ("103", ONE + "/phy", [("", (), (), ())]),
        ("104", TWO + "/phy", [("198.51.100.10/24", (), (), ()), ("2001:db8:1::10/64", (), (), ())]),
        (
            "104",
            ONE + "/phy",
            [("192.0.2.10/24", (OUT,), (), ()), ("2001:db8::10/64", (Route(DEFAULT6, "2001:db8::1", None),), (), ())],
        ),
        ("105", "00:00:5e:00:53:13/vlan.612", [("198.51.100.5/29", (Route("203.0.113.0/32", "198.51.100.1", None),), (), ())]),
        ("106", ONE + "/phy", [("192.0.2.10/24", (OUT,), (), ())]),
        ("106", TWO + "/phy", [("198.51.100.10/24", (), (), ())]),
        (
            "107",
            ONE + "/phy",
            [("", (), (), ()), ("2001:db8:0:19:f180:658c:2eeb:520c/48", (Route(DEFAULT6, "2001:db8::1", None),), (), ())],
        ),
        (
            "112",
            ONE + "/phy",
            [("192.0.2.10/24", (Route("198.51.100.7/32", "192.0.2.2", None), OUT), (), ()), ("192.0.2.11/24", (OUT,), (), ())],
        ),
        ("114", ONE + "/phy", [("fe80::2001:38/96", (Route("2001:db8::/64", "fe80::2001:1", None),), ("2001:db8::8888",), ())]),
        ("115", ONE + "/phy", [("192.0.2.10/24", (OUT, Route("198.51.100.0/24", "192.0.2.2", None)), (), ())]),
    ],
)
def test_the_networks_of_a_link_are_what_its_author_means(name, key, networks):
    found = read(name).entries[key].networks
    assert [(net.address, net.routes, net.dns, net.search) for net in found] == networks


@pytest.mark.parametrize(
    ("name", "servers", "search"),
    [
        ("01", ("192.0.2.53",), ()),
        ("07", ("192.0.2.53",), ("example.com",)),
        ("23", ("192.0.2.53", "192.0.2.54"), ("example.com",)),
        ("111", ("192.0.2.53", "192.0.2.54"), ()),
    ],
)
def test_the_global_services_are_what_cloud_init_takes(name, servers, search):
    said = read(name)
    assert (said.services, said.search) == (servers, search)


def test_a_bond_that_is_told_no_mac_is_known_by_its_first_members():
    found = read("01").entries[ONE + "/bond"]
    assert (found.mac_told, found.members) == (False, (ONE + "/phy", TWO + "/phy"))
    assert found.params == (("bond_miimon", "100"), ("bond_mode", "active-backup"))
    told = data(document([link(), link(B, "tap2"), bond(A)])).entries[A + "/bond"]
    assert told.mac_told


def test_a_nic_that_is_told_a_name_alone_is_the_one_that_is_called_so():
    said = read("25")
    assert [key for key in said.entries if key.endswith("/phy")] == [ONE + "/phy", TWO + "/phy", THREE + "/phy"]
    assert said.entries[TWO + "/bond"].members == (TWO + "/phy", THREE + "/phy")


def test_the_id_of_a_link_that_is_told_neither_mac_nor_name_is_the_name_of_its_nic():
    said = network_data.parse(document([link(None, "ens3"), link(None, "ens9"), link(B, "ens3x")]), lambda: {"ens3": A})
    assert sorted(said.entries) == sorted([A + "/phy", B + "/phy"])
    assert [(fault.path, fault.link) for fault in said.faults] == [("links[1].ethernet_mac_address", "ens9")]
    assert sorted(network_data.parse(document([link(B, "ens3")]), lambda: {"ens3": A}).entries) == [B + "/phy"]


@pytest.mark.parametrize("mac", [None, ""])
def test_a_name_that_no_nic_has_is_named_and_costs_its_link(mac):
    doc = document(
        [link(mac, name="eno9"), link(B, "tap2", name="anything")], [static(), static("10.0.1.5", link="tap2")]
    )
    said = network_data.parse(doc, lambda: {"ens3": A})
    assert list(said.entries) == [B + "/phy"]
    assert [(fault.path, fault.link) for fault in said.faults] == [("links[0].name", "tap1")]
    assert "eno9" in said.faults[0].problem
    assert said.unidentified_link  # whoever it may be: nobody has left


@pytest.mark.parametrize("name", [None, "", 7, ["ens3"]])
def test_neither_a_mac_nor_a_name(name):
    said = network_data.parse(document([link(None, name=name)]), lambda: {"ens3": A})
    assert (said.entries, len(said.faults)) == ({}, 1)


@pytest.mark.parametrize("mac", [None, ""])
def test_a_vlan_that_is_told_no_mac_has_its_parents(mac):
    found = data(document([vlan(mac=mac), link(B, "tap1")])).entries[B + "/vlan.100"]
    assert (found.parent, found.mac, found.mac_told) == (B + "/phy", B, False)


@pytest.mark.parametrize("empty", [None, "", []])
def test_an_option_that_is_empty_is_not_said(empty):
    assert read("04").entries[THREE + "/bond"].params == (("bond_miimon", "100"), ("bond_mode", "active-backup"))
    said = data(document([link(), bond(members=["tap1"], bond_lacp_rate=empty, bond_mode=empty)]))
    assert said.entries[C + "/bond"].params == ()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("bond_mode", "4", "802.3ad"),
        ("bond_mode", 1, "active-backup"),
        ("bond_mode", "802.3AD", "802.3ad"),
        ("bond_mode", "802.1ad", "802.3ad"),
        ("bond_xmit_hash_policy", "1", "layer3+4"),
        ("bond_xmit_hash_policy", "layer2+3", "layer2+3"),
        ("bond_lacp_rate", 1, "fast"),
        ("bond_all_slaves_active", True, "1"),
        ("bond-miimon", 100, "100"),
        ("bond_arp_ip_target", ["192.0.2.1", "192.0.2.2"], "192.0.2.1,192.0.2.2"),
        ("bond_arp_ip_target", "192.0.2.1, 192.0.2.2", "192.0.2.1,192.0.2.2"),
    ],
)
def test_an_option_has_the_kernels_word(option, value, said):
    params = dict(data(document([link(), bond(members=["tap1"], **{option: value})])).entries[C + "/bond"].params)
    assert params[option.replace("-", "_")] == said


@pytest.mark.parametrize("name", ["bond-wan", "b0", "team.1"])
def test_a_bonds_name_is_read(name):
    assert read("09").entries[THREE + "/bond"].name == "bond-wan"
    assert data(document([link(), bond(members=["tap1"], name=name)])).entries[C + "/bond"].name == name


@pytest.mark.parametrize("name", ["a" * 16, "a/b", "a b", "-x", "..", 7, "w[1]", "42"])
def test_a_name_that_no_device_can_have_costs_the_name_alone(name):
    said = data(document([link(), bond(members=["tap1"], name=name)], [static(link="bond1")]))
    assert said.entries[C + "/bond"].name == ""
    assert said.faulted == frozenset()
    assert [(fault.path, fault.costs) for fault in said.faults] == [("links[1].name", False)]


@pytest.mark.parametrize(
    ("fields", "servers", "search"),
    [
        ({"dns_nameservers": "192.0.2.53 192.0.2.54", "dns_search": "a.example b.example"}, ("192.0.2.53", "192.0.2.54"), ("a.example", "b.example")),
        ({"dns_nameservers": ["2001:DB8::53", "192.0.2.53", "2001:db8::53"]}, ("2001:db8::53", "192.0.2.53"), ()),
        ({"dns_nameservers": None, "dns_search": None}, (), ()),
        ({"dns_nameservers": ["", "192.0.2.53"], "dns_search": [""]}, ("192.0.2.53",), ()),
        ({"dns_nameservers": ["192.0.2.53"], "services": dns("192.0.2.54")}, ("192.0.2.54",), ()),
        ({"services": [{"type": "dns", "address": "192.0.2.54", "search": "a.example"}], "dns_search": ["b.example"]}, ("192.0.2.54",), ("a.example", "b.example")),
    ],
)  # fmt: skip
def test_a_networks_own_dns(fields, servers, search):
    for net in (static(**fields), dhcp(**fields)):
        (found,) = entry(net).networks
        assert (found.dns, found.search) == (servers, search)


def test_a_gateway_beside_a_lease_is_the_leases():
    """No renderer of cloud-init's, nor ifupdown, makes a route of it."""
    assert entry(dhcp(gateway="10.0.0.1")).networks[0].routes == ()
    assert entry(static(gateway="10.0.0.1")).networks[0].routes == (Route(DEFAULT4, "10.0.0.1", None),)


@pytest.mark.parametrize("bad", [["a b"], ["x\n"], "-x", 7, [None], {"a": 1}, "a;b"])
def test_a_bad_search_domain_is_named_and_costs_its_link(bad):
    said = data(document([link(), link(B, "tap2")], [static(dns_search=bad)]))
    assert list(said.entries) == [B + "/phy"]
    assert [(fault.path, fault.link, fault.mac) for fault in said.faults] == [("networks[0].dns_search", "tap1", A)]


@pytest.mark.parametrize(
    ("service", "servers"),
    [
        ({"type": "dns-nameserver", "address": ["192.0.2.53"]}, ("192.0.2.53",)),
        ({"address": "192.0.2.53"}, ("192.0.2.53",)),
        ({"type": "ntp", "address": "ntp.example.com"}, ()),
        ({"type": "ntp"}, ()),
    ],
)
def test_a_service_of_another_type(service, servers):
    said = data(document([link()], [], [service]))
    assert (said.services, said.faults) == (servers, ())


@pytest.mark.parametrize(
    ("raw", "routes"),
    [
        ({"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": None}, ()),
        ({"network": "::", "netmask": "::", "gateway": ""}, ()),
        ({"network": "0.0.0.0", "gateway": "10.0.0.1"}, (Route(DEFAULT4, "10.0.0.1", None),)),
        ({"network": "default", "gateway": "fe80::1"}, (Route(DEFAULT6, "fe80::1", None),)),
        ({"network": "10.9.0.0", "gateway": "10.0.0.1"}, (Route("10.9.0.0/24", "10.0.0.1", None),)),
        ({"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "0.0.0.0"}, (Route("10.9.0.0/16", "", None),)),
        ({"network": "10.0.0.0", "netmask": "255.255.255.0", "gateway": ""}, ()),
        ({"network": None, "destination": "10.9.0.0/16", "gateway": "10.0.0.1"}, (Route("10.9.0.0/16", "10.0.0.1", None),)),
        ({"network": "10.9.0.0", "destination": "10.9.0.0/16", "gateway": "10.0.0.1"}, (Route("10.9.0.0/16", "10.0.0.1", None),)),
        ({"network": "10.9.0.0/16", "destination": "", "gateway": "10.0.0.1"}, (Route("10.9.0.0/16", "10.0.0.1", None),)),
    ],
)
def test_a_route_as_cloud_init_and_its_author_mean_it(raw, routes):
    assert entry(static(routes=[raw])).networks[0].routes == routes


def test_a_default_route_that_leads_nowhere_is_remembered():
    """cloud-init writes one, by which what it wrote is known."""
    (found,) = entry(static(routes=[{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": None}])).networks
    assert (found.routes, found.nowhere) == ((), (DEFAULT4,))
    assert entry(static()).networks[0].nowhere == ()


@pytest.mark.parametrize(("address", "cidr"), [("192.0.2.9", "192.0.2.9/24"), ("2001:db8::9", "2001:db8::9/64")])
@pytest.mark.parametrize("mask", [None, ""])
def test_a_netmask_that_is_missing_is_cloud_inits(address, cidr, mask):
    assert entry(static(address, mask)).networks[0].address == cidr


# -- what a bad link costs -----------------------------------------------------------------------------

GOOD = document(
    [link(), link(B, "tap2"), bond(C, "bond1", ["tap2"]), vlan(C, "vlan1", 7, "bond1")],
    [static(), static("10.1.0.5", link="bond1"), static("10.2.0.5", link="vlan1")],
    dns("10.0.0.2"),
)


def heard(*documents):
    known = truth.EMPTY
    for number, said in enumerate(documents):
        known = truth.observe(known, "metadata", data(said), float(number))
    return known


@pytest.mark.parametrize(
    "bad", [{"vlan_id": 4095}, {"vlan_mac_address": "x"}, {"vlan_link": "gone"}, {"mtu": 1}, {"id": None}]
)
def test_the_network_of_a_refused_link_is_not_homeless(bad):
    """At a first boot: the others have all of their networks."""
    said = json.loads(json.dumps(GOOD))
    said["links"][3].update(bad)
    wants = desired(heard(said), nics(nic("ens3"), nic("ens4", B)))
    found = {item.key: item.entry for want in wants for item in want.items}
    assert set(found) == {A + "/phy", B + "/phy", C + "/bond"}
    assert [net.address for net in found[C + "/bond"].networks] == ["10.1.0.5/24"]
    assert data(said).faults[0].text.startswith("links[3]")


def test_a_link_that_leans_on_a_refused_one_names_it():
    said = json.loads(json.dumps(GOOD))
    said["links"][2]["ethernet_mac_address"] = "x"
    faults = [fault.text for fault in data(said).faults]
    assert faults == [
        "links[2].ethernet_mac_address (link bond1): not a MAC address: 'x'",
        "links[3].vlan_link (link vlan1, MAC %s): the link 'bond1' is refused (links[2].ethernet_mac_address: not a MAC address: 'x')" % C,
    ]  # fmt: skip


LEANS = {0: {0}, 1: {1, 2, 3}, 2: {2, 3}, 3: {3}}
KEYS = [A + "/phy", B + "/phy", C + "/bond", C + "/vlan.7"]


@given(st.integers(0, 3), st.dictionaries(st.text(max_size=12), any_json, max_size=3), st.data())
def test_a_fault_costs_no_link_that_does_not_lean_on_it(place, strange, draw):
    """Whatever becomes of one link of a working document, at a later look: the others keep all that they had."""
    said = json.loads(json.dumps(GOOD))
    field = draw.draw(st.sampled_from(sorted(said["links"][place])))
    if field == "id":
        return  # its network and who leans on it name another then
    said["links"][place].update(strange)
    said["links"][place][field] = draw.draw(any_json)
    known = heard(GOOD, said)
    before = heard(GOOD)
    for number, key in enumerate(KEYS):
        if number not in LEANS[place]:
            assert known.keys[key].entry == before.keys[key].entry
            assert known.keys[key].listed


@pytest.mark.parametrize("none", [None, "", {}, []])
def test_whatever_stands_for_an_empty_list(none):
    """Lua writes {} for one, templates an empty string."""
    net = static(routes=none, services=none, dns_nameservers=none, dns_search=none)
    doc = dict(document([link(), link(B, "tap2")], [net]), services=none)
    said = network_data.parse(doc)
    assert (sorted(said.entries), said.faults, said.services) == ([A + "/phy", B + "/phy"], (), ())
    (found,) = said.entries[A + "/phy"].networks
    assert (found.address, found.routes, found.dns, found.search) == ("10.0.0.5/24", (), (), ())


@pytest.mark.parametrize("networks", ["", {}, {"a": 1}, "x"])
def test_networks_that_are_no_list_are_refused(networks):
    """An empty one would take all of the server's networks away, by mistake more likely than not."""
    with pytest.raises(network_data.Refused, match="not a list"):
        network_data.parse(dict(document([link()]), networks=networks))


@pytest.mark.parametrize("networks", [None, []])
def test_networks_of_which_there_are_none_leave_a_link_without(networks):
    assert network_data.parse(dict(document([link()]), networks=networks)).entries[A + "/phy"].networks == ()
