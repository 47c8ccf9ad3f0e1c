# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifcfg files: one per NIC, bond and VLAN, and one or two with its routes, as cloud-init's renderer sysconfig writes.

What the renderer writes besides is left out: /etc/resolv.conf and NetworkManager's `dns = none` (see resolv_conf.py),
/etc/sysconfig/network, and udev's rules.
"""

import glob
import os
from typing import Dict, FrozenSet, List, Optional, Sequence

from ...core.desired import Item
from ...core.records import Part
from ...kernel import netlink
from ...system import files
from ..base import Format
from ..networkmanager import other_profiles
from . import finish_ifcfg, ifcfg_file, profile
from .ifcfg_file import DIRECTORY, PREFIX, PREFIX_ROUTE4, PREFIX_ROUTE6

_PREFIXES = (PREFIX, PREFIX_ROUTE4, PREFIX_ROUTE6)
_HEADER = "# Created by cloud-init"  # how each file of its renderer begins


class IfcfgFormat(Format):
    """What both pairs have in common. A subclass says how an ifcfg file is completed."""

    finishes_at_boot = True
    directories = (DIRECTORY,)
    scripts = False  # True if ifup reads the files, and not NetworkManager

    def staged(self, tree: str) -> List[Part]:
        found = []
        for prefix in _PREFIXES:
            for path in sorted(glob.glob(os.path.join(tree + DIRECTORY, prefix + "*"))):
                name = os.path.basename(path)[len(prefix) :]
                found.append(Part(path[len(tree) :], "", name, files.read(path) or ""))
        return found

    def completed(self, parts: Sequence[Part], items: Sequence[Item]) -> List[Part]:
        """Writes the files of routes from what is wanted: the renderer gets no route without a gateway, and writes no
        metric that both families take. A file that has the same routes is kept as it is.

        A file of routes that is on disk is a part of the NIC's profile whoever wrote it, so it is one here as well.
        """
        found = {part.path: part for part in parts}
        for item in items:
            own = found.get(ifcfg_file.path_of(item.name))
            if own is None:
                continue  # reported: the renderer left it out
            for prefix, version in ((PREFIX_ROUTE4, 4), (PREFIX_ROUTE6, 6)):
                path = ifcfg_file.path_of(item.name, prefix)
                there = found.get(path)
                wanted = finish_ifcfg.in_files(item, version, self.scripts)
                if not wanted and not os.path.exists(path):
                    # The renderer writes an empty one for each NIC with IPv6, and NetworkManager removes such a file.
                    found.pop(path, None)
                    continue
                text = there.text if there is not None else ifcfg_file.header_of(own.text)
                if there is None or not self._has(text, wanted):
                    text = ifcfg_file.routes_text(ifcfg_file.header_of(text), wanted, item.name)
                    found[path] = Part(path, "", item.name, text)
        return [part for _path, part in sorted(found.items())]

    def _has(self, text: str, wanted: List[ifcfg_file.Line]) -> bool:
        there = ifcfg_file.routes(text)
        # Of numbered routes the scripts read no metric and no options.
        plain = not (self.scripts and any(line.metric or line.more for line in wanted) and ifcfg_file.parsed(text))
        return plain and set(there) == set(wanted)

    def finish(self, text: str, item: Item) -> str:
        if not ifcfg_file.is_interface(text):
            return text
        if self.scripts:
            return finish_ifcfg.for_scripts(text, item)
        return finish_ifcfg.for_networkmanager(text, item)

    def normal(self, text: str) -> str:
        lines = [line.strip() for line in text.splitlines()]
        return "\n".join(line for line in lines if line and line[0] != "#")

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import ifcfg_meaning  # only needed to compare meanings

        return ifcfg_meaning.of(text)

    def carried_over(self, written: str, found: str, new: str, name: str) -> Optional[str]:
        from . import ifcfg_additions

        return ifcfg_additions.carried_over(written, found, new, name)

    def as_older_releases(self, meaning: FrozenSet[str]) -> Sequence[FrozenSet[str]]:
        from . import ifcfg_meaning

        return ifcfg_meaning.as_older_releases(meaning)


class ForNetworkManager(IfcfgFormat):
    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs for which NetworkManager uses a foreign profile, and those that it does not manage.

        Not those that it leaves alone because of our own file: cloud-init up to 24.1 wrote NM_CONTROLLED=no.
        """
        ours = [ifcfg_file.path_of(item.name) for item in items]
        foreign = [one for one in profile.others(ours) if not _has_former_name(one)]
        # No keyfile is ours, cloud-init's neither: they are left from another renderer.
        found = other_profiles.claimed(items, ours=ifcfg_file.path_of(""), also=foreign)
        for item in items:
            if found.get(item.name) == other_profiles.UNMANAGED and _left_by_our_file(item.name):
                del found[item.name]
        return found


class ForScripts(IfcfgFormat):
    scripts = True

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs that a foreign ifcfg file names by their MAC or by their name.

        ifup of our file fails where HWADDR of another file is the same, and the service brings both up at boot.
        """
        ours = [ifcfg_file.path_of(item.name) for item in items]
        found = {}
        for one in profile.others(ours):
            if one.values["connection"]["autoconnect"] == "false":
                continue
            device = one.values["connection"].get("interface-name", "")
            mac = one.values["ethernet"].get("mac-address", "").lower()
            for item in items:
                same_mac = item.entry.kind == "phy" and mac == item.entry.mac
                if (device == item.name and mac in ("", item.entry.mac)) or (same_mac and device in ("", item.name)):
                    found[item.name] = one.path
        return found


def _has_former_name(one: other_profiles.Profile) -> bool:
    """True for a file of cloud-init's or ours whose NIC has another name now.

    NetworkManager goes on using the profile, though its DEVICE is the former name.
    """
    name = one.values["connection"].get("interface-name", "")
    if not name or one.path != ifcfg_file.path_of(name) or netlink.snapshot().named(name) is not None:
        return False
    return (files.read(one.path) or "").startswith(_HEADER)


def _left_by_our_file(name: str) -> bool:
    values = ifcfg_file.parsed(files.read(ifcfg_file.path_of(name)) or "")
    return values.get("NM_CONTROLLED", "").lower() == "no"
