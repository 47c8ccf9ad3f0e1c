# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads a snapshot of the kernel's links, addresses and routes. Writes nothing.

Three rtnetlink dumps over one socket take a third of a millisecond, a fork of `ip -json` takes
twenty times as long. Message layouts are those of linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
"""

import os
import socket
import struct
import time
from typing import Dict, Iterable, Iterator, List, Tuple

from ..core.records import Address, Nic, Route, Snapshot
from ..system import paths

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLM_F_DUMP_INTR = 0x10  # a change interrupted the dump: something may be missing, or listed twice
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_DUMPS = 20  # attempts for an interrupted dump, with growing pauses
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFA_F_TENTATIVE, _IFA_F_DADFAILED = 0x40, 0x08
_RT_TABLE_MAIN = 254
_RTPROT_RA = 9  # linux/rtnetlink.h

CLAIM = "OSNETD_MANAGE"
_VIRTUAL = "/devices/virtual/"


def awaits_udev(nics: Iterable[Nic]) -> bool:
    """True if udev has not processed one of them yet: its name may still change."""
    names = (os.path.join(paths.UDEV_DATABASE, "n%d" % nic.ifindex) for nic in nics)
    return os.path.exists(paths.UDEV_CONTROL) and not all(os.path.exists(name) for name in names)


def macs_by_name() -> Dict[str, str]:
    """Returns, by name, the current MACs of the NICs that may have an entry."""
    return {nic.name: mac for mac, nic in snapshot().by_mac(early=True).items()}


def attributes(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yields (kind, value) of each struct rtattr."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def dump(sock: socket.socket, kind: int, body: bytes) -> List[bytes]:
    """Returns the bodies of the messages that answer a dump request, from a dump that was not interrupted.

    Raises OSError if every attempt within a second was interrupted: in an incomplete snapshot a NIC would seem gone.
    """
    for number in range(_DUMPS):
        if number:
            time.sleep(number * 0.005)
        bodies, seen = [], 0
        for flags, one in _answer(sock, kind, body):
            bodies.append(one)
            seen |= flags
        if not seen & _NLM_F_DUMP_INTR:
            return bodies[:-1]
    raise OSError("netlink dump %d: interrupted %d times" % (kind, _DUMPS))


def _answer(sock: socket.socket, kind: int, body: bytes) -> Iterator[Tuple[int, bytes]]:
    """Sends one dump request. Yields flags and body of each message of its answer, including the last one."""
    header = struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_DUMP, kind, 0)
    sock.send(header + body)
    while True:
        data = sock.recv(1 << 20)
        if not data:
            raise OSError("netlink: an empty answer")
        offset = 0
        while offset < len(data):
            if offset + 16 > len(data):
                raise OSError("netlink: %d bytes are not a message" % (len(data) - offset))
            length, msg_type, flags, seq, _pid = struct.unpack_from("=IHHII", data, offset)
            if length < 16 or offset + length > len(data):
                raise OSError("netlink: a message of %d bytes" % length)
            if seq == kind:
                if msg_type == _NLMSG_DONE:
                    yield flags, b""
                    return
                if msg_type == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, offset + 16)
                    raise OSError(-code, "netlink dump %d: %s" % (kind, os.strerror(-code)))
                yield flags, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3


def _mac_text(raw: bytes) -> str:
    if len(raw) == 20:  # InfiniBand: as in fields.mac_address
        raw = raw[12:15] + raw[17:]
    return ":".join("%02x" % byte for byte in raw) if any(raw) else ""


def _ip_text(family: int, raw: bytes) -> str:
    return socket.inet_ntop(family, raw)


def _is_virtual(path: str, index: int) -> bool:
    """True for a device under /devices/virtual that is not claimed by a udev property. `path` is its path in sysfs."""
    if _VIRTUAL not in path:
        return False
    try:
        with open(os.path.join(paths.UDEV_DATABASE, "n%d" % index), encoding="utf-8", errors="replace") as db:
            return "E:%s=1\n" % CLAIM not in db.read()
    except OSError:
        return True


def bus_device(path: str) -> str:
    """Returns what is there as long as a NIC may come back without being plugged in again: see removed_nics.py.

    `path` is the NIC's, such as /sys/devices/pci0000:00/0000:00:05.0/virtio2/net/ens5. That is the device on the bus,
    which drivers are bound to and unbound from: the PCI function, VMBus's channel, Xen's vif. virtio's own device is
    made by a driver (virtio_pci), and goes when that is unloaded. A virtual NIC has no other device than itself.
    Empty if the path is not of this form (CONFIG_SYSFS_DEPRECATED).
    """
    if _VIRTUAL in path:
        return path
    device = path.rpartition("/net/")[0]
    while os.path.basename(device).startswith("virtio") and os.path.basename(device)[6:].isdigit():
        device = os.path.dirname(device)
    return device


def has_ipv6(name: str) -> bool:
    """False if IPv6 is disabled for a device, or globally."""
    try:
        with open(os.path.join(paths.IPV6_SETTINGS, name, "disable_ipv6"), encoding="ascii") as setting:
            return setting.read().strip() == "0"
    except OSError:
        return False


def _permanent(name: str) -> str:
    """Returns a NIC's permanent MAC from its driver: a kernel before 5.6 has no IFLA_PERM_ADDRESS."""
    from . import ethtool

    return _mac_text(ethtool.permanent_address(name))


def _bond_permanent(name: str) -> str:
    """Returns a bond member's permanent MAC: its current MAC is the bond's."""
    try:
        with open(os.path.join(paths.KERNEL_NICS, name, "bonding_slave/perm_hwaddr")) as fh:
            return fh.read().strip().lower()
    except OSError:
        return ""


def _links(sock: socket.socket) -> Iterator[Nic]:
    for body in dump(sock, _RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
        _family, _type, index, flags, _change = struct.unpack_from("=BxHiII", body)
        name, current, permanent, mtu, master, link_kind, max_mtu = "", "", "", 0, 0, "", 0
        for kind, value in attributes(body[16:]):
            if kind == 3:  # IFLA_IFNAME
                name = value.rstrip(b"\0").decode("utf-8", "replace")
            elif kind == 1:  # IFLA_ADDRESS
                current = _mac_text(value)
            elif kind == 54:  # IFLA_PERM_ADDRESS
                permanent = _mac_text(value)
            elif kind == 4:  # IFLA_MTU
                (mtu,) = struct.unpack("=I", value)
            elif kind == 51:  # IFLA_MAX_MTU
                (max_mtu,) = struct.unpack("=I", value)
            elif kind == 10:  # IFLA_MASTER
                (master,) = struct.unpack("=I", value)
            elif kind == 18:  # IFLA_LINKINFO, in it IFLA_INFO_KIND
                info = dict(attributes(value))
                link_kind = info.get(1, b"").rstrip(b"\0").decode("ascii", "replace")
        if name == "lo":
            continue
        path = os.path.realpath(os.path.join(paths.KERNEL_NICS, name))
        virtual = _is_virtual(path, index)
        yield Nic(
            name=name,
            ifindex=index,
            mac=permanent
            or (_bond_permanent(name) if master else "")
            or ("" if virtual else _permanent(name))  # a virtual NIC has no permanent MAC
            or current,
            current_mac=current,
            mtu=mtu,
            up=bool(flags & _IFF_UP),
            carrier=bool(flags & _IFF_RUNNING),
            master=master,
            virtual=virtual,
            kind=link_kind,
            addresses=(),
            ipv6=(virtual and link_kind not in ("bond", "vlan")) or has_ipv6(name),
            max_mtu=max_mtu,
            device=bus_device(path),
        )


def _addresses(sock: socket.socket) -> Dict[int, List[Address]]:
    found: Dict[int, List[Address]] = {}
    for body in dump(sock, _RTM_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
        family, prefix, flags, _scope, index = struct.unpack_from("=BBBBi", body)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        local, address = b"", b""
        for kind, value in attributes(body[8:]):
            if kind == 1:  # IFA_ADDRESS
                address = value
            elif kind == 2:  # IFA_LOCAL: the address itself if IFA_ADDRESS is the peer's
                local = value
            elif kind == 8:  # IFA_FLAGS, wider than the header's byte
                (flags,) = struct.unpack("=I", value)
        text = "%s/%d" % (_ip_text(family, local or address), prefix)
        item = Address(text, bool(flags & _IFA_F_TENTATIVE), bool(flags & 0x80), bool(flags & _IFA_F_DADFAILED))
        found.setdefault(index, []).append(item)
    return found


def _routes(sock: socket.socket) -> Iterator[Route]:
    for body in dump(sock, _RTM_GETROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, length, _src, _tos, table, protocol, _scope, kind, _flags = struct.unpack_from("=BBBBBBBBI", body)
        if family not in (socket.AF_INET, socket.AF_INET6) or kind != 1:  # RTN_UNICAST
            continue
        target, gateway, index, metric = b"", b"", 0, 0
        hops: List[Tuple[int, bytes]] = []
        for attr, value in attributes(body[12:]):
            if attr == 1:  # RTA_DST
                target = value
            elif attr == 5:  # RTA_GATEWAY
                gateway = value
            elif attr == 4:  # RTA_OIF
                (index,) = struct.unpack("=I", value)
            elif attr == 6:  # RTA_PRIORITY
                (metric,) = struct.unpack("=I", value)
            elif attr == 9:  # RTA_MULTIPATH: also IPv6 routes that differ in their gateways only
                hops = list(_hops(value))
            elif attr == 15:  # RTA_TABLE
                (table,) = struct.unpack("=I", value)
        if table != _RT_TABLE_MAIN:
            continue
        any_address = b"\0" * (4 if family == socket.AF_INET else 16)
        for ifindex, hop in hops or [(index, gateway)]:
            yield Route(
                network="%s/%d" % (_ip_text(family, target or any_address), length),
                gateway=_ip_text(family, hop) if hop else "",
                ifindex=ifindex,
                metric=metric,
                advertised=protocol == _RTPROT_RA,
            )


def _hops(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yields (interface, gateway) of each struct rtnexthop."""
    offset = 0
    while offset + 8 <= len(data):
        length, index = struct.unpack_from("=Hxxi", data, offset)
        if length < 8:
            return
        yield index, dict(attributes(data[offset + 8 : offset + length])).get(5, b"")  # RTA_GATEWAY
        offset += (length + 3) & ~3


def read(sock: socket.socket) -> Snapshot:
    """Returns a snapshot over an open rtnetlink socket. Raises OSError if an answer cannot be parsed.

    There is no incomplete snapshot, because a NIC that is missing in it would seem gone.
    """
    try:
        nics = list(_links(sock))
        addresses = _addresses(sock)
        routes = tuple(_routes(sock))
    except (struct.error, ValueError) as exc:
        raise OSError("netlink: malformed message: %s" % exc) from exc
    return Snapshot(tuple(nic._replace(addresses=tuple(addresses.get(nic.ifindex, ()))) for nic in nics), routes)


def snapshot() -> Snapshot:
    """Reads links, addresses and routes of the main table. Raises OSError if netlink does not answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5)
        sock.bind((0, 0))
        return read(sock)
