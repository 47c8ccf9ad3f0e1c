# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads addresses, routes, rules, nexthops and neighbours from the kernel completely enough to create them again.

Each is kept as the body of the rtnetlink message that creates it: an address with its label and flags, a route with its
table, protocol, metrics and hops, including attributes of later kernels. What only the kernel may set is left out
(states, counters, lifetimes). Layouts are those of linux/if_addr.h, linux/rtnetlink.h, linux/fib_rules.h,
linux/nexthop.h and linux/neighbour.h.
"""

import errno
import ipaddress
import socket
import struct
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .netlink import attributes, dump

# A nexthop (ip-nexthop(8), Linux 5.3 on) is a gateway, or a group of them, that routes name by its id.
# A neighbour is a permanent entry of the ARP or NDP table, or an address for which the NIC answers (a proxy entry).
ADDRESS, ROUTE, RULE, NEXTHOP, NEIGHBOUR = "address", "route", "rule", "nexthop", "neighbour"
# RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE, RTM_GETNEXTHOP, RTM_GETNEIGH; RTM_NEW... is two less, RTM_DEL... one.
_GET = {ADDRESS: 22, ROUTE: 26, RULE: 34, NEXTHOP: 106, NEIGHBOUR: 30}
_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
_NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_IFA_F_PERMANENT, _IFA_F_NODAD = 0x80, 0x02
# NODAD, HOMEADDRESS, DEPRECATED, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: the rest are states.
_IFA_FLAGS = 0x02 | 0x10 | 0x20 | 0x100 | 0x200 | 0x400
_IFAPROT_KERNEL_LL = 3
_RTM_F_CLONED, _RTNH_F_ONLINK = 0x200, 0x4
_FIB_RULE_INVERT = 0x2
_NUD_PERMANENT, _NTF_PROXY, _NTF_ROUTER = 0x80, 0x08, 0x80
_FIRST_RULES = ((0, 255), (32766, 254), (32767, 253))  # (priority, table)
_TYPES = {1: "", 2: "local ", 6: "blackhole ", 7: "unreachable ", 8: "prohibit ", 9: "throw "}
KERNEL, RA, DHCP = 2, 9, 16  # protocols of routes that the kernel or a client maintains: linux/rtnetlink.h
MAIN = 254


class NetObject(NamedTuple):
    """An address, a route, a rule, a nexthop or a neighbour."""

    kind: str
    ifindexes: Tuple[int, ...]  # of its devices; none for a rule, or for a group of nexthops
    text: str  # as ip(8) shows it
    same: str  # equal for two that are the same object
    body: bytes
    permanent: bool = True  # False if a lease or an advertisement limits its lifetime, or the kernel created it
    protocol: int = 0  # of a route
    table: int = 0  # of a route
    network: str = ""  # of a route, in prefix notation; of an address, itself with its prefix
    gateways: Tuple[str, ...] = ()
    source: str = ""  # of a route: its preferred source address
    nexthop: int = 0  # the id of a nexthop; of a route, that of the nexthop that it names
    members: Tuple[int, ...] = ()  # of a group of nexthops: their ids

    def has_lost_members(self, before: "NetObject") -> bool:
        """True for a group of nexthops that is left of this one: the kernel takes out a nexthop whose NIC is down."""
        return set(self.members) < set(before.members)


def read(sock: socket.socket, kinds: Sequence[str] = tuple(_GET)) -> List[NetObject]:
    """Returns all objects in the kernel's order. Raises OSError if an answer cannot be parsed."""
    readers: Dict[str, Callable[[bytes], Optional[NetObject]]]
    readers = {ADDRESS: _address, ROUTE: _route, RULE: _rule, NEXTHOP: _nexthop, NEIGHBOUR: _neighbour}
    found = []
    try:
        for kind in kinds:
            for body in _dumped(sock, kind):
                # A group of nexthops has no family.
                thing = readers[kind](body) if body[0] in _FAMILIES or kind == NEXTHOP else None
                if thing is not None:
                    found.append(thing)
    except (struct.error, ValueError) as exc:
        raise OSError("netlink: malformed message: %s" % exc) from exc
    return found


def _dumped(sock: socket.socket, kind: str) -> List[bytes]:
    if kind == NEIGHBOUR:
        # struct ndmsg; proxy entries are listed on request only.
        asked = [struct.pack("=BBHiHBB", 0, 0, 0, 0, 0, flags, 0) for flags in (0, _NTF_PROXY)]
        return [body for one in asked for body in dump(sock, _GET[kind], one)]
    try:
        return dump(sock, _GET[kind], b"\0" * (12 if kind in (ROUTE, RULE) else 8))
    except OSError as exc:
        if kind == NEXTHOP and exc.errno == errno.EOPNOTSUPP:
            return []  # Linux before 5.3
        raise


def opened() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.settimeout(5)
    sock.bind((0, 0))
    return sock


def make(sock: socket.socket, thing: NetObject) -> None:
    """Creates it again. Raises OSError if the kernel refuses: EEXIST if another one is in its place.

    A group of nexthops replaces what is left of it, a neighbour what was learned meanwhile.
    """
    replaces = thing.members or thing.kind == NEIGHBOUR
    how = _NLM_F_APPEND if thing.kind == ROUTE else _NLM_F_REPLACE if replaces else _NLM_F_EXCL
    try:
        _ask(sock, _GET[thing.kind] - 2, _NLM_F_CREATE | how, thing.body)
    except OSError as exc:
        # An IPv6 route whose source address was deleted remains without it.
        if exc.errno != errno.EEXIST or not thing.source or ":" not in thing.source:
            raise
        _ask(sock, _GET[thing.kind] - 2, _NLM_F_CREATE | _NLM_F_REPLACE, thing.body)


def take_away(sock: socket.socket, thing: NetObject) -> None:
    """Deletes it. Raises OSError if the kernel refuses, or if it is already gone."""
    _ask(sock, _GET[thing.kind] - 1, 0, thing.body)


def _ask(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, 1, 0) + body)
    while True:
        data = sock.recv(1 << 16)
        _length, answer, _flags, seq, _pid = struct.unpack_from("=IHHII", data)
        if (answer, seq) == (2, 1):  # NLMSG_ERROR; code 0 is the acknowledgement
            (code,) = struct.unpack_from("=i", data, 16)
            if code:
                raise OSError(-code, errno.errorcode.get(-code, "error %d" % -code))
            return


def _packed(found: Dict[int, bytes], keep: Sequence[int]) -> bytes:
    out = b""
    for kind in keep:
        if kind in found:
            value = found[kind]
            out += struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
    return out


def _ip(family: int, raw: bytes) -> str:
    return socket.inet_ntop(family, raw)


def _address(body: bytes) -> Optional[NetObject]:
    family, prefix, flags, scope, index = struct.unpack_from("=BBBBi", body)
    found = dict(attributes(body[8:]))
    if 8 in found:  # IFA_FLAGS, wider than the header's byte
        (flags,) = struct.unpack("=I", found[8])
    raw = found.get(2) or found.get(1)  # IFA_LOCAL, IFA_ADDRESS
    if raw is None:
        return None
    address = "%s/%d" % (_ip(family, raw), prefix)
    # IFA_PROTO: Linux 5.18. Before that, a link-local address derived from the MAC.
    by_kernel = found.get(11, b"\0")[0] == _IFAPROT_KERNEL_LL
    by_kernel |= address.startswith("fe80:") and raw[11:13] == b"\xff\xfe"
    again = flags & _IFA_FLAGS
    # It is known to be unique: detecting that again would take a second or two.
    again |= _IFA_F_NODAD if family == socket.AF_INET6 else 0
    found[8] = struct.pack("=I", again)
    # ADDRESS, LOCAL, LABEL, BROADCAST, FLAGS, RT_PRIORITY, PROTO; CACHEINFO has what makes it deprecated.
    kept = [1, 2, 3, 4, 8, 9, 11] + ([6] if flags & 0x20 else [])
    head = struct.pack("=BBBBi", family, prefix, again & 0xFF, scope, index)
    label = found.get(3, b"").rstrip(b"\0").decode("utf-8", "replace")
    return NetObject(
        kind=ADDRESS,
        ifindexes=(index,),
        text="address %s%s" % (address, " label %s" % label if ":" in label else ""),
        same="%s %d" % (address, index),
        body=head + _packed(found, kept),
        permanent=bool(flags & _IFA_F_PERMANENT) and not by_kernel,
        network=address,
    )


def _route(body: bytes) -> Optional[NetObject]:
    family, length, source, tos, table, protocol, scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    if flags & _RTM_F_CLONED or kind not in _TYPES:
        return None
    found = dict(attributes(body[12:]))
    (table,) = struct.unpack("=I", found[15]) if 15 in found else (table,)  # RTA_TABLE
    (metric,) = struct.unpack("=I", found.get(6, b"\0" * 4))  # RTA_PRIORITY
    hops = list(_hops(found[9])) if 9 in found else []  # RTA_MULTIPATH
    if 9 in found:
        found[9] = b"".join(hop for _index, _via, hop in hops)
    (oif,) = struct.unpack("=I", found.get(4, b"\0" * 4))  # RTA_OIF
    via = [(index, gateway) for index, gateway, _hop in hops] or [(oif, _gateway(family, found))]
    network = "%s/%d" % (_ip(family, found.get(1, b"\0" * (4 if family == socket.AF_INET else 16))), length)
    # DST, SRC, IIF, OIF, GATEWAY, PRIORITY, PREFSRC, METRICS, MULTIPATH, FLOW, TABLE, MARK, VIA, NEWDST, PREF,
    # ENCAP_TYPE, ENCAP, TTL_PROPAGATE.
    kept = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 16, 18, 19, 20, 21, 22, 26]
    (nexthop,) = struct.unpack("=I", found.get(30, b"\0" * 4))  # RTA_NH_ID
    if nexthop:
        # The kernel also sends the nexthop's own attributes, and accepts a route with either only.
        kept = [one for one in kept if one not in (4, 5, 9, 18, 21, 22)] + [30]
    head = struct.pack(
        "=BBBBBBBBI", family, length, source, tos, min(table, 252) if table > 255 else table, protocol, scope, kind,
        flags & _RTNH_F_ONLINK,
    )  # fmt: skip
    gateways = tuple(gateway for _index, gateway in via if gateway)
    words = "".join(" via %s" % gateway for gateway in gateways)
    preferred = _ip(family, found[7]) if 7 in found else ""  # RTA_PREFSRC
    words += " src %s" % preferred if preferred else ""
    words += " metric %d" % metric if metric else ""
    words += " table %d" % table if table != MAIN else ""
    words += " nhid %d" % nexthop if nexthop else ""
    return NetObject(
        kind=ROUTE,
        # IPv6 blackhole routes are on the loopback device.
        ifindexes=() if kind >= 6 else tuple(index for index, _gateway in via if index),
        text="route %s%s%s" % (_TYPES[kind], network, words),
        same=" ".join(
            # Of a nexthop that is a group the members may come and go.
            map(
                str,
                (family, network, found.get(2, b"").hex(), tos, table, metric, kind, nexthop or sorted(via), preferred),
            )
        ),
        body=head + _packed(found, kept),
        permanent=23 not in found and not _expires(found),  # RTA_EXPIRES
        protocol=protocol,
        table=table,
        network=network,
        gateways=gateways,
        source=preferred,
        nexthop=nexthop,
    )


def _expires(found: Dict[int, bytes]) -> bool:
    """True if RTA_CACHEINFO has rta_expires (struct rta_cacheinfo), as for an advertised route."""
    return len(found.get(12, b"")) >= 12 and struct.unpack_from("=i", found[12], 8)[0] != 0


def _gateway(family: int, found: Dict[int, bytes]) -> str:
    if 5 in found:  # RTA_GATEWAY
        return _ip(family, found[5])
    if 18 in found:  # RTA_VIA: of another family
        (other,) = struct.unpack_from("=H", found[18])
        return _ip(other, found[18][2:])
    return ""


def _hops(data: bytes) -> Iterator[Tuple[int, str, bytes]]:
    """Yields (interface, gateway, the hop without its state) of each struct rtnexthop."""
    offset = 0
    while offset + 8 <= len(data):
        length, flags, hops, index = struct.unpack_from("=HBBi", data, offset)
        if length < 8:
            return
        rest = data[offset + 8 : offset + length]
        raw = dict(attributes(rest))
        family = socket.AF_INET if len(raw.get(5, b"")) == 4 else socket.AF_INET6
        again = struct.pack("=HBBi", length, flags & _RTNH_F_ONLINK, hops, index) + rest
        yield index, _gateway(family, raw), again + b"\0" * (-length % 4)
        offset += (length + 3) & ~3


def _nexthop(body: bytes) -> NetObject:
    family, _scope, protocol, _reserved, flags = struct.unpack_from("=BBBBI", body)
    found = dict(attributes(body[8:]))
    (number,) = struct.unpack("=I", found[1])  # NHA_ID
    (oif,) = struct.unpack("=I", found.get(5, b"\0" * 4))  # NHA_OIF
    gateway = _ip(family, found[6]) if 6 in found else ""  # NHA_GATEWAY
    group = found.get(2, b"")  # NHA_GROUP: struct nexthop_grp
    members = tuple(struct.unpack_from("=I", group, at)[0] for at in range(0, len(group), 8))
    if 12 in found:  # NHA_RES_GROUP: buckets and timers, without the state
        found[12] = _packed(dict(attributes(found[12])), [1, 2, 3])
    words = " group %s" % "/".join(map(str, members)) if members else " blackhole" if 4 in found else ""
    words += " via %s" % gateway if gateway else ""
    # ID, GROUP, GROUP_TYPE, BLACKHOLE, OIF, GATEWAY, ENCAP_TYPE, ENCAP, FDB, RES_GROUP. The scope is the kernel's.
    kept = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]
    return NetObject(
        kind=NEXTHOP,
        ifindexes=(oif,) if oif and 4 not in found else (),
        text="nexthop %d%s" % (number, words),
        same="nexthop %d" % number,
        body=struct.pack("=BBBBI", family, 0, protocol, 0, flags & _RTNH_F_ONLINK) + _packed(found, kept),
        protocol=protocol,
        gateways=(gateway,) if gateway else (),
        nexthop=number,
        members=members,
    )


def _neighbour(body: bytes) -> Optional[NetObject]:
    family, _pad, _pad2, index, state, flags, kind = struct.unpack_from("=BBHiHBB", body)
    found = dict(attributes(body[12:]))
    flags &= _NTF_PROXY | _NTF_ROUTER
    if 1 not in found or not (state & _NUD_PERMANENT or flags & _NTF_PROXY):  # NDA_DST
        return None
    address = _ip(family, found[1])
    words = " lladdr %s" % ":".join("%02x" % byte for byte in found[2]) if 2 in found else ""  # NDA_LLADDR
    words += " proxy" if flags & _NTF_PROXY else ""
    head = struct.pack("=BBHiHBB", family, 0, 0, index, state & _NUD_PERMANENT, flags, kind)
    return NetObject(
        kind=NEIGHBOUR,
        ifindexes=(index,) if index else (),
        text="neighbour %s%s" % (address, words),
        same="neighbour %s %d%s" % (address, index, words),
        body=head + _packed(found, [1, 2, 12]),  # DST, LLADDR, PROTOCOL
    )


def _rule(body: bytes) -> Optional[NetObject]:
    family, to, source, tos, table, _one, _two, action, flags = struct.unpack_from("=BBBBBBBBI", body)
    found = dict(attributes(body[12:]))
    (priority,) = struct.unpack("=I", found.get(6, b"\0" * 4))  # FRA_PRIORITY
    (table,) = struct.unpack("=I", found[15]) if 15 in found else (table,)
    any_address = b"\0" * (4 if family == socket.AF_INET else 16)
    words = " from %s" % ipaddress.ip_network((_ip(family, found.get(2, any_address)), source)) if source else ""
    words += " to %s" % ipaddress.ip_network((_ip(family, found.get(1, any_address)), to)) if to else ""
    if 10 in found:  # FRA_FWMARK
        (mark,) = struct.unpack("=I", found[10])
        words += " fwmark 0x%x" % mark
    words += " table %d" % table if table else ""
    head = struct.pack(
        "=BBBBBBBBI", family, to, source, tos, table if table < 256 else 252, 0, 0, action, flags & _FIB_RULE_INVERT
    )
    again = head + _packed(found, [kind for kind in sorted(found) if kind != 18])  # FRA_PAD
    by_kernel = found.get(21, b"\0")[0] == KERNEL or (priority, table) in _FIRST_RULES  # FRA_PROTOCOL: Linux 4.17
    return NetObject(
        kind=RULE,
        ifindexes=(),
        text="%srule %d%s" % ("IPv6 " if family == socket.AF_INET6 else "", priority, words),
        same=again.hex(),
        body=again,
        permanent=not by_kernel,
    )
