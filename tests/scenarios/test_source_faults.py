# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a metadata service can get wrong: the network stays as it was, the fault is named, one bad port costs that port."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    ip,
    log_of,
    proved_unique,
    reconcile,
    settled,
    state_of,
    status,
    wait_until,
)

DOCUMENT = "/openstack/latest/network_data.json"


class Bad(NamedTuple):
    """An answer in place of network_data.json, and what is said of it."""

    answer: Dict[str, Any]
    said: str


NOTHING_SAID: List[Bad] = [
    Bad({"body": b"{}"}, "has no links"),
    Bad({"body": b"null"}, "not an object"),
    Bad({"body": b'{"links": null, "networks": []}'}, "has no links"),
    Bad({"body": b'{"links": [{"id": "tap1", "ether'}, "not JSON"),
    Bad({"body": bytes(range(256)) * 8}, "not JSON"),
    Bad({"body": b'{"links": [' + b" " * (1 << 20) + b"]}"}, "larger than 1048576 bytes"),
    Bad({"status": 503, "body": b"busy"}, "HTTP status 503"),
    Bad({"missing": 40}, "short"),
]


def _follows_as_before(guest: Container, record: Dict[str, Any], kept: Dict[str, str]) -> None:
    assert (record["changes"], record["touches"], record["commands"]) == ([], [], []), record
    assert {port.mac: configuration(guest, port) for port in guest.server.ports} == kept


def test_a_document_that_says_nothing_changes_nothing(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    server = cloud.server("faults")
    first, second = server.create_port(blue), server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    kept = {port.mac: configuration(guest, port) for port in server.ports}

    for bad in NOTHING_SAID:
        cloud.override(DOCUMENT, **bad.answer)
        record = reconcile(guest)
        assert any(bad.said in fault for fault in record["faults"]), (bad, record["faults"])
        _follows_as_before(guest, record, kept)
        cloud.metadata.clear_overrides()

    # Nova numbers its ids anew whenever it likes, and lists the ports in any order.
    told = server.network_data()
    for number, link in enumerate(told["links"]):
        for network in told["networks"]:
            if network["link"] == link["id"]:
                network.update(link=f"new{number}", id=f"network{9 - number}")
        link.update(id=f"new{number}", vif_id=f"00000000-0000-0000-0000-00000000000{number}")
    told["links"].reverse()
    cloud.override(DOCUMENT, body=json.dumps(told).encode())
    _follows_as_before(guest, reconcile(guest), kept)
    cloud.metadata.clear_overrides()
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_one_bad_port_costs_that_port_alone(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """What could break out of a configuration file is a fault, and named by link and field."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    server = cloud.server("faults")
    good, bad = server.create_port(blue), server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    proved_unique(guest)
    kept = configuration(guest, bad)

    evils = [
        ("dns", [{"type": "dns", "address": "10.90.0.1\n    up touch /run/owned"}]),
        ("ip_address", "10.90.0.9\n    up touch /run/owned"),
        ("routes", [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.90.0.1; touch /run/owned"}]),
    ]
    for number, (field, evil) in enumerate(evils):
        told = server.network_data()
        tap = next(link["id"] for link in told["links"] if link["ethernet_mac_address"] == bad.mac)
        network = next(network for network in told["networks"] if network["link"] == tap)
        network["services" if field == "dns" else field] = evil
        server.edit_port(good, fixed_ips=[f"10.90.0.{200 + number}"])
        for other in told["networks"]:
            if other["link"] != tap:
                other["ip_address"] = good.fixed_ips[0]
        cloud.override(DOCUMENT, body=json.dumps(told).encode())
        record = reconcile(guest)
        assert {touch["mac"] for touch in record["touches"]} == {good.mac}, record
        place = {"dns": "services[0].address", "routes": "routes[0].gateway"}.get(field, field)
        assert any(place in fault and "networks[" in fault for fault in record["faults"]), record["faults"]
        assert configuration(guest, bad) == kept
        cloud.metadata.clear_overrides()
    assert guest.run("ls /run/owned", check=False).stdout == ""
    assert_follows(guest, good, bad)


def test_a_rogue_service_on_another_network_is_not_believed(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1")
    server = cloud.server("faults")
    primary, other = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert status(guest)["metadata_via"] == primary.mac

    # It has our uuid, and another idea of our network: not asked while the good one answers.
    lie = server.network_data()
    lie["networks"][0]["ip_address"] = "10.90.0.66"
    cloud.override(DOCUMENT, network="green", body=json.dumps(lie).encode())
    before = len(cloud.requests())
    assert reconcile(guest)["changes"] == []
    assert {request.network for request in cloud.requests()[before:]} == {"blue"}

    # The good one no longer knows us, and the rogue is of another server: ignored, and named.
    cloud.override("*/meta_data.json", network="blue", status=404)
    cloud.override("*/meta_data.json", network="green", body=b'{"uuid": "11111111-2222-3333-4444-555555555555"}')
    before = len(cloud.requests())
    record = reconcile(guest)
    assert record["changes"] == []
    assert any("11111111-2222" in fault and str(guest.nic(other)) in fault for fault in record["faults"]), record["faults"]
    assert not [r for r in cloud.requests()[before:] if r.network == "green" and r.path == DOCUMENT]
    assert_follows(guest, primary, other)


def test_the_service_is_found_again_when_its_nic_or_its_address_is_gone(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1")
    plain = cloud.network("plain", cidr="10.92.0.0/24")
    server = cloud.server("faults")
    primary, other = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)

    # The fixed IP that the guest asks from is no longer the port's: the service knows the port by its MAC all the same.
    server.edit_port(primary, fixed_ips=["10.90.0.77"])
    reconcile(guest)
    assert_follows(guest, primary, other)
    settled(guest)

    # The primary goes: the other NIC is asked.
    name = str(guest.nic(primary))
    guest.unplug(primary)
    server.delete_port(primary)
    assert_gone(guest, name)
    settled(guest)
    reconcile(guest)
    assert status(guest)["metadata_via"] == other.mac

    # The last NIC goes, another comes that nothing was ever said of.
    guest.unplug(other)
    server.delete_port(other)
    only = server.create_port(plain)
    guest.plug(only)
    assert_follows(guest, only, seconds=30)
    settled(guest, seconds=30)
    assert state_of(guest, only) == "ok"
    assert guest.run("ls /run/cloudinit-osnetd/temporary-access.json", check=False).stdout == "", "a way was left open"
    assert_nothing_to_do(guest)


def test_without_ipv6_a_lease_is_the_last_way_and_leaves_no_trace(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True)
    server = cloud.server("leased")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    guest.run("sysctl -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1")
    # The service does not list the NIC by which it is asked: that one is left as it came.
    server.freeze_metadata()
    name = str(guest.nic(first))
    guest.unplug(first)
    server.delete_port(first)
    assert_gone(guest, name)
    settled(guest)
    port = server.create_port(leased)
    guest.plug(port)
    wait_until(lambda: "access=lease" in log_of(guest), 60 * guest.patience, "the service found by a lease")
    assert state_of(guest, port) == "pending"

    def as_it_came() -> bool:
        (link,) = [link for link in ip(guest, "address") if link["ifname"] == guest.nic(port)]
        return link["addr_info"] == [] and "UP" not in link["flags"]

    # Between two looks, that is: each asks anew.
    wait_until(as_it_came, 30 * guest.patience, "the NIC left as it came")

    server.thaw_metadata()
    reconcile(guest)
    assert_follows(guest, port, seconds=60)
    settled(guest, seconds=60)
    assert state_of(guest, port) == "ok"
    assert guest.run("ls /run/cloudinit-osnetd/temporary-access.json", check=False).stdout == "", "a way was left open"
    assert_nothing_to_do(guest)
