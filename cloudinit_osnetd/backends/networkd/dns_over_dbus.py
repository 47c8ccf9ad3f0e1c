# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Sets a link's DNS servers and search domains over D-Bus, instead of a reload.

A reload reconfigures the whole link of a changed .network file: what other software configured on the NIC is removed,
and with systemd 252 for a moment the NIC's own addresses too. SetLinkDNS and SetLinkDomains
(org.freedesktop.network1(5), also used by resolvectl(1)) change only DNS. They apply until they are reverted or
networkd ends, so they are reverted when the file is loaded.
"""

import ipaddress
import os
import socket
from typing import Dict, List, Optional, Sequence, Tuple, Union

from ...kernel import netlink
from ...system import files, paths
from ...system.command import CommandError, run
from . import links

_OPTIONS = ("DNS", "Domains")
_CALL = ("busctl", "call", "org.freedesktop.network1", "/org/freedesktop/network1", "org.freedesktop.network1.Manager")


def invocation() -> str:
    """Returns an identifier of the running networkd process; empty if unknown."""
    try:
        return os.readlink(paths.NETWORKD_INVOCATION)
    except OSError:
        return ""


def difference(old: str, new: str) -> Optional[Tuple[List[str], List[str], List[str]]]:
    """Returns (DNS servers, search domains, the servers before) if two .network files differ in nothing else.

    Returns None if they do, or if a lease may bring DNS servers as well: networkd would not use those any more.
    """
    was, will = _read(old), _read(new)
    leased = any(line.partition("=")[2] not in ("no", "false") for _section, line in was[1] if _is(line, "DHCP"))
    if was[1] != will[1] or leased:
        return None
    return will[0]["DNS"], will[0]["Domains"], was[0]["DNS"]


def _is(line: str, option: str) -> bool:
    return line.partition("=")[0].strip() == option


def _read(text: str) -> Tuple[Dict[str, List[str]], List[Tuple[str, str]]]:
    """Returns the words of DNS= and Domains=, and the other lines in order, each with its section."""
    words: Dict[str, List[str]] = {option: [] for option in _OPTIONS}
    rest, section = [], ""
    for line in map(str.strip, text.splitlines()):
        option, _, value = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            section = line
        elif section == "[Network]" and option in _OPTIONS:
            words[option] = words[option] + value.split() if value else []
        elif line and line[0] not in "#;":
            rest.append((section, "%s=%s" % (option, value)))
    return words, rest


def dns(name: str, servers: Sequence[str], domains: Sequence[str], before: Sequence[str]) -> bool:
    """Makes networkd use these for a NIC, and what an advertisement brought. Returns False if it refuses."""
    nic = netlink.snapshot().named(name)
    if nic is None:
        return False
    known = links.dns_in_order(nic.ifindex)
    whole = list(servers) + [one for one in known if one not in before and one not in servers]
    try:
        addresses = [ipaddress.ip_address(server) for server in whole]
        note = os.path.join(paths.DNS_SET, name)
        files.replace(note, "%d %s\n" % (nic.ifindex, invocation()), sync=False)
        words = [str(word) for one in addresses for word in (_family(one), len(one.packed), *one.packed)]
        run([*_CALL, "SetLinkDNS", "ia(iay)", str(nic.ifindex), str(len(addresses)), *words])
        words = [word for one in domains for word in (one.lstrip("~") or ".", str(one.startswith("~")).lower())]
        run([*_CALL, "SetLinkDomains", "ia(sb)", str(nic.ifindex), str(len(domains)), *words])
    except (CommandError, OSError, ValueError):
        return False
    return True


def _family(address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address]) -> int:
    return int(socket.AF_INET if address.version == 4 else socket.AF_INET6)


def forget(name: str) -> None:
    """Reverts the settings: the NIC's file is loaded, or about to be, and applies again."""
    note = os.path.join(paths.DNS_SET, name)
    said = files.read(note)
    if said is None:
        return
    ifindex, _, life = said.strip().partition(" ")
    nic = netlink.snapshot().named(name)
    if nic is not None and str(nic.ifindex) == ifindex and life == invocation():
        try:
            run([*_CALL, "RevertLinkDNS", "i", ifindex])
        except CommandError:
            pass  # run() has logged it; the settings apply until networkd ends
    files.remove(note)
