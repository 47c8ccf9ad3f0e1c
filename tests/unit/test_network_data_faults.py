# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""network_data: what is refused whole, and what costs one link. Nothing that is read can do harm."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.core.network_data import Refused

from .build import A, B, C, bond, data, dhcp, dns, document, link, static, vlan

# -- refused whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"links"',
        b"{}",
        b'{"links": null}',
        b'{"networks": []}',
        b'{"links": {}}',
        b'{"links": [], "networks": {}}',
        b'{"links": [], "networks": ""}',
        b'{"links": "tap1"}',
        b'{"links": [], "networks": {"a": 1}}',
        b'{"links": [], "networks": "x"}',
        b"[" * 100000,
        b" " * network_data.MAX_BYTES + b" ",
        b'{"links": []}'.ljust(network_data.MAX_BYTES + 1),
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_a_document_that_says_nothing_is_refused(raw):
    with pytest.raises(Refused):
        network_data.parse_bytes(raw)


def test_a_document_of_exactly_the_limit_is_read():
    raw = json.dumps(document([link()])).encode().ljust(network_data.MAX_BYTES)
    assert list(network_data.parse_bytes(raw).entries) == [A + "/phy"]


def test_what_is_nested_too_deeply_to_be_looked_at_is_refused():
    nested = []
    for _ in range(200000):
        nested = [nested]
    with pytest.raises(Refused, match="nested"):
        network_data.parse(document([link(type=nested)]))
    while nested:  # or freeing it recurses, in some Pythons
        nested = nested.pop()


def test_no_links_at_all_is_an_answer_and_no_refusal():
    assert data({"links": []}).entries == {}


# -- faults cost their link alone ------------------------------------------------------------------

NOT_AN_ADDRESS = [
    "",
    " ",
    "10.0.0.256",
    "10.0.0",
    "10.0.0.5\n",
    "10.0.0.5\nup reboot",
    "10.0.0.5 up reboot",
    "10.0.0.5;reboot",
    "10.0.0.5/24/8",
    "fe80::1%eth0",
    "fe80::1%\nup reboot",
    "\u0661\u0660.0.0.5",
    "\uff11\uff10.0.0.5",
    "10.0.0.\u00b2",
    7,
    3.5,
    True,
    [],
    {},
]
NO_NEIGHBOUR = ["10.0.0.255", "255.255.255.255", "224.0.0.5", "127.0.0.1", "ff02::1", "::1"]
NOT_A_NUMBER = [
    "",
    "x",
    "-1",
    "1e3",
    "1500\n",
    " 1500",
    "\u00b2",
    "\u0661\u0662\u0663\u0664",
    1500.0,
    True,
    [],
    {},
    "9" * 5000,
]
NOT_A_MAC = [None, "", "fa:16:3e:00:00", "fa:16:3e:00:00:0g", A + "\n", A + ":00", A.replace(":", "-"), 7, [A]]


def faulty_link(**fields):
    return document([link(**fields), link(B, "tap2")], [static(), static("10.0.1.5", link="tap2")])


def faulty_network(**fields):
    return document([link(), link(B, "tap2")], [static(**fields), static("10.0.1.5", link="tap2")])


def faults(value_name, values, make):
    return [pytest.param(make(value), id="%s=%.20r" % (value_name, value)) for value in values]


FAULTY = (
    faults("mtu", NOT_A_NUMBER[1:] + [67, 65536, "67", -1], lambda v: faulty_link(mtu=v))
    + faults("type", ["a b", "x\ny", "phy\n", " ", [], {}, True, "x" * 65], lambda v: faulty_link(type=v))
    + faults("ip_address", NOT_AN_ADDRESS + [None], lambda v: faulty_network(address=v) if isinstance(v, str) else faulty_network(ip_address=v))
    + faults("netmask", ["255.0.255.0", "0.0.0.255", "33", 33, -1, True, "ffff::", "::", "24\n", "\u00b2", 24.0, [], {}], lambda v: faulty_network(netmask=v))
    + faults("netmask", ["129", "255.255.255.0", "0.0.0.0", "ffff::1", "::ffff", "ffff::%x"], lambda v: faulty_network(address="fd00::5", netmask=v))
    + faults("gateway", [v for v in NOT_AN_ADDRESS if v], lambda v: faulty_network(gateway=v))
    + faults("dns", NOT_AN_ADDRESS + [None], lambda v: faulty_network(services=dns(v)))
    + faults("services", [{"a": 1}, "x", [7], ["dns"]], lambda v: faulty_network(services=v))
    + faults("routes", [{"a": 1}, "x", [7], [{}]], lambda v: faulty_network(routes=v))
    + faults("route network", NOT_AN_ADDRESS + [None, "10.0.0.0/33", "10.0.0.0/", "/8"], lambda v: faulty_network(routes=[{"network": v, "netmask": "255.0.0.0", "gateway": "10.0.0.1"}]))
    + faults("route netmask", ["255.0.255.0", "ffff::", 33], lambda v: faulty_network(routes=[{"network": "10.0.0.0", "netmask": v, "gateway": "10.0.0.1"}]))
    + faults("route gateway", [v for v in NOT_AN_ADDRESS if v], lambda v: faulty_network(routes=[{"network": "10.0.0.0/8", "gateway": v}]))
    + faults("no neighbour", [*NO_NEIGHBOUR[:4], "fd00::1"], lambda v: faulty_network(routes=[{"network": "10.9.0.0/16", "gateway": v}]))
    + faults("no neighbour", [*NO_NEIGHBOUR[4:], "10.0.0.1"], lambda v: faulty_network(routes=[{"network": "fd00:9::/48", "gateway": v}]))
    + faults("no neighbour", NO_NEIGHBOUR, lambda v: faulty_network(gateway=v))
    + faults("route metric", NOT_A_NUMBER + [-1, 1 << 32], lambda v: faulty_network(routes=[{"network": "10.0.0.0/8", "gateway": "10.0.0.1", "metric": v}]))
    + faults("network type", [None, "", "ipv5", "ipv4\n", "ipv4 dhcp", 4, []], lambda v: faulty_network(type=v))
)  # fmt: skip


@pytest.mark.parametrize("faulty", FAULTY)
def test_a_bad_field_costs_its_link_and_no_other(faulty):
    read = data(faulty)
    assert list(read.entries) == [B + "/phy"]
    assert read.faulted == {A + "/phy"}
    assert [fault.key for fault in read.faults] == [A + "/phy"]


@pytest.mark.parametrize(
    ("faulty", "path"),
    [
        (faulty_link(mtu="x"), "links[0].mtu"),
        (faulty_network(netmask="x"), "networks[0].netmask"),
        (faulty_network(services=dns("10.0.0.1", "x")), "networks[0].services[1].address"),
        (faulty_network(routes=[{"network": "x", "netmask": "255.0.0.0"}]), "networks[0].routes[0].network"),
        (document([bond(), link(), link(B, "tap2", mtu=1)]), "links[2].mtu"),
        (document([bond(members=["tap1", "tap9"]), link()]), "links[0].bond_links[1]"),
    ],
)
def test_a_fault_names_where_it_stands(faulty, path):
    assert [fault.path for fault in data(faulty).faults] == [path]


@pytest.mark.parametrize(
    "faulty", [vlan(C, vlan_id=4095), vlan(C, parent="gone"), bond(members=["gone"]), link(C, "vlan1", mtu="x")], ids=str
)
def test_an_error_of_a_link_is_told_with_its_mac_also_where_the_link_cannot_be_told_apart(faulty):
    told = [fault.text for fault in data(document([link(), faulty])).faults]
    assert told and all("(link %s, MAC %s): " % (faulty["id"], C) in text for text in told), told


@pytest.mark.parametrize("mac", NOT_A_MAC)
def test_a_link_without_a_readable_mac_is_nobodys_and_nothing_can_be_called_missing(mac):
    read = data(document([link(mac), link(B, "tap2")]))
    assert list(read.entries) == [B + "/phy"]
    assert read.faulted == frozenset()
    assert read.unidentified_link


@pytest.mark.parametrize("raw", [None, 7, "x", [], {"type": "phy"}, link(id=None), link(id=[]), link(id=1.5)], ids=repr)
def test_a_link_that_cannot_be_told_costs_no_other(raw):
    read = data(document([raw, link(B, "tap2")]))
    assert list(read.entries) == [B + "/phy"]
    assert read.unidentified_link


@pytest.mark.parametrize(
    "raw", [None, 7, "x", [], {}, static(link=None), static(link="gone"), static(link=[])], ids=repr
)
def test_a_network_of_no_link_costs_no_link(raw):
    read = data(document([link()], [raw, static()]))
    assert [net.address for net in read.entries[A + "/phy"].networks] == ["10.0.0.5/24"]
    assert not read.unidentified_link
    assert [fault.path.split(".")[0] for fault in read.faults] == ["networks[0]"]


def test_two_links_with_one_mac_cost_that_nic():
    read = data(document([link(A, "tap1"), link(A, "tap2"), link(B, "tap3")]))
    assert list(read.entries) == [B + "/phy"]
    assert read.faulted == {A + "/phy"}


def test_of_two_links_with_one_id_the_second_is_a_fault():
    read = data(document([link(A, "tap1"), link(B, "tap1")], [static(link="tap1")]))
    assert list(read.entries) == [A + "/phy"]
    assert read.faulted == {B + "/phy"}


@pytest.mark.parametrize("services", [[7], ["dns"], dns("x"), dns("10.0.0.1\nx"), dns(None), [None]], ids=repr)
def test_a_bad_global_service_costs_that_item(services):
    read = data(document([link()], services=services + dns("10.0.0.2")))
    assert read.services == ("10.0.0.2",)
    assert list(read.entries) == [A + "/phy"]
    assert not read.unidentified_link
    assert [fault.path for fault in read.faults] == ["services[0]"]


@pytest.mark.parametrize(
    "vlan_fields",
    [{"vlan_id": v} for v in NOT_A_NUMBER + [None, 4095, -1]] + [{"vlan_mac_address": v} for v in NOT_A_MAC if v],
    ids=repr,
)
def test_a_vlan_that_cannot_be_identified_is_anonymous(vlan_fields):
    read = data(document([link(), vlan(**vlan_fields)]))
    assert list(read.entries) == [A + "/phy"]
    assert read.unidentified_link


@pytest.mark.parametrize(
    ("lean", "key"),
    [
        (vlan(parent=None), A + "/vlan.100"),
        (vlan(parent="gone"), A + "/vlan.100"),
        (vlan(parent="vlan1"), A + "/vlan.100"),
        (vlan(parent="vlan2"), A + "/vlan.100"),
        (vlan(parent=["tap1"]), A + "/vlan.100"),
        (bond(members=["tap1", "gone"]), C + "/bond"),
        (bond(members=["vlan2"]), C + "/bond"),
        (bond(members=["bond1"]), C + "/bond"),
        (bond(bond_links="tap1"), C + "/bond"),
        (bond(bond_links=None), C + "/bond"),
        (bond(bond_mode="x\ny"), C + "/bond"),
        (bond(bond_mode="802.3ad\n"), C + "/bond"),
        (bond(bond_mode=[1]), C + "/bond"),
        (bond(bond_miimon=True), C + "/bond"),
        (bond(bond_mode="7"), C + "/bond"),
        (bond(bond_mode="802.3"), C + "/bond"),
        (bond(bond_arp_ip_target="10.0.0.1,x"), C + "/bond"),
        (bond(**{"bond_x\ny": "1"}), C + "/bond"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, dict) else "",
)
def test_a_link_that_cannot_lean_on_what_it_names_costs_itself(lean, key):
    read = data(document([link(), link(B, "tap2"), vlan(B, "vlan2", 7, "tap2"), lean]))
    assert set(read.entries) == {A + "/phy", B + "/phy", B + "/vlan.7"}
    assert read.faulted == {key}


def test_a_bad_dns_server_of_a_route_is_named():
    routes = [{"network": "0.0.0.0/0", "gateway": "10.0.0.1", "services": dns("x")}]
    (fault,) = data(document([link()], [static(routes=routes)])).faults
    assert fault.path == "networks[0].routes[0].services[0].address"


# -- nothing of a document can end a line or start a command ------------------------------------------

HARMLESS = set(string.ascii_letters + string.digits + "_.:+-/")
evil = st.one_of(
    st.sampled_from([v for v in NOT_AN_ADDRESS + NOT_A_NUMBER + NOT_A_MAC if isinstance(v, str)]),
    st.text(max_size=8),
    st.builds(
        lambda good, bad: good + bad,
        st.sampled_from(["10.0.0.5", "fe80::1", "24", "phy", A, "ipv4"]),
        st.text(max_size=4),
    ),
)


def strings_of(value):
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for pair in value.items() for part in pair for s in strings_of(part)]
    return [s for part in value for s in strings_of(part)] if isinstance(value, (list, tuple)) else []


@given(st.lists(evil, min_size=16, max_size=16))
def test_whatever_stands_in_a_string_field_what_is_read_is_harmless(bad):
    it = iter(bad + ["x"] * 4)
    take = it.__next__
    routes = [{"network": take(), "netmask": take(), "gateway": take(), "metric": take()}, {"network": take()}]
    net = {"link": "tap1", "type": take(), "ip_address": take(), "netmask": take(), "gateway": take()}
    read = data(
        document(
            [link(type=take(), mtu=take()), bond(bond_mode=take(), members=["tap1"]), vlan(mac=take(), vlan_id=take())],
            [dict(net, routes=routes, services=dns(take())), dict(net, type="ipv4"), dict(net, type="ipv6")],
            dns(take(), take()),
        )
    )
    told = [strings_of(network_data.entry_to_json(e)) for e in read.entries.values()]
    for text in [s for strings in told for s in strings] + list(read.services):
        assert set(text) <= HARMLESS, text


# -- any JSON at all ----------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from([A, B, "tap1", "10.0.0.5", "24"]),
)
any_json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
words = "id type ethernet_mac_address mtu vlan_id vlan_mac_address vlan_link bond_links bond_mode".split()
net_words = "link type ip_address netmask gateway routes services".split()


def objects(names, values):
    return st.dictionaries(st.sampled_from(names), values, max_size=len(names))


some_links = st.lists(
    st.one_of(
        any_json,
        objects(words, st.one_of(any_json, st.sampled_from(["vlan", "bond", "phy", ["tap1"], 100]))),
        st.builds(
            lambda base, over: dict(base, **over),
            st.sampled_from([link(), link(B, "tap2"), vlan(), bond()]),
            objects(words, any_json),
        ),
    ),
    max_size=4,
)
some_networks = st.lists(
    st.one_of(
        any_json,
        st.builds(
            lambda base, over: dict(base, **over),
            st.sampled_from([static(), dhcp(), static("fd00::5", "ffff::")]),
            objects(net_words, any_json),
        ),
    ),
    max_size=4,
)


@given(
    st.one_of(
        any_json,
        st.fixed_dictionaries(
            {
                "links": st.one_of(some_links, any_json),
                "networks": st.one_of(some_networks, any_json),
                "services": any_json,
            }
        ),
    )
)
def test_any_json_is_read_or_refused(value):
    try:
        read = network_data.parse(value)
    except Refused:
        return
    assert not set(read.entries) & read.faulted
    assert all(key == e.key for key, e in read.entries.items())
    json.dumps([network_data.entry_to_json(e) for e in read.entries.values()])


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(raw):
    try:
        network_data.parse_bytes(raw)
    except Refused:
        pass
