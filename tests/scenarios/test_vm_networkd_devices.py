# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Bonds and VLANs of systemd-networkd: their .netdev files, and the devices that are made of them, come, change and go.

cloud-init writes such files from 25.2 on (sid's 26.2), and none before (trixie's 25.1).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from tests.lab import VM, Cloud
from tests.scenarios.conftest import Kind
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    ip,
    reconcile_anyway,
    settled,
    wait_until,
)

pytestmark = [pytest.mark.vm, pytest.mark.deep]

KINDS = [Kind("trixie", "networkd"), Kind("sid", "networkd"), Kind("trixie", "netplan")]


class Composed:
    """What the document has beside the ports: a bond of two of them, and VLANs."""

    def __init__(self, members: List[str]) -> None:
        self.members = members
        self.bond: Dict[str, Any] = {}
        self.vlans: Dict[int, Dict[str, Any]] = {}  # by id: parent ("bond" or a MAC), address, MTU

    def __call__(self, document: Dict[str, Any]) -> Dict[str, Any]:
        links, networks = list(document["links"]), list(document["networks"])
        ids = {link["ethernet_mac_address"]: link["id"] for link in links}
        if self.bond:
            own = [ids[mac] for mac in self.members if mac in ids]
            networks = [network for network in networks if network["link"] not in own]
            said = {"id": "bond", "type": "bond", "ethernet_mac_address": self.members[0], "bond_links": own}
            links.append(dict(said, **{key: value for key, value in self.bond.items() if key != "address"}))
            networks.append(_static("bond", self.bond["address"]))
        for number, vlan in self.vlans.items():
            parent = "bond" if vlan["parent"] == "bond" else ids[vlan["parent"]]
            mac = self.members[0] if vlan["parent"] == "bond" else vlan["parent"]
            vid = f"vlan{number}"
            said = {"id": vid, "type": "vlan", "vlan_id": number, "vlan_link": parent, "vlan_mac_address": mac, "mtu": vlan["mtu"]}
            links.append(said)
            networks.append(_static(vid, vlan["address"]))
        return dict(document, links=links, networks=networks)


def _static(link: str, address: str) -> Dict[str, Any]:
    return {"id": f"of-{link}", "link": link, "type": "ipv4", "ip_address": address, "netmask": "255.255.255.0", "routes": []}


def shown(guest: VM, name: str) -> Dict[str, Any]:
    """A device as the kernel has it; empty where it has none of the name."""
    for link in ip(guest, "-details address"):
        if link["ifname"] == name:
            info = link.get("linkinfo", {})
            addresses = [a["local"] for a in link["addr_info"] if a["scope"] == "global"]
            data = dict(info.get("info_data", {}), up="UP" in link["flags"], mtu=link["mtu"], addresses=addresses)
            return dict(data, link=link.get("link", ""), ifindex=link["ifindex"])
    return {}


def members_of(guest: VM, name: str) -> List[str]:
    return sorted(link["ifname"] for link in ip(guest, "link") if link.get("master") == name)


def has(guest: VM, name: str, **wanted: Any) -> None:
    last: Dict[str, Any] = {}

    def fits() -> bool:
        last.clear()
        last.update(shown(guest, name))
        return bool(last) and all(last.get(key) == value for key, value in wanted.items())

    try:
        wait_until(fits, 10 * guest.patience, f"{name} has {wanted}")
    except AssertionError:
        raise AssertionError(f"{name} has {last}, not {wanted}") from None


def follow(guest: VM) -> None:
    """Reconcile by hand. An emulated guest may need longer for a new device than a run waits: what counts is shown after."""
    reconcile_anyway(guest)


def files_of(guest: VM, name: str) -> List[str]:
    """The suffixes of the files that networkd has of a device."""
    command = f"ls /etc/systemd/network /run/systemd/network | grep -e '-{name}[.]net' || true"
    return sorted({word.rpartition(".")[2] for word in guest.run(command).stdout.split()} - {"d"})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_bond_and_vlans_come_change_and_go(cloud: Cloud, vm_factory: Callable[..., VM], kind: Kind) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    trunk = cloud.network("trunk", cidr="10.94.0.0/24", mtu=1450)
    server = cloud.server("metal")
    first = server.create_port(blue)
    members = [server.create_port(trunk), server.create_port(trunk)]
    composed = Composed([port.mac for port in members])
    server.compose = composed
    guest = vm_factory(server, suite=kind.suite, backend=kind.backend)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, *members)
    name, names = str(guest.nic(first)), sorted(str(guest.nic(port)) for port in members)

    # A VLAN on a NIC that has an address and a bond of two NICs that had one.
    composed.vlans[7] = {"parent": first.mac, "address": "10.95.0.5", "mtu": 1400}
    composed.bond = {"address": "10.94.0.5", "mtu": 1450, "bond_mode": "active-backup", "bond_miimon": 100}
    follow(guest)
    vlan = f"{name}.7"
    has(guest, vlan, addresses=["10.95.0.5"], mtu=1400, id=7, link=name, up=True)
    has(guest, "bond0", addresses=["10.94.0.5"], mtu=1450, mode="active-backup", miimon=100, up=True)
    wait_until(lambda: members_of(guest, "bond0") == names, 10 * guest.patience, "the members joined")
    assert files_of(guest, vlan) == files_of(guest, "bond0") == ["netdev", "network"]
    assert_follows(guest, first)
    settled(guest)
    follow(guest)
    assert_nothing_to_do(guest)

    # Addresses and MTUs are set on the devices that are there; other options make a bond anew, with the VLAN on it.
    composed.vlans[9] = {"parent": "bond", "address": "10.96.0.5", "mtu": 1400}
    follow(guest)
    has(guest, "bond0.9", addresses=["10.96.0.5"], link="bond0", up=True)
    then = shown(guest, "bond0")["ifindex"], shown(guest, vlan)["ifindex"]
    composed.vlans[7].update(address="10.95.0.6", mtu=1300)
    composed.bond.update(address="10.94.0.6")
    follow(guest)
    has(guest, vlan, addresses=["10.95.0.6"], mtu=1300)
    has(guest, "bond0", addresses=["10.94.0.6"], mode="active-backup")
    assert (shown(guest, "bond0")["ifindex"], shown(guest, vlan)["ifindex"]) == then
    composed.bond.update(bond_mode="balance-xor", bond_xmit_hash_policy="layer3+4", bond_miimon=200)
    follow(guest)
    has(guest, "bond0", addresses=["10.94.0.6"], mode="balance-xor", xmit_hash_policy="layer3+4", miimon=200, up=True)
    wait_until(lambda: members_of(guest, "bond0") == names, 10 * guest.patience, "the members joined again")
    has(guest, "bond0.9", addresses=["10.96.0.5"], link="bond0", up=True)
    assert_follows(guest, first)
    follow(guest)
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    has(guest, "bond0", addresses=["10.94.0.6"], mode="balance-xor", miimon=200, up=True)
    has(guest, "bond0.9", addresses=["10.96.0.5"], link="bond0", up=True)
    has(guest, vlan, addresses=["10.95.0.6"], mtu=1300, link=name)
    assert members_of(guest, "bond0") == names
    follow(guest)
    assert_nothing_to_do(guest)

    # They go: the files, and the devices, which nobody else unmakes. The members are NICs again.
    composed.vlans.clear()
    composed.bond = {}
    follow(guest)
    wait_until(lambda: not shown(guest, vlan) and not shown(guest, "bond0"), 10 * guest.patience, "the devices are gone")
    assert not shown(guest, "bond0.9") and files_of(guest, vlan) == files_of(guest, "bond0") == []
    assert_follows(guest, first, *members)
    follow(guest)
    assert_nothing_to_do(guest)
