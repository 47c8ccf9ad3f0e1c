# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The profile that NetworkManager reads from an ifcfg file and its files of routes, with a keyfile's sections.

Only what decides about an activation is translated: the kind of device, what it is matched by, the methods and the
addresses. The other keys are in the section of the setting that they belong to, under their own names, so that a
comparison of two profiles shows which settings differ.
"""

import glob
import os
import re
from typing import Dict, Iterator, List

from ...system import files
from ..networkmanager.keyfile import Values as Profile
from ..networkmanager.other_profiles import Profile as OtherProfile
from . import ifcfg_file
from .ifcfg_file import PREFIX, PREFIX_ROUTE4, PREFIX_ROUTE6, Values, truth

_FOR_IPV4 = re.compile(
    r"(IPADDR|NETMASK|PREFIX|GATEWAY|NETWORK|BROADCAST)\d*\Z|IPV4_|DHCP_|DHCLIENT|"
    r"(BOOTPROTO|DEFROUTE|PEERDNS|PEERROUTES|METRIC|ARPING_WAIT|ACD_TIMEOUT|ARPCHECK\d*|LINKDELAY)\Z"
)
_FOR_IPV6 = re.compile(r"IPV6|DHCPV6")
_FOR_BOTH = re.compile(r"DNS\d+\Z|DOMAIN\Z|RES_OPTIONS\Z")
_OF_CONNECTION = {"NAME": "id", "ONBOOT": "autoconnect", "AUTOCONNECT_PRIORITY": "autoconnect-priority", "ZONE": "zone"}
_OF_ETHERNET = {"MTU": "mtu", "HWADDR": "mac-address", "MACADDR": "cloned-mac-address"}
# What NetworkManager does not read: a bond's members name the bond themselves, and the rest is for the scripts.
_UNREAD = re.compile(r"BONDING_SLAVE\d+\Z|(USERCTL|NOZEROCONF|PERSISTENT_DHCLIENT|VID)\Z")
# Files that neither NetworkManager nor the scripts read.
_LEFT_OVERS = re.compile(r"(\.(bak|orig|rej|rpmnew|rpmorig|rpmsave)|~)\Z")


def uuid_of(path: str, values: Values) -> str:
    """Returns the UUID of a profile. NetworkManager makes up that of a file without one from the file's path.

    Empty if it cannot be computed, where MD5 is switched off (FIPS).
    """
    if values.get("UUID"):
        return values["UUID"]
    import hashlib  # 1 ms, and a run that has nothing to do needs no UUID

    try:
        digits = hashlib.md5(path.encode()).hexdigest()  # noqa: S324 - not for security: nm_uuid_generate_from_string
    except ValueError:
        return ""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def of_nic(name: str) -> Profile:
    """Returns the profile of the NIC that is on disk; empty if there is none."""
    path = ifcfg_file.path_of(name)
    text = files.read(path)
    if text is None:
        return {}
    routes = [files.read(ifcfg_file.path_of(name, prefix)) or "" for prefix in (PREFIX_ROUTE4, PREFIX_ROUTE6)]
    return of(path, text, *routes)


def of(path: str, text: str, routes4: str = "", routes6: str = "") -> Profile:
    values = ifcfg_file.parsed(text)
    kind = "bond" if truth(values, "BONDING_MASTER") or values.get("TYPE", "").lower() == "bond" else "ethernet"
    kind = "vlan" if truth(values, "VLAN") or values.get("TYPE", "").lower() == "vlan" else kind
    connection = {"uuid": uuid_of(path, values), "type": kind, "interface-name": values.get("DEVICE", "")}
    found: Dict[str, Dict[str, str]] = {"connection": connection, "ethernet": {}, "ipv4": {}, "ipv6": {}, "other": {}}
    for key, word in values.items():
        for section, name in _places(key):
            found[section][name] = word
    found["connection"]["autoconnect"] = "true" if truth(values, "ONBOOT", True) else "false"
    found["ipv4"]["method"] = _method4(values)
    for section, addresses in (("ipv4", ifcfg_file.addresses4(values)), ("ipv6", ifcfg_file.addresses6(values))):
        for number, address in enumerate(addresses, 1):
            found[section]["address%d" % number] = address
    for section, lines in (("ipv4", routes4), ("ipv6", routes6)):
        for number, one in enumerate(ifcfg_file.routes(lines), 1):
            found[section]["route%d" % number] = ",".join(one)
    return found


def _places(key: str) -> Iterator[List[str]]:
    """Yields section and key for each setting that an ifcfg key belongs to."""
    if _UNREAD.match(key):
        return
    if key in _OF_CONNECTION:
        yield ["connection", _OF_CONNECTION[key]]
    elif key in _OF_ETHERNET:
        yield ["ethernet", _OF_ETHERNET[key]]
    elif _FOR_BOTH.match(key):
        yield ["ipv4", key]
        yield ["ipv6", key]
    elif _FOR_IPV4.match(key):
        yield ["ipv4", key]
    elif _FOR_IPV6.match(key):
        yield ["ipv6", key]
    elif key not in ("UUID", "DEVICE"):
        yield ["other", key]


def _method4(values: Values) -> str:
    if values.get("BOOTPROTO", "").lower() in ("dhcp", "bootp"):
        return "auto"
    return "manual" if ifcfg_file.addresses4(values) else "disabled"


def paths() -> List[str]:
    """Returns the ifcfg files, but the one of the loopback device and what editors and rpm leave."""
    found = sorted(glob.glob(os.path.join(ifcfg_file.DIRECTORY, PREFIX + "*")))
    return [path for path in found if not _LEFT_OVERS.search(path) and os.path.basename(path) != PREFIX + "lo"]


def others(ours: List[str]) -> List[OtherProfile]:
    """Returns the profiles of the ifcfg files that are not `ours`."""
    found = []
    for path in paths():
        try:
            text = files.read(path) if path not in ours else None
        except OSError:
            continue
        if text:
            found.append(OtherProfile(path, of(path, text)))
    return found
