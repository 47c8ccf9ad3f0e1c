# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The guest at a moment: what inside/look.py saw there, in the words of the oracle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import yaml

SCRIPT = Path(__file__).with_name("inside") / "look.py"
IN_GUEST = "/root/osnetd-soak-look.py"


class Nic(NamedTuple):
    """A NIC in the kernel, and in the backend's words. Addresses are the global ones."""

    name: str
    ifindex: int
    mtu: int
    flags: Tuple[str, ...]
    addresses: Tuple[str, ...]
    tentative: Tuple[str, ...]
    routes: Tuple[Tuple[str, str, int], ...]  # destination, gateway, metric: those by way of a gateway
    advertised: Tuple[Tuple[str, str, int], ...]  # those of them that a router advertised
    networkd: str
    dns: Optional[Tuple[str, ...]]  # None: nobody takes DNS servers here
    dhclients: int  # IPv4 clients
    networkmanager: str = ""  # the state of the device, and its profile


class Record(NamedTuple):
    """A run that changed something."""

    when: float
    reasons: Tuple[str, ...]
    touched: Tuple[str, ...]  # MACs


class Picture(NamedTuple):
    boot: str
    nics: Dict[str, Nic]  # by MAC
    states: Dict[str, Tuple[str, str]]  # MAC -> state and reason
    parts: Dict[str, str]  # NIC's name -> its configuration on disk
    ledger: Tuple[str, ...]  # names
    ifstate: Optional[Tuple[str, ...]]  # names; None where ifupdown is not
    busy: Tuple[str, ...]  # what shows that a run is at work
    queue: Tuple[str, ...]
    timers: Tuple[str, ...]
    failed: Tuple[str, ...]
    left: Tuple[str, ...]
    history: Tuple[Record, ...]
    disk: Dict[str, Any]
    store: Any


def read(text: str) -> Picture:
    """From what inside/look.py printed."""
    saw = json.loads(text)
    return Picture(
        boot=saw["boot"],
        nics=_nics(saw),
        states={row["mac"]: (row["state"], row["reason"]) for row in saw["status"].get("nics", [])},
        parts=parts_of(saw["parts"]),
        ledger=tuple(sorted(row["name"] for row in (saw["store"] or {}).get("ledger", []))),
        ifstate=None if saw["ifstate"] is None else tuple(sorted({word.partition("=")[0] for word in saw["ifstate"]} - {"lo"})),
        busy=(*_service(saw["service"]), *(f"event {name} not done" for name in saw["work"]), *saw["clients"]["ours"]),
        queue=tuple(saw["queue"]),
        timers=tuple(saw["timers"]),
        failed=tuple(saw["failed"]),
        left=tuple(saw["left"]),
        history=tuple(
            Record(float(one["when"] or 0), tuple(one["reasons"]), tuple(mac for mac, _action in one["touches"]))
            for one in sorted(saw["history"], key=lambda one: one["when"] or 0)
        ),
        disk=saw["disk"],
        store=saw["store"],
    )


def _service(word: str) -> List[str]:
    return [] if word in ("inactive", "failed") else [f"the service is {word}"]


def _nics(saw: Dict[str, Any]) -> Dict[str, Nic]:
    found = {}
    for link in saw["links"]:
        if link.get("link_type") != "ether" or "linkinfo" in link:
            continue
        name = link["ifname"]
        shown = [a for a in link["addr_info"] if a["scope"] == "global"]
        routes, advertised = _routes(saw["routes"], name)
        found[link.get("permaddr", link["address"])] = Nic(
            name=name,
            ifindex=link["ifindex"],
            mtu=link["mtu"],
            flags=tuple(sorted(link["flags"])),
            addresses=tuple(sorted(f"{a['local']}/{a['prefixlen']}" for a in shown)),
            tentative=tuple(a["local"] for a in link["addr_info"] if a.get("tentative")),
            routes=routes,
            advertised=advertised,
            networkd=saw["networkd"].get(name, ""),
            dns=None if saw["dns"] is None else tuple(sorted(saw["dns"].get(name, []))),
            networkmanager=saw["networkmanager"].get(name, ""),
            dhclients=len([line for line in saw["clients"]["dhcp"] if name in line.split() and " -6" not in line]),
        )
    return found


def _routes(shown: Dict[str, Any], name: str) -> Tuple[Any, Any]:
    routes: Set[Tuple[str, str, int]] = set()
    advertised: Set[Tuple[str, str, int]] = set()
    for version, everywhere in (("4", "0.0.0.0/0"), ("6", "::/0")):
        for route in shown[version]:
            # Several of one destination and metric are one route of several hops.
            for hop in [route, *route.get("nexthops", [])]:
                if hop.get("dev") != name or not hop.get("gateway"):
                    continue
                one = (route["dst"].replace("default", everywhere), hop["gateway"], int(route.get("metric", 0)))
                routes.add(one)
                if route.get("protocol") == "ra":
                    advertised.add(one)
    return tuple(sorted(routes)), tuple(sorted(advertised))


def parts_of(files: Dict[str, str]) -> Dict[str, str]:
    """The configuration on disk by NIC's name."""
    found: Dict[str, str] = {}
    for path, text in files.items():
        network = re.search(r"/(?:10-cloud-init-([^/]+)\.network|cloud-init-([^/]+)\.nmconnection)$", path)
        ifcfg = re.search(r"/(?:ifcfg|route|route6)-([^/]+)$", path)
        if network:
            found[network[1] or network[2]] = text
        elif ifcfg:
            found[ifcfg[1]] = found.get(ifcfg[1], "") + text
        elif path.endswith(".yaml"):
            said = (yaml.safe_load(text) or {}).get("network", {})
            found.update({name: yaml.safe_dump(body) for name, body in said.get("ethernets", {}).items()})
        elif path.endswith("/50-cloud-init"):
            for paragraph in re.split(r"\n\n+", text.rstrip("\n")):
                name = re.search(r"^(?:auto|iface) (\S+)", paragraph, re.MULTILINE)
                if name and name[1] != "lo":
                    found[name[1]] = found.get(name[1], "") + paragraph + "\n"
    return found
