# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Parses a network_data.json into frozen and validated records.

The rest of the program never handles raw JSON of a network_data. The format is OpenStack's (nova:
doc/api_schemas/network_data.json). A document is refused as a whole (`Refused`) only if it cannot be
read; any other error affects only the link that it belongs to, and is listed in `faults`.

Values end up in configuration files of the guest, so anything that is not an address, a number or a
short plain word is an error: a newline in a DNS address would give a root shell in ifupdown.
"""

import json
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple

from .document_links import Fault, Links, MacsByName, no_nics, shown
from .document_networks import Services, doubts, parse_global, parse_network
from .entry import (
    DEFAULT4,
    DEFAULT6,
    DHCP4,
    DHCP6,
    SLAAC,
    STATIC,
    Entry,
    Network,
    Route,
    entry_from_json,
    entry_to_json,
    link_id,
    link_routes,
    make_key,
    off_subnet_gateways,
    static_addresses,
    takes_default,
    used_servers,
)
from .fields import DataError, json_object, needed, object_list

__all__ = [
    "DEFAULT4",
    "DEFAULT6",
    "DHCP4",
    "DHCP6",
    "MAX_BYTES",
    "SLAAC",
    "STATIC",
    "Entry",
    "Fault",
    "Network",
    "NetworkData",
    "Refused",
    "Route",
    "entry_from_json",
    "entry_to_json",
    "link_id",
    "link_routes",
    "make_key",
    "off_subnet_gateways",
    "parse",
    "parse_bytes",
    "static_addresses",
    "takes_default",
    "used_servers",
]

MAX_BYTES = 1 << 20


class Refused(DataError):
    """The document as a whole cannot be used, because of its size, its syntax or its structure."""


class NetworkData(NamedTuple):
    """A whole document. `faulted` has the keys that it lists with errors."""

    entries: Dict[str, Entry]
    services: Tuple[str, ...]  # global DNS addresses
    faults: Tuple[Fault, ...]
    faulted: FrozenSet[str]
    search: Tuple[str, ...] = ()  # global search domains
    nameless: Tuple[Tuple[str, Tuple[str, ...]], ...] = ()  # bonds without a MAC, refused or not: keys, members
    ports: Mapping[str, str] = {}  # the ids of the ports by key, for people: nothing is decided by them

    @property
    def unassigned_network(self) -> bool:
        """True if a network names no link of this document: it may belong to any link."""
        return any(not fault.key for fault in self.faults if fault.path.startswith("networks"))

    @property
    def unidentified_link(self) -> bool:
        """True if a link could not be identified: then no key can be called missing."""
        return any(not fault.key for fault in self.faults if fault.path.startswith("links"))


def parse(document: Any, macs: MacsByName = no_nics) -> NetworkData:
    """Parses a decoded network_data.json. `macs` returns the MACs of the present NICs by name, for links without a MAC.

    Raises Refused if the document as a whole cannot be used: it is not an object, empty (`{}`, which a
    metadata service sends while its cache is cold), or has no list of links.
    """
    try:
        return _parse(document, macs)
    except RecursionError:
        raise Refused("network_data", "nested too deeply") from None


def _parse(document: Any, macs: MacsByName) -> NetworkData:
    if not isinstance(document, dict):
        raise Refused("network_data", "not an object")
    if document.get("links") is None:
        raise Refused("network_data", "has no links")
    if not isinstance(document["links"], list):
        raise Refused("network_data.links", "not a list")
    raw_networks = document.get("networks")
    # Nothing else stands for an empty list here: all networks of the server would be taken away.
    if raw_networks is not None and not isinstance(raw_networks, list):
        raise Refused("network_data.networks", "not a list")
    links = Links(document["links"], macs)
    networks = _networks(links, raw_networks or [])
    entries = {entry.key: entry for entry in links.entries(networks)}
    services = _services(document.get("services"), links.faults)
    faults, faulted = tuple(links.faults), frozenset(links.bad)
    return NetworkData(entries, services.dns, faults, faulted, services.search, links.nameless(), links.ports())


def _networks(links: Links, raw_networks: List[Any]) -> Dict[str, List[Network]]:
    """Returns the networks of each link by its key, without those of refused links."""
    networks: Dict[str, List[Network]] = {}
    for i, raw in enumerate(raw_networks):
        path = "networks[%d]" % i
        key, link_id = "", ""
        try:
            obj = json_object(raw, path)
            named = needed(obj, "link", path)
            if isinstance(named, (str, int)) and str(named) in links.refused and str(named) not in links.by_id:
                continue
            key = links.key_of(named, path + ".link")
            link_id = str(named)
            network = parse_network(obj, path)
            for doubt in doubts(obj, network, path):
                links.faults.append(Fault(key, doubt.path, doubt.problem, shown(link_id), costs=False))
            networks.setdefault(key, []).append(network)
        except DataError as exc:
            links.faults.append(Fault(key, exc.path, exc.problem, shown(link_id)))
    return networks


def _services(raw: Any, faults: List[Fault]) -> Services:
    found = Services()
    try:
        services = object_list(raw, "services")
    except DataError as exc:
        faults.append(Fault("", exc.path, exc.problem))
        services = []
    for i, service in enumerate(services):
        path = "services[%d]" % i
        try:
            found = found.and_then(parse_global(service, path))
        except DataError as exc:
            faults.append(Fault("", path, exc.problem))
    return found


def parse_bytes(raw: bytes, macs: MacsByName = no_nics) -> NetworkData:
    """Parses the bytes of a network_data.json; raises Refused also for their size and syntax. `macs` as in parse."""
    if len(raw) > MAX_BYTES:
        raise Refused("network_data", "larger than %d bytes" % MAX_BYTES)
    try:
        document = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise Refused("network_data", "nested too deeply") from None
    except ValueError as exc:
        beginning = raw[:40].decode("utf-8", "replace")
        raise Refused("network_data", "not JSON: %s (it begins with %r)" % (exc, beginning)) from None
    return parse(document, macs)
