# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The way to the metadata service: through the NIC that answered last, others only without it.

A neighbour on another network must not answer for the cloud, so a second NIC is asked only when
the first is gone or silent, and what answers must know our uuid (source.fetch).
"""

import logging
from typing import Dict, List, NamedTuple, Optional, Tuple

from . import source
from .kernel import Nic, Snapshot
from .network_data import NetworkData, Refused

LOG = logging.getLogger(__name__)


class Answer(NamedTuple):
    data: Optional[NetworkData]
    mac: str  # of the NIC that answered, empty where none did
    problems: Tuple[str, ...]


def candidates(snapshot: Snapshot, answered: str) -> List[Nic]:
    """The NICs to go through, best first: the one that answered last, then those with a route."""
    usable = [n for n in snapshot.by_mac().values() if n.up and any("." in a.address for a in n.addresses)]
    metrics: Dict[int, int] = {}
    for route in snapshot.routes:
        if route.network == "0.0.0.0/0":
            metrics[route.ifindex] = min(route.metric, metrics.get(route.ifindex, route.metric))
    return sorted(
        usable,
        key=lambda n: (n.mac != answered, n.index not in metrics, metrics.get(n.index, 0), n.index),
    )


def ask(snapshot: Snapshot, answered: str, instance_id: str) -> Answer:
    """The metadata service's network_data by the first NIC that gives one."""
    problems = []
    for nic in candidates(snapshot, answered):
        try:
            data = source.fetch(nic.name, instance_id)
        except (source.SourceError, Refused) as exc:
            problems.append(str(exc))
            if isinstance(exc, Refused):
                # The right service, with nothing to say: a neighbour's word is no substitute.
                return Answer(None, nic.mac, tuple(problems))
            continue
        if nic.mac != answered:
            LOG.info("metadata service answers via nic=%s mac=%s", nic.name, nic.mac)
        return Answer(data, nic.mac, tuple(problems))
    if not problems:
        problems.append("metadata: no NIC has an IPv4 address to ask from")
    return Answer(None, "", tuple(problems))
