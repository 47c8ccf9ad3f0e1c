# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""reachability: what is probed before and after a change; and the packets of the probes."""

import socket
import struct

import pytest

from cloudinit_osnetd.apply import reachability
from cloudinit_osnetd.apply.reachability import Target
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Route
from cloudinit_osnetd.kernel import probe
from cloudinit_osnetd.kernel.probe import Question

from .build import A, B, dhcp, entry, nic, snapshot, static

KEY = A + "/phy"
DEFAULT = Target(KEY, "0.0.0.0/0")
ROUTE = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}


def item(*networks, mac=A, name="ens3"):
    one = entry(*networks, mac=mac)
    return Item(one.key, one, name, ())


def default(gateway, index=2):
    return Route("0.0.0.0/0", gateway, index, 0)


def test_a_links_gateways_are_those_that_its_kernel_routes_name():
    routes = [
        default("10.0.0.1"),
        default("10.1.0.1", 3),
        Route("10.0.0.0/24", "", 2, 0),
        Route("::/0", "fe80::1", 2, 1024),
    ]
    now = snapshot(nic("ens3", A, 2), nic("ens4", B, 3), routes=routes)
    assert reachability.of_links([item(static())], now) == {DEFAULT: ("10.0.0.1",), Target(KEY, "::/0"): ("fe80::1",)}
    assert reachability.of_links([item(static(), name="ens9")], now) == {}


@pytest.mark.parametrize(
    ("networks", "routes", "addresses", "gateways"),
    [
        ([static(routes=[ROUTE])], [], [], ("10.0.0.1",)),
        ([static()], [default("10.0.0.9")], [], None),  # wanted no more
        ([dhcp()], [default("10.0.0.9")], ["10.0.0.7/24"], ("10.0.0.9",)),
        ([dhcp()], [], [], ()),  # its lease is to come
        ([dhcp()], [], ["10.0.0.7/24"], None),  # and has come without a gateway
        ([dhcp(type="ipv6_slaac")], [], [], None),  # of no use to IPv4
        ([static(routes=[ROUTE])], [default("10.0.0.9")._replace(advertised=True)], [], ("10.0.0.1", "10.0.0.9")),
    ],
)
def test_after_a_change_the_gateway_of_the_new_entry_counts(networks, routes, addresses, gateways):
    now = snapshot(nic("ens3", A, 2, addresses), routes=routes)
    assert reachability.wanted(DEFAULT, item(*networks), now) == gateways


@pytest.fixture
def answering(monkeypatch):
    """Who answers; what was asked is noted."""
    there, asked = set(), []

    def answered(questions, seconds, stubborn=True):
        asked.extend(questions)
        return frozenset(q for q in questions if q.address in there)

    monkeypatch.setattr(probe, "answered", answered)
    return there, asked


def test_one_of_the_gateways_for_a_destination_is_enough_and_what_is_not_wanted_is_not_missed(answering):
    answering[0].add("10.0.0.2")
    gone, lost = Target(KEY, "10.8.0.0/16"), Target(KEY, "10.9.0.0/16")
    asked = {DEFAULT: ("10.0.0.1", "10.0.0.2"), gone: None, lost: (), Target("", reachability.METADATA): ()}
    assert reachability.reached(asked, {KEY: "ens3"}, snapshot(), 1.0) == {DEFAULT, gone}


def test_a_gateway_is_asked_on_its_nic_from_an_address_of_its_subnet(answering):
    now = snapshot(nic("ens3", A, 2, ["10.7.0.5/24", "10.0.0.5/24", "fe80::1/64"]))
    asked = {DEFAULT: ("10.0.0.1",), Target(KEY, "10.8.0.0/16"): ("10.66.0.1",), Target(KEY, "::/0"): ("fe80::9",)}
    reachability.reached(asked, {KEY: "ens3"}, now, 1.0)
    assert set(answering[1]) == {
        Question("neighbour", "10.0.0.1", device="ens3", source="10.0.0.5"),
        Question("neighbour", "10.66.0.1", device="ens3", source="10.7.0.5"),
        Question("neighbour", "fe80::9", device="ens3"),
    }


def test_the_metadata_service_and_an_operators_list_are_asked_for_the_whole_server(answering):
    asked = dict.fromkeys(reachability.of_server(["192.0.2.1", "[2001:db8::1]:443"]), ())
    reachability.reached(asked, {}, snapshot(), 1.0)
    assert set(answering[1]) == {
        Question("connect", "169.254.169.254", 80),
        Question("echo", "192.0.2.1"),
        Question("connect", "2001:db8::1", 443),
    }


def test_waiting_ends_when_all_have_answered_once(answering, monkeypatch):
    monkeypatch.setattr(reachability.netlink, "snapshot", snapshot)
    monkeypatch.setattr(
        reachability.time, "sleep", lambda _seconds: answering[0].symmetric_difference_update(["10.0.0.1", "10.0.0.2"])
    )
    answering[0].add("10.0.0.1")
    other = Target(KEY, "10.8.0.0/16")
    asked = {DEFAULT: ("10.0.0.1",), other: ("10.0.0.2",)}
    assert reachability.await_all(lambda _now: asked, {KEY: "ens3"}, 5.0) == {DEFAULT, other}
    assert reachability.await_all(lambda _now: {DEFAULT: ("10.0.0.3",)}, {KEY: "ens3"}, 0.0) == frozenset()


# -- the operator's list ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:443", ("192.0.2.1", 443)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:DB8::1]:22", ("2001:db8::1", 22)),
    ],
)
def test_an_address_with_or_without_a_port(text, parsed):
    assert probe.parse(text) == parsed


@pytest.mark.parametrize(
    "text", ["", "example.org", "192.0.2.1:", "192.0.2.1:0x1", "192.0.2.1:70000", "[2001:db8::1]x", "1:2"]
)
def test_what_is_none_is_refused_and_the_setting_with_it(text):
    with pytest.raises(ValueError):
        probe.parse(text)
    assert context.parse_settings({"must_reach": [text]}).must_reach == frozenset()


def test_the_setting():
    assert context.parse_settings({"must_reach": ["192.0.2.1:22"]}).must_reach == {"192.0.2.1:22"}
    assert context.parse_settings({"rejected_for": 5}).rejected_for == 5.0


# -- packets ---------------------------------------------------------------------------------------------------


def arp(operation, sender="10.0.0.1", protocol=0x0800):
    return struct.pack("!HHBBH", 1, protocol, 6, 4, operation) + b"\x02" * 6 + socket.inet_aton(sender) + b"\0" * 10


@pytest.mark.parametrize(
    ("asker", "packet", "address"),
    [
        (probe._Arp, arp(2), "10.0.0.1"),
        (probe._Arp, arp(1), ""),  # a question
        (probe._Arp, arp(2, protocol=0x86DD), ""),
        (probe._Arp, arp(2)[:20], ""),
        (probe._Ndp, b"\x88" + b"\0" * 7 + socket.inet_pton(socket.AF_INET6, "2001:db8::1"), "2001:db8::1"),
        (probe._Ndp, b"\x88\0\0\0", ""),
        (probe._Echo4, b"\x46" + b"\0" * 23 + struct.pack("!BBHH", 0, 0, 0, probe._ident()), "the sender"),
        (probe._Echo4, b"\x45" + b"\0" * 19 + struct.pack("!BBHH", 0, 0, 0, probe._ident() ^ 1), ""),
        (probe._Echo4, b"\x45" + b"\0" * 19 + struct.pack("!BBHH", 8, 0, 0, probe._ident()), ""),
        (probe._Echo6, b"\x81\0\0\0" + struct.pack("!HH", probe._ident(), 1), "the sender"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",  # the packets hold the pid
)
def test_what_counts_as_an_answer(asker, packet, address):
    assert asker([Question("neighbour", "10.0.0.1")])._answers(packet, "the sender") == address


@pytest.mark.parametrize("kind", [8, 128])
def test_an_echo_request_has_the_checksum_of_rfc_1071(kind):
    packet = probe._echo(kind)
    total = sum(struct.unpack("!%dH" % (len(packet) // 2), packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_a_connection_that_is_made_is_an_answer_and_one_that_is_refused_is_none():
    with socket.socket() as listening, socket.socket() as closed:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        closed.bind(("127.0.0.1", 0))
        open_, shut = (Question("connect", "127.0.0.1", sock.getsockname()[1]) for sock in (listening, closed))
        assert probe.answered([open_, shut], 0.3) == {open_}


def test_what_cannot_even_be_asked_is_given_up_at_once_where_nobody_is_stubborn():
    nobody = [
        Question("neighbour", "10.0.0.1", device="no-such-nic"),
        Question("neighbour", "fe80::1", device="no-such-nic"),
    ]
    assert probe.answered(nobody, 30.0, stubborn=False) == frozenset()
    assert probe.answered(nobody, 0.05) == frozenset()
