# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The options of a bond, with their names and values. Source: linux Documentation/networking/bonding.rst.

The kernel and ifenslave accept a value by name or by number, netplan and systemd.netdev(5) by name only.
"""

from typing import Any, Dict, Iterator, Sequence, Tuple

from .fields import DataError, addresses, word

_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
# The example in Nova's spec has this value, and documents made from it. There is no such mode of a bond (it is the
# standard for stacked VLANs), and cloud-init's renderers write it unchecked.
_LACP_BY_MISTAKE = "802.1ad"
# By the kernel's numbers.
_WORDS: Dict[str, Sequence[str]] = {
    "mode": _MODES,
    "xmit_hash_policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
    "lacp_rate": ("slow", "fast"),
    "ad_select": ("stable", "bandwidth", "count"),
    "arp_validate": ("none", "active", "backup", "all"),
    "arp_all_targets": ("any", "all"),
    "fail_over_mac": ("none", "active", "follow"),
    "primary_reselect": ("always", "better", "failure"),
}
_FLAGS = frozenset(["all_slaves_active", "lacp_active", "tlb_dynamic_lb", "use_carrier"])
_ADDRESSES = frozenset(["arp_ip_target", "arp_ip_targets", "ns_ip6_target"])
_LARGEST = 0x7FFFFFFF  # drivers/net/bonding/bond_options.c: most are an int
_MEMBERS = ("bond_links", "bond_slaves")  # no options


def option(name: str, value: str) -> str:
    """Returns the kernel's name for the value of an option; `name` is the kernel's, without "bond_"."""
    known = _WORDS.get(name, ())
    if (name, value) == ("mode", _LACP_BY_MISTAKE):
        return "802.3ad"
    if value.isdigit() and len(value) == 1 and int(value) < len(known):
        return known[int(value)]
    return value.lower() if value.lower() in known else value


def options(link: Dict[str, Any], path: str) -> Tuple[Tuple[str, str], ...]:
    """Returns the `bond_*` fields of a link, sorted, with the kernel's names for values.

    Empty and null fields are left out. Raises DataError for a value that no backend accepts.
    """
    return tuple(sorted(_options(link, path)))


def _options(link: Dict[str, Any], path: str) -> Iterator[Tuple[str, str]]:
    for field, value in link.items():
        if not field.startswith(("bond_", "bond-")) or field in _MEMBERS or value in (None, "", [], {}):
            continue
        name = word(field, path)[len("bond_") :].replace("-", "_")
        yield "bond_" + name, _value(name, value, "%s.%s" % (path, field))


def _value(name: str, value: Any, path: str) -> str:
    if name in _ADDRESSES:
        return ",".join(addresses(value, path))
    if isinstance(value, bool) and name in _FLAGS:
        return str(int(value))
    text = option(name, word(value, path))
    if text[text.startswith("-") :].isdigit() and not 0 <= int(text) <= _LARGEST:
        raise DataError(path, "not a number from 0 to %d: %.60r" % (_LARGEST, value))
    if name == "mode" and text not in _MODES:
        raise DataError(path, "not a bond's mode: %.60r" % (value,))
    return text
