# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What Windows has: the core's Snapshot made of IP Helper's tables, and each NIC's settings in the registry."""

import ipaddress
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from ..core.records import Address, Nic, Route, Snapshot
from . import iphelper, registry


class Link(NamedTuple):
    """A NIC's settings that the core's Nic has no field for."""

    guid: str
    dhcp4: bool = True  # as on a new NIC
    mtu6: int = 0  # 0: as that of IPv4
    router_discovery: Optional[bool] = None  # None: it cannot be read
    dns4: Tuple[str, ...] = ()  # set on the NIC, not by a lease
    dns6: Tuple[str, ...] = ()
    suffix: str = ""  # the connection's DNS suffix


class State(NamedTuple):
    snapshot: Snapshot
    links: Dict[int, Link]  # by the NIC's index
    search: Tuple[str, ...] = ()  # the machine's list of search domains
    domain: str = ""  # the machine's own

    def link(self, nic: Nic) -> Link:
        return self.links[nic.ifindex]

    def macs_by_name(self) -> Dict[str, str]:
        return {nic.name: nic.mac for nic in self.snapshot.nics}


def read() -> State:
    """Reads all of it; raises OSError if a table cannot be read."""
    # The newest first: of a NIC that left and came again Wine shows both rows.
    rows = sorted(filter(is_nic, iphelper.interfaces()), key=lambda row: -int(row.index))
    addresses: Dict[int, List[Address]] = {}
    for one in iphelper.addresses():
        addresses.setdefault(one.index, []).append(_address(one))
    settings = {row.index: _ip_settings(row) for row in rows}
    nics = tuple(_nic(row, settings[row.index], addresses.get(row.index, ())) for row in rows)
    links = {row.index: _link(row, settings[row.index]) for row in rows}
    machine = registry.values(registry.TCPIP)
    search = registry.words(machine.get("SearchList"))
    domain = str(machine.get("Domain") or machine.get("NV Domain") or "")
    return State(Snapshot(nics, tuple(map(_route, iphelper.routes()))), links, search, domain)


def present() -> FrozenSet[Tuple[str, int, str]]:
    """Returns (MAC, index, name) of each NIC: what a follower compares, cheaply."""
    rows = [row for row in iphelper.interfaces() if is_nic(row)]
    return frozenset((_macs(row)[0], row.index, row.name) for row in rows)


def is_nic(row: Any) -> bool:
    """True for Ethernet hardware that is here.

    Filter drivers have rows of their own, with the NIC's MAC. A removed NIC may keep its row: Windows calls it not
    present, Wine says that it has no MTU.
    """
    wanted = iphelper.HARDWARE | iphelper.CONNECTOR
    hardware = row.flags & wanted == wanted and not row.flags & iphelper.FILTER
    return bool(row.type == iphelper.ETHERNET and hardware and row.mtu and row.oper_status != iphelper.NOT_PRESENT)


_IpSettings = Tuple[Optional[Any], Optional[Any]]  # of IPv4, of IPv6


def _ip_settings(row: Any) -> _IpSettings:
    return iphelper.ip_interface(row.luid, iphelper.AF_INET), iphelper.ip_interface(row.luid, iphelper.AF_INET6)


def _macs(row: Any) -> Tuple[str, str]:
    """Returns the permanent MAC, if the driver has one, and the current one."""
    current = iphelper.mac_text(bytes(row.mac[: row.mac_length]))
    permanent = iphelper.mac_text(bytes(row.permanent_mac[: row.mac_length]))
    return (permanent if permanent.strip("0:") else current), current


def _nic(row: Any, settings: _IpSettings, addresses: Sequence[Address]) -> Nic:
    four, six = settings
    mac, current = _macs(row)
    return Nic(
        name=row.name,
        ifindex=row.index,
        mac=mac,
        current_mac=current,
        # Each family has an MTU of its own, at most the driver's. Where it cannot be read, the driver's stands for it.
        mtu=four.mtu if four else row.mtu,
        up=row.admin_status == iphelper.ADMIN_UP,
        carrier=row.media_state != iphelper.DISCONNECTED,
        master=0,
        virtual=False,
        kind="",
        addresses=tuple(addresses),
        ipv6=six is not None or four is None,
        max_mtu=row.mtu if four else 0,
    )


def _address(row: Any) -> Address:
    return Address(
        "%s/%d" % (row.address.ip, row.prefix_length),
        row.dad_state == iphelper.DAD_TENTATIVE,
        row.valid_lifetime == iphelper.FOREVER,
        row.dad_state == iphelper.DAD_DUPLICATE,
    )


def _route(row: Any) -> Route:
    destination = ipaddress.ip_network("%s/%d" % (row.destination.address.ip, row.destination.length), strict=False)
    hop = row.next_hop.ip
    gateway = "" if ipaddress.ip_address(hop).is_unspecified else hop
    return Route(str(destination), gateway, row.index, row.metric, row.origin == iphelper.ROUTE_ADVERTISED)


def _link(row: Any, settings: _IpSettings) -> Link:
    guid = row.guid.text
    four = registry.values(registry.interface_key(guid))
    six = registry.values(registry.interface_key(guid, registry.TCPIP6))
    return Link(
        guid=guid,
        dhcp4=bool(four.get("EnableDHCP", 1)),
        mtu6=settings[1].mtu if settings[1] else 0,
        router_discovery=bool(settings[1].router_discovery) if settings[1] else None,
        dns4=registry.words(four.get("NameServer")),
        dns6=tuple(map(_plain, registry.words(six.get("NameServer")))),
        suffix=str(four.get("Domain") or ""),
    )


def _plain(address: str) -> str:
    """Returns an IPv6 address as the core spells it; any other text as it is."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address
