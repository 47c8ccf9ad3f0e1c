# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A Windows of NICs, addresses and routes, as netsh's help describes what it does; strict where Windows may be."""

import ipaddress

from cloudinit_osnetd.core.records import Address, Nic, Route, Snapshot
from cloudinit_osnetd.windows.netsh import Netsh
from cloudinit_osnetd.windows.state import Link, State

DEFAULTS = ("0.0.0.0/0", "::/0")


class Card:
    def __init__(self, index, mac, name):
        self.index, self.mac, self.name = index, mac, name
        self.dhcp4 = True
        self.mtu = {"ipv4": 1500, "ipv6": 1500}
        self.addresses = []
        self.routes = {}  # (network, gateway) -> metric
        self.dns = {"ipv4": [], "ipv6": []}
        self.suffix = ""

    @property
    def guid(self):
        return "{%d}" % self.index

    def reaches(self, gateway):
        hop = ipaddress.ip_address(gateway)
        if hop.version == 6 and hop.is_link_local:
            return True
        subnets = [ipaddress.ip_interface(cidr).network for cidr in self.addresses]
        subnets += [ipaddress.ip_network(network) for network, via in self.routes if not via and network not in DEFAULTS]
        return any(hop.version == net.version and hop in net for net in subnets)


class Machine:
    """`commands` are the lines of all that it was told to do; what it refuses it refuses with a text."""

    def __init__(self, macs):
        # Names in Cyrillic, as a Russian Windows has them.
        self.cards = {7 + n: Card(7 + n, mac, "Подключение %d" % n) for n, mac in enumerate(sorted(macs))}
        self.search = ()
        self.commands = []

    def card(self, mac):
        (found,) = (card for card in self.cards.values() if card.mac == mac)
        return found

    def state(self):
        nics, links, routes = [], {}, []
        for card in self.cards.values():
            have = tuple(Address(cidr, False, True) for cidr in card.addresses)
            nics.append(Nic(card.name, card.index, card.mac, card.mac, card.mtu["ipv4"], True, True, 0, False, "", have))
            servers = [tuple(card.dns[family]) for family in ("ipv4", "ipv6")]
            links[card.index] = Link(card.guid, card.dhcp4, card.mtu["ipv6"], True, *servers, suffix=card.suffix)
            routes += [Route(network, via, card.index, metric) for (network, via), metric in card.routes.items()]
        return State(Snapshot(tuple(nics), tuple(routes)), links, self.search)

    def write(self, value):
        """What registry.write does."""
        self.commands.append(value.line)
        if value.name == "SearchList":
            self.search = tuple(value.text.split(",")) if value.text else ()
        for card in self.cards.values():
            if card.guid in value.key:
                card.suffix = value.text

    def run(self, step):
        """What netsh.run does: returns what it says against it."""
        assert isinstance(step, Netsh)
        self.commands.append(step.line)
        _interface, family, verb, what = step.args[:4]
        tags = dict(word.split("=", 1) for word in step.args[4:])
        card = self.cards[int(tags.get("interface") or tags["name"])]
        return getattr(self, "_%s_%s" % (verb, what))(card, family, tags) or ""

    def _set_subinterface(self, card, family, tags):
        card.mtu[family] = int(tags["mtu"])

    def _set_address(self, card, family, tags):
        """Replaces the family's addresses, and takes the default gateway along."""
        assert family == "ipv4"
        if tags["source"] == "dhcp" and card.dhcp4:
            return "DHCP is already enabled on this interface."
        card.addresses = [cidr for cidr in card.addresses if ":" in cidr]
        card.routes = {key: metric for key, metric in card.routes.items() if key[0] != "0.0.0.0/0"}
        card.dhcp4 = tags["source"] == "dhcp"
        return "" if card.dhcp4 else self._add_address(card, family, tags)

    def _add_address(self, card, family, tags):
        if family == "ipv4" and card.dhcp4:
            return "DHCP is enabled on this interface."
        address, slash, length = tags["address"].partition("/")
        cidr = tags["address"] if slash else str(ipaddress.ip_interface("%s/%s" % (address, tags["mask"])))
        if any(address == there.partition("/")[0] for there in card.addresses):
            return "The object already exists."
        card.addresses.append(cidr if length or not slash else address)
        return ""

    def _delete_address(self, card, family, tags):
        kept = [cidr for cidr in card.addresses if cidr.partition("/")[0] != tags["address"]]
        gone, card.addresses = len(kept) < len(card.addresses), kept
        return "" if gone else "Element not found."

    def _add_route(self, card, family, tags):
        key = (tags["prefix"], tags.get("nexthop", ""))
        if key in card.routes:
            return "The object already exists."
        if key[1] and not card.reaches(key[1]):
            return "The gateway does not lie on the same network as the interface."
        card.routes[key] = int(tags.get("metric", 0))
        return ""

    def _set_route(self, card, family, tags):
        key = (tags["prefix"], tags.get("nexthop", ""))
        if key not in card.routes:
            return "Element not found."
        card.routes[key] = int(tags["metric"])
        return ""

    def _delete_route(self, card, family, tags):
        there = card.routes.pop((tags["prefix"], tags.get("nexthop", "")), None)
        return "Element not found." if there is None else ""

    def _set_dnsservers(self, card, family, tags):
        card.dns[family] = [tags["address"]] if tags["source"] == "static" else []

    def _add_dnsservers(self, card, family, tags):
        assert int(tags["index"]) == len(card.dns[family]) + 1
        card.dns[family].append(tags["address"])
