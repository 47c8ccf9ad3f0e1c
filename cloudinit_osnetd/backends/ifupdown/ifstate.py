# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What ifupdown knows of a NIC, and a NIC freed of all on which its next `ifup` would stumble.

`ifup` ends at an address that is there already, waits for ever for a lock that another holds, and does nothing where it
believes that the NIC is up. So before each one: who is at work on the NIC is ended, what its stanzas set is taken from
it, and nothing is left of it in ifstate and resolvconf(8).
"""

import logging
import os
from typing import Iterable, List, Set

from ...kernel import netlink
from ...system import files
from ...system.command import CommandError, run
from . import lock_holders

LOG = logging.getLogger(__name__)
STATE = "/run/network/ifstate"
DEVICES = "/sys/class/net"
DHCLIENT_PID = "/run/dhclient.%s.pid"  # ifupdown's own name for it
RESOLVCONF = "/run/resolvconf/interface"
_IFF_UP = 1  # linux/if.h
_DOWN_SECONDS = 30  # a client that gives back its lease takes a moment, and hooks may


def up() -> Set[str]:
    """The NICs that ifupdown takes for configured, by ifstate."""
    return {line.split("=", 1)[0].strip() for line in (files.read(STATE) or "").splitlines() if "=" in line}


def is_up(name: str) -> bool:
    """True where ifupdown believes so: by ifstate or, from 0.8 on, by the NIC's own file, which it writes first."""
    own = (files.read("%s.%s" % (STATE, name)) or "").strip()
    return bool(own) or name in up()


def link_is_up(name: str) -> bool:
    flags = (files.read(os.path.join(DEVICES, name, "flags")) or "0").strip()
    return bool(int(flags, 16) & _IFF_UP)


def half_down(name: str) -> bool:
    """True where an `ifdown` that was killed left addresses or a client: it leaves ifstate first."""
    return link_is_up(name) or os.path.exists(DHCLIENT_PID % name)


def take_down(name: str, mac: str, addresses: Iterable[str]) -> None:
    """Take a NIC down with its stanzas in place, and see that it is; `addresses`: what they set.

    A NIC that is gone is taken down too: its DHCP client ends, and it leaves ifstate, without which a later NIC of that
    name would count as configured. One that has got another name has its addresses still.
    """
    lock_holders.end(name, "%s.%s" % (STATE, name), clients=False)  # a client that is let be gives back its lease
    finished = True
    if is_up(name) or half_down(name):
        try:
            run(["ifdown", "--force", name], timeout=_DOWN_SECONDS)
        except CommandError as exc:
            # The commands of a stanza fail on a device that is gone: that is the rule.
            finished = not exc.out_of_time
    if is_up(name):
        forget(name)
    if not finished and link_is_up(name):
        # Its routes would stand in the way of the new ones.
        _try(["ip", "link", "set", "dev", name, "down"])
    clear(name, mac, addresses)
    forget_dns(name)


def clear(name: str, mac: str, addresses: Iterable[str]) -> None:
    """End who is at work on a NIC, and take these addresses from it, whatever their prefix; others' stay."""
    leased = lock_holders.end(name, "%s.%s" % (STATE, name))
    now = netlink.snapshot()
    nic = now.named(name) or now.by_mac().get(mac)
    ours = set(addresses)
    for address in nic.addresses if nic else ():
        plain = address.address.partition("/")[0]
        # Of a client that was ended the address goes too: nobody is there to prolong its lease.
        if plain in ours or (leased and not address.permanent and ":" not in plain):
            LOG.info("in the way of ifup: nic=%s address=%s", nic.name if nic else name, address.address)
            _try(["ip", "address", "del", address.address, "dev", nic.name if nic else name])


def forget(name: str) -> None:
    kept = [line for line in (files.read(STATE) or "").splitlines() if line.split("=", 1)[0] != name]
    own = "%s.%s" % (STATE, name)
    try:
        files.replace(STATE, "".join(line + "\n" for line in kept), sync=False)
        if os.path.exists(own):
            os.truncate(own, 0)  # in place: it is a lock as well
    except OSError as exc:
        LOG.error("still up for ifupdown: nic=%s error=%s", name, exc)


def forget_dns(name: str) -> None:
    """A DHCP client whose NIC is gone ends without a word to resolvconf(8): its servers would stay."""
    for program in ("inet", "inet6", "dhclient", "ip6.dhclient"):
        record = "%s.%s" % (name, program)
        if os.path.exists(os.path.join(RESOLVCONF, record)):
            _try(["resolvconf", "-d", record])


def _try(argv: List[str]) -> None:
    try:
        run(argv)
    except CommandError:
        pass  # run() has logged it; what matters is whether ifup succeeds
