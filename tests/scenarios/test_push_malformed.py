# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Pushes that are malformed, in a guest: the exit status of the manual page, words and no traceback, and nothing changed."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from typing import Any, Dict, List, NamedTuple

import pytest

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import assert_follows, assert_nothing_to_do, findings_of, ip, reason_of, state_of
from tests.scenarios.serving import serving
from tests.scenarios.test_push import a_server, push

MIB = 1 << 20


class Case(NamedTuple):
    """What is pushed, and a word of what is said of it; empty where it is a document like any other."""

    raw: bytes
    said: str = ""


def edited(document: Dict[str, Any], which: str, **fields: Any) -> bytes:
    said = copy.deepcopy(document)
    said[which][1 if which == "links" else 0].update(fields)
    return json.dumps(said).encode()


def six(document: Dict[str, Any], address: str, netmask: str = "64", **fields: Any) -> bytes:
    return edited(document, "networks", type="ipv6", ip_address=address, netmask=netmask, routes=[], **fields)


def with_vlan(document: Dict[str, Any], number: Any) -> bytes:
    link = document["links"][0]
    vlan = {"id": "v", "type": "vlan", "vlan_link": link["id"], "vlan_id": number, "vlan_mac_address": link["ethernet_mac_address"]}
    return json.dumps(dict(document, links=[*document["links"], vlan])).encode()


def cases(document: Dict[str, Any]) -> List[Case]:
    raw = json.dumps(document).encode()
    encoded = base64.b64encode(raw)
    numbered = {link["id"]: number for number, link in enumerate(document["links"])}
    ids = dict(
        document,
        links=[dict(link, id=numbered[link["id"]]) for link in document["links"]],
        networks=[dict(network, link=numbered[network["link"]]) for network in document["networks"]],
    )
    route = {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "2001:db8::1"}
    many = [{"id": "n", "link": "nobody", "type": "ipv4_dhcp"}] * 10000
    return [
        Case(b"\xef\xbb\xbf" + raw, "byte order mark"),
        Case(raw.decode().encode("utf-16"), "UTF-16"),
        Case(json.dumps(document, indent=1).replace("\n", "\r\n").encode()),
        Case(raw.replace(b'"type"', b'"type": "ovs", "type"', 1), "stands twice"),
        Case(raw.replace(b"1450", b"Infinity", 1), "Infinity is no number"),
        Case(raw.replace(b"1450", b"9" * 5000, 1), "a number of 5000 digits"),
        Case(b'{"links":' * 50000, "nested too deeply"),
        Case(edited(document, "links", id="\ud800"), "no link has the id"),
        Case(raw.replace(b"ovs", b"o\0s", 1), "NUL byte"),
        Case(base64.urlsafe_b64encode(json.dumps(dict(document, note="\u00ff\u00fe??>>~~" * 9), ensure_ascii=False).encode()), "alphabet for URLs"),
        Case(base64.encodebytes(raw).replace(b"\n", b"\r\n  ")),
        Case(b"\n\t " + encoded + b" \n"),
        Case(base64.b64encode(raw + b" " * (2 - len(raw) % 3)).rstrip(b"="), "neither JSON nor base64"),
        Case(encoded[:-5], "base64"),
        Case(base64.b64encode(gzip.compress(raw)), "gzip"),
        Case(b"[" + raw + b"]", "not an object"),
        Case(json.dumps(raw.decode()).encode(), "a JSON string"),
        Case(b"17", "neither a JSON object nor base64"),
        Case(edited(document, "links", id=None), "links[1].id"),
        Case(json.dumps(dict(document, links=None)).encode(), "has no links"),
        Case(json.dumps(dict(document, networks={"n1": {}})).encode(), "networks: not a list"),
        Case(json.dumps(ids).encode()),
        Case(six(document, "fe80::5%eth0"), "networks[0].ip_address"),
        Case(six(document, "::ffff:10.90.0.5"), "a NIC can have"),
        Case(six(document, "::1", "128"), "a NIC can have"),
        Case(six(document, "2001:db8::5", "129"), "a number from 0 to 128: 129"),
        Case(edited(document, "networks", netmask="33"), "a number from 0 to 32: 33"),
        Case(edited(document, "links", mtu=-1), "links[1].mtu"),
        Case(with_vlan(document, 4095), "vlan_id"),
        Case(with_vlan(document, -1), "vlan_id"),
        Case(edited(document, "networks", routes=[route]), "networks[0].routes[0].gateway"),
        Case(json.dumps(dict(document, networks=many)).encode(), "more errors"),
        Case(b"network: {version: 2, ethernets: {ens3: {dhcp4: true}}}\n", "a network config of cloud-init or netplan"),
        Case(b'{"version": 1, "config": [{"type": "physical", "name": "ens3"}]}', "a network config of cloud-init or netplan"),
        Case(b'{"uuid": "6e09f1b2", "hostname": "web"}', "a meta_data.json"),
        Case(json.dumps({"network_data": document}).encode(), "below the key 'network_data'"),
        Case(json.dumps(dict(document, links=[])).encode(), "no link has the id"),
        Case(edited(document, "links", mtu=1e3), "links[1].mtu"),
        Case(edited(document, "links", ethernet_mac_address="fa-16-3e-00-00-01"), "links[1].ethernet_mac_address"),
        Case(edited(document, "links", ethernet_mac_address=document["links"][0]["ethernet_mac_address"].upper()), "the same link as links[0]"),
        Case(edited(document, "networks", ip_address="10.90.0.077"), "networks[0].ip_address"),
        Case(edited(document, "networks", netmask="0.0.0.255"), "networks[0].netmask"),
        Case(edited(document, "networks", netmask="0.0.0.0"), "every address would be a neighbour"),
        Case(edited(document, "networks", ip_address="10.90.0.7/16"), "/24, but the address says 10.90.0.7/16"),
        Case(edited(document, "networks", type="ipv6", netmask="64"), "networks[0].netmask"),
        Case(edited(json.loads(six(document, "2001:db8::5")), "links", mtu=1279).replace(b'"mtu": 1450', b'"mtu": 1000'), "less than IPv6 needs"),
        Case(edited(document, "networks", services=[{"type": "dns", "address": "10.90.0.2/24"}]), "networks[0].services[0].address"),
        Case(raw.ljust(MIB)),
        Case(raw.ljust(MIB + 1), "larger than 1048576 bytes"),
        Case(base64.b64encode(raw.ljust(MIB))),
        Case(base64.b64encode(raw.ljust(MIB + 1)), "larger than 1048576 bytes"),
    ]


def ended(guest: Container, command: str) -> tuple[int, str, str]:
    """How it ended, and all that it said."""
    done = guest.run(command, check=False, timeout=120)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def on_disk(guest: Container) -> str:
    files = "/var/lib/cloudinit-osnetd/*.json /etc/network/interfaces.d/* /etc/systemd/network/* /etc/NetworkManager/system-connections/*"
    return str(guest.run(f"sha256sum {files} 2>/dev/null", check=False).stdout)


@pytest.mark.long
def test_each_kind_ends_as_the_manual_page_says_and_changes_nothing(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    before = on_disk(guest)
    failures: List[Any] = []
    with serving(guest, starts_of_service=0):
        for number, case in enumerate(cases(guest.server.network_data())):
            (guest.root / "root" / "pushed").write_bytes(case.raw)
            for command in ("plan --stdin </root/pushed", *(["apply --stdin </root/pushed", "apply --json --file /root/pushed"] if case.said else [])):
                code, out, err = ended(guest, f"cloudinit-osnetd {command}")
                if (code, case.said in out + err) != (3 if case.said else 0, True):
                    failures.append((number, case.raw[:60], case.said, code, (out + err)[:300]))
        for words, status, said in (
            ("--file /root/pipe --timeout 1", 6, "/root/pipe: it does not end"),
            ("--stdin --timeout 1 <>/root/pipe", 6, "standard input: it does not end"),
            ("--file /root", 3, "/root: Is a directory"),
            ("--file /root/nowhere", 3, "/root/nowhere: No such file"),
            ("--file /proc/self/mem", 3, "/proc/self/mem: "),
            ("--file /dev/zero", 3, "larger than"),
            ("--stdin <&-", 3, "standard input: it is closed"),
        ):
            guest.run("[ -p /root/pipe ] || mkfifo /root/pipe")
            code, out, err = ended(guest, f"cloudinit-osnetd apply {words}")
            if (code, said in err, out) != (status, True, ""):
                failures.append((words, code, out, err))
        code, _out, err = ended(guest, "setpriv --reuid=65534 --clear-groups cloudinit-osnetd apply --file /root/pushed")
        assert (code, "root" in err) == (1, True), err
    assert not failures, failures
    assert on_disk(guest) == before
    assert_follows(guest, first, second)
    # What is odd and right is put in force, which is nothing new here.
    for case in cases(guest.server.network_data()):
        if not case.said:
            (guest.root / "root" / "pushed").write_bytes(case.raw)
            code, out, err = ended(guest, "cloudinit-osnetd apply --json --stdin </root/pushed")
            assert (code, json.loads(out)["touches"]) == (0, []), (case.raw[:60], out, err)
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_what_is_odd_and_legal_is_done_right(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Each in a push of its own, on the second NIC; at the end it has what it had."""
    first, second, guest = a_server(cloud, guest_factory)
    guest.server.freeze_metadata()
    document = guest.server.network_data()
    link = next(one for one in document["links"] if one["ethernet_mac_address"] == second.mac)
    number = next(n for n, one in enumerate(document["networks"]) if one["link"] == link["id"])

    def pushed(mtu: int = 1400, **fields: Any) -> Dict[str, Any]:
        said = copy.deepcopy(document)
        said["networks"][number].update(fields)
        said["links"][said["links"].index(link)].update(mtu=mtu, ethernet_mac_address=second.mac.upper())
        return dict(said, services=[])

    def has() -> Dict[str, Any]:
        (shown,) = ip(guest, f"addr show dev {guest.nic(second)}")
        addresses = {f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["family"] == "inet"}
        routes = {(r["dst"], r.get("gateway", "")) for r in ip(guest, f"-4 route show dev {guest.nic(second)}") if "gateway" in r}
        return {"addresses": addresses, "mtu": shown["mtu"], "routes": routes}

    own = second.fixed_ips[0]
    usual = {"addresses": {f"{own}/24"}, "mtu": 1400, "routes": {("10.200.0.0/16", "10.91.0.9")}}
    route = {"network": "10.9.0.77", "netmask": "255.255.0.0", "gateway": "10.91.0.9"}
    for said, seen in (
        (pushed(mtu=1000), {"mtu": 1000}),
        (pushed(mtu=0), {}),
        (pushed(ip_address="10.91.0.0"), {"addresses": {"10.91.0.0/24"}}),  # the network's address, and the broadcast
        (pushed(ip_address="10.91.0.255"), {"addresses": {"10.91.0.255/24"}}),
        (pushed(ip_address="10.91.0.99/25", netmask=""), {"addresses": {"10.91.0.99/25"}}),
        (pushed(routes=[route]), {"routes": {("10.9.0.0/16", "10.91.0.9")}}),
        (pushed(routes=[dict(route, gateway="192.0.2.1")]), {"routes": {("10.9.0.0/16", "192.0.2.1")}}),  # in no subnet
        (pushed(routes=[dict(route, gateway=own)]), {"routes": set()}),  # itself
        (pushed(services=[{"type": "dns", "address": "0.0.0.0"}]), {}),
        (pushed(), {}),
    ):
        code, told = push(guest, said)
        assert (code, told["problems"]) == (0, {}), (said, told)
        assert state_of(guest, second) == "ok", (said, reason_of(guest, second))
        shown = has()
        wanted = dict(usual, **seen)
        if said["links"][document["links"].index(link)]["mtu"] == 0:
            wanted["mtu"] = shown["mtu"]  # the device's own
        assert shown == wanted, said
        notes = " ".join(findings_of(guest, second))
        assert (own in notes) == (seen.get("routes") == set()) and "0.0.0.0" not in notes, notes
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)
