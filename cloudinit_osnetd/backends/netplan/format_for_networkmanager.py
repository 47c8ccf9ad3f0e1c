# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan: one YAML file for all NICs, whose definitions NetworkManager gets as keyfiles."""

from typing import Dict, Sequence

from ...core.desired import Item
from ..networkmanager import other_profiles
from . import generator, other_files, yaml_file
from .format import NetplanFormat

# NetworkManager's own default for the first NIC of type ethernet, without its count.
_FIRST_METRIC = 100


class NetplanForNetworkManager(NetplanFormat):
    def finish(self, text: str, item: Item) -> str:
        """Sets the metric of both families: NetworkManager's default counts up with each activation.

        `optional` and `on-link` are for networkd: nothing waits by NIC, and NetworkManager reaches any gateway.
        """
        group, name, body = yaml_file.only(super().finish(text, item))
        body.pop("optional", None)
        for route in body.get("routes", []):
            route.pop("on-link", None)
        if item.entry.networks:
            for family in ("dhcp4", "dhcp6"):  # with and without a lease; netplan requires equal values
                body[family + "-overrides"] = {"route-metric": item.metric or _FIRST_METRIC}
        return yaml_file.part(group, name, body)

    def claimed(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._by_networkmanager(items), **other_files.claimed(items))

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._by_networkmanager(items), **other_files.configured_elsewhere(items))

    def _by_networkmanager(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs for which NetworkManager uses a profile that is not netplan's."""
        ours = "%s/%s" % (generator.NM_FILES, generator.NM_PREFIX)
        return other_profiles.claimed(items, ours=ours, priority=0)  # netplan has no autoconnect-priority
