# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs in a guest: says when the kernel told of a NIC, and when the NIC had its addresses.

    watch_nic.py SECONDS ADDRESS...

Prints "ready", then "event SECONDS NAME" for each NIC added and "address SECONDS ADDRESS" for each address that was
asked for, in seconds of CLOCK_MONOTONIC, and ends when all are there or the time is over. Both are read from netlink, so
the watching costs nothing while nothing happens.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from typing import Iterator

NETLINK_ROUTE, NETLINK_KOBJECT_UEVENT = 0, 15
RTM_NEWADDR, IFA_ADDRESS, IFA_LOCAL = 20, 1, 2
GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR


def netlink(protocol: int, groups: int) -> socket.socket:
    """A socket that hears these multicast groups."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    sock.bind((0, groups))
    return sock


def added_nic(message: bytes) -> str | None:
    """The name of the NIC that an uevent of the kernel adds, or None (kernel, lib/kobject_uevent.c: NUL-separated)."""
    fields = dict(part.split("=", 1) for part in message.decode(errors="replace").split("\0") if "=" in part)
    return fields.get("INTERFACE") if (fields.get("ACTION"), fields.get("SUBSYSTEM")) == ("add", "net") else None


def new_addresses(data: bytes) -> Iterator[bytes]:
    """The addresses in a datagram of RTM_NEWADDR messages (rtnetlink(7)), as bytes."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind == RTM_NEWADDR:
            attributes = data[24:length]  # struct nlmsghdr, struct ifaddrmsg
            while len(attributes) >= 4:
                size, name = struct.unpack_from("=HH", attributes)
                if name in (IFA_ADDRESS, IFA_LOCAL):
                    yield attributes[4:size]
                attributes = attributes[max((size + 3) & ~3, 4) :]
        data = data[max((length + 3) & ~3, 16) :]


def main(seconds: str, *addresses: str) -> None:
    waiting = {}
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        waiting[socket.inet_pton(family, address)] = address
    uevents, routes = netlink(NETLINK_KOBJECT_UEVENT, 1), netlink(NETLINK_ROUTE, GROUPS)
    deadline = time.monotonic() + float(seconds)
    print("ready", flush=True)
    while waiting and time.monotonic() < deadline:
        readable, _, _ = select.select([uevents, routes], [], [], max(deadline - time.monotonic(), 0))
        now = time.monotonic()
        if uevents in readable:
            name = added_nic(uevents.recv(65536))
            if name:
                print(f"event {now:.4f} {name}", flush=True)
        if routes in readable:
            for binary in new_addresses(routes.recv(65536)):
                if binary in waiting:
                    print(f"address {now:.4f} {waiting.pop(binary)}", flush=True)


main(*sys.argv[1:])
