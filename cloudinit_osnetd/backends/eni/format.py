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
from ...kernel.alternative_names import LinkNames
from ...system import files
from ..base import Format
from . import interfaces_file, sourced_files

_CLOUD_INITS = "50-cloud-init"  # the beginning of its file's name
_OLDER = ".cfg"  # the rest of it up to 19.2
# What needs no quoting in a shell, ifup and interfaces(5). The kernel allows nearly any name.
_NAMEABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*\Z")


def _in_use(path: str) -> str:
    """Returns the path of cloud-init's file as it is on this server, which may have had an older release.

    A second file with the same NICs would have `ifup` set each address twice, and fail.
    """
    older = path + _OLDER
    is_older = os.path.basename(path) == _CLOUD_INITS and not os.path.exists(path) and os.path.exists(older)
    return older if is_older and older in sourced_files.sources() else path


class EniFormat(Format):
    finishes_at_boot = True
    directories = (sourced_files.DIRECTORY, sourced_files.DIRECTORY + "/interfaces.d")

    def staged(self, tree: str) -> List[Part]:
        found = glob.glob(os.path.join(tree + sourced_files.DIRECTORY, "interfaces")) + sorted(
            glob.glob(os.path.join(tree + sourced_files.DIRECTORY, "interfaces.d", "*"))
        )
        return [
            Part(_in_use(path[len(tree) :]), section, section, text)
            for path in found
            for section, text in self.split(files.read(path) or "").items()
            if section != "lo"
        ]

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs that have a stanza in what ifupdown reads and none in cloud-init's file, by name.

        This includes default stanzas of older images for a few names: `ifup` applies all stanzas of a name, and would
        run a DHCP client before it sets the static address.
        """
        ours: Set[str] = set()
        found: Dict[str, str] = {}
        read = sourced_files.sources()
        if not any(os.path.basename(path).startswith(_CLOUD_INITS) for path in read):
            return {}  # it writes to a file that other software writes to as well
        for path, text in read.items():
            stanzas = interfaces_file.stanzas(text)
            names = {stanza.owner for stanza in stanzas if stanza.words[:1] == ["iface"]}
            if os.path.basename(path).startswith(_CLOUD_INITS):
                ours |= names
            else:
                found.update(dict.fromkeys(names, path))
        # `ifup` configures a NIC by its alternative names too.
        all_names = LinkNames()
        others = [item.name for item in items if item.name not in ours] if set(found) - {"lo"} else []
        claims = {name: next((found[one] for one in all_names.of(name) if one in found), "") for name in others}
        return {name: path for name, path in claims.items() if path}

    def finish(self, text: str, item: Item) -> str:
        """Completes the section so that a setting that the kernel refuses does not end `ifup`: see finish_stanza.py.

        Routes are set by ip(8), because route(8) of net-tools may be missing without an error. They name their NIC:
        with two NICs on one network the kernel might choose the other one. A route through a gateway outside of the
        port's subnets is marked on-link. The MTU is set on the link, also where ifupdown would set it for IPv6 only, or
        not at all (DHCP). The metric of advertised routers, which any NIC may receive, is a setting of the kernel
        (Linux 5.12 on). It is set before the link is up; other kinds of link are created later. It is one more than the
        metric of our routes, because the kernel refuses two default routes with one metric.
        """
        from . import finish_stanza  # its patterns take longer to compile than most runs to find nothing to do

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
        from ..eni import stanza_meaning  # only needed to compare meanings

        return stanza_meaning.of(text, name)

    def unnameable(self, name: str) -> str:
        if _NAMEABLE.match(name):
            return ""
        return "ifupdown takes the name %r for something else: its commands are a shell's" % name
