# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd: one .network file a NIC, and a reload that looks at changed files only."""

import fnmatch
import functools
import glob
import logging
import os
import re
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .. import files
from ..command import CommandError, run
from ..desired import Item
from ..network_data import DHCP4, DHCP6, SLAAC, off_subnet_gateways
from . import held, links, told
from .base import Backend, Dns, Part, Touch, first_of

LOG = logging.getLogger(__name__)
DIRECTORY = "/etc/systemd/network"
RUNTIME = "/run/systemd/network"
_PREFIX, _SUFFIX = "10-cloud-init-", ".network"
_GATEWAY = re.compile(r"^Gateway=(\S+)\n", re.MULTILINE)


_DIRECTORIES = ("/usr/lib/systemd/network", "/usr/local/lib/systemd/network", RUNTIME, DIRECTORY)
_MAC_KEYS = ("MACAddress", "PermanentMACAddress")


def _network_files() -> Dict[str, str]:
    """By name; the later directories' hide those of the same name in the earlier ones (systemd.network(5))."""
    found: Dict[str, str] = {}
    for directory in _DIRECTORIES:
        for path in glob.glob(os.path.join(directory, "*" + _SUFFIX)):
            found[os.path.basename(path)] = path
    return found


def _match(text: str) -> Dict[str, List[str]]:
    """The words of each key of the file's [Match] sections, which networkd takes for one."""
    section = ""
    match: Dict[str, List[str]] = {}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Match]" and "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            words = match.setdefault(key.strip(), [])
            words.extend(value.split())
            if not value.strip():
                del words[:]
    return match


def _fits(match: Mapping[str, List[str]], item: Item) -> Tuple[bool, bool]:
    """(whether it names just this NIC, whether it matches it). What we cannot judge does not match."""
    if not any(match.values()) or set(match) - {"Name", *_MAC_KEYS}:
        return False, False
    names, macs = match.get("Name", []), [word.lower() for key in _MAC_KEYS for word in match.get(key, [])]
    not_these = bool(names) and names[0].startswith("!")  # which inverts the whole list
    by_name = any(fnmatch.fnmatchcase(item.name, word.lstrip("!")) for word in names) != not_these
    by_mac = item.entry.kind == "phy" and item.entry.mac in macs  # a VLAN has its parent's
    fits = (by_name or not names) and (by_mac or not macs)
    return fits and (by_mac or (item.name in names and not not_these)), fits


def _path(name: str) -> str:
    return os.path.join(DIRECTORY, _PREFIX + name + _SUFFIX)


class Networkd(Backend):
    name = "networkd"
    lag, drops_foreign = links.LAG, True
    directories = (DIRECTORY, RUNTIME + "/*.network.d")

    def staged(self, tree: str) -> List[Part]:
        pattern = os.path.join(tree + DIRECTORY, _PREFIX + "*" + _SUFFIX)
        return [
            Part(
                path=path[len(tree) :],
                section="",
                name=os.path.basename(path)[len(_PREFIX) : -len(_SUFFIX)],
                text=files.read(path) or "",
            )
            for path in sorted(glob.glob(pattern))
        ]

    def finish(self, text: str, item: Item) -> str:
        """What is said in sections of their own; a section that comes twice is one (systemd.syntax).

        A secondary NIC's routes from leases and advertisements get its metric too. An MTU that Nova
        leaves to DHCP (null) is taken from the lease, which networkd by itself does not do. A gateway
        that no subnet of the port holds is said to be a neighbour, for networkd would not ask it.
        """
        off = off_subnet_gateways(item.entry)
        text = _GATEWAY.sub(lambda line: line[0] + "GatewayOnLink=yes\n" if line[1] in off else line[0], text)
        dhcp4 = ["RouteMetric=%d" % item.metric] if item.metric else []
        if item.entry.mtu is None and any(net.type in DHCP4 for net in item.entry.networks):
            dhcp4.append("UseMTU=yes")
        # cloud-init says DNS beside a static address only.
        dns = [server for net in item.entry.networks if net.type in SLAAC | DHCP6 for server in net.dns]
        if not any(net.address for net in item.entry.networks):
            dns += item.dns
        network = ["DNS=%s" % server for server in dns]
        types = {net.type for net in item.entry.networks}
        if "ipv6_dhcpv6-stateful" in types:
            # cloud-init says no; the client that the advertisement starts all the same gets its lease, but the link
            # stays "configuring" for ever (networkd 257), and a boot that needs it waits.
            network.insert(0, "DHCP=yes" if types & DHCP4 else "DHCP=ipv6")
        sections = {
            "Network": network,
            "DHCPv4": dhcp4,
            "IPv6AcceptRA": ["RouteMetric=%d" % item.metric] if item.metric else [],
        }
        added = ["\n".join(["[%s]" % name] + lines) for name, lines in sections.items() if lines]
        return "\n\n".join([text.rstrip("\n")] + added) + "\n"

    def theirs(self, items: Sequence[Item]) -> Dict[str, str]:
        """By name: the NICs for which somebody else's .network file is the one that networkd takes.

        Of all that match it takes the first by name. One that sorts after ours is somebody's choice where it matches
        just this NIC, and a default of the image where it matches many.
        """
        found: Dict[str, str] = {}
        for name, path in sorted(_network_files().items(), reverse=True):  # the first one last
            match = _match(files.read(path) or "") if not name.startswith(_PREFIX) else {}
            for item in items:
                ours = _PREFIX + item.name + _SUFFIX
                exact, fits = _fits(match, item)
                if fits and (name < ours or (exact and not os.path.exists(os.path.join(DIRECTORY, ours)))):
                    found[item.name] = path
        return found

    def boot(self, items: Sequence[Item], left: FrozenSet[str] = frozenset()) -> None:
        """Have the boot wait for the first NIC only: systemd-networkd-wait-online waits for all.

        Which one is the first is a matter of this boot, so it is said under /run: the NICs' own files
        stay as they are when the primary leaves, and a server without us waits as it always did.
        """
        first = first_of(items)
        for item in items:
            if item is not first and item.name not in left and (item.entry.kind == "phy" or item.entry.networks):
                drop_in = os.path.join(RUNTIME, _PREFIX + item.name + _SUFFIX + ".d", "cloudinit-osnetd.conf")
                try:
                    files.replace(drop_in, "[Link]\nRequiredForOnline=no\n", sync=False)
                except OSError as exc:
                    LOG.warning("the boot will wait for it: nic=%s error=%s", item.name, exc)

    def split(self, text: str) -> Dict[str, str]:
        return {"": text}

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        return changes[""]

    def normal(self, text: str) -> str:
        lines = [line.strip() for line in text.splitlines()]
        return "\n".join(line for line in lines if line and line[0] not in "#;")

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import networkd_meaning  # of use where something has to be told from something else alone

        return networkd_meaning.of(text)

    def as_older_releases(self, meaning: FrozenSet[str]) -> Sequence[FrozenSet[str]]:
        from . import networkd_meaning

        return networkd_meaning.as_older_releases(meaning)

    def recover(self, boot: bool = False) -> None:
        held.recover(DIRECTORY, boot)

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """A difference in DNS alone is told over D-Bus; and for a NIC that is not to be touched nothing is loaded."""
        actions = {touch.name: touch.action for touch in touches}
        found: Dict[str, Callable[[], bool]] = {}
        for name, text in coming.items():
            path = _path(name)
            old = files.read(path) if actions.get(name, "") in ("", "reconfigure") else None
            if old is None:
                continue
            differs = told.difference(old, text)
            if name not in actions:
                held.keep(path)
            elif differs is not None and held.keep(path):
                found[name] = functools.partial(told.dns, name, *differs)
        return found

    def after(self, touches: Sequence[Touch], files_changed: bool) -> Dict[str, str]:
        """A reload reconfigures each link whose file changed by stat, and no other link.

        A NIC whose file is as it was, but which the kernel shows unconfigured, has to be named.
        """
        # A kick may follow a commit that was cut short between its files and its reload.
        if files_changed or any(touch.action == "kick" for touch in touches):
            try:
                with held.held(DIRECTORY, [_path(touch.name) for touch in touches]):
                    run(["networkctl", "reload"])
            except (CommandError, OSError) as exc:
                return {touch.name: str(exc) for touch in touches}
        for touch in touches:
            told.forget(touch.name)
        return links.after_reload(touches)

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        return links.dns(ifindex)
