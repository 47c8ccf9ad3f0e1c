# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The cloud as it is, the guest as far as it can know of it, and so what each of its NICs must have. Pure.

Written from what Nova tells (facts of nova/virt/netutils.py: a port's first fixed IP of its first subnet of each IP
version) and from what the package promises, without any code of either: it is what both are judged by.
"""

from __future__ import annotations

import ipaddress
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from tests.lab.ports import Subnet

Route = Tuple[str, str]  # destination, gateway

# name -> MTU and subnets. Every one has DNS servers of its own, so that none of its ports hangs on those of others.
NETWORKS: Dict[str, Tuple[int, Tuple[Subnet, ...]]] = {
    "blue": (1450, (Subnet("10.90.0.0/22", "10.90.0.1", dns=("10.90.0.2",)),)),
    "steel": (1450, (Subnet("10.89.0.0/24", dns=("10.89.0.2",)),)),
    "green": (1400, (Subnet("10.91.0.0/22", "10.91.0.1", dns=("10.91.0.2", "10.91.0.3"), routes=(("10.210.0.0/16", "10.91.0.9"), ("10.33.0.0/24", "10.91.0.8"))),)),
    "dual": (1442, (Subnet("10.94.0.0/22", "10.94.0.1", dns=("10.94.0.2",)), Subnet("fd00:94::/64", "fd00:94::1", dns=("fd00:94::2",)))),
    "six": (1420, (Subnet("fd00:95::/64", "fd00:95::1", dns=("fd00:95::2",), routes=(("fd00:77::/48", "fd00:95::9"),)),)),
    "leased": (1430, (Subnet("10.92.0.0/22", "10.92.0.1", dhcp=True, dns=("10.92.0.2",)),)),
    "mixed": (1410, (Subnet("10.96.0.0/22", dhcp=True, dns=("10.96.0.2",)), Subnet("fd00:96::/64", "fd00:96::1", dns=("fd00:96::2",)))),
    "auto": (1440, (Subnet("fd00:98::/64", "fd00:98::1", dns=("fd00:98::2",), ipv6_mode="slaac"),)),
    "many": (1390, (Subnet("10.97.0.0/23", "10.97.0.1", dns=("10.97.0.2",)), Subnet("10.97.2.0/23", "10.97.2.1", dns=("10.97.2.2",)))),
}
STATIC = ("blue", "green", "dual", "six", "many")  # whose fixed IPs, MTU, routes and DNS are told by the document alone
ROUTED = ("blue", "green", "dual")  # whose router may be taken down


class Port(NamedTuple):
    """A port as the cloud has it; None: the network's."""

    label: str
    mac: str
    network: str
    fixed_ips: Tuple[str, ...]
    mtu: Optional[int] = None
    routes: Optional[Tuple[Route, ...]] = None
    dns: Optional[Tuple[str, ...]] = None


class Entry(NamedTuple):
    """What a document says of a port, as the guest must then show it."""

    addresses: FrozenSet[str]  # with prefix lengths; those that a lease or an advertisement brings among them
    mtu: Optional[int]  # None: not told
    routes: FrozenSet[Route]
    dns: FrozenSet[str]
    dhcp4: bool = False
    advertised: bool = False


class Wanted(NamedTuple):
    """What is expected of one NIC that is plugged."""

    label: str
    name: str  # as it was plugged; "" where the guest names it
    plugging: int  # another number: another NIC, though of the same MAC
    states: FrozenSet[str]  # what status may call it
    entry: Optional[Entry]  # None: nobody can know, so nothing is asked of the kernel
    extra: FrozenSet[str]  # addresses that others gave and that must be there
    may: FrozenSet[str]  # those that may be there
    judged: bool = True  # False: nothing is asked of it; no run has looked since it was plugged, or nobody leases to it any more


def entry_of(port: Port, subnets: Tuple[Subnet, ...]) -> Optional[Entry]:
    """None where Nova does not tell the port: it has no address."""
    told: Dict[int, Tuple[Subnet, str]] = {}
    for subnet in subnets:
        inside = [ip for ip in port.fixed_ips if ipaddress.ip_address(ip) in subnet.network]
        if inside:
            told.setdefault(subnet.network.version, (subnet, inside[0]))
    if not told:
        return None
    addresses, routes, dns = set(), set(), set()
    for version, (subnet, address) in told.items():
        addresses.add(f"{address}/{subnet.network.prefixlen}")
        if subnet.gateway:
            routes.add(("0.0.0.0/0" if version == 4 else "::/0", subnet.gateway))
        own_routes = subnet.routes if port.routes is None else [r for r in port.routes if _version(r[1]) == version]
        routes |= set(own_routes)
        dns |= set(subnet.dns if port.dns is None else [one for one in port.dns if _version(one) == version])
    # Nova looks at all of a port's subnets, also those of which it tells nothing.
    has = [s for s in subnets if any(ipaddress.ip_address(ip) in s.network for ip in port.fixed_ips)]
    served = any(subnet.dhcp or subnet.ipv6_mode for subnet in has)
    dhcp4 = 4 in told and told[4][0].dhcp
    advertised = 6 in told and told[6][0].ipv6_mode is not None
    mtu = None if served else port.mtu or NETWORKS[port.network][0]
    return Entry(frozenset(addresses), mtu, frozenset(routes), frozenset(dns), dhcp4, advertised)


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


class World:
    """Changed by operations.apply() alone."""

    def __init__(self) -> None:
        self.subnets: Dict[str, Tuple[Subnet, ...]] = {name: subnets for name, (_mtu, subnets) in NETWORKS.items()}
        self.ports: Dict[str, Port] = {}  # listed by the cloud, by label
        self.known: Dict[str, Port] = {}  # every one that ever was, as it was last
        self.plugged: Dict[str, Tuple[str, int]] = {}  # label -> (name, number of the plugging)
        self.pluggings = 0
        self.served = 0  # so many of them, when a run last looked
        self.dirty = False  # NICs came or went, and nobody has looked since
        self.heard: Dict[str, Entry] = {}  # MAC -> what the guest believes
        self.listed: Set[str] = set()  # the MACs of the document that was heard last
        self.drive: Dict[str, Entry] = {}  # what the config drive lists
        self.frozen: Optional[Dict[str, Entry]] = None
        self.fault = ""  # of the metadata service
        self.routers_down: Set[str] = set()
        self.on = True
        self.stopped = False  # the path unit
        self.drifted: Set[str] = set()  # labels
        self.extra: Dict[str, Dict[str, bool]] = {}  # label -> address -> whether it must still be there
        self.by_file: Set[str] = set()  # of these addresses those that an operator wrote into a file
        self.given: Dict[str, int] = {}  # network -> the last host number given out
        self.labels = 0

    # What is told

    def document(self) -> Dict[str, Entry]:
        """What the metadata service would say now, if it spoke."""
        if self.frozen is not None:
            return dict(self.frozen)
        entries = {port.mac: entry_of(port, self.subnets[port.network]) for port in self.ports.values()}
        return {mac: entry for mac, entry in entries.items() if entry is not None}

    @property
    def behind(self) -> bool:
        """The guest has not heard of some port what the cloud has of it now."""
        entries = {port.mac: entry_of(port, self.subnets[port.network]) for port in self.ports.values()}
        return any(entry is not None and self.heard.get(mac) != entry for mac, entry in entries.items())

    def ways_out(self, but: str) -> bool:
        """Some NIC on another network has a default route by IPv4, and its router is there."""
        for label in self.plugged:
            port = self.known[label]
            entry = self.heard.get(port.mac)
            if entry and port.network not in {but, *self.routers_down} and any(to == "0.0.0.0/0" for to, _by in entry.routes):
                return True
        return False

    @property
    def speaks(self) -> bool:
        """Whether the metadata service is heard at all."""
        return self.fault in ("", "frozen", "slow")

    def run(self) -> None:
        """A run of the service, or of the operator's: it hears what it can."""
        self.served, self.dirty = self.pluggings, False
        if self.speaks:
            said = self.document()
            self.heard.update(said)
            self.listed = set(said)
        here = self.macs_here()
        for mac in list(self.heard):
            if mac not in here and mac not in self.listed and mac not in self.drive:
                del self.heard[mac]

    def macs_here(self) -> Set[str]:
        return {self.known[label].mac for label in self.plugged}

    @property
    def nameless(self) -> Set[str]:
        """The MACs of NICs of which the guest knows nothing."""
        return self.macs_here() - set(self.heard)

    @property
    def pending(self) -> bool:
        """A run or a timer goes on looking for some NIC."""
        return bool(self.nameless)

    @property
    def restless(self) -> bool:
        """Nobody answers, and a NIC is pending: every way there might be is gone through."""
        return self.pending and not self.speaks

    @property
    def unheard(self) -> bool:
        """Some run to come would change something."""
        said = self.document()
        return self.speaks and (set(said) != self.listed or any(self.heard.get(mac) != entry for mac, entry in said.items()))

    # What is expected

    def wanted(self) -> Dict[str, Wanted]:
        """By MAC, for each NIC that is plugged."""
        found = {}
        for label, (name, plugging) in self.plugged.items():
            mac = self.known[label].mac
            entry = self.heard.get(mac)
            extra = self.extra.get(label, {})
            found[mac] = Wanted(
                label,
                name,
                plugging,
                self._states(label, mac, entry),
                None if label in self.drifted else entry,
                frozenset(one for one, must in extra.items() if must),
                frozenset(extra),
                plugging <= self.served and not self._bereft(label, entry),
            )
        return found

    def _bereft(self, label: str, entry: Optional[Entry]) -> bool:
        """Its port is gone: what it has of DHCP and of routers it may keep, and does not get again."""
        return label not in self.ports and entry is not None and (entry.dhcp4 or entry.advertised)

    def _states(self, label: str, mac: str, entry: Optional[Entry]) -> FrozenSet[str]:
        if label in self.drifted:
            return frozenset(["drifted"])
        if entry is None:
            return frozenset(["pending"])
        return frozenset(["ok"] if mac in self.listed else ["orphan", "ok"] if mac in self.drive else ["orphan"])

    # For operations

    def new_address(self, network: str, subnet: int) -> str:
        """One that was never given before."""
        key = f"{network}/{subnet}"
        self.given[key] = self.given.get(key, 15) + 1
        first = self.subnets[network][subnet].network.network_address
        return str(first + self.given[key])

    def free_names(self) -> List[str]:
        taken = {name for name, _plugging in self.plugged.values()}
        return [name for name in (f"ens{slot}" for slot in range(3, 40)) if name not in taken]


def slaac_address(cidr: str, mac: str) -> str:
    """What stateless autoconfiguration makes of a MAC, which Neutron gives such a port (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.ip_network(cidr).network_address + int.from_bytes(interface, "big"))
