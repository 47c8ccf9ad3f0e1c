# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Finds out whether a DHCP server answers on a NIC, without a lease: a DISCOVER and its OFFER (RFC 2131).

An offer that is not requested binds nobody. The packets are sent and received below IP, so the NIC's addresses and the
DHCP client on it do not matter.
"""

import logging
import os
import select
import socket
import struct
import time

LOG = logging.getLogger(__name__)
_ETH_P_IP, _UDP = 0x0800, 17
_SERVER, _CLIENT = 67, 68
_COOKIE = b"\x63\x82\x53\x63"
_BROADCAST_FLAG = 0x8000
_AGAIN_SECONDS = 1.0


def server_answers(device: str, seconds: float) -> bool:
    """Returns True once a server offers a lease to this NIC's current MAC; False if none does within `seconds`."""
    ident = os.urandom(4)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as sock:
            sock.bind((device, _ETH_P_IP))
            sock.setblocking(False)
            packet = discover(sock.getsockname()[4], ident)
            deadline, due = time.monotonic() + seconds, 0.0
            while time.monotonic() < deadline:
                if time.monotonic() >= due:
                    sock.sendto(packet, (device, _ETH_P_IP, 0, 0, b"\xff" * 6))
                    due = time.monotonic() + _AGAIN_SECONDS
                select.select([sock], [], [], max(0.0, min(deadline, due) - time.monotonic()))
                if _has_offer(sock, ident):
                    return True
    except OSError as exc:
        LOG.info("no DHCP server could be asked: nic=%s error=%s", device, exc)
    return False


def _has_offer(sock: socket.socket, ident: bytes) -> bool:
    while True:
        try:
            if is_offer(sock.recv(2048), ident):
                return True
        except BlockingIOError:
            return False


def discover(mac: bytes, ident: bytes) -> bytes:
    """Returns an IP packet with a DISCOVER for this MAC (6 bytes); `ident`: 4 bytes that the offer repeats."""
    body = struct.pack("!BBBB4sHH", 1, 1, 6, 0, ident, 0, _BROADCAST_FLAG) + b"\0" * 16
    body += mac.ljust(16, b"\0") + b"\0" * 192 + _COOKIE
    # Message type, client identifier, parameter list (netmask, router, DNS), end.
    body += b"\x35\x01\x01" + b"\x3d\x07\x01" + mac + b"\x37\x03\x01\x03\x06" + b"\xff"
    body = body.ljust(300, b"\0")
    udp = struct.pack("!HHHH", _CLIENT, _SERVER, 8 + len(body), 0) + body  # checksum 0: none
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, _UDP, 0, b"\0" * 4, b"\xff" * 4)
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + udp


def _checksum(head: bytes) -> int:
    total: int = sum(struct.unpack("!%dH" % (len(head) // 2), head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def is_offer(packet: bytes, ident: bytes) -> bool:
    """True for an IP packet with a server's answer to the request of this ident."""
    start = (packet[0] & 15) * 4 if packet else 0
    if len(packet) < start + 8 + 240 or packet[9] != _UDP:
        return False
    _source, port = struct.unpack_from("!HH", packet, start)
    body = packet[start + 8 :]
    return port == _CLIENT and body[0] == 2 and body[4:8] == ident and body[236:240] == _COOKIE
