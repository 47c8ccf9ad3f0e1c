# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Pushes that are malformed: `apply` ends with 3, names the field, and nothing begins. On real guests: test_push_malformed.py."""

import base64
import bz2
import copy
import gzip
import io
import ipaddress
import json
import lzma
import re
import sys
import tempfile
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd import cli
from cloudinit_osnetd.commands import apply
from cloudinit_osnetd.core import desired, network_data, pushed_document, truth
from cloudinit_osnetd.kernel import netlink

from .build import A, B, bond, dns, document, link, nic, snapshot, static, vlan

ROUTE = {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.1", "metric": 7, "services": dns("10.0.0.3")}
GOOD = document(
    [link(mtu=1450), link(B, "tap2"), bond(bond_miimon=100, bond_xmit_hash_policy="layer2"), vlan(parent="bond1", mtu=1400),
     link("fa:16:3e:00:00:09", "tap9")],
    [
        static(link="tap9", gateway="10.0.0.1", routes=[ROUTE], services=dns("10.0.0.2"), dns_search=["example.org"]),
        static("fd00::5", "64", link="vlan1", id="n2", dns_nameservers=["fd00::2"], routes=[{"network": "::/0", "gateway": "fd00::1"}]),
        {"id": "n3", "link": "bond1", "type": "ipv4_dhcp"},
    ],
    [{"type": "dns", "address": "10.9.9.9", "search": ["example.com"]}],
)  # fmt: skip
RAW = json.dumps(GOOD).encode()


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A, 2)))
    monkeypatch.setattr("os.geteuid", lambda: 0)


class Begun(Exception):
    pass


def refused(raw):
    """The problems that `apply --stdin` names; fails if it ends otherwise, or begins a run."""

    def begin(*_args, **_options):
        raise Begun

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile() as given:
        given.write(raw)
        given.seek(0)
        patch.setattr(apply, "run", begin)
        patch.setattr(apply, "_await_cloud_init", begin)
        out, err = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "stdin", given)
        code = cli.main(["apply", "--json", "--stdin"])
    assert (code, err.getvalue()) == (3, ""), (code, out.getvalue(), err.getvalue(), raw[:0])
    problems = json.loads(out.getvalue())["refused"]
    # One line each, in characters that any log and terminal takes, and not the whole document again.
    assert problems and all(text and text.isprintable() and len(text) < 400 for text in problems), problems
    return problems


def test_the_document_that_is_broken_below_is_accepted_as_it_is():
    found = pushed_document.parsed(RAW, dict)
    assert found.faults == () and len(found.entries) == 5


# -- every field --------------------------------------------------------------------------------------------------


def fields(value, path=()):
    """Every place of a document: the keys that lead there."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from fields(inner, (*path, key))


def text_of(path):
    return re.sub(r"^[.]", "", "".join("[%d]" % key if isinstance(key, int) else "." + key for key in path))


def means_nothing(path):
    """A network's own id is nobody's; a service of another type is not ours."""
    return path[::2] == ("networks", "id") or ("services" in path and path[-1] == "type")


PLACES = [path for path in fields(GOOD) if not means_nothing(path)]
ODD_TEXT = st.text(min_size=1, max_size=20).filter(lambda text: not re.match(r"[A-Za-z0-9_.+:,/ -]*\Z", text))
ODD = {  # valid nowhere where the good document has a text, a number, a list or an object
    str: st.one_of(st.booleans(), st.floats(1.5, 2.5), st.dictionaries(st.just("x"), st.integers(), min_size=1), st.lists(st.integers(), min_size=1, max_size=2)),
    int: st.one_of(st.booleans(), st.floats(1.5, 2.5), ODD_TEXT, st.just({"x": 1}), st.just([[]]), st.integers(-9, -1), st.integers(1 << 33)),
    list: st.one_of(st.just({"x": 1}), st.just("text"), st.integers(1, 9), st.just([{}]), st.just([7]), st.just([[]]), st.just([None])),
    dict: st.one_of(st.none(), st.just([]), st.just([1]), st.just("text"), st.integers(), st.booleans()),
}  # fmt: skip
# A text that is no id's, kind's, address's or option's.
FREE = ("id", "search", "dns_search")


def odd_values(path, value):
    if isinstance(value, str) and path[-1] not in FREE and "search" not in path and "dns_search" not in path:
        return st.one_of(ODD[str], ODD_TEXT, st.just("x" * 70 + "\n"))
    return ODD[int if value is None else type(value)]


def value_at(value, path):
    for key in path:
        value = value[key]
    return value


@st.composite
def broken(draw):
    """A document with one wrong value, and where that is."""
    path = draw(st.sampled_from(PLACES))
    found = copy.deepcopy(GOOD)
    bad = draw(odd_values(path, value_at(GOOD, path)))
    value_at(found, path[:-1])[path[-1]] = bad
    return path, bad, found


@given(broken())
def test_a_wrong_value_in_any_field_is_refused_by_its_name(case):
    path, bad, found = case
    if path[-1] in ("dns_nameservers", "dns_search", "search") and (isinstance(bad, str) or not bad):
        return  # one, or a text with blanks between them, is accepted
    if path[-1] == "services" and bad == [{}]:
        return  # of no type, so it is none of ours
    problems = refused(json.dumps(found).encode())
    # Of a global service the item is named, and of a link that is no link what its kind would have needed.
    where = "%s[%d]" % path[:2] if path[0] == "services" and len(path) > 1 or path[::2] == ("links", "type") else text_of(path)
    where = re.sub(r"(dns_\w+|search)\[0\]\Z", r"\1", where)  # of a list of names, the list
    assert any(where in problem for problem in problems), (where, bad, problems)


# -- every kind of text -------------------------------------------------------------------------------------------

BIG = RAW[:-1] + b" " * ((1 << 20) + 1 - len(RAW)) + b"}"
URLS = json.dumps(dict(GOOD, note="\u00ff\u00fe??>>~~" * 9), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (RAW.decode().encode("utf-16"), "UTF-16"),
        (RAW.decode().encode("utf-16-le"), "UTF-16"),
        (RAW.decode().encode("utf-16-be"), "UTF-16"),
        (RAW.decode().encode("utf-32"), "UTF-32"),
        (RAW.decode().encode("utf-8-sig"), "byte order mark"),
        (RAW.replace(b"tap1", b"\xfftap1"), "not UTF-8: byte 0xff"),
        (RAW + b"\0", "NUL byte"),
        (b"\0" + RAW, "NUL byte"),
        (RAW.replace(b"tap1", b"ta\0p1"), "NUL byte"),
        (RAW.replace(b'"mtu": 1450', b'"mtu": 1450, "mtu": 1400'), "the key 'mtu' stands twice, in the object with the id 'tap1'"),
        (RAW[:-1] + b', "links": []}', "the key 'links' stands twice"),
        (RAW.replace(b"1450", b"NaN"), "NaN is no number"),
        (RAW.replace(b"1450", b"-Infinity"), "-Infinity is no number"),
        (RAW[:-1] + b', "other": NaN}', "NaN is no number"),
        (RAW.replace(b"1450", b"1e400"), "links[0].mtu"),
        (RAW.replace(b"1450", b"1e3"), "links[0].mtu (link tap1, MAC fa:16:3e:00:00:01): not a whole number: 1000.0"),
        (RAW.replace(b"1450", b"9" * 30), "links[0].mtu"),
        (RAW.replace(b"1450", b"9" * 100000), "a number of 100000 digits"),
        (RAW.replace(b"1450", b"-" + b"9" * 5000), "a number of 5001 digits"),
        (RAW.replace(b"1450", b"[" * 100000 + b"]" * 100000), "nested too deeply"),
        (b"[" * 500000, "nested too deeply"),
        (b'{"links":' * 100000, "nested too deeply"),
        (b"[" + RAW + b"]", "not an object"),
        (json.dumps(GOOD["links"]).encode(), "not an object"),
        (json.dumps({"network_data": GOOD}).encode(), "has no links; they are below the key 'network_data': what is there is needed"),
        (json.dumps(RAW.decode()).encode(), "a JSON string"),
        (b"null", "neither a JSON object nor base64"),
        (b"17", "neither a JSON object nor base64"),
        (b"1234", "neither a JSON object nor base64"),
        (gzip.compress(RAW), "gzip"),
        (bz2.compress(RAW), "bzip2"),
        (lzma.compress(RAW), "xz"),
        (zlib.compress(RAW), "neither JSON nor base64"),
        (base64.b64encode(gzip.compress(RAW)), "gzip"),
        (base64.b64encode(base64.b64encode(RAW)), "base64 of base64"),
        (base64.b64encode(base64.encodebytes(RAW)), "base64 of base64"),
        (base64.urlsafe_b64encode(URLS), "alphabet for URLs"),
        (base64.b64encode(RAW + b" " * (2 - len(RAW) % 3)).rstrip(b"="), "neither JSON nor base64"),
        (base64.b64encode(RAW.decode().encode("utf-16")), "UTF-16"),
        (base64.b64encode(b"<html>404</html>"), "HTML"),
        (b"data:application/json;base64," + base64.b64encode(RAW), "begins with 'data:"),
        (b"<html>404</html>", "HTML"),
        (RAW + RAW, "not JSON: Extra data"),
        (RAW[:-1] + b",}", "not JSON"),
        (RAW[: len(RAW) // 2], "not JSON"),
        (b"// of tap1\n" + RAW, "neither JSON nor base64"),
        (b"links:\n- id: tap1\n", "it is YAML"),
        (b"network:\n  version: 2\n  ethernets: {ens3: {dhcp4: true}}\n", "it is YAML, as a network config of cloud-init or netplan"),
        (base64.b64encode(b"#cloud-config\nversion: 1\r\nconfig: []\n"), "base64 of something else than JSON: it is YAML"),
        (b"---\nlinks: []\n", "it is YAML"),
        (b"#!/bin/sh\necho eyJ9\n", "neither JSON nor base64"),
        (b'{"version": 1, "config": []}', "it is a network config of cloud-init or netplan; a network_data.json of OpenStack is needed"),
        (b'{"network": {"version": 2, "ethernets": {}}}', "a network config of cloud-init or netplan"),
        (b'{"uuid": "6e09f1b2", "hostname": "web", "keys": []}', "it is a meta_data.json"),
        (b'{"ports": [{"fixed_ips": []}]}', "an answer of OpenStack's API"),
        (b"{'links': []}", "not JSON"),
        (b"'" + base64.b64encode(RAW) + b"'", "neither JSON nor base64"),
        (BIG, "larger than 1048576 bytes"),
        (base64.b64encode(BIG), "larger than 1048576 bytes"),
        (RAW.ljust((1 << 20) + 1), "larger than 1048576 bytes"),
        (b"x" * (3 << 20), "larger than 1048576 bytes"),
        (RAW.replace(b'"tap1"', b"true"), "links[0].id"),
        (RAW.replace(b'"id": "tap1"', b'"id": 1.0'), "links[0].id"),
        (RAW.replace(b'"services": [{"type": "dns", "address": "10.9.9.9"', b'"services": {"type": "dns", "x": [{"address": "10.9.9.9"').replace(b"]}]}", b"]}]}}"), "services: not a list"),
    ],
)  # fmt: skip
def test_what_is_no_network_data_is_refused_in_plain_words(raw, said):
    problems = refused(raw)
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("address", "mask"),
    [("::1", "128"), ("::ffff:10.0.0.5", "64"), ("::FFFF:a00:5", "128"), ("224.0.0.5", "24"), ("239.255.255.255", "8"), ("0.0.0.0", "0"), ("255.255.255.255", "32"), ("ff02::1", "64"), ("::", "64"), ("FF05::7", "128")],
)
def test_an_address_that_no_nic_can_have_is_refused(address, mask):
    said = document([link()], [static(address, mask, type="ipv6" if ":" in address else "ipv4")])
    (problem,) = refused(json.dumps(said).encode())
    shown = str(ipaddress.ip_address(address))
    assert "networks[0].ip_address" in problem and A in problem and "a NIC can have: " + shown in problem


@pytest.mark.parametrize("address", ["223.255.255.254", "10.0.0.0", "10.0.0.255", "127.0.0.1", "240.0.0.1", "fe80::1", "::10.0.0.5"])
def test_one_that_is_odd_and_may_be_is_taken(address):
    said = document([link()], [static(address, "64" if ":" in address else "24", type="ipv6" if ":" in address else "ipv4")])
    assert len(pushed_document.parsed(json.dumps(said).encode(), dict).entries) == 1


def one(link_more, *networks):
    return json.dumps(document([link(**link_more)], list(networks))).encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (one({}, dict(static(), ip_address="10.0.0.077")), "networks[0].ip_address (link tap1, MAC %s): not an IP address: '10.0.0.077'" % A),
        (one({}, dict(static(), netmask="255.255.255.000")), "networks[0].netmask"),
        (one({}, static("::ffff:010.0.0.1", "64", type="ipv6")), "networks[0].ip_address"),
        (one({}, static(gateway="10.0.0.01")), "networks[0].gateway"),
        (one({}, dict(static(), netmask="0.0.0.255")), "networks[0].netmask (link tap1, MAC %s): not a netmask: '0.0.0.255'" % A),
        (one({}, dict(static(), netmask="0.0.0.0")), "networks[0].netmask (link tap1, MAC %s): no netmask of an address" % A),
        (one({}, dict(static(), netmask=0)), "no netmask of an address"),
        (one({}, static("2001:db8::5", "0", type="ipv6")), "no netmask of an address"),
        (one({}, dict(static(), ip_address="10.0.0.5/0", netmask="")), "no netmask of an address"),
        (one({}, dict(static(), ip_address="10.0.0.5/16")), "networks[0].netmask (link tap1, MAC %s): /24, but the address says 10.0.0.5/16" % A),
        (one({}, dict(static(), ip_address="10.0.0.5/24", netmask="ffff::")), "networks[0].netmask"),
        (one({}, static("10.0.0.5", "64", type="ipv6")), "networks[0].netmask (link tap1, MAC %s): not a number from 0 to 32: 64" % A),
        (one({"mtu": 1279}, static(), static("2001:db8::5", "64", type="ipv6")), "links[0].mtu (link tap1, MAC %s): 1279 is less than IPv6 needs (1280)" % A),
        (one({"mtu": "68"}, {"id": "n", "link": "tap1", "type": "ipv6_slaac"}), "links[0].mtu"),
        (one({"ethernet_mac_address": A.replace(":", "-")}, static()), "links[0].ethernet_mac_address"),
        (one({}, dict(static(), services=[{"type": "dns", "address": "10.0.0.2/24"}])), "networks[0].services[0].address"),
        (one({}, static(routes=[{"network": "10.9.0.0", "netmask": "0.0.255.255", "gateway": "10.0.0.1"}])), "networks[0].routes[0].netmask"),
        (one({}, static(routes=[{"network": "10.9.0.0/16", "gateway": "10.0.0.255"}])), "networks[0].routes[0].gateway"),
        (one({}, static(routes=[{"network": "10.9.0.0/16", "gateway": "fe80::1%eth0"}])), "networks[0].routes[0].gateway"),
        (json.dumps(document([], [static()])).encode(), "networks[0].link: no link has the id 'tap1'"),
        (json.dumps(document([link(), link(A.upper(), "tap2")], [])).encode(), "links[1] (link tap2, MAC %s): the same link as links[0]" % A),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused_with_its_nic_and_field(raw, said):
    problems = refused(raw)
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    "raw",
    [
        one({"ethernet_mac_address": A.upper()}, static()),
        one({"mtu": 1280}, static(), static("2001:db8::5", "64", type="ipv6")),
        one({"mtu": 68}, static()),
        one({"mtu": 0}, static("2001:db8::5", "64", type="ipv6")),
        one({}, dict(static(), ip_address="10.0.0.5/24", netmask="255.255.255.0")),
        one({}, dict(static(), ip_address="10.0.0.5/16", netmask=None)),
        one({}, static(routes=[{"network": "10.9.0.5", "netmask": "255.255.0.0", "gateway": "10.0.0.1"}])),  # bits of a host
        one({}, static(gateway="192.0.2.1")),  # in no subnet of the link, as Neutron allows
        one({}, dict(static(), dns_nameservers=["0.0.0.0", "::"])),
        one({}),
    ],
)
def test_what_is_odd_and_legal_is_taken(raw):
    assert pushed_document.parsed(raw, dict).faults == ()


def test_the_unspecified_dns_server_says_that_there_is_none():
    raw = json.dumps(document([link(), link(B, "tap2")], [dict(static(), dns_nameservers="0.0.0.0"), static("10.0.1.5", link="tap2")], dns("::", "10.0.1.2")))
    found = pushed_document.parsed(raw.encode(), dict)
    state = truth.observe(truth.EMPTY, "push", found, 0.0)
    wants = desired.desired(state, {A: nic("ens3", A, 2), B: nic("ens4", B, 3)})
    assert [item.all_dns for want in wants for item in want.items] == [(), ("10.0.1.2",)]


@pytest.mark.parametrize(
    "raw",
    [
        base64.encodebytes(RAW),
        base64.encodebytes(RAW).replace(b"\n", b"\r\n"),
        RAW.replace(b'"tap9"', b"9"),  # ids are numbers in some clouds' documents
        RAW.replace(b'"id": "tap9"', b'"id": 9').replace(b'"link": "tap9"', b'"link": "9"'),
        RAW.ljust(1 << 20),
        base64.b64encode(RAW.ljust(1 << 20)),
    ],
    ids=["lines", "CRLF", "ids are numbers", "one is a number", "1 MiB", "1 MiB in base64"],
)
def test_what_looks_odd_and_is_right_is_taken(raw):
    assert len(pushed_document.parsed(raw, dict).entries) == 5


@given(st.binary(max_size=200) | st.binary(max_size=200).map(base64.b64encode))
def test_any_bytes_are_refused_in_plain_words(raw):
    refused(raw)


@given(st.integers(0, len(RAW) - 1), st.integers(0, 255), st.booleans())
def test_a_document_with_one_other_byte_is_read_or_refused(place, byte, in_base64):
    """Never anything else, such as an error of the program itself."""
    raw = RAW[:place] + bytes([byte]) + RAW[place + 1 :]
    problems = []
    try:
        pushed_document.parsed(base64.b64encode(raw) if in_base64 else raw, dict)
    except pushed_document.Refused as exc:
        problems = exc.problems
    assert all(text.isprintable() for text in problems), problems


@pytest.mark.parametrize("gateway", ["::ffff:10.0.0.1", "::1", "ff02::1"])
def test_a_gateway_that_is_nobodys_is_refused(gateway):
    said = document([link()], [static("fd00::5", "64", type="ipv6", routes=[{"network": "::/0", "gateway": gateway}])])
    (problem,) = refused(json.dumps(said).encode())
    assert "networks[0].routes[0].gateway" in problem and A in problem and "not a valid gateway address" in problem


def test_a_nic_is_in_one_bond():
    """The first one has it; the second costs itself."""
    links = [link(), link(B, "tap2"), bond("fa:16:3e:00:00:0a", "one", ["tap1"]), bond("fa:16:3e:00:00:0b", "two", ["tap1", "tap2"])]
    (problem,) = refused(json.dumps(document(links, [])).encode())
    assert problem == "links[3].bond_links (link two, MAC fa:16:3e:00:00:0b): %s is a member of one already" % A
    data = network_data.parse(document(links, []))
    assert set(data.entries) == {A + "/phy", B + "/phy", "fa:16:3e:00:00:0a/bond"}


def test_thousands_of_errors_are_found_at_once_and_told_in_part():
    links = [link("fa:16:3e:01:%02x:%02x" % divmod(number, 256), "tap%d" % number, mtu=-1) for number in range(5000)]
    raw = json.dumps(document(links, [])).encode()
    began = time.process_time()
    problems = refused(raw)
    assert time.process_time() - began < 5  # 0.3 s, and 11 s where each link went through all errors
    assert len(problems) == 101 and problems[-1] == "and 4900 more errors"
