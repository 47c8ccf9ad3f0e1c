# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Chooses the NIC through which the metadata service is asked.

The NIC that answered last is asked first; other NICs are asked only if it is gone or does not
answer, because a host on another network must not be able to answer for the cloud. Whatever answers
must know this server's uuid (metadata.fetch). If no NIC has a route to the service, a temporary one
is set up for the request: see temporary_access.py.
"""

import ipaddress
import logging
from typing import Container, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..core.network_data import DEFAULT4, NetworkData, Refused
from ..core.records import Nic, Snapshot
from ..core.truth import Truth
from . import metadata, temporary_access

LOG = logging.getLogger(__name__)
_METADATA = ipaddress.ip_address(metadata.METADATA4)


class Answer(NamedTuple):
    data: Optional[NetworkData]
    mac: str  # of the NIC that answered, empty where none did
    problems: Tuple[str, ...]
    no_lease: str = ""  # the MAC of the NIC on which DHCP gave no lease, empty if none was asked for


class Access(NamedTuple):
    """How the service is reached through one NIC.

    "route": the kernel has a route; "ipv6": the link-local address, which needs no route; "eui64": the
    link-local address that is made from the MAC, added for the request, because the service knows a port
    by no other one; "gateway": a temporary host route via `gateway`; "on-link": the service is a
    neighbour; "lease": a temporary DHCP lease.
    """

    nic: Nic
    kind: str
    gateway: str = ""


def _includes_metadata(network: str) -> bool:
    return "." in network and _METADATA in ipaddress.ip_network(network)


def _by_preference(snapshot: Snapshot, answered: str) -> List[Nic]:
    """The NICs, best first: the one that answered last, then in the order of their default routes."""
    ranks = {mac: rank for rank, mac in enumerate(snapshot.default_route_macs())}
    return sorted(
        snapshot.by_mac().values(),
        key=lambda nic: (nic.mac != answered, ranks.get(nic.mac, len(ranks)), nic.ifindex),
    )


def gateways(truth: Truth) -> Dict[str, List[str]]:
    """Returns by MAC the IPv4 gateways that a NIC's entry names, a gateway of the service itself first."""
    found: Dict[str, List[str]] = {}
    for known in truth.keys.values():
        routes = [r for net in known.entry.networks for r in net.routes if r.gateway]
        routes = sorted((r for r in routes if _includes_metadata(r.network)), key=lambda r: r.network == DEFAULT4)
        found.setdefault(known.entry.mac, []).extend(r.gateway for r in routes)
    return found


def candidates(
    snapshot: Snapshot,
    answered: str,
    by_mac: Mapping[str, Sequence[str]],
    ignored: FrozenSet[str] = frozenset(),
) -> Tuple[List[Access], List[Access]]:
    """Returns the accesses that exist, and those that would have to be set up for the request.

    `by_mac` has the gateways of the NICs that have an entry. Nothing is set up on a NIC that is
    `ignored` (MACs and names) or belongs to a bond or a bridge: that would interfere.
    """
    routed = {r.ifindex for r in snapshot.routes if _includes_metadata(r.network)}
    existing: List[Access] = []
    temporary: List[Access] = []
    for nic in _by_preference(snapshot, answered):
        four = any("." in a.address for a in nic.addresses)
        six = any(a.address.startswith("fe80:") and not a.tentative for a in nic.addresses)
        if nic.up and four and nic.ifindex in routed:
            existing.append(Access(nic, "route"))
        if nic.up and six:
            # The same service. It identifies a port by the address made from its MAC, even after a
            # fixed IP was edited and the NIC's IPv4 address is no longer the port's.
            existing.append(Access(nic, "ipv6"))
        if nic.master or nic.is_one_of(ignored):
            continue
        if nic.up and four and nic.ifindex not in routed:
            temporary += [Access(nic, "gateway", gateway) for gateway in by_mac.get(nic.mac, ())]
            temporary.append(Access(nic, "on-link"))
        if not six:
            temporary.append(Access(nic, "ipv6"))
        if not any(a.address.startswith(temporary_access.link_local_of(nic.mac) + "/") for a in nic.addresses):
            temporary.append(Access(nic, "eui64"))
        if not four and nic.mac not in by_mac:  # a NIC with an entry is configured by its backend, DHCP included
            temporary.append(Access(nic, "lease"))
    return existing, temporary


def _fetch(access: Access, instance_id: str, at_once: bool) -> NetworkData:
    six = access.kind in ("ipv6", "eui64")
    with temporary_access.opened(access.kind, access.nic, access.gateway) as source:
        try:
            return metadata.fetch(access.nic.name, instance_id, ipv6=six, at_once=at_once, source=source)
        except Refused as exc:
            raise Refused("metadata via %s: %s" % (access.nic.name, exc.path), exc.problem) from exc


def _is_pointless(access: Access, no_lease: bool, unknown: bool) -> bool:
    """True if an access would give nothing after what the others gave."""
    return (access.kind == "lease" and no_lease) or (access.kind == "eui64" and not unknown)


def ask(
    snapshot: Snapshot,
    truth: Truth,
    answered: str,
    instance_id: str,
    pinned: str = "",
    may_open: bool = True,
    ignored: FrozenSet[str] = frozenset(),
    skip_lease: Container[str] = (),
) -> Answer:
    """Returns the metadata service's network_data, from the first access that gives it.

    `answered` is the MAC of the NIC that answered last; `pinned`, if the operator set it, that of the
    only NIC that may be asked. `ignored` as in candidates. With `may_open` False only existing accesses
    are used, and nothing on the server is changed. A DHCP lease takes seconds, during which the lock is
    held: at most one is tried, and none on the NICs (MACs) in `skip_lease`.
    """
    problems: List[str] = []
    wrong_instance: List[str] = []
    no_lease = ""
    unknown: Set[str] = set()  # MACs of NICs whose link-local address the service does not know
    existing, temporary = candidates(snapshot, pinned or answered, gateways(truth), ignored)
    existing_only = not may_open
    for access in existing + temporary:
        mac = access.nic.mac
        if (pinned and mac != pinned) or (existing_only and access in temporary):
            continue
        if _is_pointless(access, bool(no_lease) or mac in skip_lease, mac in unknown):
            continue
        try:
            # A service that has not answered for this server yet is asked for nothing but its meta_data.json first.
            data = _fetch(access, instance_id, at_once=mac == answered)
        except metadata.WrongInstance as exc:
            wrong_instance.append(str(exc))
        except (metadata.NoResponse, metadata.UnknownClient, temporary_access.NotOpened) as exc:
            problems.append(str(exc))
            if access.kind == "lease":
                no_lease = mac
            unknown |= {mac} if access.kind == "ipv6" and isinstance(exc, metadata.UnknownClient) else set()
            # The NIC that answered last is up and has its route, so the service itself is down. Setting
            # up other accesses, a DHCP lease among them, would only cost half a minute each time.
            if isinstance(exc, metadata.NoResponse) and access.kind == "route" and mac == answered:
                existing_only = True
        except (metadata.SourceError, Refused) as exc:
            problems.append(str(exc))
            if mac in (answered, pinned):
                # The service answers without a usable document: an answer through another NIC does not replace it.
                return Answer(None, mac, tuple(wrong_instance + problems), no_lease)
        else:
            if mac != answered or access.kind not in ("route", "ipv6"):
                LOG.info("metadata service answers: nic=%s mac=%s access=%s", access.nic.name, mac, access.kind)
            # Accesses that did not respond no longer matter; answers for another server are reported.
            return Answer(data, mac, tuple(wrong_instance), no_lease)
    problems = wrong_instance + problems
    if not problems:
        problems.append("metadata: no NIC through which the service can be asked")
    return Answer(None, "", tuple(problems), no_lease)
