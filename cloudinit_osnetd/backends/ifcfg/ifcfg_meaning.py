# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of an ifcfg file and of a file of routes: nm-settings-ifcfg-rh(5), initscripts' sysconfig.txt."""

import re
from typing import Dict, Iterator, List, Sequence, Set

from ...core import meaning
from . import ifcfg_file
from .ifcfg_file import Values, truth

# What only names the profile, is said by another key, or has no effect on how the NIC is configured.
_IGNORED = (
    "NAME", "UUID", "TYPE", "AUTOCONNECT_PRIORITY", "LAST_CONNECT", "USERCTL", "SLAVE", "BONDING_MASTER",
    "VLAN", "PROXY_METHOD", "BROWSER_ONLY", "DHCLIENT_SET_DEFAULT_ROUTE", "BOOTPROTO", "IPV6INIT",
    "IPV6_AUTOCONF", "DHCPV6C", "DOMAIN", "IPV6_DOMAIN", "IPV6ADDR", "IPV6ADDR_SECONDARIES", "IPV6_DEFAULTGW",
    "NETWORK", "BROADCAST", "NOZEROCONF", "VID",
)
_NUMBERED = re.compile(r"(IPADDR|NETMASK|PREFIX|GATEWAY|DNS)\d*\Z")
_DEFAULTS = frozenset(
    [
        ("ONBOOT", "yes"),
        ("NM_CONTROLLED", "yes"),
        ("DEFROUTE", "yes"),
        ("IPV6_DEFROUTE", "yes"),
        ("PEERDNS", "yes"),
        ("IPV6_PEERDNS", "yes"),
        ("IPV4_FAILURE_FATAL", "no"),
        ("IPV6_FAILURE_FATAL", "no"),
        ("IPV6_DISABLED", "no"),
    ]
)
# Keys with a line of the common form: the topic, and what is done with the value.
_TOPICS = {
    "DEVICE": "match name",
    "HWADDR": "match mac",
    "MACADDR": "mac",
    "MTU": "mtu",
    "MASTER": "belongs to",
    "PHYSDEV": "parent",
    "IPV4_ROUTE_METRIC": "ipv4.route-metric",
    "METRIC": "ipv4.route-metric",
    "IPV6_ROUTE_METRIC": "ipv6.route-metric",
}


def of(text: str) -> meaning.Meaning:
    values = ifcfg_file.parsed(text)
    facts: Set[str] = set()
    for line in ifcfg_file.routes(text):
        facts.add(of_route(line))
    if not ifcfg_file.is_interface(text):
        return frozenset(facts)
    facts.update(_addresses(values))
    facts.update(_methods(values))
    facts.update(meaning.in_order("dns", map(meaning.address, ifcfg_file.numbered(values, "DNS"))))
    facts.update(meaning.in_order("search", ifcfg_file.search_domains(values)))
    for key, word in values.items():
        if key != "ACD_TIMEOUT" or word != _milliseconds(values.get("ARPING_WAIT", "")):
            facts.update(of_key(key, word))
    return frozenset(facts)


def _milliseconds(seconds: str) -> str:
    """Returns what NetworkManager writes as ACD_TIMEOUT beside ARPING_WAIT, if it writes a profile anew."""
    return str(int(seconds) * 1000) if seconds.isdigit() else ""


def as_older_releases(found: meaning.Meaning) -> Sequence[meaning.Meaning]:
    """Up to 24.1 cloud-init writes NM_CONTROLLED=no, and up to 22.4 no IPV6_FAILURE_FATAL beside DHCPV6C.

    From 21.1 to 22.4 it writes BOOTPROTO=dhcp there, before that neither this nor IPV6_AUTOCONF=no.
    """
    left = frozenset(["NM_CONTROLLED no"])
    fatal = frozenset(["IPV6_FAILURE_FATAL yes"])
    others = [found, found - fatal]
    if "dhcp6" in found:
        others += [(found - fatal) | {"dhcp4"}, (found - fatal - {"dhcp4"}) | {"slaac"}]
    others = [one for other in others for one in (other - left, other | left)]
    return [other for other in dict.fromkeys(others) if other != found]


def of_route(line: ifcfg_file.Line) -> str:
    to = meaning.network(line.to, "", line.via)
    return meaning.route(to, line.via, line.metric or None, *line.more.split())


def _addresses(values: Values) -> Iterator[str]:
    for cidr in ifcfg_file.addresses4(values) + ifcfg_file.addresses6(values):
        yield "address " + meaning.address(cidr)
    for key, word in values.items():
        if re.match(r"GATEWAY\d*\Z", key) and word:
            yield meaning.route("0.0.0.0/0", word)
    via = values.get("IPV6_DEFAULTGW", "").partition("%")[0]
    if via:
        yield meaning.route("::/0", via)


def _methods(values: Values) -> Iterator[str]:
    if values.get("BOOTPROTO", "").lower() in ("dhcp", "bootp"):
        yield "dhcp4"
    if not truth(values, "IPV6INIT"):
        return
    if truth(values, "IPV6_AUTOCONF", True):
        yield "slaac"
    if truth(values, "DHCPV6C"):
        yield "dhcp6"
    elif not truth(values, "IPV6_AUTOCONF", True) and not ifcfg_file.addresses6(values):
        yield "ipv6 link-local"


def of_key(key: str, word: str) -> Iterator[str]:
    plain = word if word.isdigit() else meaning.truth(word)
    if not word or key in _IGNORED or (key, plain) in _DEFAULTS or _NUMBERED.match(key) or (key, word) == ("MTU", "0"):
        return
    if key in _TOPICS:
        yield "%s %s" % (_TOPICS[key], word.lower() if key in ("HWADDR", "MACADDR") else word)
    elif key == "IPV6_FORCE_ACCEPT_RA":
        yield "accept-ra " + plain
    elif key == "BONDING_OPTS":
        options: Dict[str, List[str]] = {}  # arp_ip_target may stand there several times
        for option in word.split():
            name, _, chosen = option.partition("=")
            options.setdefault(name.replace("_", "-"), []).extend([chosen] if chosen else [])
        yield from (meaning.bond_option(name, ",".join(values)) for name, values in options.items() if values)
    elif re.match(r"BONDING_SLAVE\d+\Z", key):
        yield "member " + word
    else:
        yield "%s %s" % (key, plain)
