# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The alternative names of links: udev gives a NIC all names that its policies find (systemd.link(5)).

networkd's [Match] Name= applies to each of them, and so does netplan's `match: name`: a NIC that is called ens3 is also
enp0s3 on many servers. From Linux 5.5 on.
"""

import socket
import struct
from typing import Dict, Iterable, Iterator, Optional, Tuple

from . import netlink

_RTM_GETLINK = 18
_IFNAME, _PROP_LIST, _ALT_IFNAME = 3, 52, 53


class LinkNames:
    """All names of each link. The kernel is asked once, when they are first needed."""

    def __init__(self) -> None:
        self._others: Optional[Dict[str, Tuple[str, ...]]] = None

    def of(self, name: str) -> Iterator[str]:
        """Yields the name, then the link's alternative names."""
        yield name
        if self._others is None:
            self._others = of_links()
        yield from self._others.get(name, ())


def of_links() -> Dict[str, Tuple[str, ...]]:
    """Returns the alternative names of the links that have some, by name. Raises OSError if netlink does not answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5)
        sock.bind((0, 0))
        return parsed(netlink.dump(sock, _RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)))


def parsed(bodies: Iterable[bytes]) -> Dict[str, Tuple[str, ...]]:
    """Returns the same from the bodies of a link dump."""
    found = {}
    for body in bodies:
        values = dict(netlink.attributes(body[16:]))
        listed = netlink.attributes(values.get(_PROP_LIST, b""))
        others = [_text(value) for kind, value in listed if kind == _ALT_IFNAME]
        if others:
            found[_text(values.get(_IFNAME, b""))] = tuple(others)
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
