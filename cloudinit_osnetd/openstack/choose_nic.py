# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The way to the metadata service: through the NIC that answered last, others only without it.

A neighbour on another network must not answer for the cloud, so a second NIC is asked only when
the first is gone or silent, and what answers must know our uuid (source.fetch). Where no NIC has a
route there, one is opened for the moment of asking: see temporary_access.py.
"""

import ipaddress
import logging
from typing import Container, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

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
    unleased: str = ""  # the MAC of a NIC for which no lease was to be had, empty where none was asked for


class Way(NamedTuple):
    """How to ask through one NIC.

    "route": the kernel has one; "ipv6": link-local, which needs none; "gateway": a host route by
    way of `gateway`, for the moment; "on-link": the service is a neighbour; "lease": a DHCP lease,
    for the moment.
    """

    nic: Nic
    kind: str
    gateway: str = ""


def _leads_there(network: str) -> bool:
    return "." in network and _METADATA in ipaddress.ip_network(network)


def _order(snapshot: Snapshot, answered: str) -> List[Nic]:
    """The NICs, best first: the one that answered last, then by their default routes."""
    ranks = {mac: rank for rank, mac in enumerate(snapshot.ways_out())}
    return sorted(
        snapshot.by_mac().values(),
        key=lambda nic: (nic.mac != answered, ranks.get(nic.mac, len(ranks)), nic.ifindex),
    )


def gateways(truth: Truth) -> Dict[str, List[str]]:
    """By MAC: the IPv4 gateways that a NIC's entry names, that of the service itself first."""
    found: Dict[str, List[str]] = {}
    for known in truth.keys.values():
        routes = [r for net in known.entry.networks for r in net.routes if r.gateway]
        routes = sorted((r for r in routes if _leads_there(r.network)), key=lambda r: r.network == DEFAULT4)
        found.setdefault(known.entry.mac, []).extend(r.gateway for r in routes)
    return found


def ways(
    snapshot: Snapshot,
    answered: str,
    by_mac: Mapping[str, Sequence[str]],
    ignored: FrozenSet[str] = frozenset(),
) -> Tuple[List[Way], List[Way]]:
    """The ways that are open, and those that would have to be opened.

    `by_mac`: the gateways of the NICs that have an entry. None is opened through a NIC that is
    `ignored` (MACs and names) or belongs to a bond or a bridge: that would interfere.
    """
    there = {r.ifindex for r in snapshot.routes if _leads_there(r.network)}
    opened: List[Way] = []
    closed: List[Way] = []
    for nic in _order(snapshot, answered):
        four = any("." in a.address for a in nic.addresses)
        six = any(a.address.startswith("fe80:") and not a.tentative for a in nic.addresses)
        if nic.up and four and nic.ifindex in there:
            opened.append(Way(nic, "route"))
        if nic.up and six:
            # The same service, and it knows a port by its MAC's address even when a fixed IP of
            # the port was edited and the one that the NIC still has is nobody's.
            opened.append(Way(nic, "ipv6"))
        if nic.master or {nic.mac, nic.name} & ignored:
            continue
        if nic.up and four and nic.ifindex not in there:
            closed += [Way(nic, "gateway", gateway) for gateway in by_mac.get(nic.mac, ())]
            closed.append(Way(nic, "on-link"))
        if not six:
            closed.append(Way(nic, "ipv6"))
        if not four and nic.mac not in by_mac:  # else its backend knows what to ask for
            closed.append(Way(nic, "lease"))
    return opened, closed


def _ask(way: Way, instance_id: str) -> NetworkData:
    with temporary_access.opened(way.kind, way.nic, way.gateway):
        try:
            return metadata.fetch(way.nic.name, instance_id, ipv6=way.kind == "ipv6")
        except Refused as exc:
            raise Refused("metadata via %s: %s" % (way.nic.name, exc.path), exc.problem) from exc


def ask(
    snapshot: Snapshot,
    truth: Truth,
    answered: str,
    instance_id: str,
    pinned: str = "",
    may_open: bool = True,
    ignored: FrozenSet[str] = frozenset(),
    unleased: Container[str] = (),
) -> Answer:
    """The metadata service's network_data, by the first way that gives one.

    `answered` is the MAC of the NIC that gave the last one; `pinned`, where the operator said so,
    of the only one that may be asked. `ignored` as in ways. `may_open` False asks only where a way is open: it changes
    nothing on the server. A lease takes seconds, for which the lock is held: one is asked for at most, and not of the
    NICs (MACs) in `unleased`.
    """
    problems: List[str] = []
    foreign: List[str] = []
    no_lease = ""
    opened, closed = ways(snapshot, pinned or answered, gateways(truth), ignored)
    down = not may_open
    for way in opened + closed:
        if (pinned and way.nic.mac != pinned) or (down and way in closed):
            continue
        if way.kind == "lease" and (no_lease or way.nic.mac in unleased):
            continue
        try:
            data = _ask(way, instance_id)
        except metadata.Foreign as exc:
            foreign.append(str(exc))
        except (metadata.Silent, metadata.Stranger, temporary_access.NotOpened) as exc:
            problems.append(str(exc))
            if way.kind == "lease":
                no_lease = way.nic.mac
            # The NIC that answered last is here with its route: it is the service that is silent, and
            # to open other ways, a DHCP lease among them, would only take half a minute each time.
            down = down or (isinstance(exc, metadata.Silent) and way.kind == "route" and way.nic.mac == answered)
        except (metadata.SourceError, Refused) as exc:
            problems.append(str(exc))
            if way.nic.mac in (answered, pinned):
                # It answers, and has nothing to say: a neighbour's word is no substitute.
                return Answer(None, way.nic.mac, tuple(foreign + problems), no_lease)
        else:
            if way.nic.mac != answered or way.kind not in ("route", "ipv6"):
                LOG.info("metadata service answers: nic=%s mac=%s way=%s", way.nic.name, way.nic.mac, way.kind)
            # What was silent on the way to this is of no interest; who spoke for another is.
            return Answer(data, way.nic.mac, tuple(foreign), no_lease)
    problems = foreign + problems
    if not problems:
        problems.append("metadata: there is no NIC to ask through")
    return Answer(None, "", tuple(problems), no_lease)
