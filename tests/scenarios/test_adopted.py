# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server that lived before the package came: cloud-init alone configured it, whatever it was told and in whatever order.

Installed while it runs, nothing is touched and nothing is drifted; a later edit reaches its NIC, and no other one.
OSNETD_RANDOM_SERVERS=40 tries as many of Nova's; a few are tried by default.
"""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.lab import Cloud, Port, Server, Subnet, foreign
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import assert_network, untouched
from tests.scenarios.seen import (
    Guest,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    findings_of,
    ip,
    reconcile,
    settled,
    state_of,
    status,
    wait_until,
)

# What cloud-init's renderers eni and sysconfig write by themselves, before anybody told them not to.
_PERSISTENT = ["/etc/udev/rules.d/70-persistent-net.rules"]
RULES = {"ifupdown": _PERSISTENT, "ifcfg": _PERSISTENT}
DOCUMENTS = Path(__file__).resolve().parent.parent / "documents"
SEEDS = range(int(os.environ.get("OSNETD_RANDOM_SERVERS", "3")))


def assert_adopted(guest: Guest, *ports: Port) -> None:
    """Installed: no NIC hears of it, and each is ours."""
    with untouched(guest):
        package.install(guest)
        settled(guest)
    last = status(guest)["last_run"]
    assert (last["drifted"], last["touches"], last["problems"]) == ([], [], {}), last
    assert [(port.mac, state_of(guest, port)) for port in ports] == [(port.mac, "ok") for port in ports], status(guest)["nics"]
    assert_nothing_to_do(guest)


def assert_edited(guest: Guest, port: Port, mtu: int) -> None:
    """The edit reaches the NIC, and no other one is touched."""
    record = reconcile(guest)
    assert {touch["mac"] for touch in record["touches"]} == {port.mac}, record
    assert (record["drifted"], record["problems"]) == ([], {}), record

    def is_so() -> bool:
        (link,) = ip(guest, f"link show dev {guest.nic(port)}")
        return link["mtu"] == mtu and "UP" in link["flags"]

    wait_until(is_so, 10 * guest.patience, f"MTU {mtu}")
    assert str(mtu) in configuration(guest, port)


def a_network(cloud: Cloud) -> Any:
    six = Subnet("2001:db8::/64", gateway="2001:db8::1")
    return cloud.network("blue", cidr="192.0.2.0/24", gateway="192.0.2.1", dns=["192.0.2.53"], mtu=1500, subnets=[six])


@pytest.mark.parametrize("name", ["15-adopt-routes-order", "16-adopt-networks-order", "17-adopt-mtu-string", "19-adopt-top-level-gateway"])
def test_somebodys_document_is_adopted(cloud: Cloud, guest_factory: GuestFactory, name: str) -> None:
    document: Dict[str, Any] = json.loads((DOCUMENTS / f"{name}.json").read_text())
    server = cloud.server("metal")
    (port,) = foreign.tell(server, document, a_network(cloud))
    guest = guest_factory(server, package=False)
    guest.boot()
    told = [one["ip_address"] for one in document["networks"]]
    wait_until(lambda: all(word in guest.run("ip address").stdout for word in told), 15 * guest.patience, f"{told}")
    assert_adopted(guest, port)

    document["links"][0]["mtu"] = "1400" if "string" in name else 1400
    assert_edited(guest, port, 1400)
    guest.reboot()
    assert_boot(guest, level="store", rules=RULES.get(guest.backend, []))
    assert state_of(guest, port) == "ok"
    assert_nothing_to_do(guest)


@pytest.mark.deep
@pytest.mark.on("ifupdown")
def test_the_file_of_an_older_release_is_kept(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Up to 19.2 it was called 50-cloud-init.cfg, and an upgrade writes no other one for the same instance."""
    server = cloud.server("metal")
    port = server.create_port(a_network(cloud))
    guest = guest_factory(server, package=False, trusted_cache=True)
    guest.boot()
    directory = "/etc/network/interfaces.d"
    guest.run(f"mv {directory}/50-cloud-init {directory}/50-cloud-init.cfg && rm -f {RULES['ifupdown'][0]}")
    assert_adopted(guest, port)
    server.edit_port(port, mtu=1400)
    record = reconcile(guest)
    assert ({touch["mac"] for touch in record["touches"]}, record["drifted"]) == ({port.mac}, []), record
    second = server.create_port(cloud.network("green", cidr="198.51.100.0/24", mtu=1400))
    guest.plug(second)
    assert_follows(guest, port, second)
    for _boot in range(2):
        guest.reboot()
        assert_boot(guest, level="store")
        settled(guest)
        assert_follows(guest, port, second)
        assert [state_of(guest, one) for one in (port, second)] == ["ok", "ok"]
        assert_nothing_to_do(guest)
        stanzas = guest.run(f"cat {directory}/50-cloud-init*").stdout
        assert all(stanzas.count(f"address {one.fixed_ips[0]}") == 1 for one in (port, second)), stanzas
        assert guest.run("systemctl --failed --no-legend --plain").stdout == ""


@pytest.mark.deep
@pytest.mark.on("nm")
def test_a_keyfile_of_an_older_release(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Up to 23.1 a static IPv6 subnet was to follow advertisements too, and an upgrade of cloud-init writes no other file."""
    server = cloud.server("metal")
    port = server.create_port(a_network(cloud))
    guest = guest_factory(server, package=False)
    guest.boot()
    path = f"/etc/NetworkManager/system-connections/cloud-init-{guest.nic(port)}.nmconnection"
    text = guest.run(f"cat {path}").stdout
    four, _header, six = text.partition("[ipv6]\n")
    assert six.count("method=manual\nmay-fail=false\n") == 1, text
    older = re.sub("autoconnect-priority=.*\n", "", four) + "[ipv6]\n" + six.replace("method=manual\nmay-fail=false\n", "method=auto\nmay-fail=true\n")
    guest.put(older.encode(), path, mode=0o600)
    guest.run(f"nmcli connection load {path} && nmcli connection up filename {path}")
    wait_until(lambda: all(word in guest.run("ip address").stdout for word in port.fixed_ips), 15 * guest.patience, "its addresses")
    assert_adopted(guest, port)
    assert guest.run(f"cat {path}").stdout == older

    server.edit_port(port, mtu=1400)
    assert_edited(guest, port, 1400)
    assert_follows(guest, port)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, port)
    assert state_of(guest, port) == "ok"
    assert "method=manual" in guest.run(f"cat {path}").stdout.partition("[ipv6]")[2]
    assert_nothing_to_do(guest)


WIDE = ("172.16.0.0/12", "192.168.0.0/16", "10.200.0.0/16", "198.18.0.0/15", "203.0.113.0/24", "100.64.0.0/10")
WIDE6 = ("2001:db8:8000::/33", "fd00:7::/32", "2001:db9::/32", "fd12:3456::/32")


def _subnets(dice: random.Random, number: int, wide: List[str], wide6: List[str]) -> List[Subnet]:
    """As Nova's first of each family, with host routes in no order of theirs; the first NIC's has the way out."""
    four = f"10.{90 + number}.{dice.choice([0, 16, 64])}"
    six = f"2001:db8:{dice.randrange(1, 9999)}"
    # No destination by two NICs: without a metric, as cloud-init has them, the kernel takes one of the two.
    routes = [(wide.pop(), f"{four}.{dice.randrange(2, 99)}") for _ in range(dice.randrange(min(len(wide), 4) + 1))]
    routes6 = [(wide6.pop(), f"{six}::{dice.randrange(2, 99)}") for _ in range(dice.randrange(min(len(wide6), 3) + 1))]
    dns = [f"{four}.{dice.randrange(2, 99)}" for _ in range(dice.randrange(3))]
    dhcp = number > 0 and dice.random() < 0.3
    found = [Subnet(f"{four}.0/24", f"{four}.1" if number == 0 else None, dhcp, tuple(dns), () if dhcp else tuple(routes))]
    # Not advertised: each advertisement renews an address, which is no touch and looks like one. See unit_cloudinit.
    if dice.random() < 0.6:
        found.append(Subnet(f"{six}::/64", f"{six}::1" if number == 0 else None, routes=tuple(routes6)))
    return found


def a_random_server(cloud: Cloud, seed: int) -> Server:
    dice = random.Random(seed)
    server = cloud.server("web")
    wide, wide6 = dice.sample(WIDE, len(WIDE)), dice.sample(WIDE6, len(WIDE6))
    for number in range(dice.choice([1, 2, 2, 3])):
        mtu = dice.choice([1280, 1400, 1450, 1500])
        server.create_port(cloud.network(f"net{number}", mtu=mtu, subnets=_subnets(dice, number, wide, wide6)))
    return server


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_nova_told_is_adopted(cloud: Cloud, guest_factory: GuestFactory, seed: int) -> None:
    server = a_random_server(cloud, seed)
    guest = guest_factory(server, package=False)
    guest.boot()
    assert_network(guest, *server.ports, seconds=20 * guest.patience)
    assert_adopted(guest, *server.ports)

    first = server.ports[0]
    server.edit_port(first, mtu=1380)
    assert_edited(guest, first, 1380)
    assert_follows(guest, first)
    guest.reboot()
    assert_boot(guest, level="store", rules=RULES.get(guest.backend, []))
    assert_network(guest, *server.ports, seconds=20 * guest.patience)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)


def test_a_host_route_that_another_nic_has_already(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """As cloud-init wrote the second one's it has no metric, and the kernel takes no other one of the first."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", mtu=1500)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1500, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("web")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server, package=False)
    guest.boot()
    assert_network(guest, first, second, seconds=20 * guest.patience)
    assert_adopted(guest, first, second)

    cloud.edit_subnet(blue, routes=(("10.200.0.0/16", "10.90.0.9"),))
    record = reconcile(guest)
    assert (record["drifted"], record["problems"]) == ([], {}), record
    assert [(port.mac, state_of(guest, port)) for port in (first, second)] == [(first.mac, "ok"), (second.mac, "ok")]
    names = [str(guest.nic(port)) for port in (first, second)]
    there = {route["dev"] for route in ip(guest, "route show 10.200.0.0/16")}
    if guest.backend == "ifupdown":
        assert there == {names[1]}  # networkd 257 adds its own behind that
    told = {name: findings_of(guest, port) for name, port in zip(names, (first, second))}
    for name in names:
        (other,) = set(names) - {name}
        by = [text for text in told[name] if "10.200.0.0/16" in text]
        assert [f"the kernel has it by {other}," in text for text in by] == ([] if name in there else [True]), told
    assert_nothing_to_do(guest)

    # At a boot each NIC's routes have its own metric: both are there.
    guest.reboot()
    assert_boot(guest, level="store", rules=RULES.get(guest.backend, []))
    wait_until(
        lambda: sorted(route["dev"] for route in ip(guest, "route show 10.200.0.0/16")) == sorted(names),
        15 * guest.patience,
        "both routes",
    )
    assert [state_of(guest, port) for port in (first, second)] == ["ok", "ok"]
    assert not findings_of(guest, first) and not findings_of(guest, second)
    assert_nothing_to_do(guest)


def test_the_lines_in_which_an_operators_file_differs_are_reported(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = cloud.server("web")
    port = server.create_port(a_network(cloud))
    guest = guest_factory(server, package=False)
    guest.boot()
    settled_address = port.fixed_ips[0]
    edit = {
        "ifupdown": f"sed -i 's/^ *address {settled_address}.*/&\\n    post-up ip route add 10.1.0.0\\/16 via 192.0.2.9/' "
        "/etc/network/interfaces.d/50-cloud-init*",
        "networkd": "printf '\\n[Route]\\nDestination=10.1.0.0/16\\nGateway=192.0.2.9\\n' >> /etc/systemd/network/10-cloud-init-*",
        "netplan": "sed -i 's/^\\( *\\)routes:.*/&\\n\\1- {to: 10.1.0.0\\/16, via: 192.0.2.9}/' /etc/netplan/50-cloud-init.yaml",
        "ifcfg": "printf '10.1.0.0/16 via 192.0.2.9 dev ens3\\n' >> /etc/sysconfig/network-scripts/route-ens3",
        "nm": "sed -i 's/^\\[ipv4\\]/&\\nroute9=10.1.0.0\\/16,192.0.2.9/' /etc/NetworkManager/system-connections/cloud-init-*",
    }[guest.backend.partition("_")[0]]
    guest.run(edit)
    with untouched(guest):
        package.install(guest)
        settled(guest)
    assert state_of(guest, port) == "drifted"
    (row,) = [row for row in status(guest)["nics"] if row["mac"] == port.mac]
    assert "differs from what network_data says" in row["reason"]
    assert "- route 10.1.0.0/16 via 192.0.2.9" in row["differs"]
    # Not what we add to what cloud-init writes: that was not to be expected.
    assert not [line for line in row["differs"] if line.startswith(("+ address", "+ route", "+ p"))], row["differs"]
    (drift,) = json.loads(guest.run("cloudinit-osnetd plan --json").stdout)["drifted"]
    assert drift["differs"] == row["differs"]
    assert "    - route 10.1.0.0/16 via 192.0.2.9" in guest.run("cloudinit-osnetd plan").stdout.splitlines()


@pytest.mark.on("nm")
def test_a_profile_that_networkmanager_does_not_load_is_written_anew(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """cloud-init alone writes the gateway of a lease into it, where a document names one (Open Telekom Cloud), and
    NetworkManager then has the NIC in a profile of its own making."""
    segment = cloud.network("segment", cidr="192.0.2.0/24", gateway="192.0.2.1", dhcp=True, mtu=1400)
    links = [{"id": "e0", "type": "phy", "ethernet_mac_address": "00:00:5e:00:53:01", "mtu": 1400}]
    networks = [{"id": "n0", "type": "ipv4_dhcp", "link": "e0", "ip_address": "192.0.2.10", "gateway": "192.0.2.1"}]
    server = cloud.server("old")
    (port,) = foreign.tell(server, {"links": links, "networks": networks, "services": []}, segment)
    guest = guest_factory(server, package=False)
    guest.boot()
    assert "gateway=192.0.2.1" in configuration(guest, port)
    assert "cloud-init" not in guest.run("nmcli -g GENERAL.CONNECTION device show " + guest.nic(port)).stdout

    package.install(guest)
    settled(guest)
    reconcile(guest)
    assert state_of(guest, port) == "ok", status(guest)
    assert "gateway=" not in configuration(guest, port)
    wait_until(lambda: "192.0.2.10/" in guest.run(f"ip address show dev {guest.nic(port)}").stdout, 30 * guest.patience, "a lease")
    assert "cloud-init" in guest.run("nmcli -g GENERAL.CONNECTION device show " + guest.nic(port)).stdout
    assert_nothing_to_do(guest)
    links[0]["mtu"] = 1380
    server.compose = lambda _nova: {"links": links, "networks": networks, "services": []}
    assert_edited(guest, port, 1380)
