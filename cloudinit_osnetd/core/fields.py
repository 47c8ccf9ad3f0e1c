# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Typed getters: the only code that reads raw values of a network_data.json.

Each takes a value and its path in the document, and raises DataError with that path.
"""

import ipaddress
import string
from typing import Any, Dict, FrozenSet, List

# Sets, not regular expressions: compiling three of these costs each run 1.5 ms.
_WORD = frozenset(string.ascii_letters + string.digits + "_.+-")
_HEX = frozenset("0123456789abcdef")
# Not str.isdigit(): it is also true for "\u00b2", which int() refuses.
_DIGITS = frozenset(string.digits)
_MAC_OCTETS = (6, 20)  # Ethernet; InfiniBand


class DataError(ValueError):
    """An invalid value; `path` is its place in the document, such as `links[2].mtu`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__("%s: %s" % (path, problem))
        self.path = path
        self.problem = problem


def _made_of(characters: FrozenSet[str], text: str, most: int) -> bool:
    return 1 <= len(text) <= most and characters.issuperset(text)


def needed(obj: Dict[str, Any], name: str, path: str) -> Any:
    value = obj.get(name)
    if value is None:
        raise DataError("%s.%s" % (path, name), "missing")
    return value


def word(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _made_of(_WORD, str(value), 64):
        raise DataError(path, "not a plain word: %.60r" % (value,))
    return str(value)


def domains(value: Any, path: str) -> List[str]:
    """Returns search domains from a list, or from a string with commas or spaces between them; none for null or ""."""
    parts = _parts(value)
    for part in parts:
        if not isinstance(part, str) or not _made_of(_WORD, part, 253) or part.startswith("-"):
            raise DataError(path, "not a domain: %.60r" % (part,))
    return parts


def addresses(value: Any, path: str) -> List[str]:
    """Returns IP addresses from one, a list, or a string with commas or spaces between them; none for null."""
    return [ip_address(part, path) for part in _parts(value)]


def _parts(value: Any) -> List[Any]:
    if value is None or value == {}:
        return []
    if isinstance(value, str):
        return [part for part in value.replace(",", " ").split(" ") if part]
    # A template whose variable is empty gives [""].
    return [part for part in value if part != ""] if isinstance(value, list) else [value]


def number(value: Any, path: str, low: int, high: int) -> int:
    # Neutron's VLAN ids and MTUs arrive as numbers or as strings, by release.
    if isinstance(value, str) and _made_of(_DIGITS, value, 10):
        value = int(value)
    if isinstance(value, float):  # 1e3 too: it would be written to files as 1000.0
        raise DataError(path, "not a whole number: %.60r" % (value,))
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DataError(path, "not a number from %d to %d: %.60r" % (low, high, value))
    return value


def mac_address(value: Any, path: str) -> str:
    """Returns a MAC of six octets; of InfiniBand's twenty the six that OpenStack and cloud-init use for a port."""
    octets = value.lower().split(":") if isinstance(value, str) else []
    if len(octets) not in _MAC_OCTETS or any(len(octet) != 2 or not _HEX.issuperset(octet) for octet in octets):
        raise DataError(path, "not a MAC address: %.60r" % (value,))
    return ":".join(octets if len(octets) == 6 else octets[12:15] + octets[17:])


def ip_address(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise DataError(path, "not an IP address: %.60r" % (value,))
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise DataError(path, "not an IP address: %.60r" % (value,)) from None
    # Python up to 3.9.4 reads them as decimal; the C library as octal.
    if "." in value and any(part[:1] == "0" != part for part in value.split(":")[-1].split(".")):
        raise DataError(path, "not an IP address: %.60r" % (value,))
    # Python 3.9 and later accept a zone ("fe80::1%x"), which may hold anything at all.
    if "%" in value:
        raise DataError(path, "an IP address with a zone: %.60r" % (value,))
    return str(address)


def may_be_of_a_nic(address: str) -> bool:
    """False for a multicast address, the limited broadcast, the unspecified address, ::1 and an IPv4-mapped address.

    The kernel refuses ::1 on any device but `lo`, and a mapped one is the form of an IPv4 address in a program.
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and (ip.is_loopback or ip.ipv4_mapped is not None):
        return False
    return not (ip.is_multicast or ip.is_unspecified or address == "255.255.255.255")


def prefix_length(address: str, netmask: Any, path: str) -> int:
    """Returns the prefix length of a netmask or a number; without one, cloud-init's defaults: /24 and /64."""
    if netmask is None or netmask == "":
        return 64 if ":" in address else 24
    bits = ipaddress.ip_address(address).max_prefixlen
    if isinstance(netmask, int) or (isinstance(netmask, str) and _made_of(_DIGITS, netmask, 10)):
        return number(netmask, path, 0, bits)
    mask = ipaddress.ip_address(ip_address(netmask, path))
    if mask.max_prefixlen != bits:
        raise DataError(path, "a netmask of the other address family: %.60r" % (netmask,))
    value = int(mask)
    length = bin(value).count("1")
    if value != ((1 << length) - 1) << (bits - length):
        raise DataError(path, "not a netmask: %.60r" % (netmask,))
    return length


def device_name(value: Any) -> bool:
    """True if the kernel and every backend accept the name for a network device (linux/if.h: IFNAMSIZ)."""
    return isinstance(value, str) and _made_of(_WORD, value, 15) and value[0] not in "-." and not value.isdigit()


def gateway(value: Any, path: str, destination: str, own: str) -> str:
    """Returns the address of a gateway; empty for null, an empty string and the unspecified address.

    `destination` is the network of its route, `own` the `ip/prefix` of its network, or empty.

    The kernel refuses a route via a broadcast or multicast address (net/ipv4/fib_semantics.c: fib_check_nh_v4_gw), and
    networkd then fails the NIC with all its addresses. A loopback address is never a valid gateway.
    """
    if value is None or value == "":
        return ""
    address = ipaddress.ip_address(ip_address(value, path))
    if address.version != ipaddress.ip_network(destination).version:
        raise DataError(path, "a gateway of the other address family: %s for %s" % (address, destination))
    subnet = ipaddress.ip_interface(own).network if own else None
    mapped = address.version == 6 and address.ipv4_mapped is not None
    if mapped or address.is_multicast or address.is_loopback or _is_broadcast(address, subnet):
        raise DataError(path, "not a valid gateway address: %s" % address)
    return "" if address.is_unspecified else str(address)


def _is_broadcast(address: Any, subnet: Any) -> bool:
    if address.version == 6:
        return False
    own = subnet.broadcast_address if subnet is not None and subnet.prefixlen < 31 else None
    return address in (own, ipaddress.IPv4Address("255.255.255.255"))


def object_list(value: Any, path: str) -> List[Any]:
    """Returns a list; an empty one for null, "" and {}, which templates and Lua have for an empty list."""
    if value in (None, "", {}):
        return []
    if not isinstance(value, list):
        raise DataError(path, "not a list")
    return value


def json_object(value: Any, path: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(path, "not an object")
    return value
