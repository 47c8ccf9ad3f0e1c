# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What others have added to an ifcfg file of ours, or to its file of routes, with nmcli or an editor. Pure.

The same is kept as of a keyfile: see networkmanager/keyfile_additions.py.
"""

from typing import Dict, Optional

from ...core import meaning
from . import ifcfg_file, ifcfg_meaning

# They name the profile, or say when it is taken; the others are what NetworkManager writes as defaults.
_FREE = {"NAME": "", "AUTOCONNECT_PRIORITY": "", "PROXY_METHOD": "none", "BROWSER_ONLY": "no"}
# Who reads the file, whether the profile is activated, and what may contradict the document.
_NOT_KEPT = frozenset(
    [
        "ONBOOT", "NM_CONTROLLED", "BRIDGE", "TEAM_MASTER", "DEVICETYPE", "VRF", "OVS_PORT", "DEFROUTE",
        "IPV6_DEFROUTE", "GATEWAYDEV", "PEERROUTES", "IPV6_PEERROUTES", "IPV4_ROUTE_TABLE", "IPV6_ROUTE_TABLE",
        "IPV4_FAILURE_FATAL", "IPV6_FAILURE_FATAL", "IPV4_REQUIRED_TIMEOUT", "IPV6_REQUIRED_TIMEOUT",
        "IPV6_DISABLED", "IPV6_ADDR_GEN_MODE", "IPV6_TOKEN", "ARPING_WAIT", "ACD_TIMEOUT",
    ]
)  # fmt: skip


def carried_over(written: str, found: str, new: str, name: str) -> Optional[str]:
    """As Format.carried_over."""
    was, now = ifcfg_meaning.of(written), ifcfg_meaning.of(found)
    if was - now:
        return None
    if not ifcfg_file.is_interface(found):
        # nmcli makes a file of routes beside an ifcfg file of ours.
        return None if ifcfg_file.is_interface(new) else _with_routes(new, found, now - was, name)
    if not written:
        return None
    text = _with_settings(new, found, now - was)
    return None if text is None else _with_free(written, found, text)


def _with_routes(new: str, found: str, added: meaning.Meaning, name: str) -> Optional[str]:
    there = ifcfg_file.routes(new)
    more = [line for line in ifcfg_file.routes(found) if ifcfg_meaning.of_route(line) in added]
    more = [line for line in more if ifcfg_meaning.of_route(line) not in map(ifcfg_meaning.of_route, there)]
    if any(line.startswith(("route 0.0.0.0/0", "route ::/0")) for line in added):
        return None
    return ifcfg_file.routes_text(ifcfg_file.header_of(new), there + more, name) if more else new


def _with_settings(new: str, found: str, added: meaning.Meaning) -> Optional[str]:
    values, there = ifcfg_file.parsed(found), ifcfg_file.parsed(new)
    changes: Dict[str, Optional[str]] = {}
    left = set(added)
    for key, word in values.items():
        lines = set(ifcfg_meaning.of_key(key, word)) & left
        if not lines:
            continue
        if key in _NOT_KEPT or key in there or not all(line.startswith(key + " ") for line in lines):
            return None  # or it is the MTU, a MAC, ...
        changes[key] = word
        left -= lines
    ours = ifcfg_meaning.of(new)
    for cidr in ifcfg_file.addresses4(values):
        line = "address " + meaning.address(cidr)
        if line in left and line not in ours:
            number = 1
            while "IPADDR%d" % number in there or "IPADDR%d" % number in changes:
                number += 1
            changes["IPADDR%d" % number], _, changes["PREFIX%d" % number] = cidr.partition("/")
        left.discard(line)
    more = [cidr for cidr in ifcfg_file.addresses6(values) if "address " + meaning.address(cidr) in left]
    left -= {"address " + meaning.address(cidr) for cidr in more}
    more = ifcfg_file.addresses6(there) + [cidr for cidr in more if "address " + meaning.address(cidr) not in ours]
    if more != ifcfg_file.addresses6(there):
        changes["IPV6ADDR"], changes["IPV6ADDR_SECONDARIES"] = more[0], " ".join(more[1:]) or None
    if left:
        return None
    return ifcfg_file.with_values(new, changes) if changes else new


def _with_free(written: str, found: str, text: str) -> str:
    was, now = ifcfg_file.parsed(written), ifcfg_file.parsed(found)
    # NetworkManager's own name of a profile without one.
    usual = dict(_FREE, NAME="System " + was.get("DEVICE", ""))
    for key, default in usual.items():
        if was.get(key, default) != now.get(key, default):
            text = ifcfg_file.with_values(text, {key: now.get(key)})
    return text
