# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Pushes at a bad moment, and with more than Nova's document can say."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Set

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.documents import Device, wrong_with
from tests.scenarios.seen import (
    PROFILES,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    ip,
    proved_unique,
    reconcile,
    settled,
    wait_until,
)
from tests.scenarios.serving import history, serving
from tests.scenarios.stream import Stream
from tests.scenarios.test_push import a_server, push
from tests.scenarios.test_undo import rollback

# Started before cloud-init's local stage, and not waited for: as a host may push at any moment of a boot.
_UNIT = """[Unit]
DefaultDependencies=no
Before=cloud-init-local.service
[Service]
ExecStart=/bin/sh -c 'cloudinit-osnetd apply --json --file /root/pushed.json {options} >/root/said.{name} 2>&1; echo $? >/root/ended.{name}'
"""
_SLOW = "[Service]\nExecStartPre=/bin/sleep 6\n"


def addresses_of(guest: Container, port: Port) -> Set[str]:
    return {a["local"] for a in ip(guest, f"-4 addr show dev {guest.nic(port)}")[0]["addr_info"]}


def with_addresses(document: Dict[str, Any], port: Port, addresses: List[str]) -> Dict[str, Any]:
    """What Nova leaves out: every fixed IP of a subnet."""
    (link,) = [one["id"] for one in document["links"] if one["ethernet_mac_address"] == port.mac]
    (network,) = [one for one in document["networks"] if one["link"] == link]
    others = [one for one in document["networks"] if one["link"] != link]
    first = dict(network, ip_address=addresses[0])
    return dict(document, networks=[*others, first, *(dict(first, id=f"n{a}", ip_address=a, routes=[]) for a in addresses[1:])])


def test_a_push_during_a_boot_waits_for_cloud_inits_local_stage_and_not_for_ever(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server = guest.server
    server.freeze_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.77"], mtu=1380)
    ran = len(history(guest))
    guest.poweroff()
    files = {"root/pushed.json": json.dumps(server.network_data()), "etc/systemd/system/cloud-init-local.service.d/slow.conf": _SLOW}
    for name, options in (("patient", ""), ("hasty", "--timeout 1")):
        files[f"etc/systemd/system/push-{name}.service"] = _UNIT.format(name=name, options=options)
    for path, text in files.items():
        (guest.root / path).parent.mkdir(parents=True, exist_ok=True)
        (guest.root / path).write_text(text)
    wants = guest.root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(exist_ok=True)
    for name in ("patient", "hasty"):
        (wants / f"push-{name}.service").symlink_to(f"/etc/systemd/system/push-{name}.service")
    guest.boot()

    wait_until(lambda: guest.run("cat /root/ended.patient", check=False).stdout, 60 * guest.patience, "the end of the push")
    said = guest.run("cat /root/said.*").stdout
    assert guest.run("cat /root/ended.patient /root/ended.hasty").stdout.split() == ["0", "5"], said
    assert "cloud-init has not run at this boot" in json.loads(guest.run("cat /root/said.hasty").stdout)["hands_off"]
    settled(guest)
    assert_follows(guest, first, second)
    pushes = [record for record in history(guest)[ran:] if "push" in record["reasons"]]
    assert len(pushes) == 1 and {change["mac"] for change in pushes[0]["changes"]} == {second.mac}, said
    assert guest.run("systemctl --failed --no-legend --plain").stdout == ""
    assert_nothing_to_do(guest)
    for name in ("patient", "hasty"):
        guest.run(f"rm /etc/systemd/system/sysinit.target.wants/push-{name}.service")
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)


class _Others:
    """What happens to the other addresses of a NIC while one goes, on a kernel that would let them go with it."""

    def __init__(self, guest: Container, port: Port, others: List[str]) -> None:
        self.guest, self.port, self.others = guest, port, others

    def __enter__(self) -> _Others:
        switch = f"net.ipv4.conf.{self.guest.nic(self.port)}.promote_secondaries"
        self.guest.run(f"sysctl -qw net.ipv4.conf.all.promote_secondaries=0 {switch}=0")
        self.guest.run("ip -oneline -4 monitor address >/root/seen 2>&1 </dev/null & echo $! >/root/monitor")
        self.stream = Stream(self.guest, self.port, self.others[-1])
        return self

    def __exit__(self, *exc: Any) -> None:
        lost = self.stream.lost()
        deleted = self.guest.run("kill $(cat /root/monitor); grep Deleted /root/seen", check=False).stdout
        # NetworkManager, which keeps them in order, takes the others away itself and sets them again at once.
        if exc[0] is None and self.guest.backend not in PROFILES:
            assert lost == ""
            assert deleted and all(f" {address}/" not in deleted for address in self.others), deleted


def test_one_of_three_fixed_ips_goes_and_the_others_never_do(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The second one, then the first: the kernel by itself deletes the others of a subnet with its first address."""
    first, second, guest = a_server(cloud, guest_factory)
    document = guest.server.network_data()
    three = [second.fixed_ips[0], *[one for one in ("10.91.0.201", "10.91.0.202", "10.91.0.203") if one not in second.fixed_ips][-2:]]
    with serving(guest, touches=[second], starts_of_service=0, nothing_to_do=False, by_hand="push"):
        assert push(guest, with_addresses(document, second, three))[0] == 0
        assert addresses_of(guest, second) == set(three)
    for left in ([three[0], three[2]], [three[2]]):
        with serving(guest, touches=[second], starts_of_service=0, by_hand="push"), _Others(guest, second, left):
            code, said = push(guest, with_addresses(document, second, left))
            assert code == 0 and [touch["mac"] for touch in said["touches"]] == [second.mac], said
            assert addresses_of(guest, second) == set(left)
    # A push that a boot has brought up first, and that a rollback takes back.
    code, said = push(guest, with_addresses(document, second, [three[0], three[2]]))
    assert code == 0, (said, guest.run("ip addr show; ip route; cat /run/NetworkManager/devices/*").stdout)
    guest.reboot()
    assert_boot(guest, level="store")
    shown = [(a["local"], a.get("secondary", False)) for a in ip(guest, f"-4 addr show dev {guest.nic(second)}")[0]["addr_info"]]
    if guest.backend == "ifupdown":  # networkd sets them in an order of its own
        assert shown == [(three[0], False), (three[2], True)]
    with _Others(guest, second, left):
        code, said = rollback(guest)
        assert code == 0, said
    assert addresses_of(guest, second) == set(left)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)


def test_what_novas_document_cannot_say(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Several fixed IPs of both families, search domains, global DNS for who has none, and a NIC that has nothing."""
    first, second, guest = a_server(cloud, guest_factory)
    server = guest.server
    third = server.create_port(second.network)
    guest.plug(third)
    assert_follows(guest, third)
    settled(guest, 20)
    server.freeze_metadata()
    document = server.network_data()
    ids = {one["ethernet_mac_address"]: one["id"] for one in document["links"]}
    many = {"10.91.0.201": "24", "10.91.0.202": "24", "198.51.100.9": "25", "2001:db8:5::21": "64", "2001:db8:5::22": "64", "2001:db8:6::1": "48"}
    networks = [one for one in document["networks"] if one["link"] == ids[first.mac]]
    for number, (address, bits) in enumerate(many.items()):
        kind = "ipv6" if ":" in address else "ipv4"
        networks.append({"id": f"n{number}", "link": ids[second.mac], "type": kind, "ip_address": address, "netmask": bits, "dns_search": ["example.org", "a.example.org"]})

    def pushed(*servers: str) -> Dict[str, Any]:
        return dict(document, networks=networks, services=[{"type": "dns", "address": one} for one in servers])

    def assert_has(*servers: str) -> None:
        proved_unique(guest)
        addresses = tuple(f"{address}/{bits}" for address, bits in many.items())
        wanted = Device(addresses=addresses, mtu=1400, dns=servers, search=("example.org", "a.example.org"))
        for port, device in ((second, wanted), (third, Device(mtu=1400))):
            name = str(guest.nic(port))
            wait_until(lambda name=name, device=device: not wrong_with(guest, name, device), 15 * guest.patience, str(wrong_with(guest, name, device)))
        assert_follows(guest, first)  # whose network has a server of its own

    code, said = push(guest, pushed("10.90.0.53", "2001:db8::53"))
    assert (code, said["problems"]) == (0, {}), said
    assert {touch["mac"] for touch in said["touches"]} == {second.mac, third.mac}, said
    assert_has("10.90.0.53", "2001:db8::53")
    # Another global server is in force at once, and touches nobody else.
    code, said = push(guest, pushed("10.90.0.54"))
    assert (code, [touch["mac"] for touch in said["touches"]]) == (0, [second.mac]), said
    assert_has("10.90.0.54")
    # The metadata repeats itself, another NIC comes, the server boots.
    reconcile(guest)
    fourth = server.create_port(second.network)
    server.thaw_metadata()
    guest.plug(fourth)
    assert_follows(guest, fourth)
    assert_has("10.90.0.54")
    guest.reboot()
    assert_boot(guest, level="store")
    assert_has("10.90.0.54")
    assert_follows(guest, fourth)
    assert_nothing_to_do(guest)
