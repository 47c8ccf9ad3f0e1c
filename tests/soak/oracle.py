# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A picture of the guest against the world: what is wrong with it, by NIC. Pure."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from tests.scenarios.seen import PROFILES
from tests.soak.operations import Step
from tests.soak.picture import Nic, Picture
from tests.soak.world import Entry, Wanted

LOOK_TIMER = "cloudinit-osnetd-look.timer"
EVERYWHERE = ("0.0.0.0/0", "::/0")


class Finding(NamedTuple):
    nic: str  # label, MAC and name; "" where it is no NIC's
    what: str

    def __str__(self) -> str:
        return f"{self.nic}: {self.what}" if self.nic else self.what


class Case(NamedTuple):
    """What is judged: one step, from one picture to another."""

    backend: str
    suite: str
    before: Picture
    after: Picture
    wanted_before: Dict[str, Wanted]
    wanted: Dict[str, Wanted]  # by MAC
    step: Step
    pending: bool  # somebody has to look again by himself
    listening: bool  # events are served
    served: bool = True  # what is wanted anew must be in the record of a run
    dirty: bool = False  # NICs came or went, and no run has looked since
    restless: bool = False  # nobody answers, and a NIC is pending: its run goes through every way there might be, for minutes


def judge(case: Case) -> List[Finding]:
    """Everything that is wrong; most of it may still come right, so ask until nothing is, or the time is up."""
    found = list(_nics(case))
    found += [Finding("", text) for text in _guest(case)]
    if not case.step.boots and case.before.boot == case.after.boot:
        found += _untouched(case)
        found += _paths(case)
    return found


def doubted(picture: Picture) -> List[str]:
    """The MACs of which the sources disagree: they are looked at again after 15 s."""
    return [mac for mac, (state, _reason) in picture.states.items() if state == "doubted"]


def _who(wanted: Wanted, mac: str, nic: Optional[Nic]) -> str:
    return f"{wanted.label} ({mac}, {nic.name if nic else wanted.name or '-'})"


# Each NIC by itself


def _nics(case: Case) -> Iterator[Finding]:
    for mac, wanted in case.wanted.items():
        nic = case.after.nics.get(mac)
        who = _who(wanted, mac, nic)
        if nic is None:
            yield Finding(who, "no NIC has this MAC")
            continue
        if wanted.name and nic.name != wanted.name:
            yield Finding(who, f"renamed: it was plugged as {wanted.name}")
        if not wanted.judged:
            continue
        state, reason = case.after.states.get(mac, ("unknown", ""))
        if state not in wanted.states:
            yield Finding(who, f"status says {state} ({reason}), not {' or '.join(sorted(wanted.states))}")
        for text in _kernel(case, wanted, nic):
            yield Finding(who, text)
    for mac in sorted(set(case.after.nics) - set(case.wanted)):
        yield Finding(mac, f"a NIC of nobody, {case.after.nics[mac].name}")


def _kernel(case: Case, wanted: Wanted, nic: Nic) -> Iterator[str]:
    there = set(nic.addresses)
    yield from (f"the address {one} that somebody gave it is gone" for one in sorted(wanted.extra - there))
    if "drifted" in wanted.states:
        return
    entry = wanted.entry
    if entry is None:
        yield from (f"an address though nobody names it: {one}" for one in sorted(there - wanted.may))
        return
    if "UP" not in nic.flags:
        yield "not up"
    if entry.mtu is not None and nic.mtu != entry.mtu:
        yield f"MTU {nic.mtu}, not {entry.mtu}"
    yield from (f"no address {one}" for one in sorted(entry.addresses - there))
    yield from (f"address of nobody {one}" for one in sorted(there - entry.addresses - wanted.may))
    yield from _routes(entry, nic)
    yield from _dns(entry, nic)
    yield from _backend(case, entry, nic)


def _routes(entry: Entry, nic: Nic) -> Iterator[str]:
    there = {(to, by) for to, by, _metric in nic.routes}
    advertised = {route for route in there if entry.advertised and route[0] == "::/0" and route[1].startswith("fe80:")}
    needed = {route for route in entry.routes if not (entry.advertised and route[0] == "::/0")}
    if entry.advertised and not any(route[0] == "::/0" for route in there):
        yield "no IPv6 default route, told or advertised"
    yield from (f"no route to {to} by {by}" for to, by in sorted(needed - there))
    metadata = {route for route in there if entry.dhcp4 and route[0] == "169.254.169.254"}
    yield from (f"route of nobody to {to} by {by}" for to, by in sorted(there - entry.routes - advertised - metadata))


def _dns(entry: Entry, nic: Nic) -> Iterator[str]:
    if nic.dns is None or not entry.dns:
        return
    yield from (f"DNS server {one} not in use" for one in sorted(entry.dns - set(nic.dns)))
    yield from (f"DNS server of nobody {one}" for one in sorted(set(nic.dns) - entry.dns))


def _backend(case: Case, entry: Entry, nic: Nic) -> Iterator[str]:
    if case.backend == "ifupdown":
        if nic.dhclients != int(entry.dhcp4) and not (entry.dhcp4 and case.suite in ("forky", "sid")):
            yield f"{nic.dhclients} DHCP clients, not {int(entry.dhcp4)}"
        return
    if case.backend in PROFILES:
        good = f"connected:{PROFILES[case.backend]}{nic.name}"
        if nic.networkmanager != good:
            yield f"NetworkManager says {nic.networkmanager}, not {good}"
        return
    # Up to 252 a link stays "configuring" for as long as a router might advertise itself (12 s), whatever it has.
    fine = ("configured", "configuring") if case.suite in ("bullseye", "bookworm") else ("configured",)
    if nic.networkd not in fine:
        yield f"networkd says {nic.networkd}"


# The guest as a whole


def _guest(case: Case) -> Iterator[str]:
    now = case.after
    if not case.dirty:
        configured = {_name(case, mac) for mac, wanted in case.wanted.items() if wanted.states != {"pending"}}
        yield from _same("configured on disk", set(now.parts), configured)
        yield from _same("in the ledger", set(now.ledger), configured)
        if now.ifstate is not None:
            yield from _same("up for ifupdown", set(now.ifstate), configured)
    if not (case.restless and now.busy):
        yield from _at_rest(case)
    yield from (f"{name} failed" for name in now.failed)
    yield from _default_routes(now)


def _at_rest(case: Case) -> Iterator[str]:
    now = case.after
    yield from (f"at work: {word}" for word in now.busy)
    yield from (f"left behind: {path}" for path in now.left)
    if case.listening:
        yield from (f"an event that nobody serves: {name}" for name in now.queue)
    timers = {LOOK_TIMER} if case.pending else set()
    if case.listening or not case.pending:
        yield from (f"no {name}, though something is pending" for name in sorted(timers - set(now.timers)))
    yield from (f"{name} is set, though nothing is pending" for name in sorted(set(now.timers) - timers))


def _name(case: Case, mac: str) -> str:
    nic = case.after.nics.get(mac)
    return nic.name if nic else case.wanted[mac].name


def _same(what: str, there: Set[str], wanted: Set[str]) -> Iterator[str]:
    yield from (f"{name} is not {what}" for name in sorted(wanted - there))
    yield from (f"{name} is {what}, and should not be" for name in sorted(there - wanted))


def _default_routes(now: Picture) -> Iterator[str]:
    for everywhere in EVERYWHERE:
        ways = sorted((metric, nic.name, by) for nic in now.nics.values() for to, by, metric in nic.routes if to == everywhere)
        best = [(name, by) for metric, name, by in ways if metric == ways[0][0]]
        if len({name for name, _by in best}) > 1:
            yield f"{len(best)} default routes are the best one: {', '.join(f'{by} dev {name}' for name, by in best)}"


# Who has nothing to do with it


def _unchanged(case: Case) -> Iterator[str]:
    """The MACs of NICs of which the same is wanted as before."""
    for mac, wanted in case.wanted.items():
        if case.wanted_before.get(mac) == wanted and wanted.judged and wanted.label not in case.step.touches:
            yield mac


def _untouched(case: Case) -> Iterator[Finding]:
    for mac in _unchanged(case):
        wanted, was, now = case.wanted[mac], case.before.nics.get(mac), case.after.nics.get(mac)
        if was is None or now is None:
            continue
        who = _who(wanted, mac, now)
        for field in ("name", "ifindex"):
            if getattr(was, field) != getattr(now, field):
                yield Finding(who, f"it has nothing to do with this, and its {field} was {getattr(was, field)}, is {getattr(now, field)}")
        if case.before.parts.get(was.name) != case.after.parts.get(now.name):
            yield Finding(who, "it has nothing to do with this, and its configuration on disk was changed")
        # networkd takes up what an operator wrote when it is next reloaded, and routers say what they like.
        if "drifted" in wanted.states or (wanted.entry and wanted.entry.advertised):
            continue
        for field, before, after in (
            ("MTU", was.mtu, now.mtu),
            ("flags", was.flags, now.flags),
            ("addresses", was.addresses, now.addresses),
            ("routes", was.routes, now.routes),
        ):
            if before != after:
                yield Finding(who, f"it has nothing to do with this, and its {field} were {before}, are {after}")


def new_records(case: Case) -> List[Tuple[Tuple[str, ...], Tuple[str, ...]]]:
    """Reasons and touched MACs of the runs since the last picture that changed something."""
    since = max((record.when for record in case.before.history), default=0.0)
    return [(record.reasons, record.touched) for record in case.after.history if record.when > since]


def _paths(case: Case) -> Iterator[Finding]:
    """Whom the runs touched, and for which reasons."""
    records = new_records(case)
    quiet = set(_unchanged(case))
    touched = {mac for _reasons, macs in records for mac in macs}
    for mac in sorted(touched & quiet):
        yield Finding(_who(case.wanted[mac], mac, case.after.nics.get(mac)), "it has nothing to do with this, and was touched")
    strange = {reason for reasons, _macs in records for reason in reasons} - case.step.reasons
    if strange and not doubted(case.before):
        yield Finding("", f"served by {', '.join(sorted(strange))}, not by {' or '.join(sorted(case.step.reasons)) or 'anybody'}")
    if case.served:
        yield from _served(case, touched)


def _served(case: Case, touched: Set[str]) -> Iterator[Finding]:
    for mac, wanted in case.wanted.items():
        was = case.wanted_before.get(mac)
        known = wanted.judged and wanted.entry is not None and (was is None or was.plugging == wanted.plugging)
        if known and _entry(was) != wanted.entry and mac not in touched:
            yield Finding(_who(wanted, mac, case.after.nics.get(mac)), "no run has a record of having touched it")


def _entry(wanted: Optional[Wanted]) -> Optional[Entry]:
    return wanted.entry if wanted else None


def nothing_to_do(done: Dict[str, object], before: Picture, after: Picture, commands: bool) -> List[Finding]:
    """A second run: `done` is its record. It wrote nothing and, `commands`, ran none."""
    found = [Finding("", f"a second run has something to do: {key} {done[key]}") for key in ("changes", "touches") if done.get(key)]
    if commands and done.get("commands"):
        found.append(Finding("", f"a second run runs commands: {done['commands']}"))
    for path in _differ(before.disk, after.disk):
        of_store = path.endswith("/store.json")
        what = f": {'; '.join(_store_differs(before.store, after.store))}" if of_store else ""
        found.append(Finding("", f"a second run wrote {path}{what}"))
    return found


def _store_differs(before: Any, after: Any, where: str = "") -> List[str]:
    """Where two JSON values differ, and how."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted({*before, *after})
        return [text for key in keys for text in _store_differs(before.get(key), after.get(key), f"{where}/{key}")]
    return [] if before == after else [f"{where or '/'} was {before!r}, is {after!r}"]


def _differ(before: Dict[str, object], after: Dict[str, object]) -> List[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


