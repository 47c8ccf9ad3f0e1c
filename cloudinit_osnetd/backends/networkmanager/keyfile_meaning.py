# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of a keyfile for NetworkManager: nm-settings-keyfile(5)."""

import re
from typing import Dict, FrozenSet, Iterator, List, Sequence, Set, Tuple

from ...core import meaning
from .keyfile import numbered, parsed, value, words

_IGNORED = {
    "connection": ("id", "uuid", "type", "timestamp", "autoconnect-priority", "slave-type", "port-type"),
    "user": ("org.freedesktop.NetworkManager.origin",),
    "ipv4": ("method", "dns", "dns-search", "gateway"),
    "ipv6": ("method", "dns", "dns-search", "gateway"),
}
_ETHERNET = ("ethernet", "802-3-ethernet")
_METHODS = {
    ("ipv4", "auto"): "dhcp4",
    ("ipv6", "auto"): "slaac",
    ("ipv6", "dhcp"): "dhcp6",
}
_DEFAULTS = {("may-fail", "yes"), ("autoconnect", "yes")}


def of(text: str) -> meaning.Meaning:
    values = parsed(text)
    facts: Set[str] = set()
    for section, keys in values.items():
        if section in ("ipv4", "ipv6"):
            facts.update(of_family(section, keys))
            method = keys.get("method", "auto")
            if method != "manual":
                facts.add(_METHODS.get((section, method), "%s %s" % (section, method)))
        elif section not in ("proxy", ".nmmeta"):
            facts.update(of_section(section, keys))
    families = ("ipv4", "ipv6")
    servers = [word for family in families for word in words(value(values, family, "dns"))]
    domains = [word for family in families for word in words(value(values, family, "dns-search"))]
    facts.update(meaning.in_order("dns", map(meaning.address, servers)))
    facts.update(meaning.in_order("search", domains))
    return frozenset(facts)


_FOUR, _SIX = "ipv4.may-fail no", "ipv6.may-fail no"
_NOTHING = frozenset(["ipv4 disabled", _FOUR, "ipv6 disabled", _SIX])  # of a bond without networks
_Edit = Tuple[FrozenSet[str], FrozenSet[str]]  # what an older release left out, and what it wrote instead


def as_older_releases(wanted: meaning.Meaning) -> Sequence[meaning.Meaning]:
    """Returns what releases before the installed one wrote, each difference with and without the others.

    Up to 23.1 a static IPv6 subnet has the method `auto` and may fail, and so has a stateful one; IPv4 beside dynamic
    IPv6 has no section; both of two leases are needed; a bond without networks has no sections, and no bond has an MTU,
    or an option with a "_" in its name but miimon. Up to 22.4 no route has a metric.
    """
    found = [wanted]
    for left_out, instead in _older(wanted):
        found += [(one - left_out) | instead for one in found]
    return list(dict.fromkeys(found[1:]))


def _older(wanted: meaning.Meaning) -> Iterator[_Edit]:
    has_six = any(line.startswith("address ") and ":" in line for line in wanted)
    bond = frozenset(line for line in wanted if line.startswith("bond "))
    metrics: List[str] = [line for line in wanted if re.search(r"^ipv[46]\.route-metric |^route .* metric ", line)]
    if has_six and _SIX in wanted:
        yield frozenset([_SIX]), frozenset(["slaac"])
    if "dhcp6" in wanted:
        yield frozenset(["dhcp6"]), frozenset(["slaac"])
    if wanted >= _NOTHING:
        yield _NOTHING, frozenset()
    elif "ipv4 disabled" in wanted:
        yield frozenset(["ipv4 disabled"]), frozenset()
    if "dhcp4" in wanted and _FOUR not in wanted:
        yield frozenset(), frozenset([_FOUR])
    if wanted & {"slaac", "dhcp6"} and _SIX not in wanted:
        yield frozenset(), frozenset([_SIX])
    if metrics:
        yield frozenset(metrics), frozenset(_without_metric(line) for line in metrics if line.startswith("route "))
    if bond:
        yield frozenset(line for line in wanted if line.startswith("mtu ")), frozenset()
        yield frozenset(line for line in bond if line.split()[1] != "miimon"), frozenset()


def _without_metric(line: str) -> str:
    return re.sub(r" metric \d+", "", line)


def of_section(section: str, keys: Dict[str, str]) -> Iterator[str]:
    for key, text in keys.items():
        if key in _IGNORED.get(section, ()):
            continue
        if (section, key) == ("connection", "interface-name"):
            yield "match name " + text
        elif (section, key) in (("connection", "master"), ("connection", "controller")):
            yield "belongs to " + text
        elif section in _ETHERNET and key == "mac-address":
            yield "match mac " + text.lower()
        elif section in _ETHERNET and key == "cloned-mac-address":
            yield "mac " + text.lower()
        elif section in _ETHERNET and key == "mtu":
            yield from ["mtu " + text] if text not in ("", "0") else []
        elif section == "bond":
            if text.startswith("["):
                # cloud-init writes a list as Python shows it. NetworkManager drops the option, and the profile with it.
                yield meaning.INVALID + "bond.%s %s" % (key, text)
                text = re.sub(r"[]['\"]", "", text)
            # What a document leaves empty is written so, and means nothing.
            yield from [] if text == "" else [meaning.bond_option(key.replace("_", "-"), text)]
        elif (key, meaning.truth(text)) not in _DEFAULTS:
            yield "%s.%s %s" % (section, key, meaning.truth(text))


def of_family(section: str, keys: Dict[str, str]) -> Iterator[str]:
    """Yields what a family's section says, without its method and DNS."""
    several = set()
    for key, text in numbered(keys, "address"):
        several.add(key)
        cidr, _, gateway = text.partition(",")
        yield "address " + meaning.address(cidr)
        if gateway:
            yield meaning.route(meaning.network("default", "", gateway), gateway)
    for key, text in numbered(keys, "route"):
        several |= {key, key + "_options"}
        to, via, metric = (text.split(",") + ["", ""])[:3]
        options = [keys[key + "_options"]] if key + "_options" in keys else []
        yield meaning.route(meaning.network(to, "", via), via, metric or None, *options)
    if keys.get("gateway") and not any(True for _ in numbered(keys, "address")):
        # cloud-init writes it where a document names a gateway for a lease. NetworkManager then loads nothing of it.
        yield meaning.INVALID + "%s.gateway without an address" % section
    elif keys.get("gateway"):
        yield meaning.route(meaning.network("default", "", keys["gateway"]), keys["gateway"])
    for key, text in keys.items():
        if key not in several and key not in _IGNORED[section] and (key, meaning.truth(text)) not in _DEFAULTS:
            yield "%s.%s %s" % (section, key, meaning.truth(text))
