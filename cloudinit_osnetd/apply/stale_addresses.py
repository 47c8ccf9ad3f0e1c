# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Removes static addresses of a NIC's former part that are not wanted any more and that the backend left behind.

An `ifdown` that was killed, or that reads another stanza than `ifup` did, leaves the old address beside the new one. So
the store records the configured addresses before the commit, until the kernel does not show them any more. An address
that was never in a part of ours is not removed: foreign.py preserves those.
"""

import ipaddress
import logging
from typing import Container, Dict, FrozenSet, Iterable, List, Mapping, Sequence, Set, Tuple

from ..core.desired import Item, Want
from ..core.network_data import DHCP4, DHCP6, SLAAC, Entry, static_addresses
from ..core.records import Nic, Snapshot, Touch
from ..core.truth import KeyTruth
from ..kernel import netlink, save_restore
from ..kernel.secondary_addresses import promoting_secondaries
from ..state.store import State

LOG = logging.getLogger(__name__)


def remember(
    state: State,
    wants: Sequence[Want],
    touches: Sequence[Touch],
    rendered_from: Mapping[str, KeyTruth],
    known: Mapping[str, KeyTruth],
    parts: Mapping[str, Iterable[str]],
) -> State:
    """Returns the state to save before a commit: it records the touched NICs' addresses that are not wanted any more.

    These come from `rendered_from`, or at least from `known`. `parts`: by NIC name, what the replaced parts mean
    (Backend.meaning), because a part may hold an administrator's edit that --force overwrites.
    """
    names = {touch.name for touch in touches if touch.action in ("reconfigure", "kick")}
    unwanted = dict(state.unwanted)
    for item in (item for want in wants for item in want.items if item.name in names):
        entries = [one[item.key].entry for one in (rendered_from, known) if item.key in one]
        old = {address for entry in entries for address in static_addresses(entry)}
        old |= {line.split()[1] for line in parts.get(item.name, ()) if line.startswith("address ") and "/" in line}
        unwanted[item.key] = _sorted(old.union(unwanted.get(item.key, ())) - set(static_addresses(item.entry)))
    return state._replace(unwanted={key: addresses for key, addresses in unwanted.items() if addresses})


def rolled_back(state: State, items: Sequence[Item], rendered_from: Mapping[str, KeyTruth]) -> State:
    """Returns the state for NICs that are rolled back: the new addresses become the unwanted ones."""
    unwanted = dict(state.unwanted)
    for item in items:
        old = rendered_from.get(item.key)
        back_to = set(static_addresses(old.entry)) if old is not None else set()
        unwanted[item.key] = _sorted((set(static_addresses(item.entry)) | set(unwanted.get(item.key, ()))) - back_to)
    return state._replace(unwanted={key: addresses for key, addresses in unwanted.items() if addresses})


def still_present(state: State, items: Mapping[str, Item], now: Snapshot) -> Dict[str, Tuple[str, ...]]:
    """Returns by key the unwanted addresses that the kernel still shows and that have no lifetime. Pure.

    A lease or a router advertisement may bring the same address that was static before: a Neutron port keeps its
    addresses when DHCP is enabled on the subnet. Such an address usually has a lifetime; see also _without_leases.
    """
    found = {}
    for key, addresses in state.unwanted.items():
        nic = now.named(items[key].name) if key in items else None
        if nic is not None:
            permanent = {address.address for address in nic.addresses if address.permanent}
            still = permanent.intersection(addresses) - set(static_addresses(items[key].entry))
            found.update({key: _sorted(still)} if still else {})
    return found


def _without_leases(addresses: Iterable[str], nic: Nic, entry: Entry) -> FrozenSet[str]:
    """Leaves out what may be a lease of unlimited lifetime.

    These are the addresses of a family that the NIC gets dynamically and of which it has no other address.
    """
    left = set(addresses)
    have = [a.address for a in nic.addresses if not ipaddress.ip_interface(a.address).ip.is_link_local]
    for colon, types in ((False, DHCP4), (True, DHCP6 | SLAAC)):
        family = {address for address in have if (":" in address) == colon}
        if family <= left and any(net.type in types for net in entry.networks):
            left -= family
    return frozenset(left)


def certainly_stale(state: State, items: Mapping[str, Item], now: Snapshot) -> Dict[str, FrozenSet[str]]:
    """Returns what `still_present` returns, without the addresses that may be a lease."""
    found = {}
    for key, addresses in still_present(state, items, now).items():
        nic = now.named(items[key].name)
        if nic is not None:
            found[key] = _without_leases(addresses, nic, items[key].entry)
    return found


def remove(
    state: State, wants: Sequence[Want], spared: Container[str] = ()
) -> Tuple[State, Dict[str, Tuple[str, ...]]]:
    """Removes the unwanted addresses. Returns the state without those that are gone, and findings by link.

    Nothing is removed from a NIC that does not have its new addresses yet, nor from `spared` (links), whose new part
    could not be written or activated: they need their old addresses.
    """
    if not state.unwanted:
        return state, {}
    items = {item.key: item for want in wants for item in want.items}
    now = netlink.snapshot()
    findings: Dict[str, Tuple[str, ...]] = {}
    for key, addresses in certainly_stale(state, items, now).items():
        nic, entry = now.named(items[key].name), items[key].entry
        if nic is not None and items[key].link not in spared and all(nic.has(one) for one in static_addresses(entry)):
            with promoting_secondaries(nic.name):
                findings[items[key].link] = tuple(_remove(nic.ifindex, addresses))
    return state._replace(unwanted=still_present(state, items, netlink.snapshot())), findings


def text_of(address: str) -> str:
    return "%s is not wanted any more and still present" % address


def _remove(ifindex: int, addresses: FrozenSet[str]) -> List[str]:
    findings = []
    with save_restore.opened() as sock:
        for thing in save_restore.read(sock, [save_restore.ADDRESS]):
            if thing.ifindexes != (ifindex,) or thing.network not in addresses:
                continue
            try:
                save_restore.take_away(sock, thing)
                findings.append("removed: %s, not wanted any more and left behind by the backend" % thing.network)
                LOG.info("stale address removed: %s", thing.text)
            except OSError as exc:
                findings.append("%s: %s" % (text_of(thing.network), exc.strerror or exc))
                LOG.warning("stale address not removed: %s: error=%s", thing.text, exc)
    return findings


def _sorted(addresses: Set[str]) -> Tuple[str, ...]:
    return tuple(sorted(addresses))
