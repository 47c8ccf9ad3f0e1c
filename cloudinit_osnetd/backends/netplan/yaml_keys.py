# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Routes and bond options with netplan's keys (netplan-yaml, netplan's documentation). Pure."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from ...core.network_data import Route


def route(one: Route, metric: Optional[int], on_link: bool) -> Dict[str, Any]:
    """Returns a route as it is written in a definition."""
    body: Dict[str, Any] = {"to": one.network}
    body.update({"via": one.gateway} if one.gateway else {"scope": "link"})
    if metric:
        body["metric"] = metric
    if on_link:
        body["on-link"] = True
    return body


# By the kernel's names (netplan's documentation: "Properties for device type bonds"); its own come in milliseconds.
_OPTIONS = {
    "ad_select": "ad-select",
    "arp_all_targets": "arp-all-targets",
    "arp_interval": "arp-interval",
    "arp_ip_target": "arp-ip-targets",
    "arp_validate": "arp-validate",
    "downdelay": "down-delay",
    "fail_over_mac": "fail-over-mac-policy",
    "lacp_rate": "lacp-rate",
    "lp_interval": "learn-packet-interval",
    "miimon": "mii-monitor-interval",
    "min_links": "min-links",
    "mode": "mode",
    "num_grat_arp": "gratuitous-arp",
    "primary_reselect": "primary-reselect-policy",
    "resend_igmp": "resend-igmp",
    "updelay": "up-delay",
    "xmit_hash_policy": "transmit-hash-policy",
}


def add_options(body: Dict[str, Any], params: Sequence[Tuple[str, str]]) -> None:
    """Adds bond options that cloud-init leaves out or gives a wrong name, for which netplan refuses the whole file."""
    options = body.get("parameters", {})
    options.pop("arp-ip-target", None)
    for name, value in params:
        known = _OPTIONS.get(name[len("bond_") :])
        if known:
            options.setdefault(known, value.split(",") if known == "arp-ip-targets" else value)
    if options:
        body["parameters"] = options


def dhcp_clients(body: Dict[str, Any]) -> List[str]:
    """Returns the DHCP clients of a definition."""
    return [family for family in ("dhcp4", "dhcp6") if body.get(family)]
