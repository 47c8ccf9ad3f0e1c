# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Short ways to write down documents, entries and NICs; what a test does not care about has a default."""

import json

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.core.records import Address, Nic, Owned, Snapshot

A, B, C = ("fa:16:3e:00:00:0%d" % n for n in (1, 2, 3))


def link(mac=A, id="tap1", **fields):
    return dict({"id": id, "type": "ovs", "ethernet_mac_address": mac, "mtu": None}, **fields)


def bond(mac=C, id="bond1", members=("tap1", "tap2"), **fields):
    base = {"id": id, "type": "bond", "ethernet_mac_address": mac, "bond_links": list(members), "bond_mode": "802.3ad"}
    return dict(base, **fields)


def vlan(mac=A, id="vlan1", vlan_id=100, parent="tap1", **fields):
    return dict({"id": id, "type": "vlan", "vlan_id": vlan_id, "vlan_mac_address": mac, "vlan_link": parent}, **fields)


def static(address="10.0.0.5", netmask="255.255.255.0", link="tap1", **fields):
    kind = "ipv6" if ":" in address else "ipv4"
    return dict({"id": "n", "link": link, "type": kind, "ip_address": address, "netmask": netmask}, **fields)


def dhcp(link="tap1", **fields):
    return dict({"id": "n", "link": link, "type": "ipv4_dhcp"}, **fields)


def document(links=(), networks=(), services=()):
    return {"links": list(links), "networks": list(networks), "services": list(services)}


def one_nic(*networks, **link_fields):
    """A document of one link with these networks."""
    return document([link(**link_fields)], networks)


def dns(*addresses):
    return [{"type": "dns", "address": address} for address in addresses]


def data(document):
    """The document as it comes over the wire, read."""
    return network_data.parse_bytes(json.dumps(document).encode())


def entry(*networks, **link_fields):
    """The entry of the one link."""
    (only,) = data(one_nic(*networks, **link_fields)).entries.values()
    return only


def nic(name="ens3", mac=A, index=2, addresses=(), up=True, **fields):
    held = tuple(Address(a, False, True) for a in addresses)
    base = Nic(
        name, index, mac, current_mac=mac, mtu=1500, up=up, carrier=up, master=0, virtual=False, kind="", addresses=held
    )
    return base._replace(**fields)


def nics(*some):
    return {one.mac: one for one in some}


def snapshot(*some, **fields):
    return Snapshot(nics=tuple(some), routes=tuple(fields.get("routes", ())))


def owned_bond(mac, name):
    """The ledger's row of a bond."""
    return Owned(mac + "/bond", mac, name, "networkd", "/etc/x", name, "m", "d")
