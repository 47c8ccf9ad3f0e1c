# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A seed to a list of operations. Pure: the same seed, count and exclusions give the same list, on any machine."""

from __future__ import annotations

import random
from typing import Any, Callable, Dict, List, Optional, Sequence

from tests.soak.operations import FAULTS, STEADY, Operation, apply, first_world
from tests.soak.world import NETWORKS, ROUTED, STATIC, World, slaac_address

MOST_NICS = 8
_FAULTS = ("fault", "router", "stop", "kill", "drive")
FAULT_SHARE = 0.2
_WEIGHTS = {
    "attach": 18, "detach": 12, "unlist": 3, "relist": 3, "replug": 5, "swap": 5, "takeover": 6, "edit": 26, "subnet": 4,
    "look": 5, "force": 3, "drift": 3, "address": 4, "off": 4, "reboot": 4, "reinstall": 2,
    "fault": 12, "router": 3, "stop": 3, "kill": 5, "drive": 2,
}  # fmt: skip

_Make = Callable[["_Dice", World], Optional[Dict[str, Any]]]


class _Dice(random.Random):
    def one(self, items: Sequence[Any]) -> Any:
        return items[int(self.random() * len(items))]

    def chance(self, share: float) -> bool:
        return self.random() < share

    def via(self) -> str:
        return str(self.one(["reconcile", "reconcile", "push", "timer", "none"]))


def generate(
    seed: int, count: int, without: Sequence[str] = (), single: Sequence[str] = (), avoid: Sequence[str] = ()
) -> List[Operation]:
    """So many operations, each possible after those before it.

    without: none of these kinds; single: no second port on these networks at a time; avoid: none at all on these.
    """
    dice, world, made = _Dice(seed), first_world(), []
    kinds = [kind for kind in _WEIGHTS if kind not in without]
    while len(made) < count:
        kind = _ending(dice, world) or _drawn(dice, kinds)
        args = _MAKE[kind](dice, world)
        if args is None:
            continue
        operation = Operation(kind, args)
        if _crowds(world, args, single, avoid):
            continue
        if apply(world, operation) is not None:
            made.append(operation)
    return made


def _crowds(world: World, args: Dict[str, Any], single: Sequence[str], avoid: Sequence[str]) -> bool:
    """The ports that come would not be the only ones on such a network, or are not to be there at all."""
    new = [port["network"] for port in args.get("ports", [args["port"]] if "port" in args else [])]
    here = [world.known[label].network for label in {*world.plugged, *world.ports} if label != args.get("leaving")]
    return any(network in avoid for network in new) or any((here + new).count(network) > 1 for network in single if network in new)


def _drawn(dice: _Dice, kinds: Sequence[str]) -> str:
    faults = [kind for kind in kinds if kind in _FAULTS]
    among = faults if faults and dice.chance(FAULT_SHARE) else [kind for kind in kinds if kind not in _FAULTS]
    return str(dice.choices(among, [_WEIGHTS[kind] for kind in among])[0])


def _ending(dice: _Dice, world: World) -> str:
    """What has lasted for long enough: a few operations happen under each fault, and while the server is off."""
    if not world.on:
        return "boot" if dice.chance(0.4) else ""
    if world.fault:
        return "heal" if dice.chance(0.35) else ""
    if world.stopped:
        return "start" if dice.chance(0.35) else ""
    if world.routers_down:
        return "router" if dice.chance(0.35) else ""
    return ""


# One for each kind: what it needs, or None where that is not there


def _others(world: World) -> List[str]:
    """The NICs that something may be done to."""
    return [label for label in world.plugged if label != STEADY]


def _new_port(dice: _Dice, world: World, name: str, again: bool = True) -> Dict[str, Any]:
    """`again`: it may have a MAC that another had."""
    network = dice.one([one for one in NETWORKS if one != "steel"])
    label = f"p{world.labels}"
    mac = f"fa:16:3e:00:{world.labels >> 8:02x}:{world.labels & 255:02x}"
    world.labels += 1
    here = world.macs_here() | {port.mac for port in world.ports.values()} | set(world.drive)
    free = [port.mac for port in world.known.values() if port.mac not in here]
    if free and again and dice.chance(0.15):
        mac = dice.one(free)
    return {"label": label, "mac": mac, "network": network, "ips": _addresses(dice, world, network, mac), "name": name}


def _addresses(dice: _Dice, world: World, network: str, mac: str, all_subnets: bool = False) -> List[str]:
    if dice.chance(0.06):
        return []
    subnets = list(range(len(world.subnets[network])))
    if len(subnets) > 1 and not all_subnets and dice.chance(0.3):
        subnets = [dice.one(subnets)]
    found = []
    for number in subnets:
        subnet = world.subnets[network][number]
        slaac = subnet.ipv6_mode == "slaac"
        found.append(slaac_address(subnet.cidr, mac) if slaac else world.new_address(network, number))
        if not slaac and not subnet.dhcp and dice.chance(0.15):
            found.append(world.new_address(network, number))
    return found


def _attach(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    room = MOST_NICS - len(world.plugged)
    if room <= 0:
        return None
    number = dice.one([1, 1, 1, 1, 2, 3, 5])
    names = world.free_names()[: min(number, room)]
    if dice.chance(0.3):
        names = dice.sample(world.free_names()[:12], len(names))
    return {"ports": [_new_port(dice, world, name, again=name == names[0]) for name in names]}


def _detach(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label in _others(world) if label not in world.drifted]
    if not labels:
        return None
    number = min(dice.one([1, 1, 1, 2, 3]), len(labels))
    return {"labels": dice.sample(labels, number), "how": dice.one(["first", "first", "nic", "listed"])}


def _unlist(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label in world.ports if label != STEADY and (label not in world.plugged or dice.chance(0.3))]
    return {"label": dice.one(labels), "via": dice.via()} if labels else None


def _relist(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label in _others(world) if label not in world.ports]
    return {"label": dice.one(labels), "via": dice.via()} if labels else None


def _replug(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    absent = [label for label in world.ports if label not in world.plugged]
    labels = absent or [label for label in _others(world) if label not in world.drifted]
    if not labels or (absent and len(world.plugged) >= MOST_NICS):
        return None
    label = dice.one(labels)
    same = label in world.plugged and dice.chance(0.6)
    name = world.plugged[label][0] if same else world.free_names()[0]
    return {"label": label, "name": name, "pause": dice.one([0, 0.5, 1.4, 3])}


def _swap(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label in _others(world) if label not in world.drifted]
    return {"labels": dice.sample(labels, 2)} if len(labels) > 1 else None


def _takeover(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label in _others(world) if label not in world.drifted]
    if not labels:
        return None
    leaving = dice.one(labels)
    return {"leaving": leaving, "pause": dice.one([0, 0.3, 1.4, 1.6, 4]), "port": _new_port(dice, world, world.plugged[leaving][0])}


def _fields(dice: _Dice, world: World, label: str) -> Optional[Dict[str, Any]]:
    port = world.ports[label]
    if port.network not in STATIC:
        return None
    subnets = world.subnets[port.network]
    versions = sorted({subnet.network.version for subnet in subnets})
    number = dice.randrange(20, 250)
    field = dice.one(["fixed_ips", "fixed_ips", "mtu", "routes", "dns", "all"])
    fields: Dict[str, Any] = {}
    if field in ("fixed_ips", "all"):
        fields["fixed_ips"] = _addresses(dice, world, port.network, port.mac, all_subnets=port.network != "many")
    if field in ("mtu", "all"):
        fields["mtu"] = dice.randrange(1284, 1500)
    if field in ("routes", "all"):
        fields["routes"] = [_route(dice, subnets[versions.index(version)], number) for version in versions for _ in range(dice.one([0, 1, 2]))]
    if field in ("dns", "all"):
        fields["dns"] = [f"10.88.{dice.randrange(200)}.{number}" if version == 4 else f"fd00:88::{number}" for version in versions]
    return fields


def _route(dice: _Dice, subnet: Any, number: int) -> List[str]:
    gateway = str(subnet.network.network_address + dice.randrange(4, 9))
    return [f"10.{dice.randrange(200, 250)}.{number}.0/24" if subnet.network.version == 4 else f"fd00:{dice.randrange(100, 999)}:{number}::/48", gateway]


def _edit(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label, port in world.ports.items() if label != STEADY and port.network not in world.routers_down]
    if not labels:
        return None
    label = dice.one(labels)
    fields = _fields(dice, world, label)
    return {"label": label, "fields": fields, "via": dice.via()} if fields else None


def _kill(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    edit = _edit(dice, world)
    if edit is None:
        return None
    del edit["via"]
    return {**edit, "after": round(dice.uniform(0.0, 1.2), 3), "whom": dice.one(["all", "main", "run"])}


def _subnet(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    network = dice.one(["blue", "green", "leased"])
    subnet, told = world.subnets[network][0], NETWORKS[network][1][0]
    if network == "leased":
        return {"network": network, "fields": {"dhcp": not subnet.dhcp}, "via": dice.via()}
    return {"network": network, "fields": {"gateway": None if subnet.gateway else told.gateway}, "via": "reconcile"}


def _drift(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    labels = [label for label in _others(world) if label not in world.drifted]
    world.given["drift"] = world.given.get("drift", 0) + 1
    number = world.given["drift"]
    return {"label": dice.one(labels), "address": f"10.99.{number >> 7}.{(number & 127) + 1}/32"} if labels else None


def _address(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    made = _drift(dice, world)
    return made and {**made, "address": made["address"].replace("10.99.", "10.98.")}


def _fault(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    return {"how": dice.one(FAULTS)}


def _router(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    if world.routers_down:
        return {"network": min(world.routers_down), "down": False}
    return {"network": dice.one(ROUTED), "down": True}


def _via(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    return {"via": dice.via()}


def _nothing(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    return {}


def _look(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    return {"via": dice.one(["reconcile", "push", "timer"])}


def _force(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    return {} if world.drifted else None


def _reboot(dice: _Dice, world: World) -> Optional[Dict[str, Any]]:
    return {"hard": dice.chance(0.4)}


_MAKE: Dict[str, _Make] = {
    "attach": _attach,
    "detach": _detach,
    "unlist": _unlist,
    "relist": _relist,
    "replug": _replug,
    "swap": _swap,
    "takeover": _takeover,
    "edit": _edit,
    "kill": _kill,
    "subnet": _subnet,
    "look": _look,
    "force": _force,
    "drift": _drift,
    "address": _address,
    "fault": _fault,
    "heal": _via,
    "router": _router,
    "stop": _nothing,
    "start": _nothing,
    "off": _reboot,
    "boot": _nothing,
    "reboot": _reboot,
    "drive": _nothing,
    "reinstall": _nothing,
}
