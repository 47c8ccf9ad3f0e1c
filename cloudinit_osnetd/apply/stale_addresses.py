# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Static addresses that a NIC's part gave, and that are not wanted any more: they go, whatever the backend left.

An `ifdown` that was killed, or that reads another stanza than the one it was brought up by, leaves the old address
beside the new one. So the store remembers, from before the commit, what was given, until it has been seen gone. An
address that was never in a part of ours is nobody's here: foreign.py keeps those.
"""

import ipaddress
import logging
from contextlib import contextmanager
from typing import Container, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from ..core.desired import Item, Want
from ..core.network_data import DHCP4, DHCP6, SLAAC, Entry, static_addresses
from ..core.records import Nic, Snapshot, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink, save_restore
from ..state.store import State
from ..system import files

LOG = logging.getLogger(__name__)
_PROMOTE = "/proc/sys/net/ipv4/conf/%s/promote_secondaries"


def remember(
    state: State,
    wants: Sequence[Want],
    touches: Sequence[Touch],
    stood: Mapping[str, KeyTruth],
    known: Mapping[str, KeyTruth],
    parts: Mapping[str, Iterable[str]],
) -> State:
    """The state before a commit: what the touched NICs' parts gave (`stood`, or at least `known`), and will not.

    `parts`: by NIC's name, what the parts mean that are replaced (Backend.meaning): one may be somebody's edit, that is
    taken back by force.
    """
    names = {touch.name for touch in touches if touch.action in ("reconfigure", "kick")}
    unwanted = dict(state.unwanted)
    for item in (item for want in wants for item in want.items if item.name in names):
        entries = [one[item.key].entry for one in (stood, known) if item.key in one]
        gave = {address for entry in entries for address in static_addresses(entry)}
        gave |= {line.split()[1] for line in parts.get(item.name, ()) if line.startswith("address ") and "/" in line}
        unwanted[item.key] = _sorted(gave.union(unwanted.get(item.key, ())) - set(static_addresses(item.entry)))
    return state._replace(unwanted={key: addresses for key, addresses in unwanted.items() if addresses})


def rolled_back(state: State, items: Sequence[Item], stood: Mapping[str, KeyTruth]) -> State:
    """Of NICs that went back to what stood before, what is not wanted is the other way round."""
    unwanted = dict(state.unwanted)
    for item in items:
        back_to = set(static_addresses(stood[item.key].entry)) if item.key in stood else set()
        unwanted[item.key] = _sorted((set(static_addresses(item.entry)) | set(unwanted.get(item.key, ()))) - back_to)
    return state._replace(unwanted={key: addresses for key, addresses in unwanted.items() if addresses})


def there(state: State, items: Mapping[str, Item], now: Snapshot) -> Dict[str, Tuple[str, ...]]:
    """By key: the addresses that are still there, have no lifetime, and are not wanted; pure.

    A lease or an advertisement may bring the very address that was static before: Neutron's ports keep theirs when the
    DHCP of their subnet is switched on. It has a lifetime then, mostly: see also _left.
    """
    found = {}
    for key, addresses in state.unwanted.items():
        nic = now.named(items[key].name) if key in items else None
        if nic is not None:
            permanent = {address.address for address in nic.addresses if address.permanent}
            still = permanent.intersection(addresses) - set(static_addresses(items[key].entry))
            found.update({key: _sorted(still)} if still else {})
    return found


def _left(addresses: Iterable[str], nic: Nic, entry: Entry) -> FrozenSet[str]:
    """Less those that may be a lease without end: where the NIC takes some of a family and has no other of it."""
    left = set(addresses)
    have = [a.address for a in nic.addresses if not ipaddress.ip_interface(a.address).ip.is_link_local]
    for colon, types in ((False, DHCP4), (True, DHCP6 | SLAAC)):
        family = {address for address in have if (":" in address) == colon}
        if family <= left and any(net.type in types for net in entry.networks):
            left -= family
    return frozenset(left)


def surely_there(state: State, items: Mapping[str, Item], now: Snapshot) -> Dict[str, FrozenSet[str]]:
    """`there`, less those that may be a lease."""
    found = {}
    for key, addresses in there(state, items, now).items():
        nic = now.named(items[key].name)
        if nic is not None:
            found[key] = _left(addresses, nic, items[key].entry)
    return found


def take_away(
    state: State, wants: Sequence[Want], spared: Container[str] = ()
) -> Tuple[State, Dict[str, Tuple[str, ...]]]:
    """Have the kernel take them away; the state without those that are gone, and what is to be told, by MAC.

    Not from a NIC that does not have its new addresses (yet), and not from the `spared` (MACs), of which the new part
    could not be written or put in force: they need what they had.
    """
    if not state.unwanted:
        return state, {}
    items = {item.key: item for want in wants for item in want.items}
    now = netlink.snapshot()
    told: Dict[str, Tuple[str, ...]] = {}
    for key, addresses in surely_there(state, items, now).items():
        nic, entry = now.named(items[key].name), items[key].entry
        if nic is not None and entry.mac not in spared and all(nic.has(one) for one in static_addresses(entry)):
            with _promoting(nic.name):
                told[entry.mac] = tuple(_taken(nic.ifindex, addresses))
    return state._replace(unwanted=there(state, items, netlink.snapshot())), told


def said(address: str) -> str:
    return "%s is there still, and not wanted any more" % address


@contextmanager
def _promoting(name: str) -> Iterator[None]:
    """With an IPv4 address the kernel takes the later ones of its subnet away, others' too, unless it promotes them."""
    path = _PROMOTE % name
    before = (files.read(path) or "").strip()
    if before == "0":
        _set(path, "1")
    try:
        yield
    finally:
        if before == "0":
            _set(path, before)


def _set(path: str, value: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as fh:
            fh.write(value)
    except OSError as exc:
        LOG.warning("not set: file=%s value=%s error=%s", path, value, exc)


def _taken(ifindex: int, addresses: FrozenSet[str]) -> List[str]:
    told = []
    with save_restore.opened() as sock:
        for thing in save_restore.read(sock, [save_restore.ADDRESS]):
            if thing.ifindexes != (ifindex,) or thing.network not in addresses:
                continue
            try:
                save_restore.take_away(sock, thing)
                told.append("removed: %s, which is not wanted any more, and was left" % thing.network)
                LOG.info("left over, removed: %s", thing.text)
            except OSError as exc:
                told.append("%s: %s" % (said(thing.network), exc.strerror or exc))
                LOG.warning("left over, not removed: %s: %s", thing.text, exc)
    return told


def _sorted(addresses: Set[str]) -> Tuple[str, ...]:
    return tuple(sorted(addresses))
