# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What others gave a NIC that we touch: noted before, put back after.

Keepalived's addresses, an operator's route, a VPN's rules: a backend that takes a NIC down, or takes its
configuration anew, takes these away with its own. They are noted before the touch, in the kernel's own words
(save_restore.py), also in a file under /run, which a run that was killed leaves to the next one. Afterwards what is
lacking is made again. What a lease or an advertisement brought, what the kernel made by itself, and what the NIC's
old or new part gives is not theirs. What cannot be put back is told.
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
from ..core.records import Touch
from ..core.truth import KeyTruth
from ..kernel import netlink, save_restore
from ..kernel.save_restore import ADDRESS, ROUTE, RULE, Thing
from ..system import files, paths

LOG = logging.getLogger(__name__)
# Who holds an address may have changed by then: two keepalived, each with the virtual one, are worse than none.
_STALE_SECONDS = 300.0
_QUIET_SECONDS, _POLL_SECONDS = 0.1, 0.005
_MOST_TRIES = 10
_BY_HAND = (0, 3, 4)  # RTPROT_UNSPEC, BOOT, STATIC; a routing daemon looks after its own


class Ours(NamedTuple):
    """What entries give a NIC: addresses as `ip/prefix`, routes as (network, gateway)."""

    addresses: FrozenSet[str] = frozenset()
    routes: FrozenSet[Tuple[str, str]] = frozenset()
    leased: bool = False  # a DHCP client gives it routes, of no protocol of their own


def ours(entries: Iterable[Entry]) -> Ours:
    addresses: Set[str] = set()
    routes: Set[Tuple[str, str]] = set()
    leased = False
    for entry in entries:
        addresses |= set(static_addresses(entry))
        routes |= {(route.network, route.gateway or "") for net in entry.networks for route in net.routes}
        leased |= any(net.type in DHCP4 for net in entry.networks)
    return Ours(frozenset(addresses), frozenset(routes), leased)


def given(
    wants: Iterable[Want], *truths: Mapping[str, KeyTruth], parts: Mapping[str, Iterable[str]] = MappingProxyType({})
) -> Dict[str, Ours]:
    """By NIC's name: what our parts give, and gave: of what is wanted, and what these truths say of the same keys.

    `parts`: by NIC's name, what the parts mean that are replaced (Backend.meaning). One may be older than what anybody
    has said last: of a NIC that was left to somebody for a while.
    """
    found: Dict[str, Ours] = {}
    for item in (item for want in wants for item in want.items):
        known = [one[item.key] for one in truths if item.key in one]
        said = ours([item.entry] + [word.entry for one in known for word in one.words.values()])
        addresses, routes = _of_part(parts.get(item.name, ()))
        found[item.name] = said._replace(addresses=said.addresses | addresses, routes=said.routes | routes)
    return found


def _of_part(lines: Iterable[str]) -> Tuple[FrozenSet[str], FrozenSet[Tuple[str, str]]]:
    said = [words for words in (line.split() for line in lines) if len(words) > 1]
    addresses = frozenset(words[1] for words in said if words[0] == "address")
    routes = frozenset((w[1], w[3] if w[2:3] == ["via"] else "") for w in said if w[0] == "route")
    return addresses, routes


def choose(there: Sequence[Thing], touched: FrozenSet[int], given: Mapping[int, Ours]) -> Tuple[Thing, ...]:
    """Those of `there` that are others', and that a touch of these NICs may take away: pure.

    `touched`: ifindexes. `given`: by ifindex, what our parts give, and gave.
    """
    by_lease = {t.network for t in there if t.kind == ADDRESS and not t.permanent}
    return tuple(thing for thing in there if _theirs(thing, touched, given, bool(by_lease)))


def _theirs(thing: Thing, touched: FrozenSet[int], given: Mapping[int, Ours], leases: bool = False) -> bool:
    if not thing.permanent:
        return False
    if thing.kind == RULE:
        return True
    mine = [given[index] for index in thing.ifindexes if index in given]
    here = bool(touched.intersection(thing.ifindexes))
    if thing.kind == ADDRESS:
        return here and not any(thing.network in one.addresses for one in mine)
    if thing.protocol in (save_restore.KERNEL, save_restore.RA, save_restore.DHCP):
        return False
    hops = {(thing.network, gateway) for gateway in thing.gateways or ("",)}
    if thing.table == save_restore.MAIN and any(hops & one.routes for one in mine):
        return False
    if not here:
        # networkd drops what belongs to no NIC; and a route goes with the address or the neighbour that it leans on.
        return thing.protocol in _BY_HAND or not thing.ifindexes
    # As dhclient-script sets it. What else a lease brings is there again with the lease.
    by_client = thing.protocol in _BY_HAND and thing.table == save_restore.MAIN and any(one.leased for one in mine)
    return not (by_client and leases and thing.network in ("0.0.0.0/0", "169.254.169.254/32"))


class Kept:
    """What is kept of one touch, or of some at once."""

    def __init__(self, things: Sequence[Thing], macs: Mapping[int, str], touched: FrozenSet[int]) -> None:
        self.things = tuple(things)
        self.macs = dict(macs)  # by ifindex: whose they are
        self.touched = touched  # ifindexes
        self.restored: Dict[str, Thing] = {}  # by Thing.same
        self.lost: Dict[str, str] = {}  # by Thing.same: why
        self._tries: Dict[str, int] = {}  # by Thing.same

    def put_back(self, late: float = 0.0) -> None:
        """Make again what is lacking. `late`: seconds that the backend may take to begin with taking away."""
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
        """One look; whether anything was made again."""
        there = save_restore.read(sock)
        now = {thing.same for thing in there}
        self.lost = {}
        lacking = [thing for thing in self.things if thing.same not in now]
        if not lacking:
            return False
        here = {nic.ifindex: nic.mac for nic in netlink.read(sock).nics}
        done = False
        for thing in _in_order(lacking):
            if any(here.get(index) != mac for index, mac in self.macs.items() if index in thing.ifindexes):
                continue  # with its NIC
            tries = self._tries[thing.same] = self._tries.get(thing.same, 0) + 1
            if tries > _MOST_TRIES:
                self.lost[thing.same] = "made again, and gone again"
                continue
            try:
                save_restore.make(sock, thing)
            except OSError as exc:
                self.lost[thing.same] = str(exc.strerror or exc)
            else:
                self.restored[thing.same] = thing
                done = True
        return done

    def finish(self) -> Dict[str, Tuple[str, ...]]:
        """The last look, once all is done; what is to be told, by MAC."""
        self.put_back()
        if is_left():
            files.remove(paths.THEIRS)
        told: Dict[str, List[str]] = {}
        for thing in self.things:
            if thing.same in self.lost:
                said = "lost: %s, which somebody else gave (%s)" % (thing.text, self.lost[thing.same])
                LOG.warning("lost: %s: %s", thing.text, self.lost[thing.same])
            elif thing.same in self.restored:
                said = "restored: %s, which somebody else gave" % thing.text
                LOG.info("restored: %s", thing.text)
            else:
                continue
            told.setdefault(self._mac_of(thing), []).append(said)
        return {mac: tuple(said) for mac, said in told.items()}

    def _mac_of(self, thing: Thing) -> str:
        """Whose NIC it is of; what is of none is told of one that was touched."""
        indexes = [i for i in thing.ifindexes if i in self.touched] + list(thing.ifindexes) + sorted(self.touched)
        return next((self.macs[index] for index in indexes if index in self.macs), "")


NOTHING = Kept((), {}, frozenset())


def _in_order(things: Sequence[Thing]) -> List[Thing]:
    """As they lean on each other: addresses, rules, routes on the link, routes by way of a gateway.

    The kernel tells IPv4 addresses in the order in which they came, IPv6 ones the other way round.
    """
    addresses = [thing for thing in things if thing.kind == ADDRESS]
    six = [thing for thing in addresses if ":" in thing.network]
    rules = [thing for thing in things if thing.kind == RULE]
    routes = sorted((thing for thing in things if thing.kind == ROUTE), key=lambda thing: bool(thing.gateways))
    return [thing for thing in addresses if thing not in six] + six[::-1] + rules + routes


def before(touches: Sequence[Touch], given: Mapping[str, Ours], everywhere: bool) -> Kept:
    """Note what is others', before these touches; `given`: what the parts give, old and new, by NIC's name.

    `everywhere`: the backend takes away what belongs to no NIC too, whichever NIC it is told of. Where nothing can be
    lost nothing is read. Raises OSError where the kernel does not tell.
    """
    losing = {touch.name for touch in touches if touch.action in ("reconfigure", "kick")}
    left = _left_over()
    if not losing and not left and not (everywhere and touches):
        return NOTHING
    names = {touch.name for touch in touches}
    with save_restore.opened() as sock:
        nics = netlink.read(sock).nics
        ours_here = {nic.ifindex: given[nic.name] for nic in nics if nic.name in given}
        touched = frozenset(nic.ifindex for nic in nics if nic.name in names)
        losers = frozenset(nic.ifindex for nic in nics if nic.name in losing)
        things = choose(save_restore.read(sock), losers, ours_here)
    macs = {nic.ifindex: nic.mac for nic in nics}
    there = {thing.same for thing in things}
    for thing, mac in left:
        # What was theirs when that run noted it, and an entry of ours gives by now, is not.
        here = not mac or any(macs.get(index) == mac for index in thing.ifindexes)
        if here and thing.same not in there and _theirs(thing, frozenset(thing.ifindexes), ours_here):
            things += (thing,)
    kept = Kept(things, macs, touched)
    if things:
        _note(kept)
    return kept


def _note(kept: Kept) -> None:
    rows = [
        [dict(thing._asdict(), body=thing.body.hex()), next((kept.macs.get(i, "") for i in thing.ifindexes), "")]
        for thing in kept.things
    ]
    try:
        text = json.dumps({"since": _clock(), "things": rows}) + "\n"
        files.replace(paths.THEIRS, text, mode=0o600, sync=False)
    except OSError as exc:
        LOG.warning("a run that is killed now loses what others gave: %s", exc)


def is_left() -> bool:
    """True where a run that was killed left something to put back."""
    return os.path.exists(paths.THEIRS)


def _left_over() -> List[Tuple[Thing, str]]:
    """What a run that was killed has noted: each with the MAC of its NIC."""
    noted = files.read_json(paths.THEIRS) if is_left() else None
    try:
        if noted is None or not 0 <= _clock() - noted["since"] < _STALE_SECONDS:
            return []
        return [(_thing(row), str(mac)) for row, mac in noted["things"]]
    except (KeyError, TypeError, ValueError) as exc:
        LOG.error("what others gave cannot be read: file=%s error=%r", paths.THEIRS, exc)
        return []


def _thing(row: Dict[str, Any]) -> Thing:
    row = dict(row, body=bytes.fromhex(row["body"]))
    return Thing(**dict(row, ifindexes=tuple(row["ifindexes"]), gateways=tuple(row["gateways"])))


def _clock() -> float:
    """Seconds since the boot: the file does not outlive it, and the time of day jumps."""
    return time.monotonic()
