# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Configures the NICs: steps by netsh, and what came of them by reading again. A NIC's failure is its own."""

import time
from typing import AbstractSet, Any, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple

from ..core import desired, truth
from ..core.conformance import check
from ..core.desired import Item
from ..core.network_data import NetworkData
from ..core.records import Nic
from . import difference, netsh, registry, state, store
from .difference import Owned
from .netsh import Netsh, Step
from .store import Stored

_ROUNDS = 3  # a step may be refused before another is done, or undo one: a lease takes routes with it
_SETTLE = 3.0  # seconds in which what was done must show
_PAUSE = 0.2


class Options(NamedTuple):
    dry_run: bool = False
    ignore: FrozenSet[str] = frozenset()  # MACs and names that other software configures
    names: Mapping[str, str] = {}  # MAC -> the name that the operator wants it to have, by the document


class Outcome(NamedTuple):
    """What became of one link."""

    key: str
    mac: str
    name: str  # of the NIC, empty if it is absent
    done: Tuple[str, ...] = ()  # the command lines
    problems: Tuple[str, ...] = ()
    findings: Tuple[str, ...] = ()
    waits: bool = False  # True if a route can be set only when a lease or an advertisement has come

    def as_json(self) -> Dict[str, Any]:
        return self._asdict()


def push(data: NetworkData, options: Options) -> List[Outcome]:
    """Puts a pushed document in force; raises OSError if nothing can be read or remembered."""
    known = store.load()
    return run(known._replace(truth=truth.observe(known.truth, "push", data, time.time())), options)


def run(stored: Stored, options: Options) -> List[Outcome]:
    """Makes every NIC as its truth says."""
    seen = state.read()
    nics = seen.snapshot.by_mac()
    keys = desired.configurable(stored.truth, nics, options.ignore)
    configured = frozenset(stored.owned) & keys
    default_routes = seen.snapshot.default_route_macs()
    metrics = desired.assign_metrics(stored.truth, keys, stored.metrics, configured, options.ignore, default_routes)
    stored = stored._replace(metrics=metrics)
    wants = desired.desired(stored.truth, nics, options.ignore, given=metrics)
    items = [item for want in wants for item in want.items]
    if not options.dry_run:
        store.save(stored)
    outcomes = []
    for item in items:
        outcome, stored = _configure(item, stored, options)
        outcomes.append(outcome)
    outcomes += _absent(stored.truth, {item.key for item in items}, nics)
    outcomes += _search(items, stored, options)
    return outcomes


def _absent(known: truth.Truth, done: AbstractSet[str], nics: Mapping[str, Nic]) -> List[Outcome]:
    found = []
    for key, one in sorted(known.keys.items()):
        if key not in done and one.entry.mac not in nics and one.listed:
            found.append(Outcome(key, one.entry.mac, "", findings=("no NIC has this MAC",)))
    return found


def _configure(item: Item, stored: Stored, options: Options) -> Tuple[Outcome, Stored]:
    """Makes one NIC as wanted. The ledger has what will be ours before the first command is run."""
    mac = item.entry.mac
    if item.entry.kind != "phy":
        what = "a bond" if item.entry.kind == "bond" else "a VLAN"
        return Outcome(item.key, mac, "", problems=("%s is not made on Windows" % what,)), stored
    owned = stored.owned.get(item.key, Owned())
    want = difference.wanted(item)
    done: List[str] = []
    errors: Dict[Step, str] = {}
    try:
        seen, nic, todo = _look(item, owned)
        if todo and not options.dry_run:
            owned = owned.with_all_of(want)
            stored = stored._replace(owned=dict(stored.owned, **{item.key: owned}))
            store.save(stored)
        before: List[Step] = []
        for _round in range(1 if options.dry_run else _ROUNDS):
            if todo == before:
                break  # done already, or in vain
            before = todo
            done += [step.line for step in todo]
            if not options.dry_run:
                errors.update((step, _do(step)) for step in todo)
                seen, nic, todo = _settled(item, owned)
    except (OSError, LookupError) as exc:
        return Outcome(item.key, mac, item.name, tuple(done), ("it broke off: %s" % exc,)), stored
    result = check(item._replace(name=nic.name), seen.snapshot)
    problems = list(result.problems)
    if options.dry_run:
        problems = []
    else:
        problems += ["not done: %s%s" % (step.line, ": " + errors[step] if errors.get(step) else "") for step in todo]
        stored = stored._replace(owned=dict(stored.owned, **{item.key: want}))
        if problems:
            stored = stored._replace(owned=dict(stored.owned, **{item.key: owned.with_all_of(want)}))
        store.save(stored)
        problems += _rename(nic, options, done)
    findings = list(result.findings) + difference.notes(item, nic)
    waits = bool(difference.waiting_routes(item, nic, seen))
    return Outcome(item.key, mac, nic.name, tuple(done), tuple(problems), tuple(findings), waits), stored


def _look(item: Item, owned: Owned) -> Tuple[state.State, Nic, List[Step]]:
    """Reads again, by the MAC: an index may be another NIC's by now. Raises LookupError if the NIC is gone."""
    seen = state.read()
    nic = seen.snapshot.by_mac().get(item.entry.mac)
    if nic is None:
        raise LookupError("the NIC is gone")
    return seen, nic, difference.steps(item, nic, seen, owned)


def _settled(item: Item, owned: Owned) -> Tuple[state.State, Nic, List[Step]]:
    """Reads until nothing is left to do, or long enough."""
    until = time.monotonic() + _SETTLE
    while True:
        seen, nic, todo = _look(item, owned)
        if not todo or time.monotonic() > until:
            return seen, nic, todo
        time.sleep(_PAUSE)


def _do(step: Step) -> str:
    if isinstance(step, Netsh):
        return netsh.run(step)
    try:
        registry.write(step)
    except OSError as exc:
        return str(exc)
    return ""


def _rename(nic: Nic, options: Options, done: List[str]) -> List[str]:
    """Gives a NIC the document's name, where the operator asked for that."""
    new = options.names.get(nic.mac, nic.name)
    if new == nic.name:
        return []
    step = netsh.rename(nic.name, new)
    done.append(step.line)
    error = netsh.run(step)
    now = state.read().snapshot.by_mac().get(nic.mac)
    if now is None or now.name != new:
        return ["it could not be renamed to %s%s" % (new, ": " + error if error else "")]
    return []


def _search(items: List[Item], stored: Stored, options: Options) -> List[Outcome]:
    """Sets the machine's list of search domains where a connection's own suffix is not enough."""
    seen = state.read()
    wanted = difference.search_list(items, seen, stored.search)
    if wanted is None:
        return []
    step = registry.Value(registry.TCPIP, "SearchList", ",".join(wanted))
    if options.dry_run:
        return [Outcome("search domains", "", "", (step.line,))]
    error = _do(step)
    if state.read().search != wanted:
        return [Outcome("search domains", "", "", (step.line,), ("not done: %s" % (error or step.line),))]
    store.save(stored._replace(search=wanted))
    return [Outcome("search domains", "", "", (step.line,))]
