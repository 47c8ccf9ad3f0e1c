# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of a .network or .netdev file for networkd: systemd.network(5), .netdev(5), .syntax(7)."""

from typing import Dict, Iterator, List, Sequence, Set, Tuple

from ...core import meaning

_Pairs = List[Tuple[str, str]]
# Two sections of one of these names are separate; sections of any other name are merged.
_SEVERAL = ("Address", "Route", "RoutingPolicyRule", "Neighbor", "NextHop", "IPv6Prefix")
_CLIENTS = {
    "yes": ("dhcp4", "dhcp6"),
    "both": ("dhcp4", "dhcp6"),
    "ipv4": ("dhcp4",),
    "v4": ("dhcp4",),
    "ipv6": ("dhcp6",),
    "v6": ("dhcp6",),
    "no": (),
    "none": (),
}


def of(text: str) -> meaning.Meaning:
    facts: Set[str] = set()
    for section, pairs in _sections(text):
        last = {key: value for key, value in pairs if value}
        if section == "Address":
            facts.add(_address(pairs, last))
        elif section == "Route":
            facts.add(_route(pairs))
        elif section == "Network":
            facts.update(_network(pairs))
        elif section == "Match":
            facts.update(_match(pairs))
        elif section in _SEVERAL:
            facts.add(" ".join([section, *_rest(last)]))
        else:
            facts.update(_option(section, key, value) for key, value in last.items())
    return frozenset(facts)


def _sections(text: str) -> Iterator[Tuple[str, _Pairs]]:
    """Yields each section with its assignments; sections that networkd merges are merged."""
    several: List[Tuple[str, _Pairs]] = []
    single: Dict[str, _Pairs] = {}
    pairs: _Pairs = []
    for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1]
            pairs = [] if name in _SEVERAL else single.setdefault(name, [])
            if name in _SEVERAL:
                several.append((name, pairs))
        elif "=" in line:
            key, _, value = line.partition("=")
            pairs.append((key.strip(), value.strip()))
    yield from single.items()
    yield from several


def _words(pairs: _Pairs, wanted: str) -> List[str]:
    """Returns the words of a list setting: assignments add to it, an empty one clears it."""
    found: List[str] = []
    for key, value in pairs:
        if key == wanted:
            found = found + value.split() if value else []
    return found


def _network(pairs: _Pairs) -> Iterator[str]:
    for key in {key for key, _value in pairs}:
        words = _words(pairs, key)
        last = next((value for name, value in reversed(pairs) if name == key), "")
        if key == "DNS":
            yield from meaning.in_order("dns", map(meaning.address, words))
        elif key == "Domains":
            yield from meaning.in_order("search", words)
        elif key == "Address":
            yield from ("address " + meaning.address(word) for word in words)
        elif key == "Gateway":
            yield from (meaning.route(meaning.network("default", "", word), word) for word in words)
        elif key == "DHCP":
            yield from _CLIENTS.get(meaning.truth(last), ("DHCP " + last,))
        elif key == "IPv6AcceptRA":
            yield "accept-ra " + meaning.truth(last)
        elif key in ("VLAN", "Bond"):
            yield from (("carries " if key == "VLAN" else "belongs to ") + word for word in words)
        elif last:
            yield _option("Network", key, last)


def _match(pairs: _Pairs) -> Iterator[str]:
    for key in {key for key, _value in pairs}:
        # PermanentMACAddress= matches the same NIC as MACAddress=, if the NIC uses its own MAC.
        topic = {"Name": "name", "MACAddress": "mac", "PermanentMACAddress": "mac"}.get(key, key)
        yield from ("match %s %s" % (topic, word.lower() if topic == "mac" else word) for word in _words(pairs, key))


def as_older_releases(wanted: meaning.Meaning) -> Sequence[meaning.Meaning]:
    """Up to 22.2 cloud-init wrote all routes to one section, of which networkd uses the last value of each key.

    It wrote all addresses in the same way.
    """
    older = wanted
    addresses = {line for line in wanted if line.startswith("address ")}
    if len(addresses) > 1:
        older = older - addresses | {_addresses_in_one([line.partition(" ")[2] for line in addresses])}
    routes = {line for line in wanted if line.startswith("route ")}
    words = [line.split() for line in routes]
    if len(routes) > 1 and all(len(line) == 4 for line in words):  # none with more than "route X via Y"
        older = older - routes | {_in_one([line[1] for line in words], [line[3] for line in words])}
    return () if older == wanted else (older,)


def _addresses_in_one(addresses: List[str]) -> str:
    return "one address of " + ", ".join(sorted(set(addresses)))


def _address(pairs: _Pairs, last: Dict[str, str]) -> str:
    several = [meaning.address(value) for key, value in pairs if key == "Address" and value]
    if len(several) > 1 and len(several) == len(pairs):
        return _addresses_in_one(several)
    return " ".join(["address", meaning.address(last.pop("Address", "")), *_rest(last)])


def _in_one(to: List[str], via: List[str]) -> str:
    return "one route to %s via %s" % (", ".join(sorted(set(to))), ", ".join(sorted(set(via))))


def _route(pairs: _Pairs) -> str:
    gateways = [meaning.address(value) for key, value in pairs if key == "Gateway"]
    targets = [meaning.network(value) for key, value in pairs if key == "Destination"]
    if len(targets) > 1 and {key for key, _value in pairs} <= {"Destination", "Gateway"}:
        return _in_one(targets, gateways)
    last = {key: value for key, value in pairs if value}
    via, to, metric = last.pop("Gateway", ""), last.pop("Destination", ""), last.pop("Metric", None)
    more = ["onlink"] if meaning.truth(last.pop("GatewayOnLink", last.pop("GatewayOnlink", "no"))) == "yes" else []
    return meaning.route(meaning.network(to, "", via), via, metric, *more, *_rest(last))


def _option(section: str, key: str, value: str) -> str:
    if (section, key) == ("Link", "MTUBytes"):
        return "mtu " + value
    if (section, key) in (("Link", "MACAddress"), ("NetDev", "MACAddress")):
        return "mac " + value.lower()
    if section == "Bond":
        return meaning.bond_option(key, value)
    return "%s.%s %s" % (section, key, meaning.truth(value))


def _rest(values: Dict[str, str]) -> List[str]:
    return sorted("%s=%s" % (key, meaning.truth(value)) for key, value in values.items())
