# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`cloudinit-osnetd apply`: a host or an operator hands over a network_data.json."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any, Dict, List, Tuple

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    file_of,
    ip,
    reconcile,
    settled,
    status,
    store_of,
)
from tests.scenarios.serving import serving


def encoded(document: Dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def push(guest: Container, document: Dict[str, Any], options: str = "") -> Tuple[int, Dict[str, Any]]:
    """The exit status of `apply --json`, and what it says."""
    done = guest.run(f"echo {encoded(document)} | cloudinit-osnetd apply --json --stdin {options}", check=False, timeout=120)
    return done.returncode, json.loads(done.stdout)


def malformed(document: Dict[str, Any]) -> List[Tuple[bytes, str]]:
    """One of each kind, with a word of what is said of it; all kinds are in tests/unit/test_malformed_push.py."""
    raw = json.dumps(document).encode()
    link = document["links"][0]["id"].encode()
    return [
        (raw.decode().encode("utf-16"), "UTF-16"),
        (raw + b"\0", "NUL byte"),
        (gzip.compress(raw), "gzip"),
        (base64.b64encode(base64.b64encode(raw)), "base64 of base64"),
        (raw.replace(b'"mtu": 1450', b'"mtu": 1450, "mtu": 1400', 1), "stands twice"),
        (raw.replace(b'"mtu": 1450', b'"mtu": NaN', 1), "NaN is no number"),
        (raw.replace(b'"mtu": 1450', b'"mtu": ' + b"[" * 20000 + b"]" * 20000, 1), "nested too deeply"),
        (raw.replace(b'"mtu": 1450', b'"mtu": ' + b"9" * 9000, 1), "a number of 9000 digits"),
        (raw.replace(b'"id": "' + link, b'"id": "another' + link, 1), "no link has the id"),
        (raw.replace(document["networks"][0]["ip_address"].encode(), b"224.0.0.5", 1), "not an address that a NIC can have: 224.0.0.5"),
        (b"[" + raw + b"]", "not an object"),
    ]


def a_server(cloud: Cloud, guest_factory: GuestFactory) -> Tuple[Port, Port, Container]:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("pushed")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    settled(guest)
    return first, second, guest


def a_nocloud_server(cloud: Cloud, guest_factory: GuestFactory) -> Tuple[Port, Container]:
    """A server of another datasource, with an address that cloud-init has written and that is not its port's."""
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("nocloud")
    port = server.create_port(green)
    old = {"type": "static", "address": "10.91.0.200/24"}
    config = {"version": 1, "config": [{"type": "physical", "name": "ens3", "mac_address": port.mac, "subnets": [old]}]}
    guest = guest_factory(server, datasource="NoCloud", files={"var/lib/cloud/seed/nocloud/network-config": json.dumps(config)})
    guest.boot()
    return port, guest


def test_a_push_is_in_force_at_once_and_stays_until_openstack_says_something_else(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server = guest.server
    server.freeze_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.77", "10.91.0.78"], mtu=1380)
    asked = f"echo {encoded(server.network_data())} | cloudinit-osnetd plan --stdin --diff --exit-code"
    planned = guest.run(asked, check=False)
    assert planned.returncode == 7, planned.stdout + planned.stderr
    assert [line for line in planned.stdout.splitlines() if line.startswith("+") and "10.91.0.77" in line], planned.stdout
    # Nobody is asked: a push is for where nobody responds.
    cloud.metadata_down("drop")
    with serving(guest, touches=[second], starts_of_service=0, nothing_to_do=False, by_hand="push"):
        code, said = push(guest, server.network_data())
    assert code == 0 and [touch["mac"] for touch in said["touches"]] == [second.mac], said
    assert said["reasons"] == ["push"] and said["seconds"] < 15, said
    assert_follows(guest, first, second, seconds=2)
    cloud.metadata_up()

    reconcile(guest)  # the metadata service repeats what it said before
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert {row["source"] for row in status(guest)["nics"] if row["mac"] == second.mac} == {"push"}

    server.thaw_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.79"])
    reconcile(guest)
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_what_was_pushed_is_forgotten(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    before = guest.server.network_data()
    guest.server.freeze_metadata()
    guest.server.edit_port(second, fixed_ips=["10.91.0.77"])
    assert push(guest, guest.server.network_data())[0] == 0
    assert_follows(guest, first, second)
    done = guest.run("cloudinit-osnetd apply --forget", check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    network = next(one for one in before["networks"] if one["ip_address"].startswith("10.91."))
    guest.server.edit_port(second, fixed_ips=[network["ip_address"]])
    assert_follows(guest, first, second)
    assert "push" not in json.dumps(store_of(guest)["truth"]["keys"])

    # A NIC whose file somebody has edited is left alone, and the host is told so.
    guest.run(f"sed -i 's/10.91.0.2\\b/10.91.0.3/' {file_of(guest, second)}")
    guest.server.edit_port(second, fixed_ips=["10.91.0.78"])
    code, said = push(guest, guest.server.network_data())
    assert (code, [drift["mac"] for drift in said["drifted"]], said["changes"], said["absent"]) == (1, [second.mac], [], []), said
    forced = reconcile(guest, "--force")
    assert {change["reason"] for change in forced["changes"] if change["mac"] == second.mac} == {"changed externally, and overwritten"}, forced
    assert_follows(guest, first, second)

    # And that a document is of another server.
    document = guest.server.network_data()
    another = dict(document, links=[dict(document["links"][0], ethernet_mac_address="fa:16:3e:00:00:0e")], networks=[])
    code, said = push(guest, another)
    assert (code, said["absent"], said["changes"]) == (0, ["fa:16:3e:00:00:0e"], []), said


def test_what_is_refused_changes_nothing(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    before = store_of(guest)
    wrong = guest.server.network_data()
    wrong["links"][1]["mtu"] = "large"
    wrong["networks"][0]["ip_address"] = "10.90.0.999"
    with serving(guest, starts_of_service=0):
        code, said = push(guest, wrong)
        assert code == 3 and len(said["refused"]) == 2, said
        assert any("links[1].mtu" in one and second.mac in one for one in said["refused"]), said
        done = guest.run("echo hello | cloudinit-osnetd apply --stdin", check=False)
        assert done.returncode == 3 and "neither a JSON object nor base64" in done.stderr and done.stdout == ""
        code, said = push(guest, {})
        assert code == 3
        for raw, word in malformed(guest.server.network_data()):
            done = guest.run(f"echo {base64.b64encode(raw).decode()} | base64 -d | cloudinit-osnetd apply --stdin", check=False)
            assert (done.returncode, word in done.stderr, done.stdout) == (3, True, ""), (word, done.stderr)
    assert store_of(guest) == before
    assert_follows(guest, first, second)


def test_a_push_to_a_server_of_another_datasource(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The host knows whose guest it is. cloud-init's own part gives way to the first push."""
    port, guest = a_nocloud_server(cloud, guest_factory)
    server = guest.server
    assert guest.cloud_init_errors() == []
    assert "NoCloud" in json.loads(guest.run("cloudinit-osnetd status --json", check=False).stdout)["hands_off"]
    assert [a["local"] for a in ip(guest, "-4 addr show dev ens3")[0]["addr_info"]] == ["10.91.0.200"]

    code, said = push(guest, server.network_data())
    assert code == 0 and [touch["mac"] for touch in said["touches"]] == [port.mac], said
    assert_follows(guest, port)
    assert [a["local"] for a in ip(guest, "-4 addr show dev ens3")[0]["addr_info"]] == port.fixed_ips
    guest.reboot()
    assert_follows(guest, port)
    server.edit_port(port, fixed_ips=["10.91.0.77"], mtu=1300)
    code, said = push(guest, server.network_data())
    assert code == 0, said
    assert_follows(guest, port)
    code, said = push(guest, server.network_data())
    assert (code, said["changes"], said["touches"]) == (0, [], []), said
