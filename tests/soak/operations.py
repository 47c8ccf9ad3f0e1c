# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What may happen to a server, and what each of that does to the world. Pure.

An operation says all that it needs (MACs, addresses, names, pauses), so a list of them means the same when some are left
out: what cannot be done then is skipped.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional, Sequence

from tests.soak.world import ROUTED, STATIC, Entry, Port, World, entry_of

# How the guest comes to look: by a command, by an event of that name, or not at all.
VIAS = {"reconcile": "operator", "push": "push", "timer": "timer", "none": ""}
FAULTS = ("frozen", "refuse", "drop", "503", "garbage", "slow")
STEADY = "p1"  # nothing is ever done to this port's NIC: a stream runs over it


class Operation(NamedTuple):
    kind: str
    args: Dict[str, Any]

    def __str__(self) -> str:
        return json.dumps({"do": self.kind, **self.args})


class Step(NamedTuple):
    """What may be seen of an operation, beside what it changes in the world."""

    reasons: FrozenSet[str]  # of runs that may do something
    touches: FrozenSet[str] = frozenset()  # labels of NICs that may be touched though nothing else is wanted of them
    boots: bool = False


def read(line: str) -> Operation:
    args = json.loads(line)
    return Operation(args.pop("do"), args)


def apply(world: World, operation: Operation) -> Optional[Step]:
    """Do it to the world; None, and nothing done, where it cannot be."""
    before = {wanted.label: wanted for wanted in world.wanted().values()}
    looking = world.on and world.pending
    waiting = world.stopped  # events, which the next run takes along, whoever asked for it
    step = _KINDS[operation.kind](world, operation.args)
    if step is None:
        return None
    if waiting:
        step = step._replace(reasons=step.reasons | {"added", "removed", "push", "timer"})
    if world.on and not world.stopped and (looking or world.pending):
        world.run()  # by the run that still looks for a NIC, or by the timer that it left
        step = step._replace(reasons=step.reasons | {"timer"})
    for label, addresses in list(world.extra.items()):
        was, now = before.get(label), next((w for w in world.wanted().values() if w.label == label), None)
        if label in world.drifted and step.boots:  # what stands in its file comes at each boot
            world.extra[label] = {one: False for one in addresses if one in world.by_file}
        elif step.boots or now is None or was is None or was.plugging != now.plugging:
            del world.extra[label]
        elif _moved(was.entry, now.entry):
            world.extra[label] = dict.fromkeys(addresses, False)
    return step


def _moved(was: Optional[Entry], now: Optional[Entry]) -> bool:
    """An edit of its addresses takes a NIC down, and what others gave it may go."""
    return was is None or now is None or (was.addresses, was.dhcp4, was.advertised) != (now.addresses, now.dhcp4, now.advertised)


def _look(world: World, via: str) -> Step:
    if world.on and (via == "reconcile" or (via != "none" and not world.stopped)):
        world.run()
    return Step(frozenset([VIAS[via]]) if VIAS[via] else frozenset())


def _event(world: World, *reasons: str) -> Step:
    if world.on and not world.stopped:
        world.run()
    elif world.on:
        world.dirty = True
    return Step(frozenset(reasons))


def _port(args: Dict[str, Any]) -> Port:
    return Port(args["label"], args["mac"], args["network"], tuple(args["ips"]))


def _can_attach(world: World, ports: Sequence[Dict[str, Any]]) -> bool:
    names = {name for name, _number in world.plugged.values()}
    macs = world.macs_here() | {port.mac for port in world.ports.values()}
    wanted = [port["name"] for port in ports]
    if len({port["mac"] for port in ports}) < len(ports):
        return False
    new = all(port["label"] not in world.known and port["mac"] not in macs for port in ports)
    return new and not names & set(wanted) and len(set(wanted)) == len(wanted)


def _plug(world: World, label: str, name: str) -> None:
    world.pluggings += 1
    world.plugged[label] = (name, world.pluggings)


def _list(world: World, port: Port) -> None:
    world.ports[port.label] = world.known[port.label] = port


def _attach(world: World, args: Dict[str, Any]) -> Optional[Step]:
    if not _can_attach(world, args["ports"]):
        return None
    for one in args["ports"]:
        _list(world, _port(one))
        _plug(world, one["label"], one["name"])
    return _event(world, "added")


def _detach(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """how: the port "first", the "nic" first, or the NIC alone: the port is still "listed"."""
    labels = args["labels"]
    if not all(label in world.plugged and label not in world.drifted for label in labels):
        return None
    for label in labels:
        del world.plugged[label]
        if args["how"] != "listed":
            world.ports.pop(label, None)
    return _event(world, "removed")


def _unlist(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The port goes, its NIC stays; or there was none. (Nobody leases to such a NIC: it is not this that is judged here.)"""
    label = args["label"]
    if label not in world.ports or (label in world.plugged and world.ports[label].network not in STATIC):
        return None
    del world.ports[args["label"]]
    return _look(world, args["via"])


def _relist(world: World, args: Dict[str, Any]) -> Optional[Step]:
    port = world.known.get(args["label"])
    if port is None or args["label"] in world.ports or args["label"] not in world.plugged:
        return None
    _list(world, port)
    return _look(world, args["via"])


def _replug(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The same NIC again, under the same name or another."""
    label = args["label"]
    others = {name for other, (name, _number) in world.plugged.items() if other != label}
    if label not in world.known or args["name"] in others or label in world.drifted:
        return None
    if label not in world.ports and label not in world.plugged:
        return None
    world.plugged.pop(label, None)
    if args["pause"] > 1.5 and world.on and not world.stopped:
        world.run()  # it was away for long enough to be cleaned up
    _plug(world, label, args["name"])
    return _event(world, "added", "removed")


def _swap(world: World, args: Dict[str, Any]) -> Optional[Step]:
    one, other = args["labels"]
    if one not in world.plugged or other not in world.plugged or {one, other} & world.drifted:
        return None
    names = world.plugged[one][0], world.plugged[other][0]
    for label in (one, other):
        del world.plugged[label]
    _plug(world, one, names[1])
    _plug(world, other, names[0])
    return _event(world, "added", "removed")


def _takeover(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """A port leaves, and another comes under the same name."""
    leaving, new = args["leaving"], args["port"]
    if leaving not in world.plugged or leaving in world.drifted or world.plugged[leaving][0] != new["name"]:
        return None
    if new["label"] in world.known or new["mac"] in world.macs_here():
        return None
    del world.plugged[leaving]
    world.ports.pop(leaving, None)
    if args["pause"] > 1.5 and world.on and not world.stopped:
        world.run()
    _list(world, _port(new))
    _plug(world, new["label"], new["name"])
    return _event(world, "added", "removed")


def _edited(world: World, args: Dict[str, Any]) -> bool:
    port = world.ports.get(args["label"])
    # Whose router is away is not touched: for what it cuts off the edit would be blamed, and taken back.
    if port is None or port.network in world.routers_down:
        return False
    fields = {key: _tuple(value) for key, value in args["fields"].items()}
    _list(world, port._replace(**fields))
    return True


def _tuple(value: Any) -> Any:
    return tuple(_tuple(one) for one in value) if isinstance(value, (list, tuple)) else value


def _edit(world: World, args: Dict[str, Any]) -> Optional[Step]:
    return _look(world, args["via"]) if _edited(world, args) else None


def _kill(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """An edit, and the run that takes it is killed so many seconds after its event."""
    if not world.on or world.stopped or not _edited(world, args):
        return None
    world.run()
    return Step(frozenset(["push", "timer"]), frozenset([args["label"]]))


def _subnet(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The first subnet of a network, for all of its ports: its gateway, or whether DHCP serves it."""
    network = args["network"]
    if network in world.routers_down:
        return None
    # An edit that takes the last way to the metadata service is taken back, and rightly.
    if args["fields"].get("gateway", "") is None and (world.fault or not world.ways_out(network)):
        return None
    first, *others = world.subnets[network]
    world.subnets[network] = (first._replace(**args["fields"]), *others)
    return _look(world, args["via"])


def _look_again(world: World, args: Dict[str, Any]) -> Optional[Step]:
    return _look(world, args["via"]) if world.on else None


def _force(world: World, args: Dict[str, Any]) -> Optional[Step]:
    if not world.on:
        return None
    touched = frozenset(world.drifted)
    for label in touched:
        world.extra[label] = dict.fromkeys(world.extra.get(label, {}), False)
    world.drifted.clear()
    world.run()
    return Step(frozenset(["operator"]), touched)


def _drift(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The operator adds an address to a NIC's own configuration."""
    label = args["label"]
    wanted = next((w for w in world.wanted().values() if w.label == label), None)
    if not world.on or label in world.drifted or wanted is None or wanted.entry is None:
        return None
    if wanted.entry.dhcp4 or not any("." in address for address in wanted.entry.addresses):
        return None
    world.drifted.add(label)
    world.extra.setdefault(label, {})[args["address"]] = False
    world.by_file.add(args["address"])
    return Step(frozenset())


def _address(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """Somebody gives a NIC an address, as keepalived does."""
    label = args["label"]
    wanted = next((w for w in world.wanted().values() if w.label == label), None)
    if not world.on or wanted is None or wanted.entry is None or label in world.drifted:
        return None
    world.extra.setdefault(label, {})[args["address"]] = True
    return Step(frozenset())


def _fault(world: World, args: Dict[str, Any]) -> Optional[Step]:
    if world.fault:
        return None
    if args["how"] == "frozen":
        world.frozen = world.document()
    world.fault = args["how"]
    return Step(frozenset())


def _heal(world: World, args: Dict[str, Any]) -> Optional[Step]:
    if not world.fault:
        return None
    world.fault, world.frozen = "", None
    return _look(world, args["via"])


def _router(world: World, args: Dict[str, Any]) -> Optional[Step]:
    network, down = args["network"], args["down"]
    if network not in ROUTED or down == (network in world.routers_down) or world.subnets[network][0].gateway is None:
        return None
    if down and world.behind:
        return None
    if down:
        world.routers_down.add(network)
    else:
        world.routers_down.discard(network)
    return Step(frozenset())


def _stop(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The path unit: events stay in the queue."""
    if not world.on or world.stopped:
        return None
    world.stopped = True
    return Step(frozenset())


def _start(world: World, args: Dict[str, Any]) -> Optional[Step]:
    if not world.on or not world.stopped:
        return None
    world.stopped = False
    world.run()  # an operation that came meanwhile has left its event; where none has, one is made
    return Step(frozenset(["added", "removed", "push", "timer"]))


def _off(world: World, args: Dict[str, Any]) -> Optional[Step]:
    if not world.on:
        return None
    world.on = False
    return Step(frozenset())


def _booted(world: World) -> Step:
    world.on, world.stopped = True, False
    world.run()
    everybody = frozenset(world.plugged)
    return Step(frozenset(["boot", "added", "timer"]), everybody, boots=True)


def _boot(world: World, args: Dict[str, Any]) -> Optional[Step]:
    return None if world.on else _booted(world)


def _reboot(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """In order, or, "hard", by a power cut."""
    return _booted(world) if world.on else None


def _drive(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The config drive is made anew from what Nova knows now, while the server is off."""
    if world.on or world.fault:
        return None
    world.drive = world.document()
    return Step(frozenset())


def _reinstall(world: World, args: Dict[str, Any]) -> Optional[Step]:
    """The same package once more; then a look, so that it is known what was heard."""
    if not world.on:
        return None
    world.stopped = False
    world.run()
    return Step(frozenset(["operator", "added", "removed", "push", "timer", "boot"]))


_KINDS: Dict[str, Callable[[World, Dict[str, Any]], Optional[Step]]] = {
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
    "look": _look_again,
    "force": _force,
    "drift": _drift,
    "address": _address,
    "fault": _fault,
    "heal": _heal,
    "router": _router,
    "stop": _stop,
    "start": _start,
    "off": _off,
    "boot": _boot,
    "reboot": _reboot,
    "drive": _drive,
    "reinstall": _reinstall,
}
KINDS = tuple(_KINDS)


def first_world() -> World:
    """A server with two ports, as it is after its first boot."""
    world = World()
    for port in (
        Port("p0", "fa:16:3e:00:00:00", "blue", ("10.90.0.10",)),
        Port(STEADY, "fa:16:3e:00:00:01", "steel", ("10.89.0.10",)),
    ):
        _list(world, port)
        _plug(world, port.label, f"ens{3 + world.labels}")
        world.labels += 1
        entry = entry_of(port, world.subnets[port.network])
        assert entry is not None
        world.drive[port.mac] = entry
    world.run()
    return world


