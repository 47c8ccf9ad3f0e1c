# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Probes whether hosts answer: ARP (RFC 826), NDP (RFC 4861), ICMP echo and TCP, in parallel.

It uses its own sockets: no program is needed, neighbours are probed on a given NIC whatever the routes are, and
neighbour tables are not changed.
"""

import ipaddress
import logging
import os
import re
import select
import socket
import struct
import time
from contextlib import ExitStack
from typing import AbstractSet, Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..system import paths

LOG = logging.getLogger(__name__)
NEIGHBOUR, ECHO, CONNECT = "neighbour", "echo", "connect"
_ETH_P_IP, _ETH_P_ARP, _ARPHRD_ETHER = 0x0800, 0x0806, 1
_BROADCAST = b"\xff" * 6
_ICMP6_FILTER = 1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0  # between two probes of the same target


class Question(NamedTuple):
    """One probe. `device`: for a neighbour or a link-local address. `source`: our own address, for ARP."""

    kind: str
    address: str
    port: int = 0
    device: str = ""
    source: str = ""


def answered(questions: Iterable[Question], seconds: float, stubborn: bool = True) -> FrozenSet[Question]:
    """Returns those that are answered within `seconds`; returns early once all are answered.

    A probe that cannot be sent (no route, no such device) is retried if `stubborn` is true.
    """
    left = set(questions)
    found: Set[Question] = set()
    began, due, pause = time.monotonic(), 0.0, _FIRST_PAUSE
    with ExitStack() as stack:
        askers = _askers(left, stack)
        while left:
            now = time.monotonic() - began
            if now >= due:
                unasked = [asker.ask(left) for asker in askers]
                left -= set().union(*unasked) if not stubborn else set()
                due, pause = now + pause, min(pause * 2, _LONGEST_PAUSE)
            if now >= seconds or not left:
                break
            wait = max(0.0, min(due, seconds) - now)
            reads = [a for a in askers if a.sock is not None and not a.connects]
            writes = [a for a in askers if a.sock is not None and a.connects]
            readable, writable, _ = select.select(reads, writes, [], wait)
            for asker in readable + writable:
                found |= asker.receive(left)
            left -= found
    return frozenset(found)


def holders(
    addresses: Sequence[Tuple[str, str]], own: AbstractSet[str], seconds: float
) -> Dict[Tuple[str, str], str]:
    """Returns which other hosts use these IPv4 addresses: by (device, address), the MAC of a host that answered.

    `own`: the MACs of this server, which answers through either NIC if two are on one network. An ARP probe has no
    sender address, so neighbours do not update their tables.
    """
    found: Dict[Tuple[str, str], str] = {}
    questions = [Question(NEIGHBOUR, address, device=device) for device, address in addresses]
    with ExitStack() as stack:
        askers = [asker for asker in _askers(questions, stack) if isinstance(asker, _Arp)]
        for asker in askers:
            asker.ask(set(questions))
        deadline = time.monotonic() + seconds
        while len(found) < len(questions) and time.monotonic() < deadline:
            open_ones = [asker for asker in askers if asker.sock is not None]
            readable, _, _ = select.select(open_ones, [], [], max(0.0, deadline - time.monotonic()))
            for asker in readable:
                for question in asker.receive(set(questions)):
                    for mac in asker.macs[question.address] - own:
                        found[question.device, question.address] = mac
            if not open_ones:
                break
    return found


def _askers(questions: Iterable[Question], stack: ExitStack) -> List["_Asker"]:
    groups: Dict[Tuple[type, str], List[Question]] = {}
    for question in questions:
        six = ":" in question.address
        if question.kind == NEIGHBOUR:
            groups.setdefault((_Ndp if six else _Arp, question.device), []).append(question)
        elif question.kind == ECHO:
            groups.setdefault((_Echo6 if six else _Echo4, question.device), []).append(question)
        else:
            groups.setdefault((_Connect, "%s %d" % (question.address, question.port)), []).append(question)
    askers = []
    for (kind, _what), asked in groups.items():
        asker = kind(asked)
        stack.callback(asker.close)
        askers.append(asker)
    return askers


class _Asker:
    """One socket, and the probes that are sent through it."""

    connects = False
    family, kind, protocol = 0, 0, 0  # of the socket

    def __init__(self, questions: List[Question]) -> None:
        self.questions = questions
        self.device = questions[0].device
        self.sock: Optional[socket.socket] = None

    def _prepare(self, sock: socket.socket) -> None:
        """Prepares a new socket for its probes."""

    def _send(self, sock: socket.socket, question: Question) -> None:
        raise NotImplementedError

    def _answers(self, data: bytes, sender: str) -> str:
        """Returns the address that a packet is an answer from; empty if it is not an answer."""
        raise NotImplementedError

    def _open(self) -> socket.socket:
        if self.sock is None:
            sock = socket.socket(self.family, self.kind, self.protocol)
            try:
                sock.setblocking(False)
                self._prepare(sock)
            except OSError:
                sock.close()
                raise
            self.sock = sock
        return self.sock

    def fileno(self) -> int:
        return self.sock.fileno() if self.sock else -1

    def ask(self, left: Set[Question]) -> Set[Question]:
        """Sends the remaining probes. Returns those that could not be sent."""
        failed = set()
        for question in left.intersection(self.questions):
            try:
                self._send(self._open(), question)
            except OSError as exc:
                LOG.debug("probe not sent: %s: error=%s", question, exc)
                failed.add(question)
        return failed

    def receive(self, left: Set[Question]) -> Set[Question]:
        """Returns the probes that the received packets answer."""
        found: Set[Question] = set()
        while self.sock is not None:
            try:
                data, sender = self.sock.recvfrom(4096)
                address = self._answers(data, str(sender[0]).partition("%")[0])
            except BlockingIOError:
                break
            except OSError:  # the device has gone
                self.close()
            except struct.error:
                continue
            else:
                found |= {q for q in left.intersection(self.questions) if address and _same(q.address, address)}
        return found

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def _same(one: str, other: str) -> bool:
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)


def _need_ethernet(hardware: int, device: str) -> None:
    if hardware != _ARPHRD_ETHER:
        raise OSError("%s is not Ethernet" % device)


class _Arp(_Asker):
    family, kind, protocol = socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ARP)

    def __init__(self, questions: List[Question]) -> None:
        super().__init__(questions)
        self.macs: Dict[str, Set[str]] = {}  # by address: the hosts that answered

    def _prepare(self, sock: socket.socket) -> None:
        sock.bind((self.device, _ETH_P_ARP))
        _need_ethernet(sock.getsockname()[3], self.device)

    def _send(self, sock: socket.socket, question: Question) -> None:
        # Without a source address it is an ARP probe (RFC 5227), which is answered too.
        source = socket.inet_aton(question.source) if question.source else b"\0" * 4
        packet = struct.pack("!HHBBH", _ARPHRD_ETHER, _ETH_P_IP, 6, 4, 1) + sock.getsockname()[4] + source
        packet += b"\0" * 6 + socket.inet_aton(question.address)
        sock.sendto(packet, (self.device, _ETH_P_ARP, 0, 0, _BROADCAST))

    def _answers(self, data: bytes, sender: str) -> str:
        _hardware, protocol, _hl, length, operation = struct.unpack_from("!HHBBH", data)
        if (protocol, length, operation) != (_ETH_P_IP, 4, 2) or len(data) < 28:
            return ""
        address = socket.inet_ntoa(data[14:18])
        self.macs.setdefault(address, set()).add(":".join("%02x" % byte for byte in data[8:14]))
        return address


class _Icmp6(_Asker):
    """The kernel computes the checksum of a raw ICMPv6 socket (RFC 3542, 3.1)."""

    family, kind, protocol = socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
    takes = 0  # the message type that the filter passes

    def _prepare(self, sock: socket.socket) -> None:
        words = [0xFFFFFFFF] * 8
        words[self.takes >> 5] &= ~(1 << (self.takes & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
        if self.device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.device.encode() + b"\0")


class _Ndp(_Icmp6):
    takes = 136  # neighbour advertisement

    def _prepare(self, sock: socket.socket) -> None:
        super()._prepare(sock)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)  # other hop limits are ignored

    def _send(self, sock: socket.socket, question: Question) -> None:
        target = socket.inet_pton(socket.AF_INET6, question.address)
        with open(os.path.join(paths.KERNEL_NICS, self.device, "type")) as kind, open(
            os.path.join(paths.KERNEL_NICS, self.device, "address")
        ) as address:
            _need_ethernet(int(kind.read()), self.device)
            mac = bytes.fromhex(address.read().strip().replace(":", ""))
        packet = struct.pack("!BBHI", 135, 0, 0, 0) + target + b"\x01\x01" + mac
        group = socket.inet_ntop(socket.AF_INET6, b"\xff\x02" + b"\0" * 9 + b"\x01\xff" + target[13:])
        sock.sendto(packet, (group, 0, 0, _scope(self.device)))

    def _answers(self, data: bytes, sender: str) -> str:
        return socket.inet_ntop(socket.AF_INET6, data[8:24]) if len(data) >= 24 else ""


class _Echo4(_Asker):
    family, kind, protocol = socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP

    def _send(self, sock: socket.socket, question: Question) -> None:
        sock.sendto(_echo(8), (question.address, 0))

    def _answers(self, data: bytes, sender: str) -> str:
        kind, _code, _sum, ident = struct.unpack_from("!BBHH", data, (data[0] & 15) * 4 if data else 0)
        return sender if (kind, ident) == (0, _ident()) else ""


class _Echo6(_Icmp6):
    takes = 129  # echo reply

    def _send(self, sock: socket.socket, question: Question) -> None:
        sock.sendto(_echo(128), (question.address, 0, 0, _scope(self.device)))

    def _answers(self, data: bytes, sender: str) -> str:
        return sender if struct.unpack_from("!H", data, 4)[0] == _ident() else ""


class _Connect(_Asker):
    """A connection that is established is an answer; one that is refused is not."""

    connects = True
    kind = socket.SOCK_STREAM

    def __init__(self, questions: List[Question]) -> None:
        super().__init__(questions)
        self.family = socket.AF_INET6 if ":" in questions[0].address else socket.AF_INET

    def ask(self, left: Set[Question]) -> Set[Question]:
        self.close()  # ends the previous attempt
        return super().ask(left)

    def _send(self, sock: socket.socket, question: Question) -> None:
        six = (question.address, question.port, 0, _scope(question.device))
        try:
            sock.connect(six if self.family == socket.AF_INET6 else six[:2])
        except BlockingIOError:
            pass  # in progress
        except OSError:
            self.close()
            raise

    def receive(self, left: Set[Question]) -> Set[Question]:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.sock else 1
        self.close()
        return set() if error else left.intersection(self.questions)


def _scope(device: str) -> int:
    return socket.if_nametoindex(device) if device else 0


def _ident() -> int:
    return os.getpid() & 0xFFFF


def _echo(kind: int) -> bytes:
    body = struct.pack("!HH", _ident(), 1) + b"cloudinit-osnetd"
    total = sum(struct.unpack("!%dH" % ((len(body) + 4) // 2), struct.pack("!BBH", kind, 0, 0) + body))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", kind, 0, ~(total + (total >> 16)) & 0xFFFF) + body


def source_of(address: str) -> str:
    """Returns the source address that the kernel would use towards `address`; empty if it has no route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))  # sends nothing
            return str(sock.getsockname()[0])
    except OSError:
        return ""


def parse(text: str) -> Tuple[str, int]:
    """Returns address and port (0: none) of "192.0.2.1", "192.0.2.1:443", "2001:db8::1" or "[2001:db8::1]:443".

    Raises ValueError.
    """
    split = re.match(r"\[([^]]*)\](?::(\d{1,5}))?\Z", text) or re.match(r"([^:]*):(\d{1,5})\Z", text)
    address, port = split.groups() if split else (text, None)
    if port is not None and not 0 < int(port) < 65536:
        raise ValueError(text)
    return str(ipaddress.ip_address(address)), int(port or 0)
