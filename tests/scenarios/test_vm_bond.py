# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A bond of two NICs and a VLAN on it, in virtual machines: their kernel has both, the lab's host may have neither."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple

import pytest

from tests.lab import VM, Cloud, Port, Server
from tests.scenarios.conftest import Kind
from tests.scenarios.place import KNOWN
from tests.scenarios.seen import (
    Guest,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    ip,
    log_of,
    reconcile,
    settled,
    status,
    wait_until,
)

pytestmark = [pytest.mark.vm, pytest.mark.deep]


class Bonded(NamedTuple):
    """A server with a port of its own, and two whose NICs are the members of a bond."""

    server: Server
    first: Port
    members: List[Port]


@pytest.fixture
def bonded(cloud: Cloud) -> Bonded:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    trunk = cloud.network("trunk", cidr="10.94.0.0/24", dns=["10.94.0.2"], mtu=1450)
    server = cloud.server("bonded", uuid=KNOWN.format(9))
    first = server.create_port(blue, mac="fa:16:3e:a0:09:01", fixed_ips=["10.90.0.22"])
    members = [server.create_port(trunk, mac=f"fa:16:3e:a0:09:0{n}", fixed_ips=[f"10.94.0.2{n}"]) for n in (2, 3)]
    macs = [port.mac for port in members]

    def compose(document: Dict[str, Any]) -> Dict[str, Any]:
        """The members' own networks go; the bond and its VLAN have one each, whichever members the cloud lists."""
        links = [link for link in document["links"] if link["ethernet_mac_address"] in macs]
        ids = [link["id"] for link in links]
        bond = {
            "id": "bond-a", "type": "bond", "ethernet_mac_address": macs[0], "mtu": 1450,
            "bond_links": ids, "bond_mode": "active-backup", "bond_miimon": 100,
        }  # fmt: skip
        vlan = {"id": "vlan-a", "type": "vlan", "vlan_id": 7, "vlan_link": "bond-a", "vlan_mac_address": macs[0], "mtu": 1400}
        own = [network for network in document["networks"] if network["link"] not in ids]
        own += [_static("bond-a", "10.94.0.5"), _static("vlan-a", "10.95.0.5")]
        return dict(document, links=document["links"] + [bond, vlan], networks=own)

    server.compose = compose
    return Bonded(server, first, members)


def _static(link: str, address: str) -> Dict[str, Any]:
    return {"id": f"of-{link}", "link": link, "type": "ipv4", "ip_address": address, "netmask": "255.255.255.0", "routes": []}


@pytest.mark.parametrize("kind", [Kind("trixie", "netplan"), Kind("bookworm", "ifupdown")], ids=str)
def test_a_bond_follows_its_members(cloud: Cloud, vm_factory: Callable[..., VM], bonded: Bonded, kind: Kind) -> None:
    server, first, (one, other) = bonded
    guest = vm_factory(server, suite=kind.suite, backend=kind.backend)
    guest.boot(saved=True)
    assert_boot(guest, level="drive")
    assert_follows(guest, first)
    assert_bonded(guest, [one, other])
    assert_nothing_to_do(guest)

    # One member leaves, while the cloud goes on listing it.
    guest.unplug(other)
    assert_bonded(guest, [one])
    settled(guest)
    assert "reason=removed" in log_of(guest)
    assert_nothing_to_do(guest)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_bonded(guest, [one])

    # It comes back.
    guest.plug(other)
    assert_bonded(guest, [one, other])
    settled(guest)
    assert_nothing_to_do(guest)

    # Both leave while the server is off: the bond has nothing to stand on, and the rest of the boot is as ever.
    guest.poweroff()
    guest.unplug(one)
    guest.unplug(other)
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first)
    assert bonds(guest) == []
    assert {row["state"] for row in status(guest)["nics"] if row["mac"] != first.mac} == {"absent"}
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["problems"]) == ([], [], {}), record

    # They come, and leave again while it runs: nobody but us unmakes the devices.
    guest.plug_all([one, other])
    assert_bonded(guest, [one, other])
    settled(guest)
    guest.unplug(one)
    guest.unplug(other)
    wait_until(lambda: not bonds(guest), 15 * guest.patience, "the bond and its VLAN are gone")
    settled(guest)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)


@pytest.mark.parametrize("kind", [Kind("trixie", "netplan"), Kind("bookworm", "ifupdown")], ids=str)
def test_a_bond_that_somebody_deletes_is_not_ok(
    cloud: Cloud, vm_factory: Callable[..., VM], bonded: Bonded, kind: Kind
) -> None:
    server, first, members = bonded
    guest = vm_factory(server, suite=kind.suite, backend=kind.backend)
    guest.boot(saved=True)
    assert_bonded(guest, members)
    settled(guest)

    guest.run("ip link del bond0")
    told = {row["name"]: (row["state"], row["reason"]) for row in status(guest)["nics"]}
    assert told["bond0"] == ("failed", "bond0 does not exist"), told
    assert told["bond0.7"][0] == told[guest.nic(first)][0] == "ok", "what leans on it is not blamed, nor anybody else"
    record = reconcile(guest)
    assert {touch["name"] for touch in record["touches"]} == {"bond0", *map(guest.nic, members)}
    assert_bonded(guest, members)
    assert {row["state"] for row in status(guest)["nics"]} == {"ok"}
    assert_nothing_to_do(guest)

    taken_out = str(guest.nic(members[1]))
    guest.run(f"ip link set {taken_out} nomaster")
    (row,) = [row for row in status(guest)["nics"] if row["name"] == "bond0"]
    assert (row["state"], row["findings"]) == ("ok", [f"not a member of it: {taken_out}"])
    assert_nothing_to_do(guest)  # who did that had a reason


def bonds(guest: Guest) -> List[str]:
    return [link["ifname"] for link in ip(guest, "link") if link["ifname"].startswith("bond")]


def assert_bonded(guest: Guest, members: List[Port]) -> None:
    """bond0 has these members and its address, the VLAN on it has its own."""
    names = sorted(str(guest.nic(port)) for port in members)

    def enslaved() -> bool:
        return sorted(link["ifname"] for link in ip(guest, "link") if link.get("master") == "bond0") == names

    wait_until(enslaved, 15 * guest.patience, f"the members of bond0 are {names}")
    for name, address, mtu in (("bond0", "10.94.0.5", 1450), ("bond0.7", "10.95.0.5", 1400)):

        def shown(name: str = name, address: str = address, mtu: int = mtu) -> bool:
            (link,) = [link for link in ip(guest, "addr") if link["ifname"] == name] or [{}]
            has = [a["local"] for a in link.get("addr_info", []) if a["scope"] == "global"]
            return (has, link.get("mtu"), "UP" in link.get("flags", [])) == ([address], mtu, True)

        wait_until(shown, 15 * guest.patience, f"{name} has {address}")
