# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Waiting until the kernel shows what is wanted of the NICs that were touched."""

import time
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, NamedTuple, Sequence, Tuple

from ..backends import Backend
from ..core.conformance import Verdict, check, is_others_doing
from ..core.desired import Item, Want
from ..core.records import Snapshot, Touch
from ..kernel import netlink

VERIFY_SECONDS = 30.0
_CARRIER_SECONDS = 5.0  # a link that was brought up a moment ago has none yet
_DNS_SECONDS = 1.0
_POLL_SECONDS, _POLL_SLOWEST = 0.01, 0.2


class Verified(NamedTuple):
    """What is to be said of each link, by MAC; one without anything to say is left out."""

    problems: Dict[str, str]
    findings: Dict[str, Tuple[str, ...]]
    unleased: FrozenSet[str]  # MACs for which a lease or an advertisement is still to come


def touched_verdicts(
    wants: Sequence[Want], names: FrozenSet[str], now: Snapshot, plain: FrozenSet[str]
) -> Dict[Tuple[str, str], Verdict]:
    """The verdicts on the links of these names, by key and MAC."""
    items = [item for want in wants for item in want.items if item.name in names]
    return {(item.key, item.entry.mac): check(item, now, item.key in plain) for item in items}


def verify(
    wants: Sequence[Want],
    touched: Sequence[Touch],
    snapshot: Callable[[], Snapshot] = netlink.snapshot,
    seconds: float = VERIFY_SECONDS,
    plain: FrozenSet[str] = frozenset(),
) -> Verified:
    """Wait until the touched NICs have what is wanted of them, `seconds` at the most.

    `plain` as in check.check, by key.
    """
    names = frozenset(touch.name for touch in touched if touch.action != "down")
    began = time.monotonic()
    pause = _POLL_SECONDS
    while True:
        verdicts = touched_verdicts(wants, names, snapshot(), plain)
        waited = time.monotonic() - began
        awaited = [problem for v in verdicts.values() for problem in v.problems if not is_others_doing(problem)]
        missing = awaited or any(not v.carrier and waited < _CARRIER_SECONDS for v in verdicts.values())
        if not missing or waited > seconds:
            return _said(verdicts, "after %d s " % seconds)
        time.sleep(pause)
        pause = min(pause * 1.2, _POLL_SLOWEST)


def _said(verdicts: Dict[Tuple[str, str], Verdict], when: str) -> Verified:
    problems: Dict[str, str] = {}
    findings: Dict[str, Tuple[str, ...]] = {}
    for (_key, mac), verdict in verdicts.items():
        if verdict.problems:
            problems[mac] = "; ".join(filter(None, [problems.get(mac, ""), when + verdict.lacks]))
        if verdict.findings:
            findings[mac] = findings.get(mac, ()) + verdict.findings
    return Verified(problems, findings, frozenset(mac for (_key, mac), v in verdicts.items() if not v.leased))


def dns_findings(items: Sequence[Item], backend: Backend, now: Snapshot) -> Dict[str, Tuple[str, ...]]:
    """The DNS servers of static networks that are not in use, by MAC."""
    return _by_mac(_unused_dns(items, backend, now))


def await_dns(wants: Sequence[Want], touched: Sequence[Touch], backend: Backend) -> Dict[str, Tuple[str, ...]]:
    """The same of touched NICs, whose backend may tell it a moment after the kernel shows the rest."""
    names = {touch.name for touch in touched if touch.action != "down"}
    items = [item for want in wants for item in want.items if item.name in names]
    now = netlink.snapshot() if items else None
    deadline = time.monotonic() + _DNS_SECONDS
    while now is not None:
        unused = list(_unused_dns(items, backend, now))
        if time.monotonic() > deadline or all(final for _mac, _text, final in unused):
            return _by_mac(unused)
        time.sleep(_POLL_SECONDS)
    return {}


def _by_mac(unused: Iterable[Tuple[str, str, bool]]) -> Dict[str, Tuple[str, ...]]:
    found: Dict[str, Tuple[str, ...]] = {}
    for mac, text, _final in unused:
        found[mac] = found.get(mac, ()) + (text,)
    return found


def _unused_dns(items: Sequence[Item], backend: Backend, now: Snapshot) -> Iterator[Tuple[str, str, bool]]:
    """(MAC, what is to be said, whether waiting is of no use)."""
    for item in items:
        nic = now.named(item.name)
        servers, domains = set(item.all_dns), set(item.all_search)
        told = backend.dns(nic.name, nic.ifindex) if nic and (servers or domains) else None
        if told is None:
            continue
        for what, unused in (("DNS servers", servers - told.servers), ("search domains", domains - told.search)):
            if unused:
                why = " (%s)" % told.why if told.why else ""
                yield item.entry.mac, "%s not in use: %s%s" % (what, ", ".join(sorted(unused)), why), bool(told.why)
