# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The records that several folders use: a NIC as the kernel shows it, a part of a file, a row of the ledger."""

from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple

# `extra` of a log message that the output of the operator's commands has as well: it is for the journal. See cli.py.
IN_OUTPUT = {"in_output": True}


class Address(NamedTuple):
    address: str  # ip/prefix
    tentative: bool
    permanent: bool  # False if a lease or an advertisement limits its lifetime
    duplicate: bool = False  # True if duplicate address detection found another host with it


class Route(NamedTuple):
    network: str  # prefix notation, "default" spelled out: 0.0.0.0/0 or ::/0
    gateway: str
    ifindex: int
    metric: int
    advertised: bool = False  # by a router (IPv6)


class Nic(NamedTuple):
    """A device of the kernel; `mac` is the permanent address if the driver has one."""

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
    ipv6: bool = True  # False if IPv6 is switched off; read for hardware NICs, bonds and VLANs only
    max_mtu: int = 0  # the driver's limit; 0 if the kernel does not report it (before 4.19)
    device: str = ""  # path in sysfs of its bus device, of a virtual NIC its own; empty if unknown

    def is_one_of(self, listed: FrozenSet[str]) -> bool:
        """True if `listed`, which holds MACs and names, has this NIC."""
        return self.mac in listed or self.name in listed

    def has(self, cidr: str) -> bool:
        return any(a.address == cidr for a in self.addresses)


def removed_nic(mac: str, name: str) -> Nic:
    """Returns a record of a NIC that was removed, with what is still known of it."""
    return Nic(name, 0, mac, mac, 0, False, False, 0, False, "", ())


class Snapshot(NamedTuple):
    """Every device, and the routes of the main table."""

    nics: Tuple[Nic, ...]
    routes: Tuple[Route, ...]

    def by_mac(self, early: bool = False) -> Dict[str, Nic]:
        """Returns by MAC the NICs that may have an entry; of two with one MAC the one whose permanent MAC it is.

        `early`: udev may not have run yet, so a veth is included, because udev may still mark it as managed.
        """
        found: Dict[str, Nic] = {}
        for nic in self.nics:
            if not nic.mac or (nic.virtual and not (early and nic.kind == "veth")):
                continue
            other = found.get(nic.mac)
            if other is None or (other.mac != other.current_mac and nic.mac == nic.current_mac):
                found[nic.mac] = nic
        return found

    def default_route_macs(self) -> Tuple[str, ...]:
        """Returns the MACs of the NICs with a default route, best first: IPv4 before IPv6, then by the metric."""
        macs = {nic.ifindex: mac for mac, nic in self.by_mac().items()}
        routes = [r for r in self.routes if r.network in ("0.0.0.0/0", "::/0") and r.ifindex in macs]
        found = [macs[route.ifindex] for route in sorted(routes, key=lambda r: (":" in r.network, r.metric))]
        return tuple(sorted(set(found), key=found.index))

    def named(self, name: str) -> Optional[Nic]:
        return next((nic for nic in self.nics if nic.name == name), None)


class Part(NamedTuple):
    """A NIC's configuration, or one of its files: a whole file (`section` empty) or a section of a shared one."""

    path: str  # absolute, as on the server
    section: str
    name: str  # of the NIC
    text: str


class Touch(NamedTuple):
    """The activation of one NIC.

    "up": the NIC is new; "reconfigure": its part changed; "down": it is gone; "kick" (reapply): its part
    is unchanged, but the kernel lacks some of the configuration.
    """

    action: str
    mac: str
    name: str
    reason: str


class Dns(NamedTuple):
    """The DNS servers and search domains in use for a NIC; `why` is the reason if none of them can be in use."""

    servers: FrozenSet[str]
    why: str = ""
    search: FrozenSet[str] = frozenset()


class Owned(NamedTuple):
    """A ledger row: a file, or a section of a shared one, that this package wrote or adopted."""

    key: str  # of its entry
    mac: str
    name: str  # the NIC's name when it was written
    backend: str
    path: str
    section: str  # empty: the whole file
    disk: str  # fingerprint of the part on disk
    digest: str  # of the Want for which it was written; see desired.Want
    plain: bool = False  # True if cloud-init wrote it by itself, without what Backend.finish adds
    by: str = ""  # the version of this package that rendered it; empty: 0.1.0, or not known
    unsaid: str = ""  # of a plain part: the lines that it lacks until it is written again; see plan.Staged
    written: str = ""  # the part without what others have added to it since; empty if not known

    @property
    def place(self) -> Tuple[str, str]:
        return self.path, self.section


class Renderer(NamedTuple):
    """One of cloud-init's renderers, and its configuration from the distro class."""

    name: str
    config: Mapping[str, Any]
