# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The .netdev file by which systemd-networkd creates a bond or a VLAN, and the lines in its links' files. Pure.

cloud-init writes both from 25.2 on, and neither before. What it writes is kept, and what it leaves out is added: bond
options that its renderer does not know (26.2: primary, arp_ip_target, num_unsol_na, lp_interval ...).
Sources: systemd.netdev(5), systemd.network(5), the kernel's Documentation/networking/bonding.rst.
"""

import logging
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ...core.desired import Item

LOG = logging.getLogger(__name__)


class _Option(NamedTuple):
    """A key of networkd's [Bond], the unit of a number, and networkd's words for numbers."""

    key: str
    unit: str = ""
    words: Tuple[str, ...] = ()


_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
_POLICIES = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")
_YES_NO = ("no", "yes")
# By network_data's field without `bond_`: the names that the kernel and ifenslave use.
_OPTIONS: Dict[str, _Option] = {
    "mode": _Option("Mode", words=_MODES),
    "miimon": _Option("MIIMonitorSec", "ms"),
    "updelay": _Option("UpDelaySec", "ms"),
    "downdelay": _Option("DownDelaySec", "ms"),
    "lacp_rate": _Option("LACPTransmitRate", words=("slow", "fast")),
    "xmit_hash_policy": _Option("TransmitHashPolicy", words=_POLICIES),
    "min_links": _Option("MinLinks"),
    "ad_select": _Option("AdSelect", words=("stable", "bandwidth", "count")),
    "ad_actor_sys_prio": _Option("AdActorSystemPriority"),
    "ad_actor_system": _Option("AdActorSystem"),
    "ad_user_port_key": _Option("AdUserPortKey"),
    "fail_over_mac": _Option("FailOverMACPolicy", words=("none", "active", "follow")),
    "arp_interval": _Option("ARPIntervalSec", "ms"),
    "arp_ip_target": _Option("ARPIPTargets"),
    "arp_validate": _Option("ARPValidate", words=("none", "active", "backup", "all")),
    "arp_all_targets": _Option("ARPAllTargets", words=("any", "all")),
    "primary_reselect": _Option("PrimaryReselectPolicy", words=("always", "better", "failure")),
    "resend_igmp": _Option("ResendIGMP"),
    "packets_per_slave": _Option("PacketsPerSlave"),
    "num_grat_arp": _Option("GratuitousARP"),
    "num_unsol_na": _Option("GratuitousARP"),  # two names of one value
    "all_slaves_active": _Option("AllSlavesActive", words=_YES_NO),
    "lp_interval": _Option("LearnPacketIntervalSec"),
    "learn_packet_interval": _Option("LearnPacketIntervalSec"),  # cloud-init's name for it
    "tlb_dynamic_lb": _Option("DynamicTransmitLoadBalancing", words=_YES_NO),
}
_BOOLEAN = {"true": "yes", "on": "yes", "false": "no", "off": "no"}
# What networkd changes on an existing device, through the link's own file.
_CHANGEABLE = ("MTUBytes", "MACAddress", "Description")
_SEVERAL = ("VLAN",)  # keys that may occur more than once

Lines = List[Tuple[str, str, str]]  # section, key, value


def wanted(item: Item) -> Lines:
    """Returns the lines of the device's .netdev file; none for a physical NIC."""
    entry = item.entry
    if entry.kind == "phy":
        return []
    lines: Lines = [("NetDev", "Name", item.name), ("NetDev", "Kind", entry.kind)]
    if entry.mac_told:
        lines.append(("NetDev", "MACAddress", entry.mac))
    if entry.mtu:
        lines.append(("NetDev", "MTUBytes", str(entry.mtu)))
    if entry.kind == "vlan":
        return lines + [("VLAN", "Id", str(entry.vlan_id))]
    for name, value in entry.params:
        option = _bond_option(name, value)
        if option:
            lines.append(("Bond",) + option)
        elif name not in ("bond_primary", "bond_name"):
            LOG.warning("networkd does not support this bond option: nic=%s field=%s value=%s", item.name, name, value)
    return lines


def _bond_option(field: str, value: str) -> Optional[Tuple[str, str]]:
    option = _OPTIONS.get(field[len("bond_") :].replace("-", "_"))
    if option is None:
        return None
    if option.words:
        value = _BOOLEAN.get(value.lower(), value) if option.words is _YES_NO else value
        value = option.words[int(value)] if value.isdigit() and int(value) < len(option.words) else value
    elif option.key == "ARPIPTargets":
        value = " ".join(value.replace(",", " ").split())
    elif option.unit and value.isdigit():
        value += option.unit
    return option.key, value


def wanted_below(item: Item, items: Sequence[Item]) -> Lines:
    """Returns the lines of a link's own .network file that add it to a bond, or create VLANs on it."""
    lines: Lines = []
    for other in items:
        if item.key in other.entry.members:
            lines.append(("Network", "Bond", other.name))
            if item.name == dict(other.entry.params).get("bond_primary"):
                lines.append(("Network", "PrimarySlave", "yes"))
        elif other.entry.kind == "vlan" and other.entry.parent == item.key:
            lines.append(("Network", "VLAN", other.name))
    return lines


def by_permanent_mac(text: str) -> str:
    """Makes a bond member's .network file match by permanent MAC: its current MAC becomes the bond's."""
    lines = [
        "Permanent" + line if section == "Match" and line.startswith("MACAddress=") else line
        for section, line in _by_section(text)
    ]
    return "\n".join(lines) + "\n"


def with_lines(text: str, lines: Lines) -> str:
    """Returns `text` with these lines: other values are replaced, missing lines are appended as new sections."""
    values = {(section, key): value for section, key, value in lines if key not in _SEVERAL}
    there: Lines = []
    kept = []
    for section, line in _by_section(text):
        key, _, value = (word.strip() for word in line.partition("="))
        if (section, key) in values and value != values[section, key]:
            line = "%s=%s" % (key, values[section, key])
        there.append((section, key, values.get((section, key), value)))
        kept.append(line)
    sections: Dict[str, List[str]] = {}
    for section, key, value in lines:
        if (section, key, values.get((section, key), value)) not in there:
            sections.setdefault(section, []).append("%s=%s" % (key, value))
            there.append((section, key, value))
    added = ["\n".join(["[%s]" % section] + added_lines) for section, added_lines in sections.items()]
    return "\n\n".join(["\n".join(kept).rstrip("\n")] * bool(text.strip()) + added) + "\n"


def _by_section(text: str) -> List[Tuple[str, str]]:
    """Returns each line, stripped, with its section."""
    section = ""
    found = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        found.append((section, line))
    return found


def parsed(text: str) -> Lines:
    """Returns section, key and value of each line of a networkd file."""
    words = [(section, line.partition("=")) for section, line in _by_section(text) if line and line[0] not in "#;["]
    return [(section, key.strip(), value.strip()) for section, (key, equals, value) in words if equals]


def name_of(text: str) -> str:
    """Returns the name of the device that a .netdev file creates."""
    return next((value for section, key, value in parsed(text) if (section, key) == ("NetDev", "Name")), "")


def must_recreate(then: str, now: str) -> bool:
    """True if a device that was created from the file `then` must be created again for the file `now`.

    networkd sets a device's options when it creates it, and does not change an existing one (networkctl(1), `reload`).
    """
    return _what_makes(then) != _what_makes(now)


def _what_makes(text: str) -> Dict[Tuple[str, str], str]:
    return {(section, key): value for section, key, value in parsed(text) if key not in _CHANGEABLE}
