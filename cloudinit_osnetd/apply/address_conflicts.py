# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Detects IPv4 addresses that another host uses too: one ARP probe each (RFC 5227), after the NIC is up.

No backend here probes before it uses a static address (networkd does only with IPv4DuplicateAddressDetection=). Probing
first would only delay the NIC, because the cloud assigned the address. A conflict is reported as a finding.
"""

from typing import Dict, List, Mapping, Sequence, Tuple

from ..core.desired import Want
from ..core.network_data import static_addresses
from ..core.records import Touch
from ..core.truth import KeyTruth
from ..kernel import netlink, probe

_SECONDS = 0.2  # a neighbour answers within milliseconds


def found(
    wants: Sequence[Want],
    touches: Sequence[Touch],
    rendered_from: Mapping[str, KeyTruth],
    known: Mapping[str, KeyTruth],
) -> Dict[str, Tuple[str, ...]]:
    """Returns findings by link for the addresses that these touches added, where another host answers for one."""
    actions = {touch.name: touch.action for touch in touches}
    new: List[Tuple[str, str, str]] = []  # link, NIC, address
    for item in (item for want in wants for item in want.items):
        action = actions.get(item.name, "down")
        truths = (rendered_from, known) if action == "reconfigure" else ()
        entries = [one[item.key].entry for one in truths if item.key in one]
        gave = {address for entry in entries for address in static_addresses(entry)}
        added = [one for one in static_addresses(item.entry) if one not in gave and ":" not in one]
        new += [(item.link, item.name, one.partition("/")[0]) for one in added if action != "down"]
    if not new:
        return {}
    own = {mac for nic in netlink.snapshot().nics for mac in (nic.mac, nic.current_mac)}
    holders = probe.holders([(name, address) for _link, name, address in new], own, _SECONDS)
    findings: Dict[str, Tuple[str, ...]] = {}
    for link, name, address in new:
        other = holders.get((name, address), "")
        if other:
            findings[link] = findings.get(link, ()) + ("another host (%s) has %s" % (other, address),)
    return findings
