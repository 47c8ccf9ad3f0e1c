# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Typed getters: the only code that touches a raw value of a network_data.json.

Each takes a value and the path where it stands, and raises DataError naming that path.
"""

import ipaddress
import re
from typing import Any, Dict, List

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}((:[0-9a-f]{2}){14})?\Z")
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}\Z")
# Not str.isdigit(): that is true of "\u00b2" too, which int() does not read.
_DIGITS = re.compile(r"[0-9]{1,10}\Z")


class DataError(ValueError):
    """A value that cannot be used; `path` is where it stands, as in `links[2].mtu`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__("%s: %s" % (path, problem))
        self.path = path
        self.problem = problem


def needed(obj: Dict[str, Any], name: str, path: str) -> Any:
    value = obj.get(name)
    if value is None:
        raise DataError("%s.%s" % (path, name), "missing")
    return value


def word(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _WORD.match(str(value)):
        raise DataError(path, "not a plain word: %.60r" % (value,))
    return str(value)


def number(value: Any, path: str, low: int, high: int) -> int:
    # Neutron's VLAN ids and MTUs arrive as numbers or as strings, by release.
    if isinstance(value, str) and _DIGITS.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DataError(path, "not a number from %d to %d: %.60r" % (low, high, value))
    return value


def mac_address(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _MAC.match(value.lower()):
        raise DataError(path, "not a MAC address: %.60r" % (value,))
    return value.lower()


def ip_address(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise DataError(path, "not an IP address: %.60r" % (value,))
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise DataError(path, "not an IP address: %.60r" % (value,)) from None
    # Python 3.9 and later accept a zone ("fe80::1%x"), which may hold anything at all.
    if "%" in value:
        raise DataError(path, "an IP address with a zone: %.60r" % (value,))
    return str(address)


def prefix_length(address: str, netmask: Any, path: str) -> int:
    """Prefix length from an IPv4 or IPv6 netmask, or from a number."""
    bits = ipaddress.ip_address(address).max_prefixlen
    if isinstance(netmask, int) or (isinstance(netmask, str) and _DIGITS.match(netmask)):
        return number(netmask, path, 0, bits)
    mask = ipaddress.ip_address(ip_address(netmask, path))
    if mask.max_prefixlen != bits:
        raise DataError(path, "a netmask of the other address family: %.60r" % (netmask,))
    value = int(mask)
    length = bin(value).count("1")
    if value != ((1 << length) - 1) << (bits - length):
        raise DataError(path, "not a netmask: %.60r" % (netmask,))
    return length


def object_list(value: Any, path: str) -> List[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(path, "not a list")
    return value


def json_object(value: Any, path: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(path, "not an object")
    return value
