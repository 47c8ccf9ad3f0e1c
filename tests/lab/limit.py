# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A device maximum for the MTU of a container's NIC, as Nova's host_mtu is one for a virtual machine's.

A veth takes any MTU, unless its other end has an XDP program: then whole frames have to fit into a page, and the kernel
refuses more (drivers/net/veth.c: veth_xdp_set). The program lets everything pass.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct

from tests.lab import netns

_BPF = {"x86_64": 321, "aarch64": 280}  # the number of bpf(2)
_PROG_LOAD, _TYPE_XDP = 5, 6
_RTM_SETLINK, _REQUEST_ACK, _IFLA_XDP = 19, 5, 43 | 0x8000
_IN_DRIVER = 1 << 2  # XDP_FLAGS_DRV_MODE
# r0 = XDP_PASS; exit
_PASS = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)
_libc = ctypes.CDLL(None, use_errno=True)


def limit_mtu(namespace: str, outside: str) -> None:
    """Limit the MTU of the inner end of the veth whose outer end this is."""
    netns.within(namespace, lambda: _attach(outside, _load()))


def _load() -> int:
    code, licence = ctypes.create_string_buffer(_PASS), ctypes.create_string_buffer(b"GPL")
    words = (_TYPE_XDP, len(_PASS) // 8, ctypes.addressof(code), ctypes.addressof(licence))
    attributes = struct.pack("=IIQQ", *words).ljust(128, b"\0")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = int(_libc.syscall(_BPF[platform.machine()], _PROG_LOAD, buffer, len(attributes)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "bpf: " + os.strerror(ctypes.get_errno()))
    return fd


def _attach(device: str, fd: int) -> None:
    inner = struct.pack("=HHi", 8, 1, fd) + struct.pack("=HHI", 8, 3, _IN_DRIVER)
    body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(device), 0, 0)
    body += struct.pack("=HH", 4 + len(inner), _IFLA_XDP) + inner
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), _RTM_SETLINK, _REQUEST_ACK, 1, 0) + body)
        (code,) = struct.unpack_from("=i", sock.recv(4096), 16)
    os.close(fd)
    if code:
        raise OSError(-code, f"XDP on {device}: {os.strerror(-code)}")
