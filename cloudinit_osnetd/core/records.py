# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the folders hand to each other: a NIC as the kernel shows it, a part of a file, a row of the ledger."""

from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple


class Address(NamedTuple):
    address: str  # ip/prefix
    tentative: bool
    permanent: bool  # False where a lease or an advertisement limits its life
    duplicate: bool = False  # another host was found to have it


class Route(NamedTuple):
    network: str  # prefix notation, "default" spelled out: 0.0.0.0/0 or ::/0
    gateway: str
    ifindex: int
    metric: int
    advertised: bool = False  # by a router (IPv6)


class Nic(NamedTuple):
    """A device of the kernel; `mac` is the permanent address where the driver has one."""

    name: str
    ifindex: int
    mac: str
    current_mac: str
    mtu: int
    up: bool
    carrier: bool
    master: int
    virtual: bool
    kind: str  # of a virtual device: "veth", "bridge", "vlan"; empty for hardware
    addresses: Tuple[Address, ...]
    ipv6: bool = True  # False where IPv6 is switched off; told of those that are nobody's virtual ones, bonds and VLANs
    max_mtu: int = 0  # what its driver takes; 0 where the kernel does not tell (it does from 4.19 on)

    def is_one_of(self, listed: FrozenSet[str]) -> bool:
        """True if `listed`, which holds MACs and names, has this NIC."""
        return self.mac in listed or self.name in listed

    def has(self, cidr: str) -> bool:
        return any(a.address == cidr for a in self.addresses)


def departed(mac: str, name: str) -> Nic:
    """A NIC that is gone, as far as it can still be told."""
    return Nic(name, 0, mac, mac, 0, False, False, 0, False, "", ())


class Snapshot(NamedTuple):
    """Every device, and the routes of the main table."""

    nics: Tuple[Nic, ...]
    routes: Tuple[Route, ...]

    def by_mac(self, early: bool = False) -> Dict[str, Nic]:
        """NICs that may have an entry; on a duplicated MAC the one that owns it for good.

        `early`: udev may not have run yet, so a veth counts as one that somebody will claim.
        """
        found: Dict[str, Nic] = {}
        for nic in self.nics:
            if not nic.mac or (nic.virtual and not (early and nic.kind == "veth")):
                continue
            other = found.get(nic.mac)
            if other is None or (other.mac != other.current_mac and nic.mac == nic.current_mac):
                found[nic.mac] = nic
        return found

    def ways_out(self) -> Tuple[str, ...]:
        """The MACs of the NICs by which a default route goes, best first: IPv4's, whose metrics are of their own."""
        macs = {nic.ifindex: mac for mac, nic in self.by_mac().items()}
        ways = [r for r in self.routes if r.network in ("0.0.0.0/0", "::/0") and r.ifindex in macs]
        found = [macs[route.ifindex] for route in sorted(ways, key=lambda r: (":" in r.network, r.metric))]
        return tuple(sorted(set(found), key=found.index))

    def named(self, name: str) -> Optional[Nic]:
        return next((nic for nic in self.nics if nic.name == name), None)


class Part(NamedTuple):
    """A NIC's configuration, or a piece of it: a file of its own (`section` empty) or a section of a shared one."""

    path: str  # absolute, as on the machine
    section: str
    name: str  # of the NIC
    text: str


class Touch(NamedTuple):
    """What happens to one NIC.

    "up": it is new; "reconfigure": its part changed; "down": it is gone; "kick": its part is as it
    was, and yet the kernel shows it unconfigured.
    """

    action: str
    mac: str
    name: str
    reason: str


class Dns(NamedTuple):
    """The DNS servers and search domains in use for a NIC; `why` says what keeps all of them from it."""

    servers: FrozenSet[str]
    why: str = ""
    search: FrozenSet[str] = frozenset()


class Owned(NamedTuple):
    """A ledger row: a file, or a section of a shared one, that we wrote or adopted."""

    key: str  # the entry it serves
    mac: str
    name: str  # the NIC's name when it was written
    backend: str
    path: str
    section: str  # empty: the whole file
    disk: str  # fingerprint of what stands on disk
    digest: str  # what was wanted when it was written; see desired.Want
    plain: bool = False  # as cloud-init wrote it by itself: without what Backend.finish adds
    by: str = ""  # our version that rendered it; empty: 0.1.0, or that is not known
    unsaid: str = ""  # of a plain one: what it does not say, and will where it is written anew; see plan.Staged

    @property
    def place(self) -> Tuple[str, str]:
        return self.path, self.section


class Renderer(NamedTuple):
    """One of cloud-init's renderers, and what the distro class configures it with."""

    name: str
    config: Mapping[str, Any]
