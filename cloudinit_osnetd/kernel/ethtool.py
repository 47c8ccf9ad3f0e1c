# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads a NIC's permanent MAC by ethtool: a kernel before 5.6 does not report it by netlink (IFLA_PERM_ADDRESS).

The device itself is not accessed: the kernel stored the address when the driver registered it
(net/ethtool/ioctl.c: ethtool_get_perm_addr). Layouts are those of linux/ethtool.h and linux/if.h.
"""

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_ETHTOOL_GPERMADDR = 0x20
_MAX_ADDR_LEN = 32  # linux/netdevice.h
_IFNAMSIZ = 16


def permanent_address(name: str) -> bytes:
    """Returns the octets of a device's permanent address; empty, or all zero, if it has none.

    A veth, a tap or a bridge has none: its address was assigned or is random.
    """
    answer = array.array("B", struct.pack("=II", _ETHTOOL_GPERMADDR, _MAX_ADDR_LEN) + bytes(_MAX_ADDR_LEN))
    request = struct.pack("%dsP24x" % _IFNAMSIZ, name.encode("utf-8", "surrogateescape"), answer.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, request)
    except OSError:
        return b""  # the device has gone, or the kernel has no ethtool
    (size,) = struct.unpack_from("=4xI", answer)
    return answer[8 : 8 + min(size, _MAX_ADDR_LEN)].tobytes()
