# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What was reachable before a change and must be reachable after it: gateways, metadata service, an operator's list.

A gateway is identified by its destination. If an edit names another gateway for the same destination, that one has to
answer. Gateways are probed as neighbours of their NIC, independent of the routes.
"""

import ipaddress
import time
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from ..core.conformance import check
from ..core.desired import Item
from ..core.network_data import DHCP4, DHCP6, SLAAC
from ..core.records import Snapshot
from ..kernel import netlink
from ..openstack.metadata import METADATA4

# probe is imported where it is used: most runs send no probe.
if TYPE_CHECKING:
    from ..kernel.probe import Question

BEFORE_SECONDS = 0.7  # to find out what answers before a change: up to four probes
_ROUND_SECONDS = 1.0
METADATA = "the metadata service"


class Target(NamedTuple):
    """The gateway of link `key` for the destination `what`. `key` is empty for a target of the whole server."""

    key: str
    what: str

    def __str__(self) -> str:
        return "the gateway for %s" % self.what if self.key else self.what


# By target: the gateways; empty for a target of the whole server. None: the target is not wanted any more.
Asked = Dict[Target, Optional[Tuple[str, ...]]]
# Returns what to probe, given the kernel's state at that moment.
Ask = Callable[[Snapshot], Asked]


def of_server(must_reach: Iterable[str]) -> List[Target]:
    return [Target("", METADATA)] + [Target("", one) for one in sorted(must_reach)]


def of_links(items: Iterable[Item], snapshot: Snapshot) -> Dict[Target, Tuple[str, ...]]:
    """Returns the gateways that the kernel uses now on the links of these items."""
    found: Dict[Target, Tuple[str, ...]] = {}
    for item in items:
        nic = snapshot.named(item.name)
        for route in snapshot.routes if nic else ():
            if nic and route.ifindex == nic.ifindex and route.gateway:
                target = Target(item.key, route.network)
                found[target] = found.get(target, ()) + (route.gateway,)
    return found


def wanted(target: Target, item: Item, snapshot: Snapshot) -> Optional[Tuple[str, ...]]:
    """Returns the gateways for a target after a change; None if none is wanted.

    A lease or a router advertisement may bring a gateway that is not in the entry. Until it arrives there is nothing to
    probe; if it arrives without a gateway, none is required. A router may also advertise itself on a static port whose
    configured gateway does not exist.
    """
    six = ":" in target.what
    routes = (route for net in item.entry.networks for route in net.routes)
    configured = [route.gateway for route in routes if route.network == target.what and route.gateway]
    dynamic = any(net.type in (DHCP6 | SLAAC if six else DHCP4) for net in item.entry.networks)
    there = snapshot if dynamic else snapshot._replace(routes=tuple(r for r in snapshot.routes if r.advertised))
    learned = of_links([item], there).get(target, ())
    if configured or learned:
        return tuple(configured) + learned
    return () if dynamic and not check(item, snapshot).leased else None


def reached(
    asked: Mapping[Target, Optional[Sequence[str]]],
    names: Mapping[str, str],
    snapshot: Snapshot,
    seconds: float,
    stubborn: bool = True,
) -> FrozenSet[Target]:
    """Returns the targets that answer within `seconds`, and those that are not wanted any more.

    `names`: the links' names by key. A target with several gateways is reached if any of them answers.
    """
    from ..kernel import probe

    questions: Dict[Question, List[Target]] = {}
    for target, gateways in asked.items():
        for question in _questions(target, gateways or (), names, snapshot):
            questions.setdefault(question, []).append(target)
    found = {target for target, gateways in asked.items() if gateways is None}
    for question in probe.answered(questions, seconds, stubborn):
        found.update(questions[question])
    return frozenset(found)


def await_all(ask: Ask, names: Mapping[str, str], seconds: float) -> FrozenSet[Target]:
    """Waits until all targets answer, at most `seconds`. Returns those that answered.

    A target that has answered is not probed again.
    """
    deadline = time.monotonic() + seconds
    found: FrozenSet[Target] = frozenset()
    while True:
        now = netlink.snapshot()
        asked = {target: gateways for target, gateways in ask(now).items() if target not in found}
        began = time.monotonic()
        found |= reached(asked, names, now, min(_ROUND_SECONDS, max(0.1, deadline - began)))
        if found.issuperset(asked) or time.monotonic() >= deadline:
            return found
        # A probe that cannot be sent fails at once: do not busy-loop.
        time.sleep(max(0.0, min(0.2, deadline - time.monotonic())) if time.monotonic() - began < 0.2 else 0.0)


def _questions(
    target: Target, gateways: Sequence[str], names: Mapping[str, str], snapshot: Snapshot
) -> "List[Question]":
    from ..kernel import probe
    from ..kernel.probe import Question

    if target.key:
        name = names[target.key]
        return [Question(probe.NEIGHBOUR, gw, device=name, source=_source(gw, name, snapshot)) for gw in gateways]
    if target.what == METADATA:
        return [Question(probe.CONNECT, METADATA4, 80)]
    address, port = probe.parse(target.what)
    return [Question(probe.CONNECT, address, port) if port else Question(probe.ECHO, address)]


def _source(gateway: str, name: str, snapshot: Snapshot) -> str:
    """Returns the source address for an ARP probe of a gateway: one of its subnet, if there is one."""
    nic = snapshot.named(name)
    if ":" in gateway or nic is None:
        return ""
    ours = [ipaddress.ip_interface(a.address) for a in nic.addresses if ":" not in a.address]
    fitting = [str(one.ip) for one in ours if ipaddress.ip_address(gateway) in one.network]
    return (fitting + [str(one.ip) for one in ours] + [""])[0]


def carrier(target: Target, snapshot: Snapshot) -> str:
    """Returns the name of the NIC through which the kernel would reach a target of the whole server; empty if none."""
    from ..kernel import probe

    source = probe.source_of(METADATA4 if target.what == METADATA else probe.parse(target.what)[0])
    holders = [nic.name for nic in snapshot.nics if any(a.address.partition("/")[0] == source for a in nic.addresses)]
    return holders[0] if source and holders else ""
