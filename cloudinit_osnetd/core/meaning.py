# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of a NIC's part of a file, independent of its author and its order: a set of short lines, in the same
form for every backend. Pure.

    address 10.0.0.5/24
    route 10.1.0.0/16 via 10.0.0.1 metric 5
    dns 10.0.0.2 10.0.0.3            only the order of name servers and of search domains matters
    dhcp4
    mtu 1450

A line that a backend's reader does not know is kept as it is written, so two parts with the same set have the same
effect. The fingerprint in the ledger has another purpose: it tells whether a part still has the text that was written.
"""

import ipaddress
from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

from .fields import DataError, prefix_length

Meaning = FrozenSet[str]

_MOST_LINES, _MOST_LETTERS = 12, 160  # limits of the differences that are shown
_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
# The kernel accepts the index in each list for the name (Documentation/networking/bonding.rst).
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
_SETS = ("arp-ip-target", "arp-ip-targets", "ARPIPTargets")  # lists of addresses whose order does not matter
# cloud-init's eni renderer writes "on" for true, which ifenslave does not understand.
_FLAGS = ("all-slaves-active", "lacp-active", "tlb-dynamic-lb", "use-carrier")
# Lines that only some releases of cloud-init write. Name servers go to the NIC, to `lo` or to every NIC; up to 20.1
# (netplan) and 24.1 (networkd) accept-ra is not written; the MAC of a VLAN or a bond; for networkd, from 25.2 on, the
# VLANs on a NIC and its bond.
_BY_RELEASE = ("dns", "search", "accept-ra", "mac", "carries", "belongs")
# systemd.netdev(5)'s names of options whose values are words. cloud-init writes the number of the document, which
# networkd ignores, so such a file is not the same, but cloud-init's.
_OF_NETWORKD = {
    "Mode": "mode",
    "LACPTransmitRate": "lacp-rate",
    "AdSelect": "ad-select",
    "TransmitHashPolicy": "xmit-hash-policy",
    "ARPValidate": "arp-validate",
    "FailOverMACPolicy": "fail-over-mac",
    "PrimaryReselectPolicy": "primary-reselect",
}
# Written for a NIC whose MAC is in the document, and not for one that is identified by its name.
_BY_MAC = ("match mac ", "set-name ")
INVALID = "invalid "  # begins the line of what has the backend refuse the whole part
_ADVERTISED = frozenset(["slaac", "dhcp6", "inet6 dhcp 1"])


class Known(NamedTuple):
    """What is known of a NIC, to find out who may have written its part."""

    dns: FrozenSet[str] = frozenset()  # every name server that any source names
    search: FrozenSet[str] = frozenset()
    macs: FrozenSet[str] = frozenset()  # its own MAC, and those of the links in the same Want
    ipv6: bool = False  # True if it has an IPv6 subnet
    advertised: int = 0  # the number of IPv6 subnets whose address comes from a router or DHCPv6
    routes: Meaning = frozenset()  # of its networks
    nowhere: Meaning = frozenset()  # what cloud-init writes for a default route without a gateway
    bond: Meaning = frozenset()  # the options of a bond, of which releases write more or fewer


def address(text: str, netmask: str = "") -> str:
    """Returns `ip/prefix` in its normal form, or the text if it is no address."""
    ip, _, length = text.partition("/")
    try:
        plain = str(ipaddress.ip_address(ip))
        mask = length or netmask
        return "%s/%d" % (plain, prefix_length(plain, mask, "")) if mask else plain
    except (DataError, ValueError):
        return "%s/%s" % (text, netmask) if netmask else text


def network(text: str, netmask: str = "", gateway: str = "") -> str:
    """Returns a route's destination in its normal form: `default` by the gateway's family, an address with a prefix."""
    if text in ("default", ""):
        return "::/0" if ":" in gateway else "0.0.0.0/0"
    whole = address(text, netmask)
    try:
        return str(ipaddress.ip_network(whole, strict=False))
    except ValueError:
        return whole


def route(to: str, via: str = "", metric: Optional[str] = None, *more: str) -> str:
    """Returns the line of a route; further words such as "onlink" are sorted."""
    words = ["route", to] + (["via", address(via)] if via and not _is_unspecified(via) else [])
    words += ["metric", metric] if metric else []
    return " ".join(words + sorted(more))


def _is_unspecified(via: str) -> bool:
    """True for 0.0.0.0 and ::, with which a route is an on-link route."""
    try:
        return ipaddress.ip_address(via).is_unspecified
    except ValueError:
        return False


def is_name(word: str) -> bool:
    """True for a host's name: no address in any form, such as 192.0.2.1, 192.0.2.1:53#a.example or ::1."""
    return not word.replace(".", "").isdigit() and not set(":#%").intersection(word)


def truth(text: str) -> str:
    """Returns yes or no for the usual spellings of a truth value, otherwise the text."""
    word = text.lower()
    return "yes" if word in _YES else "no" if word in _NO else text


def bond_option(name: str, value: str) -> str:
    """Returns the line of a bond's option; `name` has hyphens and no prefix of a program."""
    if name in _SETS:
        return " ".join(["bond", name] + sorted(set(value.replace(",", " ").split())))
    words = _BOND_WORDS.get(name, ())
    if name == "gratuitious-arp":  # up to 22.1 cloud-init had netplan's own misspelling, which netplan takes too
        name = "gratuitous-arp"
    known = words[int(value)] if value.isdigit() and int(value) < len(words) else value
    if name in _FLAGS:
        known = {"yes": "1", "no": "0"}.get(truth(value), value)
    return "bond %s %s" % (name, "802.3ad" if (name, known) == ("mode", "802.1ad") else known)


def _is_zero(line: str) -> bool:
    """True for a bond's option that is 0: if it is a number in the document, cloud-init's eni renderer omits it."""
    topic, name, value = (line.split(" ", 2) + ["", ""])[:3]
    return topic == "bond" and value == _BOND_WORDS.get(name, ("0",))[0]


def may_be_cloud_inits(found: Meaning, wanted: Meaning, known: Known) -> bool:
    """True if some release of cloud-init may write `found` for the same entry for which another one writes `wanted`."""
    found = _as_words(_as_defaults(found, wanted), wanted)
    found, wanted = _as_neighbours(found), _as_neighbours(wanted)
    lacking, added = frozenset(line for line in wanted - found if not _is_zero(line)), found - wanted
    if known.advertised:
        lacking, added = lacking - _ADVERTISED, _less_static(added - known.routes, known.advertised)
    if any(_topic(line) not in _BY_RELEASE and not line.startswith(_BY_MAC) for line in lacking):
        return False
    lacking_topics = {_topic(line) for line in lacking}
    return all(_may_be_added(line, known, lacking_topics) for line in added)


def unsaid(found: Meaning, wanted: Meaning) -> Tuple[str, ...]:
    """Returns the missing lines that only some releases write: by an older release, or removed by a user."""
    return tuple(sorted(line for line in wanted - found if _topic(line) in ("dns", "search", "accept-ra")))


def _as_defaults(found: Meaning, wanted: Meaning) -> Meaning:
    """Restores default routes whose netmask is missing or 0, for which cloud-init writes the prefix of a subnet."""
    meant = {line: _with_defaults(line) for line in found}
    return frozenset(meant[line] if meant[line] in wanted else line for line in found)


def _with_defaults(line: str) -> str:
    for written, family in ((" 0.0.0.0/24 ", 4), (" ::/64 ", 6), (" default/24 ", 4), (" default/64 ", 6)):
        line = line.replace(written, " 0.0.0.0/0 " if family == 4 else " ::/0 ")
    return line


def _as_words(found: Meaning, wanted: Meaning) -> Meaning:
    """Restores the words of a bond's options that are numbers in the document, in a .netdev file."""
    meant = {line: _with_word(line) for line in found if line.startswith("bond ")}
    return frozenset(meant[line] if meant.get(line) in wanted else line for line in found)


def _with_word(line: str) -> str:
    _bond, name, value = line.split(" ", 2)
    return "bond %s %s" % (name, bond_option(_OF_NETWORKD.get(name, name), value).split(" ", 2)[2])


def _as_neighbours(lines: Meaning) -> Meaning:
    """Removes `onlink`: for a gateway outside the subnet it depends on release, renderer and field."""
    return frozenset(line.replace(" onlink", "") if line.startswith("route ") else line for line in lines)


def _less_static(lines: Meaning, subnets: int) -> Meaning:
    """Removes the static addresses that releases before 19.4 wrote for subnets with router advertisements or DHCPv6."""
    static = [line for line in lines if line.startswith("address ") and ":" in line]
    return lines - _ADVERTISED - frozenset(static if len(static) <= subnets else ())


def _topic(line: str) -> str:
    return line.partition(" ")[0]


def _may_be_added(line: str, known: Known, lacking_topics: Iterable[str]) -> bool:
    topic, _, rest = line.partition(" ")
    words = frozenset(rest.split())
    if topic == "dns":
        # cloud-init takes each service's address for a name server, also a name, which resolvers ignore.
        return frozenset(word for word in words if not is_name(word)) <= known.dns
    if topic == "search":
        return words <= known.search
    if topic == "accept-ra":
        return known.ipv6 and topic not in lacking_topics
    if topic == "mac":
        return words <= known.macs
    if topic == "bond":
        return line in known.bond
    if topic == "route" and " via " not in line:
        return line in known.routes | known.nowhere  # on-link routes are not given to renderers: see Backend.finish
    if line.startswith("match mac "):
        return frozenset([line.rpartition(" ")[2]]) <= known.macs
    return topic in ("carries", "belongs")


def differences(found: Meaning, wanted: Meaning) -> Tuple[str, ...]:
    """Returns the differences line by line: `+` is wanted and missing, `-` exists and is not wanted. Bounded."""
    lines = ["+ " + line for line in sorted(wanted - found)] + ["- " + line for line in sorted(found - wanted)]
    shown = [line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 3] + "..." for line in lines[:_MOST_LINES]]
    if len(lines) > len(shown):
        shown.append("and %d more" % (len(lines) - len(shown)))
    return tuple(shown)


def in_order(topic: str, words: Iterable[str]) -> List[str]:
    """Returns one line, or none, with the words in their order, without duplicates."""
    once = list(dict.fromkeys(words))
    return [" ".join([topic] + once)] if once else []
