# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Edits of an active device, without an activation: what a reapply can change, and what it would take away.

A reapply with a change in [ipv4] or [ipv6] removes the NIC's IPv6 addresses and adds them again, which repeats
duplicate address detection: without IPv6 for 1 to 2 s. The addresses were unique a moment ago, so the detection is
switched off meanwhile if none is new. A change in [ipv4] restarts DHCP: it waits if no server answers, and is noted, so
that later runs try it again.
"""

import contextlib
import ipaddress
import logging
import os
import time
from typing import Dict, FrozenSet, Iterator, List

from ...kernel import dhcp_probe, netlink
from ...system import files, paths
from ...system.command import CommandError, run
from .keyfile import Values, numbered, parsed, value

LOG = logging.getLogger(__name__)
# nm_device_reapply refuses a change of anything else.
_SECTIONS = ("ipv4", "ipv6", "user", "proxy")
_KEYS = {
    "connection": ("id", "uuid", "autoconnect", "autoconnect-priority", "zone", "lldp", "mdns", "llmnr"),
    "ethernet": ("mtu",),
}
_DEVICES = "/run/NetworkManager/devices"
_DETECTION = "/proc/sys/net/ipv6/conf/%s/accept_dad"
_NOTE = os.path.join(paths.RUN, "accept-dad")
_WAITING = os.path.join(paths.RUN, "waiting-for-dhcp")  # names, a line each
_NO_SERVER = (
    "no DHCP server answers, so NetworkManager would lose the lease: the profile is loaded, and applied at the next "
    "boot, or by a later run once a server answers"
)
_ANSWERS = 3.0  # seconds for a DHCP server to answer
_SETTLES = 0.3  # seconds until NetworkManager has added the addresses again


def differences(old: Values, new: Values) -> FrozenSet[str]:
    """Returns what differs, as "section.key"."""
    places = {(section, key) for values in (old, new) for section, keys in values.items() for key in keys}
    return frozenset("%s.%s" % (s, k) for s, k in places if value(old, s, k) != value(new, s, k))


def serves(then: Values, now: Values) -> bool:
    """True if a reapply can change a device from one profile to the other."""
    for place in differences(then, now):
        section, _, key = place.partition(".")
        if section not in _SECTIONS and key not in _KEYS.get(section, ()):
            return False
    return value(then, "connection", "uuid") == value(now, "connection", "uuid")


def out_of_order(then: Values, now: Values) -> List[str]:
    """Returns the IPv4 addresses that stay and that the kernel would have before one which comes ahead of them. Pure.

    NetworkManager (1.52) adds such a one behind the others of its subnet, removes them all to mend the order, and adds
    only the old ones again: the new one never comes.
    """
    old, new = _networks(then), _networks(now)
    found: List[str] = []
    for network, wanted in new.items():
        kept = [address for address in old.get(network, ()) if address in wanted]
        while kept and kept[0] == wanted[0]:
            kept, wanted = kept[1:], wanted[1:]
        found += kept
    return found


def _networks(values: Values) -> Dict[str, List[str]]:
    """Returns the static IPv4 addresses of a profile by their networks, in order."""
    found: Dict[str, List[str]] = {}
    for _key, text in numbered(values.get("ipv4", {}), "address"):
        address = text.partition(",")[0].strip()  # the gateway may follow
        try:
            network = str(ipaddress.ip_interface(address).network)
        except ValueError:
            continue
        found.setdefault(network, []).append(address)
    return found


def make_way(name: str, then: Values, now: Values) -> None:
    """Takes away the addresses that `out_of_order` names; the reapply sets them again, in order, some 50 ms later."""
    for address in out_of_order(then, now):
        try:
            run(["ip", "-4", "address", "del", address, "dev", name])
        except CommandError:
            pass  # run() has logged it; it may be gone with the one before


def is_active(name: str, uuid: str) -> bool:
    """True if the profile of this UUID is the active one of the NIC, as NetworkManager notes it."""
    nic = netlink.snapshot().named(name)
    if nic is None or not nic.up:
        return False
    return bool(uuid) and value(_noted(nic.ifindex), "device", "connection-uuid") == uuid


def _noted(ifindex: int) -> Values:
    return parsed(files.read(os.path.join(_DEVICES, str(ifindex))) or "")


def loses_lease(name: str, then: Values, now: Values) -> bool:
    """True if the NIC has a lease, and a change in [ipv4] would restart DHCP where no server answers.

    The address would be gone after 15 s, and the NIC fail after 45 s. An activation loses it at once.
    """
    both = value(then, "ipv4", "method") == value(now, "ipv4", "method") == "auto"
    restarts = then == now or name in waiting() or any(one.startswith("ipv4.") for one in differences(then, now))
    if not both or not restarts:
        return False
    nic = netlink.snapshot().named(name)
    if nic is None or not nic.up or not value(_noted(nic.ifindex), "dhcp4", "dhcp4.ip_address"):
        return False
    return not dhcp_probe.server_answers(name, _ANSWERS)


def waiting() -> FrozenSet[str]:
    """Returns the names of NICs whose loaded profile is not applied yet, because no DHCP server answered."""
    return frozenset((files.read(_WAITING) or "").splitlines())


def wait_for_server(name: str) -> str:
    """Notes such a NIC. Returns the problem."""
    _keep(waiting() | {name})
    return _NO_SERVER


def wait_no_more(name: str) -> None:
    """Notes that the profile of a NIC is applied."""
    _keep(waiting() - {name})


def _keep(names: FrozenSet[str]) -> None:
    if names == waiting():
        return
    if names:
        files.replace(_WAITING, "".join(name + "\n" for name in sorted(names)), sync=False)
    else:
        files.remove(_WAITING)


@contextlib.contextmanager
def ipv6_kept(name: str, then: Values, now: Values) -> Iterator[None]:
    """Keeps the NIC's IPv6 addresses usable during a reapply, if they stay the same."""
    changed = any(place.startswith(("ipv4.", "ipv6.")) for place in differences(then, now))
    known = {text for _key, text in numbered(then.get("ipv6", {}), "address")}
    added = {text for _key, text in numbered(now.get("ipv6", {}), "address")} - known
    path = _DETECTION % name
    before = (files.read(path) or "").strip() if changed and not added else ""
    if before not in ("1", "2"):
        yield
        return
    files.replace(_NOTE, "%s %s\n" % (name, before), sync=False)
    _set(path, "0")
    try:
        yield
        time.sleep(_SETTLES)
    finally:
        _set(path, before)
        files.remove(_NOTE)


def recover() -> None:
    """Restores the setting that an interrupted run had changed."""
    name, _, before = (files.read(_NOTE) or "").strip().rpartition(" ")
    if name:
        _set(_DETECTION % name, before)
        files.remove(_NOTE)


def _set(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as fh:
            fh.write(text)
    except OSError as exc:
        LOG.warning("not set: file=%s value=%s error=%s", path, text, exc.strerror)
