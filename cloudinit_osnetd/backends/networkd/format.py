# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""networkd: one .network file per NIC, and one .netdev file per bond or VLAN."""

import glob
import os
from typing import Dict, FrozenSet, List, Sequence

from ...core.desired import Item
from ...core.network_data import DHCP4
from ...core.records import Part
from ...system import files
from ..base import Format
from . import match_section, netdev_file
from .match_section import DIRECTORY, PREFIX, SUFFIX
from .netdevs import KIND as DEVICE


def _made_by_another(name: str) -> bool:
    """True if a foreign .netdev file creates the device of this name."""
    found = match_section.by_name("*" + DEVICE)
    found.pop(PREFIX + name + DEVICE, None)
    return any(netdev_file.name_of(files.read(path) or "") == name for path in found.values())


def _words_of(text: str, key: str) -> List[str]:
    """Returns all words of a key of a .network file."""
    lines = [line.partition("=") for line in text.splitlines()]
    return [word for name, _is, value in lines if name == key for word in value.split()]


class NetworkdFormat(Format):
    finishes_at_boot = True
    directories = (DIRECTORY,)

    def staged(self, tree: str) -> List[Part]:
        """Returns the .network files, and from cloud-init 25.2 on the .netdev files of bonds and VLANs."""
        found = sorted(glob.glob(os.path.join(tree + DIRECTORY, PREFIX + "*")))
        kinds = [(path,) + os.path.splitext(path) for path in found]
        return [
            Part(path[len(tree) :], "", os.path.basename(stem)[len(PREFIX) :], files.read(path) or "")
            for path, stem, kind in kinds
            if kind in (SUFFIX, DEVICE)
        ]

    def completed(self, parts: Sequence[Part], items: Sequence[Item]) -> List[Part]:
        """Adds what creates bonds and VLANs: their .netdev files, and the lines in their members' and parents' files.

        A device that a foreign .netdev file defines is left out: networkd uses the first file of a name.
        """
        found = {part.path: part for part in parts}
        for item in items:
            stem = os.path.join(DIRECTORY, PREFIX + item.name)
            lines = netdev_file.wanted(item)
            if lines and not _made_by_another(item.name):
                there = found.get(stem + DEVICE, Part(stem + DEVICE, "", item.name, ""))
                found[there.path] = there._replace(text=netdev_file.with_lines(there.text, lines))
            lines = netdev_file.wanted_below(item, items)
            if lines and stem + SUFFIX in found:
                there = found[stem + SUFFIX]
                text = netdev_file.with_lines(there.text, lines)
                joins = any(key == "Bond" for _section, key, _value in lines)
                found[there.path] = there._replace(text=netdev_file.by_permanent_mac(text) if joins else text)
        return [part for _path, part in sorted(found.items())]

    def finish(self, text: str, item: Item) -> str:
        """Adds settings in additional sections; networkd merges sections of the same name (systemd.syntax).

        A secondary NIC's routes from leases and advertisements get its metric too. An MTU that Nova leaves to DHCP
        (null) is taken from the lease, which networkd does not do by default.
        """
        if "[NetDev]" in text.splitlines():
            return text
        from . import file_routes  # as finish_stanza.py

        text = file_routes.finished(text, item)
        # Name= is a pattern.
        text = text.replace("\nName=%s\n" % item.name, "\nName=%s\n" % match_section.literal(item.name), 1)
        dhcp4 = ["RouteMetric=%d" % item.metric] if item.metric else []
        if item.entry.mtu is None and any(net.type in DHCP4 for net in item.entry.networks):
            dhcp4.append("UseMTU=yes")
        # cloud-init writes DNS only together with a static address.
        network = [
            "%s=%s" % (key, word)
            for key, words in (("DNS", item.all_dns), ("Domains", item.all_search))
            for word in words
            if word not in _words_of(text, key)
        ]
        types = {net.type for net in item.entry.networks}
        if "ipv6_dhcpv6-stateful" in types:
            # cloud-init writes "no". The advertisement starts the client anyway and it gets its lease, but the link
            # stays "configuring" (networkd 257), and a boot that needs it waits.
            network.insert(0, "DHCP=yes" if types & DHCP4 else "DHCP=ipv6")
        if item.entry.excludes_ipv6 and not _words_of(text, "LinkLocalAddressing"):
            network.append("LinkLocalAddressing=no")
        sections = {
            "Network": network,
            "DHCPv4": dhcp4,
            "IPv6AcceptRA": ["RouteMetric=%d" % item.metric] if item.metric else [],
        }
        added = ["\n".join(["[%s]" % name] + lines) for name, lines in sections.items() if lines]
        return "\n\n".join([text.rstrip("\n")] + added) + "\n"

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs for which networkd uses a foreign .network file, by name."""
        return match_section.claimed(items, match_section.Ours(DIRECTORY, PREFIX))

    def normal(self, text: str) -> str:
        lines = [line.strip() for line in text.splitlines()]
        return "\n".join(line for line in lines if line and line[0] not in "#;")

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import file_meaning  # only needed to compare meanings

        return file_meaning.of(text)

    def as_older_releases(self, meaning: FrozenSet[str]) -> Sequence[FrozenSet[str]]:
        from . import file_meaning

        return file_meaning.as_older_releases(meaning)
