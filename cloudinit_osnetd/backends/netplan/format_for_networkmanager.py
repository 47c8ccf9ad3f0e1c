# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan: one YAML file for all NICs, whose definitions NetworkManager gets as keyfiles.

What netplan has no key for is given to NetworkManager by `networkmanager: passthrough:` (netplan-yaml(5), since 0.103):
- The UUID: that of a VLAN's parent is a random one each time that the generator runs, and NetworkManager takes the
  profile with another UUID for another one.
- The methods: for a family without a configuration netplan writes `link-local` (IPv4), so that the NIC has an address
  of 169.254.0.0/16, and `ignore` (IPv6), so that the kernel takes advertised addresses and routes.
- Name servers of a family without a configuration are left out: NetworkManager refuses such a profile.
- The rest is as in a keyfile of cloud-init's: networkmanager/finish_keyfile.py says why.
"""

import ipaddress
from typing import Any, Dict, Sequence

from ...core.desired import Item
from ..networkmanager import finish_keyfile, other_profiles
from . import generator, other_files, yaml_file
from .format import NetplanFormat

# NetworkManager's own default for the first NIC of type ethernet, without its count.
_FIRST_METRIC = 100
_PRIORITY = 120
_NAMESPACE = "a3924cb8-09e0-43e9-890b-77972a800108"  # cloud-init's, for the UUIDs of its keyfiles


class NetplanForNetworkManager(NetplanFormat):
    check_with = "network:\n  version: 2\n  renderer: NetworkManager\n"  # it supports less than networkd

    def finish(self, text: str, item: Item) -> str:
        """Sets the metric of both families, and what netplan leaves to NetworkManager's defaults.

        `optional` and `on-link` are for networkd: nothing waits by NIC, and NetworkManager reaches any gateway.
        """
        group, name, body = yaml_file.only(super().finish(text, item))
        body.pop("optional", None)
        for route in body.get("routes", []):
            route.pop("on-link", None)
        if item.entry.networks:
            for family in ("dhcp4", "dhcp6"):  # with and without a lease; netplan requires equal values
                body[family + "-overrides"] = {"route-metric": item.metric or _FIRST_METRIC}
        passed = {"connection.uuid": _uuid(item.name), "connection.autoconnect-priority": str(_PRIORITY)}
        if "link" in body:
            passed["vlan.parent"] = str(body["link"])
        methods = finish_keyfile.methods(item)
        passed.update(_families(methods, later=bool(item.metric)))
        _only_dns_of(body, [family for family in ("ipv4", "ipv6") if methods[family] in ("auto", "manual")])
        body["networkmanager"] = {"passthrough": passed}
        return yaml_file.part(group, name, body)

    def claimed(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._by_networkmanager(items), **other_files.claimed(items))

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._by_networkmanager(items), **other_files.configured_elsewhere(items))

    def _by_networkmanager(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs for which NetworkManager uses a profile that is not netplan's."""
        return other_profiles.claimed(items, ours=other_files.TOP + "%s/%s" % (generator.NM_FILES, generator.NM_PREFIX))


def _only_dns_of(body: Dict[str, Any], families: Sequence[str]) -> None:
    """Removes the name servers of other families, and the search domains where there is no family."""
    said = body.get("nameservers", {})
    versions = [int(family[-1]) for family in families]
    servers = [one for one in said.get("addresses", []) if ipaddress.ip_address(one).version in versions]
    left = {"addresses": servers, "search": said.get("search", []) if families else []}
    body["nameservers"] = {field: words for field, words in left.items() if words}
    if not body["nameservers"]:
        del body["nameservers"]


def _families(methods: Dict[str, str], later: bool) -> Dict[str, str]:
    passed = {"ipv4.method": methods["ipv4"], "ipv6.method": methods["ipv6"], "ipv6.addr-gen-mode": "eui64"}
    for family in ("ipv4", "ipv6"):
        if methods[family] in ("auto", "manual"):
            passed[family + ".may-fail"] = "true" if finish_keyfile.may_fail(methods, family, later) else "false"
            if finish_keyfile.waits_to_be_unique(methods, family):
                passed[family + ".required-timeout"] = finish_keyfile.UNIQUE_IN
    if methods["ipv4"] == "manual":
        passed["ipv4.dad-timeout"] = "0"
    return passed


def _uuid(name: str) -> str:
    import uuid  # 5 ms, and only needed if something is rendered

    return str(uuid.uuid5(uuid.UUID(_NAMESPACE), "netplan-" + name))
