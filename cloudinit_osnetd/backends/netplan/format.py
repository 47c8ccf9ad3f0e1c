# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan: one YAML file for all NICs."""

import logging
import os
from typing import Container, Dict, FrozenSet, List, Optional, Sequence, Tuple

from ...core.desired import Item, wanted_metric
from ...core.records import Part
from ...system import files, paths
from ...system.command import CommandError
from ..base import Format
from ..networkd import file_routes, match_section
from . import generator, other_files, yaml_file, yaml_keys
from .other_files import FILE

LOG = logging.getLogger(__name__)


class NetplanFormat(Format):
    mode = 0o600  # netplan warns about a file that is readable by others
    finishes_at_boot = True
    directories = (os.path.dirname(FILE),)
    check_with: Optional[str] = None  # a file without definitions, None: netplan's defaults

    def staged(self, tree: str) -> List[Part]:
        text = files.read(tree + FILE)
        parts = yaml_file.split(text) if text is not None else {}
        return [Part(FILE, name, name, part) for name, part in parts.items()]

    def finish(self, text: str, item: Item) -> str:
        """Adds what cloud-init's renderer does not write, and removes what it should not.

        `set-name` renames a NIC at the next boot. Without it, and with an MTU, netplan creates a .link file that
        replaces udev's naming policy for the MAC; if the name is matched as well, that file never applies.
        """
        group, name, body = yaml_file.only(text)
        if item.entry.kind == "phy":
            body.pop("set-name", None)
            body["match"] = {"macaddress": item.entry.mac, "name": match_section.bracketed(item.name)}
        if item.metric:
            # netplan requires equal values if both are present; networkd also uses it for advertised routes. Without
            # DHCP netplan ignores it: see _rank_advertised.
            for family in yaml_keys.dhcp_clients(body) or ["dhcp6"]:
                body[family + "-overrides"] = {"route-metric": item.metric}
            # The boot waits for the first NIC only.
            body["optional"] = True
        if item.entry.excludes_ipv6:
            body["link-local"] = []
        neighbours = file_routes.on_link(item)
        for route in body.get("routes", []):
            if route.get("via") in neighbours:
                route["on-link"] = True
        left_out = file_routes.advertised(item)
        # cloud-init writes routes and DNS only together with a static address, and no on-link routes.
        added = [
            yaml_keys.route(route, wanted_metric(item, route), route.gateway in neighbours)
            for net in item.entry.networks
            for route in net.routes
            if not (route.gateway and (net.address or route.gateway in item.own)) and route not in left_out
        ]
        if added:
            body.setdefault("routes", []).extend(one for one in added if one not in body["routes"])
        for field, words in (("addresses", item.all_dns), ("search", item.all_search)):
            if words:
                known = body.setdefault("nameservers", {}).setdefault(field, [])
                known += [word for word in words if word not in known]
        if item.entry.kind == "bond":
            yaml_keys.add_options(body, item.entry.params)
        return yaml_file.part(group, name, body)

    def check(self, parts: Sequence[Part], tree: str) -> None:
        """Lets netplan read the finished parts: with a file that it refuses, a boot has no network at all."""
        text = yaml_file.join(self.check_with, {part.name: part.text for part in parts})
        root = os.path.join(tree, "check")
        files.replace(root + FILE, text, mode=self.mode, sync=False)
        try:
            generator.run_generator(root)
        except CommandError as exc:
            raise ValueError("netplan refuses it: %s" % exc) from exc

    def claimed(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._of_networkd(items), **other_files.claimed(items))

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._of_networkd(items), **other_files.configured_elsewhere(items))

    def _of_networkd(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs that foreign networkd files configure, besides netplan's or in place of them."""
        return match_section.claimed(items, match_section.Ours(paths.NETWORKD_RUNTIME_FILES, generator.PREFIX))

    def referred(self, ours: Container[Tuple[str, str]]) -> Dict[str, str]:
        """netplan refuses the whole configuration if a VLAN, a bridge or a bond refers to a missing definition."""
        return other_files.referred(ours)

    def split(self, text: str) -> Dict[str, str]:
        try:
            return yaml_file.split(text)
        except yaml_file.NotNetplan as exc:
            LOG.error("unreadable: file=%s error=%s", FILE, exc)
            return {}

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        return yaml_file.join(old, changes)

    def normal(self, text: str) -> str:
        return yaml_file.meaning(text)

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import yaml_meaning  # only needed to compare meanings

        return yaml_meaning.of(text)
