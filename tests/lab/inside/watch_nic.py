# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs in a guest: says when the kernel told of a NIC, and when the NIC was as it should be.

    watch_nic.py SECONDS WAIT...

WAIT is ADDRESS: until a NIC has it; ADDRESS=MTU: until the NIC that has it is up and has this MTU as well; -NAME: until
the NIC is gone. Prints "ready", then "event SECONDS NAME" for each NIC added, "address SECONDS ADDRESS" and "removed
SECONDS NAME", in seconds of CLOCK_MONOTONIC, and ends when nothing is left to wait for or the time is over. All of it is
read from netlink, so the watching costs nothing while nothing happens.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from typing import Iterator, NamedTuple

NETLINK_ROUTE, NETLINK_KOBJECT_UEVENT = 0, 15
RTM_NEWLINK, RTM_NEWADDR, IFLA_MTU, IFA_ADDRESS, IFA_LOCAL = 16, 20, 4, 1, 2
IFF_UP = 1
GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR


class Link(NamedTuple):
    """What is waited for of a NIC besides its address, or what it has."""

    up: bool = False
    mtu: int = 0


def netlink(protocol: int, groups: int) -> socket.socket:
    """A socket that hears these multicast groups."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: a storm of events must not overflow it
    sock.bind((0, groups))
    return sock


def nic_event(message: bytes) -> tuple[str, str]:
    """Action and name of a NIC's uevent, as the kernel tells it (lib/kobject_uevent.c: NUL-separated); else ("", "")."""
    fields = dict(part.split("=", 1) for part in message.decode(errors="replace").split("\0") if "=" in part)
    if fields.get("SUBSYSTEM") != "net":
        return "", ""
    return fields.get("ACTION", ""), fields.get("INTERFACE", "")


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message in a datagram (rtnetlink(7))."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[max((length + 3) & ~3, 16) :]


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        size, name = struct.unpack_from("=HH", data)
        yield name, data[4:size]
        data = data[max((size + 3) & ~3, 4) :]


class Watch:
    """What is waited for, and what the kernel has told so far."""

    def __init__(self, words: list[str]) -> None:
        self.leaving = {word[1:] for word in words if word.startswith("-")}
        self.waiting: dict[bytes, tuple[str, Link]] = {}
        for word in words:
            if not word.startswith("-"):
                address, _, mtu = word.partition("=")
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                self.waiting[socket.inet_pton(family, address)] = address, Link(bool(mtu), int(mtu or 0))
        self.links: dict[int, Link] = {}
        self.holders: dict[bytes, int] = {}  # address to interface number

    def uevent(self, message: bytes, now: float) -> None:
        action, name = nic_event(message)
        if action == "add":
            print(f"event {now:.4f} {name}", flush=True)
        elif action == "remove" and name in self.leaving:
            self.leaving.remove(name)
            print(f"removed {now:.4f} {name}", flush=True)

    def route(self, data: bytes, now: float) -> None:
        for kind, body in messages(data):
            if kind == RTM_NEWLINK:  # struct ifinfomsg
                index, flags = struct.unpack_from("=iI", body, 4)
                told = dict(attributes(body[16:]))
                if IFLA_MTU in told:
                    self.links[index] = Link(bool(flags & IFF_UP), struct.unpack("=I", told[IFLA_MTU])[0])
            elif kind == RTM_NEWADDR:  # struct ifaddrmsg
                (index,) = struct.unpack_from("=I", body, 4)
                for name, value in attributes(body[8:]):
                    if name in (IFA_ADDRESS, IFA_LOCAL) and value in self.waiting:
                        self.holders[value] = index
        for binary, index in list(self.holders.items()):
            address, wanted = self.waiting[binary]
            link = self.links.get(index, Link())
            if link.up >= wanted.up and wanted.mtu in (0, link.mtu):
                del self.waiting[binary], self.holders[binary]
                print(f"address {now:.4f} {address}", flush=True)


def main(seconds: str, *words: str) -> None:
    watch = Watch(list(words))
    uevents, routes = netlink(NETLINK_KOBJECT_UEVENT, 1), netlink(NETLINK_ROUTE, GROUPS)
    deadline = time.monotonic() + float(seconds)
    print("ready", flush=True)
    while (watch.waiting or watch.leaving) and time.monotonic() < deadline:
        readable, _, _ = select.select([uevents, routes], [], [], max(deadline - time.monotonic(), 0))
        now = time.monotonic()
        if uevents in readable:
            watch.uevent(uevents.recv(65536), now)
        if routes in readable:
            watch.route(routes.recv(65536), now)


main(*sys.argv[1:])
