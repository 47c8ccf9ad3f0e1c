# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads IP Helper's tables (iphlpapi.dll) by ctypes; writes nothing.

Structures: netioapi.h, ifdef.h, ws2ipdef.h, nldef.h of the Windows SDK, in their 64-bit layout. All functions exist
since Windows Server 2008. IP Helper has setters as well, but what they set is lost at a reboot; see netsh.py.
"""

import ctypes
import ipaddress
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from typing import Any, List, Optional, Tuple

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 23
ETHERNET = 6  # ifType of RFC 2863
HARDWARE, FILTER, CONNECTOR = 1, 2, 4  # bits of MIB_IF_ROW2.InterfaceAndOperStatusFlags
OPER_UNKNOWN, NOT_PRESENT = 4, 6  # IF_OPER_STATUS
ADMIN_UP = 1  # NET_IF_ADMIN_STATUS
DISCONNECTED = 2  # NET_IF_MEDIA_CONNECT_STATE
DAD_TENTATIVE, DAD_DUPLICATE = 1, 2  # NL_DAD_STATE
ROUTE_ADVERTISED = 3  # NL_ROUTE_ORIGIN
FOREVER = 0xFFFFFFFF
_NOT_FOUND = 1168  # ERROR_NOT_FOUND
_FILE_NOT_FOUND = 2  # ERROR_FILE_NOT_FOUND: no interface has this family


class SockAddr(ctypes.Structure):
    """SOCKADDR_INET."""

    _fields_ = (("family", c_uint16), ("port", c_uint16), ("rest", c_uint32 * 6))

    @property
    def ip(self) -> str:
        raw = bytes(self.rest)
        if self.family == AF_INET6:
            return str(ipaddress.IPv6Address(raw[4:20]))
        return str(ipaddress.IPv4Address(raw[:4]))


class UnicastRow(ctypes.Structure):
    """MIB_UNICASTIPADDRESS_ROW."""

    _fields_ = (
        ("address", SockAddr),
        ("luid", c_uint64),
        ("index", c_uint32),
        ("prefix_origin", c_uint32),
        ("suffix_origin", c_uint32),
        ("valid_lifetime", c_uint32),
        ("preferred_lifetime", c_uint32),
        ("prefix_length", c_uint8),
        ("skip_as_source", c_uint8),
        ("dad_state", c_uint32),
        ("scope_id", c_uint32),
        ("created", c_uint64),
    )


class Prefix(ctypes.Structure):
    """IP_ADDRESS_PREFIX."""

    _fields_ = (("address", SockAddr), ("length", c_uint8))


class ForwardRow(ctypes.Structure):
    """MIB_IPFORWARD_ROW2."""

    _fields_ = (
        ("luid", c_uint64),
        ("index", c_uint32),
        ("destination", Prefix),
        ("next_hop", SockAddr),
        ("site_prefix_length", c_uint8),
        ("valid_lifetime", c_uint32),
        ("preferred_lifetime", c_uint32),
        ("metric", c_uint32),
        ("protocol", c_uint32),
        ("loopback", c_uint8),
        ("autoconfigured", c_uint8),
        ("publish", c_uint8),
        ("immortal", c_uint8),
        ("age", c_uint32),
        ("origin", c_uint32),
    )


class Guid(ctypes.Structure):
    _fields_ = (("a", c_uint32), ("b", c_uint16), ("c", c_uint16), ("d", c_uint8 * 8))

    @property
    def text(self) -> str:
        """As the registry's keys spell it."""
        last = "".join("%02X" % byte for byte in self.d)
        return "{%08X-%04X-%04X-%s-%s}" % (self.a, self.b, self.c, last[:4], last[4:])


class IfRow(ctypes.Structure):
    """MIB_IF_ROW2."""

    _fields_ = (
        ("luid", c_uint64),
        ("index", c_uint32),
        ("guid", Guid),
        ("alias", c_uint16 * 257),
        ("description", c_uint16 * 257),
        ("mac_length", c_uint32),
        ("mac", c_uint8 * 32),
        ("permanent_mac", c_uint8 * 32),
        ("mtu", c_uint32),
        ("type", c_uint32),
        ("tunnel_type", c_uint32),
        ("media_type", c_uint32),
        ("physical_medium", c_uint32),
        ("access_type", c_uint32),
        ("direction_type", c_uint32),
        ("flags", c_uint8),
        ("oper_status", c_uint32),
        ("admin_status", c_uint32),
        ("media_state", c_uint32),
        ("network_guid", Guid),
        ("connection_type", c_uint32),
        ("counters", c_uint64 * 20),
    )

    @property
    def name(self) -> str:
        """The name of the connection, in whatever script."""
        return bytes(self.alias).decode("utf-16-le", "replace").partition("\0")[0]


class IpInterfaceRow(ctypes.Structure):
    """MIB_IPINTERFACE_ROW."""

    _fields_ = (
        ("family", c_uint16),
        ("luid", c_uint64),
        ("index", c_uint32),
        ("max_reassembly_size", c_uint32),
        ("identifier", c_uint64),
        ("min_router_interval", c_uint32),
        ("max_router_interval", c_uint32),
        ("flags", c_uint8 * 9),
        ("router_discovery", c_uint32),
        ("dad_transmits", c_uint32),
        ("times", c_uint32 * 3),
        ("link_local", c_uint32 * 2),
        ("zones", c_uint32 * 16),
        ("site_prefix_length", c_uint32),
        ("metric", c_uint32),
        ("mtu", c_uint32),
        ("connected", c_uint8),
        ("supports", c_uint8 * 3),
        ("reachable_time", c_uint32),
        ("offload", c_uint8 * 2),
        ("disable_default_routes", c_uint8),
    )


def mac_text(raw: bytes) -> str:
    return ":".join("%02x" % byte for byte in raw)


def dll(name: str) -> Any:
    """Returns a system DLL, or one of its kind: it is loaded when it is needed, so that this module loads anywhere."""
    return ctypes.WinDLL(name)  # type: ignore[attr-defined]


def _table(function: str, row: Any, *args: Any) -> List[Any]:
    """Returns copies of a table's rows, none for a family that is not installed; raises OSError with the function."""
    helper = dll("iphlpapi")
    # A count, then the rows, each where its type may lie.
    table: Any = type("Table", (ctypes.Structure,), {"_fields_": (("count", c_uint32), ("rows", row * 1))})
    pointer: Any = ctypes.POINTER(table)()
    status = getattr(helper, function)(*args, ctypes.byref(pointer))
    if status in (_NOT_FOUND, _FILE_NOT_FOUND):
        return []
    if status:
        raise OSError("%s: error %d" % (function, status))
    try:
        first = ctypes.addressof(pointer.contents) + table.rows.offset
        size = ctypes.sizeof(row)
        return [row.from_buffer_copy(ctypes.string_at(first + i * size, size)) for i in range(pointer.contents.count)]
    finally:
        helper.FreeMibTable(pointer)


def interfaces() -> List[IfRow]:
    return _table("GetIfTable2", IfRow)


def addresses() -> List[UnicastRow]:
    return _table("GetUnicastIpAddressTable", UnicastRow, c_uint16(AF_UNSPEC))


def routes() -> List[ForwardRow]:
    """Both families, each asked for on its own: Wine has no IPv6 routes in an unspecified family's table."""
    return [row for family in (AF_INET, AF_INET6) for row in _table("GetIpForwardTable2", ForwardRow, c_uint16(family))]


def ip_interface(luid: int, family: int) -> Optional[IpInterfaceRow]:
    """Returns a family's settings on an interface; None where the family is off there, or cannot be asked (Wine)."""
    try:
        function = dll("iphlpapi").GetIpInterfaceEntry
    except AttributeError:
        return None
    row = IpInterfaceRow()
    row.family, row.luid = family, luid
    return None if function(ctypes.byref(row)) else row


LAYOUT: Tuple[Tuple[Any, int], ...] = (
    (SockAddr, 28),
    (UnicastRow, 80),
    (ForwardRow, 104),
    (IfRow, 1352),
    (IpInterfaceRow, 168),
)
