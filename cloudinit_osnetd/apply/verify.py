# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Waits until the kernel shows the wanted configuration on the NICs that were touched."""

import time
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, NamedTuple, Sequence, Tuple

from ..backends import Backend
from ..core.conformance import CheckResult, check, is_duplicate_address
from ..core.desired import Item, Want
from ..core.records import Snapshot, Touch
from ..kernel import netlink

VERIFY_SECONDS = 30.0
_CARRIER_SECONDS = 5.0  # a link that has just been brought up has no carrier yet
_DNS_SECONDS = 1.0
_POLL_SECONDS, _POLL_SLOWEST = 0.01, 0.2


class Verified(NamedTuple):
    """Problems and findings by link (network_data.link_id). A link without any is left out."""

    problems: Dict[str, str]
    findings: Dict[str, Tuple[str, ...]]
    unleased: FrozenSet[str]  # links for which a lease or an advertisement is still to come


def touched_verdicts(
    wants: Sequence[Want], names: FrozenSet[str], now: Snapshot, plain: FrozenSet[str]
) -> Dict[str, CheckResult]:
    """Returns the verdicts on the links of these names, by link."""
    items = [item for want in wants for item in want.items if item.name in names]
    return {item.link: check(item, now, item.key in plain) for item in items}


def verify(
    wants: Sequence[Want],
    touched: Sequence[Touch],
    snapshot: Callable[[], Snapshot] = netlink.snapshot,
    seconds: float = VERIFY_SECONDS,
    plain: FrozenSet[str] = frozenset(),
) -> Verified:
    """Waits until the touched NICs have their wanted configuration, at most `seconds`.

    `plain` as in conformance.check, by key.
    """
    names = frozenset(touch.name for touch in touched if touch.action != "down")
    began = time.monotonic()
    pause = _POLL_SECONDS
    while True:
        verdicts = touched_verdicts(wants, names, snapshot(), plain)
        waited = time.monotonic() - began
        awaited = [problem for v in verdicts.values() for problem in v.problems if not is_duplicate_address(problem)]
        missing = awaited or any(not v.carrier and waited < _CARRIER_SECONDS for v in verdicts.values())
        if not missing or waited > seconds:
            return _report(verdicts, seconds)
        time.sleep(pause)
        pause = min(pause * 1.2, _POLL_SLOWEST)


def _report(verdicts: Dict[str, CheckResult], seconds: float) -> Verified:
    problems = {link: _told(verdict.problems, seconds) for link, verdict in verdicts.items() if verdict.problems}
    findings = {link: verdict.findings for link, verdict in verdicts.items() if verdict.findings}
    return Verified(problems, findings, frozenset(link for link, verdict in verdicts.items() if not verdict.leased))


def _told(problems: Sequence[str], seconds: float) -> str:
    """Returns the problems as text, with the time only before those that were waited for."""
    duplicates = [problem for problem in problems if is_duplicate_address(problem)]
    awaited = "; ".join(problem for problem in problems if problem not in duplicates)
    return "; ".join((["after %d s %s" % (seconds, awaited)] if awaited else []) + duplicates)


def dns_findings(items: Sequence[Item], backend: Backend, now: Snapshot) -> Dict[str, Tuple[str, ...]]:
    """Returns findings by link: DNS servers and search domains of static networks that are not in use."""
    return _by_link(_unused_dns(items, backend, now))


def await_dns(wants: Sequence[Want], touched: Sequence[Touch], backend: Backend) -> Dict[str, Tuple[str, ...]]:
    """Returns the same for touched NICs. Their backend may report DNS a moment after the kernel shows the rest."""
    names = {touch.name for touch in touched if touch.action != "down"}
    items = [item for want in wants for item in want.items if item.name in names]
    now = netlink.snapshot() if items else None
    deadline = time.monotonic() + _DNS_SECONDS
    while now is not None:
        unused = list(_unused_dns(items, backend, now))
        if time.monotonic() > deadline or all(final for _link, _text, final in unused):
            return _by_link(unused)
        time.sleep(_POLL_SECONDS)
    return {}


def _by_link(unused: Iterable[Tuple[str, str, bool]]) -> Dict[str, Tuple[str, ...]]:
    found: Dict[str, Tuple[str, ...]] = {}
    for link, text, _final in unused:
        found[link] = found.get(link, ()) + (text,)
    return found


def _unused_dns(items: Sequence[Item], backend: Backend, now: Snapshot) -> Iterator[Tuple[str, str, bool]]:
    """Yields (link, finding, True if waiting cannot help)."""
    for item in items:
        nic = now.named(item.name)
        servers, domains = set(item.all_dns), set(item.all_search)
        in_use = backend.dns(nic.name, nic.ifindex) if nic and (servers or domains) else None
        if in_use is None:
            continue
        for what, unused in (("DNS servers", servers - in_use.servers), ("search domains", domains - in_use.search)):
            if unused:
                why = " (%s)" % in_use.why if in_use.why else ""
                yield item.link, "%s not in use: %s%s" % (what, ", ".join(sorted(unused)), why), bool(in_use.why)
