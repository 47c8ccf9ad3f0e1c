# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""IPv4 addresses that another host has as well: one ARP probe each (RFC 5227), once the NIC is up with them.

No backend here looks for that before it uses a static address (networkd does where IPv4DuplicateAddressDetection= says
so), and nobody is the wiser for waiting: the cloud gave the address. So it is asked afterwards, and told.
"""

from typing import Dict, List, Mapping, Sequence, Tuple

from ..core.desired import Want
from ..core.network_data import static_addresses
from ..core.records import Touch
from ..core.truth import KeyTruth
from ..kernel import netlink, probe

_SECONDS = 0.2  # a neighbour answers within milliseconds


def found(
    wants: Sequence[Want], touches: Sequence[Touch], stood: Mapping[str, KeyTruth], known: Mapping[str, KeyTruth]
) -> Dict[str, Tuple[str, ...]]:
    """What is to be told of the addresses that these touches gave and that their parts did not give before, by MAC."""
    actions = {touch.name: touch.action for touch in touches}
    new: List[Tuple[str, str, str]] = []  # MAC, NIC, address
    for item in (item for want in wants for item in want.items):
        action = actions.get(item.name, "down")
        entries = [one[item.key].entry for one in (stood, known) if item.key in one] if action == "reconfigure" else []
        gave = {address for entry in entries for address in static_addresses(entry)}
        added = [one for one in static_addresses(item.entry) if one not in gave and ":" not in one]
        new += [(item.entry.mac, item.name, one.partition("/")[0]) for one in added if action != "down"]
    if not new:
        return {}
    own = {mac for nic in netlink.snapshot().nics for mac in (nic.mac, nic.current_mac)}
    holders = probe.holders([(name, address) for _mac, name, address in new], own, _SECONDS)
    told: Dict[str, Tuple[str, ...]] = {}
    for mac, name, address in new:
        other = holders.get((name, address), "")
        if other:
            told[mac] = told.get(mac, ()) + ("another host (%s) has %s" % (other, address),)
    return told
