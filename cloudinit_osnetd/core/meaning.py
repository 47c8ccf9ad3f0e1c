# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a NIC's part of a file means, whoever wrote it and in whatever order: a set of short lines, the same words on
every backend. Pure.

    address 10.0.0.5/24
    route 10.1.0.0/16 via 10.0.0.1 metric 5
    dns 10.0.0.2 10.0.0.3            the order of name servers and of search domains counts, nobody else's does
    dhcp4
    mtu 1450

What a backend's reader does not know stands there as it is written, so that two parts which mean the same by such a set
differ in nothing that anybody would notice. The fingerprint in the ledger is another matter: it tells whether a part
stands as we left it, to the letter.
"""

import ipaddress
from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

from .fields import DataError, prefix_length

Meaning = FrozenSet[str]

_MOST_LINES, _MOST_LETTERS = 12, 160  # of what is shown
_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
# The numbers that the kernel takes for a bond's words (Documentation/networking/bonding.rst).
_BOND_WORDS = {
    "mode": ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"),
    "lacp-rate": ("slow", "fast"),
    "ad-select": ("stable", "bandwidth", "count"),
    "xmit-hash-policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4"),
    "transmit-hash-policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4"),
    "arp-validate": ("none", "active", "backup", "all"),
    "fail-over-mac": ("none", "active", "follow"),
    "fail-over-mac-policy": ("none", "active", "follow"),
    "primary-reselect": ("always", "better", "failure"),
    "primary-reselect-policy": ("always", "better", "failure"),
}
_SETS = ("arp-ip-target", "arp-ip-targets", "ARPIPTargets")  # of addresses, in whatever order
# What cloud-init writes or not, by release: name servers go to the NIC, to `lo` or to every NIC; up to 20.1 (netplan)
# and 24.1 (networkd) it does not say whether a router is listened to; a VLAN's or a bond's MAC, and from 25.2 on
# networkd that a NIC carries a VLAN or belongs to a bond.
_BY_RELEASE = ("dns", "search", "accept-ra", "mac", "carries", "belongs")
# Said by a renderer of a NIC whose MAC the document tells, and not of one that it calls by a name.
_BY_MAC = ("match mac ", "set-name ")
_ADVERTISED = frozenset(["slaac", "dhcp6", "inet6 dhcp 1"])


class Known(NamedTuple):
    """What there is to know of a NIC when it is asked who may have written its part."""

    dns: FrozenSet[str] = frozenset()  # every name server that any source names
    search: FrozenSet[str] = frozenset()
    macs: FrozenSet[str] = frozenset()  # its own, and those of the links with which it is wanted
    ipv6: bool = False  # it has a subnet of IPv6
    advertised: int = 0  # subnets of IPv6 of which a router or DHCPv6 tells the address
    routes: Meaning = frozenset()  # of its networks
    nowhere: Meaning = frozenset()  # what cloud-init makes of a default route whose gateway is null: one through nobody


def address(text: str, netmask: str = "") -> str:
    """`ip/prefix` in the one form, or the text where it is none."""
    ip, _, length = text.partition("/")
    try:
        plain = str(ipaddress.ip_address(ip))
        mask = length or netmask
        return "%s/%d" % (plain, prefix_length(plain, mask, "")) if mask else plain
    except (DataError, ValueError):
        return "%s/%s" % (text, netmask) if netmask else text


def network(text: str, netmask: str = "", gateway: str = "") -> str:
    """A route's destination in the one form: `default` by its gateway's family, a single address with its prefix."""
    if text in ("default", ""):
        return "::/0" if ":" in gateway else "0.0.0.0/0"
    whole = address(text, netmask)
    try:
        return str(ipaddress.ip_network(whole, strict=False))
    except ValueError:
        return whole


def route(to: str, via: str = "", metric: Optional[str] = None, *more: str) -> str:
    """The line of a route; `more` in the order of the alphabet, as "onlink"."""
    words = ["route", to] + (["via", address(via)] if via and not _is_unspecified(via) else [])
    words += ["metric", metric] if metric else []
    return " ".join(words + sorted(more))


def _is_unspecified(via: str) -> bool:
    """True for 0.0.0.0 and ::, by way of which a route is one on the link."""
    try:
        return ipaddress.ip_address(via).is_unspecified
    except ValueError:
        return False


def truth(text: str) -> str:
    """yes or no for what programs take for one of them, else the text."""
    word = text.lower()
    return "yes" if word in _YES else "no" if word in _NO else text


def bond_option(name: str, value: str) -> str:
    """A bond's option; `name` with hyphens, without its program's prefix."""
    if name in _SETS:
        return " ".join(["bond", name] + sorted(set(value.replace(",", " ").split())))
    words = _BOND_WORDS.get(name, ())
    known = words[int(value)] if value.isdigit() and int(value) < len(words) else value
    return "bond %s %s" % (name, "802.3ad" if (name, known) == ("mode", "802.1ad") else known)


def _is_zero(line: str) -> bool:
    """True for a bond's option that is 0: cloud-init's eni renderer writes none that is a number in the document."""
    topic, name, value = (line.split(" ", 2) + ["", ""])[:3]
    return topic == "bond" and value == _BOND_WORDS.get(name, ("0",))[0]


def may_be_cloud_inits(found: Meaning, wanted: Meaning, known: Known) -> bool:
    """True where `found` may be what some release of cloud-init writes for what `wanted` is what one of them writes."""
    found, wanted = _as_neighbours(_as_defaults(found, wanted)), _as_neighbours(wanted)
    lacking, added = frozenset(line for line in wanted - found if not _is_zero(line)), found - wanted
    if known.advertised:
        lacking, added = lacking - _ADVERTISED, _less_static(added - known.routes, known.advertised)
    if any(_topic(line) not in _BY_RELEASE and not line.startswith(_BY_MAC) for line in lacking):
        return False
    told = {_topic(line) for line in lacking}
    return all(_may_be_added(line, known, told) for line in added)


def unsaid(found: Meaning, wanted: Meaning) -> Tuple[str, ...]:
    """What some release of cloud-init does not say and another does: an older one wrote it, or somebody took it out."""
    return tuple(sorted(line for line in wanted - found if _topic(line) in ("dns", "search", "accept-ra")))


def _as_defaults(found: Meaning, wanted: Meaning) -> Meaning:
    """With the default routes to which cloud-init gives the prefix of a subnet: their netmask is missing, or 0."""
    meant = {line: line.replace(" 0.0.0.0/24 ", " 0.0.0.0/0 ").replace(" ::/64 ", " ::/0 ") for line in found}
    return frozenset(meant[line] if meant[line] in wanted else line for line in found)


def _as_neighbours(lines: Meaning) -> Meaning:
    """A gateway outside the subnet is said to be a neighbour, or is not, by release, renderer and field."""
    return frozenset(line.replace(" onlink", "") if line.startswith("route ") else line for line in lines)


def _less_static(lines: Meaning, subnets: int) -> Meaning:
    """Less the addresses that releases before 19.4 set by themselves, where a router or DHCPv6 was to tell them."""
    static = [line for line in lines if line.startswith("address ") and ":" in line]
    return lines - _ADVERTISED - frozenset(static if len(static) <= subnets else ())


def _topic(line: str) -> str:
    return line.partition(" ")[0]


def _may_be_added(line: str, known: Known, told: Iterable[str]) -> bool:
    topic, _, rest = line.partition(" ")
    words = frozenset(rest.split())
    if topic == "dns":
        return words <= known.dns
    if topic == "search":
        return words <= known.search
    if topic == "accept-ra":
        return known.ipv6 and topic not in told
    if topic == "mac":
        return words <= known.macs
    if topic == "route" and " via " not in line:
        return line in known.routes | known.nowhere  # on the link, which no renderer is given by us: see Backend.finish
    if line.startswith("match mac "):
        return frozenset([line.rpartition(" ")[2]]) <= known.macs
    return topic in ("carries", "belongs")


def differences(found: Meaning, wanted: Meaning) -> Tuple[str, ...]:
    """What differs, line by line: `+` is wanted and not there, `-` is there and not wanted. Bounded."""
    lines = ["+ " + line for line in sorted(wanted - found)] + ["- " + line for line in sorted(found - wanted)]
    shown = [line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 3] + "..." for line in lines[:_MOST_LINES]]
    if len(lines) > len(shown):
        shown.append("and %d more" % (len(lines) - len(shown)))
    return tuple(shown)


def in_order(topic: str, words: Iterable[str]) -> List[str]:
    """The line, if any, of what has an order: each word once, where it comes first."""
    once = list(dict.fromkeys(words))
    return [" ".join([topic] + once)] if once else []
