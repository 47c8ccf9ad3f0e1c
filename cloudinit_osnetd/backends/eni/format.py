# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""eni: one interfaces(5) file for all NICs; a NIC's section is all of its stanzas."""

import glob
import os
import re
from typing import Dict, FrozenSet, List, Optional, Sequence, Set

from ...core.desired import Item, wanted_metric
from ...core.network_data import link_routes, off_subnet_gateways
from ...core.records import Part
from ...system import files
from ..base import Format
from . import finish_stanza, interfaces_file, sourced_files

_CLOUD_INITS = "50-cloud-init"  # how its file's name begins
# What a shell, ifup and interfaces(5) take as it stands. The kernel takes nearly any name.
_NAMEABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*\Z")


class EniFormat(Format):
    finishes_at_boot = True
    directories = (sourced_files.DIRECTORY, sourced_files.DIRECTORY + "/interfaces.d")

    def staged(self, tree: str) -> List[Part]:
        found = glob.glob(os.path.join(tree + sourced_files.DIRECTORY, "interfaces")) + sorted(
            glob.glob(os.path.join(tree + sourced_files.DIRECTORY, "interfaces.d", "*"))
        )
        return [
            Part(path[len(tree) :], section, section, text)
            for path in found
            for section, text in self.split(files.read(path) or "").items()
            if section != "lo"
        ]

    def theirs(self, items: Sequence[Item]) -> Dict[str, str]:
        """By name: the NICs that have a stanza in what ifupdown reads, and none in cloud-init's file.

        Also where it is an image's, just in case, as older ones have for a few names: `ifup` does what all stanzas of a
        name say, and would run a DHCP client beside a static address, which is there when that has given up.
        """
        ours: Set[str] = set()
        found: Dict[str, str] = {}
        read = sourced_files.sources()
        if not any(os.path.basename(path).startswith(_CLOUD_INITS) for path in read):
            return {}  # it writes to a file that others write to as well
        for path, text in read.items():
            stanzas = interfaces_file.stanzas(text)
            names = {stanza.owner for stanza in stanzas if stanza.words[:1] == ["iface"]}
            if os.path.basename(path).startswith(_CLOUD_INITS):
                ours |= names
            else:
                found.update(dict.fromkeys(names, path))
        return {item.name: found[item.name] for item in items if item.name in found and item.name not in ours}

    def finish(self, text: str, item: Item) -> str:
        """Nothing in it that ends `ifup` where the kernel refuses it: see finish_stanza.py.

        Routes by ip(8), which is there where route(8) of net-tools is not, and nobody would hear of it. They name their
        NIC: with two NICs on one network the kernel would take the other. One through a gateway that no subnet of the
        port holds says that it is a neighbour. The MTU is the link's also where ifupdown gives it to IPv6 alone, or to
        nobody (DHCP). And the metric of a router that advertises itself, which any NIC hears: the kernel takes it from
        a setting (Linux 5.12 on), before the link is up; other kinds of link are made later. It is one more than our
        routes', for the kernel takes no two default routes of one metric.
        """
        when = "pre-up" if item.entry.kind == "phy" else "up"
        text = finish_stanza.finished(text, item.name, when, off_subnet_gateways(item.entry))
        for route in link_routes(item.entry):
            text = finish_stanza.with_link_route(text, item.name, route.network, wanted_metric(item, route))
        if item.metric:
            setting = finish_stanza.setting6(when, item.name, "ra_defrtr_metric", item.metric + 1)
            text = finish_stanza.with_first(text, setting)
        return text

    def split(self, text: str) -> Dict[str, str]:
        return interfaces_file.split(text)

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        return interfaces_file.join(old, template, changes)

    def normal(self, text: str) -> str:
        return interfaces_file.meaning(text)

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from ..eni import stanza_meaning  # of use where something has to be told from something else alone

        return stanza_meaning.of(text, name)

    def unnameable(self, name: str) -> str:
        if _NAMEABLE.match(name):
            return ""
        return "ifupdown takes the name %r for something else: its commands are a shell's" % name
