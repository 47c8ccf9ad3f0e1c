# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown's state of a NIC, and the removal of whatever would make its next `ifup` fail.

`ifup` fails if an address exists already, waits for ever for a lock that another process holds, and does nothing if it
believes that the NIC is up. So before each `ifup`, the processes that work on the NIC are ended, what its stanzas set
is removed from it, and its records in ifstate and resolvconf(8) are removed.
"""

import logging
import os
from typing import Iterable, List, Set

from ...kernel import netlink
from ...system import files, paths
from ...system.command import CommandError, run
from . import lock_holders

LOG = logging.getLogger(__name__)
_IFF_UP = 1  # linux/if.h
_DOWN_SECONDS = 30  # a client that releases its lease takes a moment, and hooks may as well


def up() -> Set[str]:
    """Returns the NICs that ifupdown regards as configured, by ifstate."""
    return {line.split("=", 1)[0].strip() for line in (files.read(paths.IFSTATE) or "").splitlines() if "=" in line}


def is_up(name: str) -> bool:
    """True if ifupdown regards the NIC as up: by ifstate or, since 0.8, by the NIC's own file, written first."""
    own = (files.read(_own(name)) or "").strip()
    return bool(own) or name in up()


def link_is_up(name: str) -> bool:
    flags = (files.read(os.path.join(paths.KERNEL_NICS, name, "flags")) or "0").strip()
    return bool(int(flags, 16) & _IFF_UP)


def half_down(name: str) -> bool:
    """True if an `ifdown` that was killed left addresses or a DHCP client: it removes the NIC from ifstate first."""
    return link_is_up(name) or os.path.exists(paths.DHCLIENT_PID % name)


def scopes_at_work(name: str) -> Set[str]:
    """Returns the scope units in which `ifup` or `ifdown` works on a NIC."""
    return lock_holders.scopes(name, _own(name))


def _own(name: str) -> str:
    """Returns the NIC's own file, which is also its lock."""
    return "%s.%s" % (paths.IFSTATE, name)


def take_down(name: str, mac: str, addresses: Iterable[str]) -> None:
    """Takes a NIC down while its stanzas are in place, and makes sure that it is down. `addresses`: what they set.

    This is also done for a NIC that is gone: its DHCP client ends, and it is removed from ifstate, where a later NIC of
    that name would count as configured. A NIC that was renamed still has its addresses.
    """
    # A client that is not killed releases its lease.
    lock_holders.end(name, _own(name), clients=False)
    finished = True
    if is_up(name) or half_down(name):
        try:
            run(["ifdown", "--force", name], timeout=_DOWN_SECONDS)
        except CommandError as exc:
            # The commands of a stanza usually fail on a device that is gone.
            finished = not exc.out_of_time
    if is_up(name):
        forget(name)
    if not finished and link_is_up(name):
        # Its old routes would conflict with the new ones.
        _try(["ip", "link", "set", "dev", name, "down"])
    clear(name, mac, addresses)
    forget_dns(name)


def clear(name: str, mac: str, addresses: Iterable[str]) -> None:
    """Ends the processes that work on a NIC, and removes these addresses from it, whatever their prefix length."""
    leased = lock_holders.end(name, _own(name))
    now = netlink.snapshot()
    nic = now.named(name) or now.by_mac().get(mac)
    ours = set(addresses)
    for address in nic.addresses if nic else ():
        plain = address.address.partition("/")[0]
        # The address of a client that was ended is removed too: its lease is not renewed any more.
        if plain in ours or (leased and not address.permanent and ":" not in plain):
            LOG.info("removed before ifup: nic=%s address=%s", nic.name if nic else name, address.address)
            _try(["ip", "address", "del", address.address, "dev", nic.name if nic else name])


def forget(name: str) -> None:
    kept = [line for line in (files.read(paths.IFSTATE) or "").splitlines() if line.split("=", 1)[0] != name]
    own = _own(name)
    try:
        files.replace(paths.IFSTATE, "".join(line + "\n" for line in kept), sync=False)
        if os.path.exists(own):
            os.truncate(own, 0)  # in place: the file is also a lock
    except OSError as exc:
        LOG.error("ifstate not updated, the NIC still counts as up: nic=%s error=%s", name, exc)


def forget_dns(name: str) -> None:
    """Removes a NIC's records: a DHCP client whose NIC is gone ends without removing its DNS servers."""
    for program in ("inet", "inet6", "dhclient", "ip6.dhclient"):
        record = "%s.%s" % (name, program)
        if os.path.exists(os.path.join(paths.RESOLVCONF_RECORDS, record)):
            _try(["resolvconf", "-d", record])


def _try(argv: List[str]) -> None:
    try:
        run(argv)
    except CommandError:
        pass  # run() has logged it; only the result of ifup matters
