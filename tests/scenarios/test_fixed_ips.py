# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A port has three fixed IPs of each family, and one of them goes: that one, and nothing else on its NIC."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Set

import pytest

from tests.lab import Cloud, Container, Port, foreign
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import PROFILES, assert_nothing_to_do, ip, reconcile, settled, status, wait_until
from tests.scenarios.test_push import push

ONE, TWO = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
FIRST = {"4": [f"198.51.100.{n}" for n in (21, 22, 23)], "6": [f"2001:db8:5::{n}" for n in (21, 22, 23)]}
BY_HAND = ("198.51.100.200/24", "198.51.100.201/32", "203.0.113.9/24", "2001:db8:5::200/64", "2001:db8:7::9/128")


def document(addresses: List[str]) -> Dict[str, Any]:
    """The port of the second NIC has the addresses, in their order; its routes are on the first of each family."""
    networks: List[Dict[str, Any]] = [
        {"id": "n", "type": "ipv4", "link": "one", "ip_address": "192.0.2.10", "netmask": "255.255.255.0",
         "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"}]},
    ]  # fmt: skip
    routed: Set[str] = set()
    for number, address in enumerate(addresses):
        six = ":" in address
        to, mask, gateway = ("2001:db8:6::", "ffff:ffff:ffff::", "2001:db8:5::1") if six else ("203.0.113.128", "255.255.255.128", "198.51.100.1")
        routes = [] if gateway in routed else [{"network": to, "netmask": mask, "gateway": gateway}]
        routed.add(gateway)
        own = "ffff:ffff:ffff:ffff::" if six else "255.255.255.0"
        networks.append({"id": f"n{number}", "type": "ipv6" if six else "ipv4", "link": "two", "ip_address": address, "netmask": own, "routes": routes})
    links = [{"id": name, "type": "phy", "ethernet_mac_address": mac, "mtu": 1450} for name, mac in (("one", ONE), ("two", TWO))]
    return {"links": links, "networks": networks, "services": []}


def addresses_of(guest: Container, port: Port) -> Set[str]:
    """`address/prefix` of all but the kernel's own, those that are not usable yet left out."""
    (link,) = ip(guest, f"addr show dev {guest.nic(port)}")
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global" and not a.get("tentative")}


def with_prefix(addresses: List[str]) -> Set[str]:
    return {address + ("/64" if ":" in address else "/24") for address in addresses}


def routes_of(guest: Container, port: Port) -> Set[str]:
    name = guest.nic(port)
    lines = guest.run(f"ip -4 route show dev {name}; ip -6 route show dev {name}").stdout.splitlines()
    return {" ".join(line.split()) for line in lines if "203.0.113.128/25" in line or "2001:db8:6::/48" in line or "10.77.0.0/16" in line}


@pytest.mark.long
@pytest.mark.on("networkd", "ifupdown", "nm", "ifcfg")
@pytest.mark.parametrize("way", ["push", "edit"])
def test_one_of_three_goes_from_any_place_and_what_was_set_by_hand_stays(cloud: Cloud, guest_factory: GuestFactory, way: str) -> None:
    segment = cloud.network("segment", cidr="192.0.2.0/24", gateway="192.0.2.1")
    server = cloud.server("fixed")
    every = FIRST["4"] + FIRST["6"]
    _first, port = foreign.tell(server, document(every), segment)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    name = guest.nic(port)

    def put_in_force(addresses: List[str]) -> List[str]:
        """The MACs of the NICs that were touched."""
        said = document(addresses)
        if way == "edit":
            server.compose = lambda _nova: said
            return [touch["mac"] for touch in reconcile(guest)["touches"]]
        code, report = push(guest, said)
        assert code == 0, report
        return [touch["mac"] for touch in report["touches"]]

    def by_hand() -> None:
        for address in BY_HAND:
            guest.run(f"ip addr replace {address} dev {name}" + (" nodad" if ":" in address else ""))
        guest.run(f"ip route replace 10.77.0.0/16 via 198.51.100.9 dev {name}")

    wait_until(lambda: addresses_of(guest, port) >= with_prefix(every), 20 * guest.patience, "all addresses")
    # By itself the kernel would take the others of a subnet away with its first address.
    guest.run(f"sysctl -qw net.ipv4.conf.all.promote_secondaries=0 net.ipv4.conf.{name}.promote_secondaries=0")
    by_hand()
    failures = []
    for family in "46":
        for place in range(3):
            gone = FIRST[family][place]
            left = [address for address in every if address != gone]
            put_in_force(every)
            by_hand()
            wait_until(lambda: addresses_of(guest, port) >= with_prefix(every) | set(BY_HAND), 20 * guest.patience, f"all again, before {gone} goes")
            before = routes_of(guest, port)
            guest.run("ip -oneline monitor address >/root/seen 2>&1 </dev/null & echo $! >/root/monitor")
            touched = put_in_force(left)
            wait_until(lambda: addresses_of(guest, port) == with_prefix(left) | set(BY_HAND), 20 * guest.patience, f"without {gone}: {addresses_of(guest, port)}")
            deleted = guest.run("kill $(cat /root/monitor); grep ^Deleted /root/seen", check=False).stdout.splitlines()
            # NetworkManager, which keeps a NIC's addresses in order, takes others away and sets them again at once;
            # networkd takes away what it did not give itself when it reads a file again, and that is restored.
            may_go = [gone + "/", *(BY_HAND if guest.backend == "networkd" else ())]
            others = [line for line in deleted if guest.backend not in PROFILES and not any(f" {one}" in line for one in may_go)]
            if others or touched != [TWO] or routes_of(guest, port) != before:
                failures.append((gone, touched, others, sorted(before ^ routes_of(guest, port))))
            assert {row["state"] for row in status(guest)["nics"]} == {"ok"}
    assert not failures, json.dumps(failures, indent=1)
    assert_nothing_to_do(guest)
