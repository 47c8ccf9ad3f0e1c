# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What must be reachable after a change because it was before: gateways, the metadata service, an operator's list.

A gateway counts by what it is for: an edit may name another one for the same destination, and then
that one has to answer. It is asked as a neighbour of its NIC, whatever the routes say.
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

# probe is imported where somebody is asked, which most runs do not.
if TYPE_CHECKING:
    from ..kernel.probe import Question

BEFORE_SECONDS = 0.7  # for who answers before a change: asked four times in that
_ROUND_SECONDS = 1.0
METADATA = "the metadata service"


class Target(NamedTuple):
    """`key` of the link whose gateway for `what` (a destination) it is; empty for a target of the whole server."""

    key: str
    what: str

    def __str__(self) -> str:
        return "the gateway for %s" % self.what if self.key else self.what


# By target: the gateways, or nothing for a target of the whole server. None: it is wanted no more.
Asked = Dict[Target, Optional[Tuple[str, ...]]]
# What to ask at a moment, by the kernel's state at that moment.
Ask = Callable[[Snapshot], Asked]


def of_server(must_reach: Iterable[str]) -> List[Target]:
    return [Target("", METADATA)] + [Target("", one) for one in sorted(must_reach)]


def of_links(items: Iterable[Item], snapshot: Snapshot) -> Dict[Target, Tuple[str, ...]]:
    """The gateways that the kernel uses now on the links of these items."""
    found: Dict[Target, Tuple[str, ...]] = {}
    for item in items:
        nic = snapshot.named(item.name)
        for route in snapshot.routes if nic else ():
            if nic and route.ifindex == nic.ifindex and route.gateway:
                target = Target(item.key, route.network)
                found[target] = found.get(target, ()) + (route.gateway,)
    return found


def wanted(target: Target, item: Item, snapshot: Snapshot) -> Optional[Tuple[str, ...]]:
    """The gateways for a target after a change; None where none is wanted.

    A lease or an advertisement may bring one of which the entry says nothing: while that is to
    come there is nobody to ask, and once it has come without one nobody is missed. A router may
    advertise itself to a static port too, where the told gateway is nobody.
    """
    six = ":" in target.what
    told = [r.gateway for net in item.entry.networks for r in net.routes if r.network == target.what and r.gateway]
    dynamic = any(net.type in (DHCP6 | SLAAC if six else DHCP4) for net in item.entry.networks)
    there = snapshot if dynamic else snapshot._replace(routes=tuple(r for r in snapshot.routes if r.advertised))
    brought = of_links([item], there).get(target, ())
    if told or brought:
        return tuple(told) + brought
    return () if dynamic and not check(item, snapshot).leased else None


def reached(
    asked: Mapping[Target, Optional[Sequence[str]]],
    names: Mapping[str, str],
    snapshot: Snapshot,
    seconds: float,
    stubborn: bool = True,
) -> FrozenSet[Target]:
    """Those targets that answer within so many seconds, and those that are wanted no more.

    `names` of the links, by key. For a gateway any one of those asked has to answer.
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
    """Wait until all targets answer, so many seconds at the most; those that did in the end.

    One that has answered once is not asked again.
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
        # A question that cannot be asked at all takes no time: do not spin.
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
    """Our own address to ask a gateway by ARP with: one of its subnet, where there is one."""
    nic = snapshot.named(name)
    if ":" in gateway or nic is None:
        return ""
    ours = [ipaddress.ip_interface(a.address) for a in nic.addresses if ":" not in a.address]
    fitting = [str(one.ip) for one in ours if ipaddress.ip_address(gateway) in one.network]
    return (fitting + [str(one.ip) for one in ours] + [""])[0]


def carrier(target: Target, snapshot: Snapshot) -> str:
    """The name of the NIC by which the kernel would reach a target of the whole server; empty where it cannot."""
    from ..kernel import probe

    source = probe.source_of(METADATA4 if target.what == METADATA else probe.parse(target.what)[0])
    holders = [nic.name for nic in snapshot.nics if any(a.address.partition("/")[0] == source for a in nic.addresses)]
    return holders[0] if source and holders else ""
