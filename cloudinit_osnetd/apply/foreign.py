# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Saves what other software gave a NIC before it is touched, and restores it afterwards: addresses, routes and others.

Examples are keepalived's addresses, an operator's route or static neighbour, a VPN's rules and a routing daemon's
nexthops. A backend that takes a NIC down or reconfigures it removes these with its own. They are saved before the touch
as rtnetlink messages (save_restore.py), also in a file under /run, from which the next run continues if this one is
killed. What is missing afterwards is created again. Not foreign is what a lease or a router advertisement brought, what
the kernel created by itself, and what the NIC's old or new part configures. What cannot be restored is reported.
"""

import json
import logging
import os
import socket
import time
from types import MappingProxyType
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from ..core.desired import Want
from ..core.network_data import DHCP4, Entry, static_addresses
from ..core.records import Nic, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink, save_restore
from ..kernel.save_restore import ADDRESS, NEIGHBOUR, NEXTHOP, ROUTE, RULE, NetObject
from ..system import files, paths

LOG = logging.getLogger(__name__)
# By then the address may have moved: a virtual address on two keepalived hosts is worse than on none.
_STALE_SECONDS = 300.0
_QUIET_SECONDS, _POLL_SECONDS = 0.1, 0.005
_MOST_TRIES = 10
# RTPROT_UNSPEC, BOOT, STATIC. A routing daemon restores its own routes, but not its nexthops (systemd's issue 29034).
_BY_HAND = (0, 3, 4)


class Ours(NamedTuple):
    """What entries configure on a NIC: addresses as `ip/prefix`, routes as (network, gateway)."""

    addresses: FrozenSet[str] = frozenset()
    routes: FrozenSet[Tuple[str, str]] = frozenset()
    leased: bool = False  # a DHCP client adds routes, without a protocol number of their own


def ours(entries: Iterable[Entry]) -> Ours:
    addresses: Set[str] = set()
    routes: Set[Tuple[str, str]] = set()
    leased = False
    for entry in entries:
        addresses |= set(static_addresses(entry))
        routes |= {(route.network, route.gateway or "") for net in entry.networks for route in net.routes}
        leased |= any(net.type in DHCP4 for net in entry.networks)
    return Ours(frozenset(addresses), frozenset(routes), leased)


def ours_by_nic(
    wants: Iterable[Want], *truths: Mapping[str, KeyTruth], parts: Mapping[str, Iterable[str]] = MappingProxyType({})
) -> Dict[str, Ours]:
    """Returns by NIC name what our parts configure and configured.

    It is taken from `wants`, and from these truths for the same keys. `parts`: by NIC name, what the replaced parts
    mean (Backend.meaning). A part may be older than the last entry, if the NIC was ignored for a while.
    """
    found = {name: Ours(*_of_part(lines)) for name, lines in parts.items()}
    for item in (item for want in wants for item in want.items):
        keys = [one[item.key] for one in truths if item.key in one]
        config = ours([item.entry] + [statement.entry for one in keys for statement in one.statements.values()])
        addresses, routes = _of_part(parts.get(item.name, ()))
        found[item.name] = config._replace(addresses=config.addresses | addresses, routes=config.routes | routes)
    return found


def _of_part(lines: Iterable[str]) -> Tuple[FrozenSet[str], FrozenSet[Tuple[str, str]]]:
    split = [words for words in (line.split() for line in lines) if len(words) > 1]
    addresses = frozenset(words[1] for words in split if words[0] == "address")
    routes = frozenset((w[1], w[3] if w[2:3] == ["via"] else "") for w in split if w[0] == "route")
    return addresses, routes


def choose(there: Sequence[NetObject], touched: FrozenSet[int], ours_here: Mapping[int, Ours]) -> Tuple[NetObject, ...]:
    """Returns those of `there` that are foreign and that a touch of these NICs may remove. Pure.

    `touched`: ifindexes. `ours_here`: by ifindex, what our parts configure and configured.
    """
    by_lease = {t.network for t in there if t.kind == ADDRESS and not t.permanent}
    return tuple(thing for thing in there if _is_foreign(thing, touched, ours_here, bool(by_lease)))


def _is_foreign(thing: NetObject, touched: FrozenSet[int], ours_here: Mapping[int, Ours], leases: bool = False) -> bool:
    if not thing.permanent:
        return False
    if thing.kind == RULE:
        return True
    config = [ours_here[index] for index in thing.ifindexes if index in ours_here]
    here = bool(touched.intersection(thing.ifindexes))
    if thing.kind == ADDRESS:
        return here and not any(thing.network in one.addresses for one in config)
    if thing.kind == NEIGHBOUR:
        return here
    if thing.kind == NEXTHOP:
        return here or not thing.ifindexes
    if thing.protocol in (save_restore.KERNEL, save_restore.RA, save_restore.DHCP):
        return False
    hops = {(thing.network, gateway) for gateway in thing.gateways or ("",)}
    if thing.table == save_restore.MAIN and any(hops & one.routes for one in config):
        return False
    if not here:
        # networkd removes what belongs to no NIC. A route also disappears with the address or next hop that it needs.
        return thing.protocol in _BY_HAND or not thing.ifindexes or bool(thing.nexthop)
    # As dhclient-script sets it. The lease brings back its other routes by itself.
    by_client = thing.protocol in _BY_HAND and thing.table == save_restore.MAIN and any(one.leased for one in config)
    return not (by_client and leases and thing.network in ("0.0.0.0/0", "169.254.169.254/32"))


class Saved:
    """What was saved for the touches of one commit."""

    def __init__(self, things: Sequence[NetObject], nics: Sequence[Nic], touched: FrozenSet[int]) -> None:
        self.things = tuple(things)
        self.macs = {nic.ifindex: nic.mac for nic in nics}
        self.names = {nic.ifindex: nic.name for nic in nics}
        self.touched = touched  # ifindexes
        self.restored: Dict[str, NetObject] = {}  # by NetObject.same
        self.lost: Dict[str, str] = {}  # by NetObject.same: why
        self._tries: Dict[str, int] = {}  # by NetObject.same

    def restore(self, late: float = 0.0) -> None:
        """Creates again what is missing. `late`: seconds until the backend has begun to remove things, at most."""
        if not self.things:
            return
        at_risk = [one for one in self.things if not one.ifindexes or self.touched.intersection(one.ifindexes)]
        late = late if at_risk else 0.0
        began = time.monotonic()
        quiet_since = 0.0
        with save_restore.opened() as sock:
            while True:
                if self._once(sock):
                    quiet_since = time.monotonic()
                waited = time.monotonic() - began
                if waited >= late and (not late or time.monotonic() - quiet_since >= _QUIET_SECONDS):
                    return
                if quiet_since and time.monotonic() - quiet_since >= _QUIET_SECONDS:
                    return
                time.sleep(_POLL_SECONDS)

    def _once(self, sock: socket.socket) -> bool:
        """One pass. True if anything was created again."""
        there = save_restore.read(sock, sorted({thing.kind for thing in self.things}))
        self.lost = {}
        missing = _missing(self.things, there)
        if not missing:
            return False
        here = {nic.ifindex: nic.mac for nic in netlink.read(sock).nics}
        done = False
        for thing in _in_order(missing):
            if any(here.get(index) != mac for index, mac in self.macs.items() if index in thing.ifindexes):
                continue  # its NIC has gone
            tries = self._tries[thing.same] = self._tries.get(thing.same, 0) + 1
            if tries > _MOST_TRIES:
                self.lost[thing.same] = "restored %d times and removed again" % _MOST_TRIES
                continue
            try:
                save_restore.make(sock, thing)
            except OSError as exc:
                self.lost[thing.same] = str(exc.strerror or exc)
            else:
                self.restored[thing.same] = thing
                done = True
        return done

    def finish(self, links: Mapping[str, str] = MappingProxyType({})) -> Dict[str, Tuple[str, ...]]:
        """The last pass, after everything else is done. Returns findings by link; `links` has those by NIC name."""
        self.restore()
        if is_left():
            files.remove(paths.FOREIGN)
        findings: Dict[str, List[str]] = {}
        for thing in self.things:
            if thing.same in self.lost:
                text = "lost: %s, set by other software (%s)" % (thing.text, self.lost[thing.same])
                LOG.warning("not restored: %s: error=%s", thing.text, self.lost[thing.same])
            elif thing.same in self.restored:
                text = "restored: %s, set by other software" % thing.text
                LOG.info("restored: %s", thing.text)
            else:
                continue
            index = self._reported_for(thing)
            link = links.get(self.names.get(index, ""), self.macs.get(index, ""))
            findings.setdefault(link, []).append(text)
        return {link: tuple(texts) for link, texts in findings.items()}

    def _reported_for(self, thing: NetObject) -> int:
        """Returns the ifindex of its NIC. What belongs to no NIC is reported for one that was touched."""
        indexes = [i for i in thing.ifindexes if i in self.touched] + list(thing.ifindexes) + sorted(self.touched)
        return next((index for index in indexes if index in self.macs), 0)


def _missing(things: Sequence[NetObject], there: Sequence[NetObject]) -> List[NetObject]:
    """Returns those of `things` that are not there, or not as a whole."""
    now = {thing.same: thing for thing in there}
    return [thing for thing in things if thing.same not in now or now[thing.same].has_lost_members(thing)]


NOTHING = Saved((), (), frozenset())


def _in_order(things: Sequence[NetObject]) -> List[NetObject]:
    """Sorts by dependency: addresses, neighbours, rules, on-link routes, nexthops, their groups, the other routes.

    The kernel lists IPv4 addresses in the order in which they were added, IPv6 addresses in reverse.
    """
    addresses = [thing for thing in things if thing.kind == ADDRESS]
    six = [thing for thing in addresses if ":" in thing.network]
    anytime = [thing for thing in things if thing.kind in (NEIGHBOUR, RULE)]
    routes = [thing for thing in things if thing.kind == ROUTE]
    on_link = [thing for thing in routes if not thing.gateways and not thing.nexthop]
    nexthops = sorted((thing for thing in things if thing.kind == NEXTHOP), key=lambda thing: " group " in thing.text)
    others = [thing for thing in routes if thing not in on_link]
    return [thing for thing in addresses if thing not in six] + six[::-1] + anytime + on_link + nexthops + others


def save(touches: Sequence[Touch], ours: Mapping[str, Ours], everywhere: bool) -> Saved:
    """Saves what is foreign, before these touches. `ours`: what the old and new parts configure, by NIC name.

    `everywhere`: the backend also removes what belongs to no NIC, whichever NIC it reconfigures. Nothing is read if
    nothing can be lost. Raises OSError if the kernel does not answer.
    """
    losing = {touch.name for touch in touches if touch.action in ("reconfigure", "kick")}
    left = _left_over()
    if not losing and not left and not (everywhere and touches):
        return NOTHING
    names = {touch.name for touch in touches}
    with save_restore.opened() as sock:
        nics = netlink.read(sock).nics
        ours_here = {nic.ifindex: ours[nic.name] for nic in nics if nic.name in ours}
        touched = frozenset(nic.ifindex for nic in nics if nic.name in names)
        losers = frozenset(nic.ifindex for nic in nics if nic.name in losing)
        things = choose(save_restore.read(sock), losers, ours_here)
    macs = {nic.ifindex: nic.mac for nic in nics}
    for thing, mac in left:
        # What was foreign when that run saved it, and is in an entry of ours by now, is not foreign any more.
        here = not mac or any(macs.get(index) == mac for index in thing.ifindexes)
        if here and _missing([thing], things) and _is_foreign(thing, frozenset(thing.ifindexes), ours_here):
            things = (*(one for one in things if one.same != thing.same), thing)
    saved = Saved(things, nics, touched)
    if things:
        _note(saved)
    return saved


def _note(saved: Saved) -> None:
    rows = [
        [dict(thing._asdict(), body=thing.body.hex()), next((saved.macs.get(i, "") for i in thing.ifindexes), "")]
        for thing in saved.things
    ]
    try:
        text = json.dumps({"since": _clock(), "things": rows}) + "\n"
        files.replace(paths.FOREIGN, text, mode=0o600, sync=False)
    except OSError as exc:
        LOG.warning("not saved, other software's addresses and routes are lost if this run is killed: error=%s", exc)


def is_left() -> bool:
    """True if a run that was killed left something to restore."""
    return os.path.exists(paths.FOREIGN)


def _left_over() -> List[Tuple[NetObject, str]]:
    """Returns what a run that was killed has saved, each with the MAC of its NIC."""
    noted = files.read_json(paths.FOREIGN) if is_left() else None
    try:
        if noted is None or not 0 <= _clock() - noted["since"] < _STALE_SECONDS:
            return []
        return [(_thing(row), str(mac)) for row, mac in noted["things"]]
    except (KeyError, TypeError, ValueError) as exc:
        LOG.error("other software's saved addresses and routes cannot be read: file=%s error=%r", paths.FOREIGN, exc)
        return []


def _thing(row: Dict[str, Any]) -> NetObject:
    lists = {name: tuple(row.get(name, ())) for name in ("ifindexes", "gateways", "members")}
    return NetObject(**dict(row, body=bytes.fromhex(row["body"]), **lists))


def _clock() -> float:
    """Seconds since boot. The file does not outlive the boot, and the time of day may jump."""
    return time.monotonic()
