# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The oracle finds what is wrong: a picture of a guest that is as it must be, and one fault after the other in it. Pure."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, Optional

import pytest

from tests.soak import oracle
from tests.soak.generator import generate
from tests.soak.operations import STEADY, Operation, Step, apply, first_world
from tests.soak.oracle import LOOK_TIMER, Case
from tests.soak.picture import Nic, Picture, Record, parts_of
from tests.soak.world import Entry, Wanted, World

_NONE = Entry(frozenset(), None, frozenset(), frozenset())


def _nic(number: int, wanted: Wanted, backend: str) -> Nic:
    """The NIC that has just what is wanted of it."""
    entry = wanted.entry or _NONE
    metric = 2000 + number
    routes = [(to, by, metric) for to, by in entry.routes if not (entry.advertised and to == "::/0")]
    advertised = [("::/0", "fe80::1", metric)] if entry.advertised else []
    return Nic(
        name=wanted.name,
        ifindex=10 + wanted.plugging,
        mtu=entry.mtu or 1500,
        flags=("BROADCAST", "UP") if wanted.entry else ("BROADCAST",),
        addresses=tuple(sorted(entry.addresses | wanted.may)),
        tentative=(),
        routes=tuple(sorted(routes + advertised)),
        advertised=tuple(advertised),
        networkd="" if backend == "ifupdown" else "configured",
        dns=tuple(sorted(entry.dns)),
        dhclients=int(entry.dhcp4 and backend == "ifupdown"),
    )


def good(world: World, backend: str = "networkd") -> Picture:
    """The guest that follows its ports."""
    wanted = world.wanted()
    names = sorted(one.name for one in wanted.values() if one.states != {"pending"})
    return Picture(
        boot="this one",
        nics={mac: _nic(number, one, backend) for number, (mac, one) in enumerate(sorted(wanted.items()))},
        states={mac: (min(one.states), "") for mac, one in wanted.items()},
        parts={name: f"of {name}" for name in names},
        ledger=tuple(names),
        ifstate=tuple(names) if backend == "ifupdown" else None,
        busy=(),
        queue=(),
        timers=(LOOK_TIMER,) if world.pending else (),
        failed=(),
        left=(),
        history=(),
        disk={"/etc/hosts": [1, 2, "3"]},
        store={},
    )


def case(world: World, after: Picture, before: Optional[Picture] = None, step: Optional[Step] = None, **more: Any) -> Case:
    """By default: a look at which nothing happens."""
    usual: Dict[str, Any] = {
        "backend": "ifupdown" if after.ifstate is not None else "networkd",
        "suite": "trixie",
        "before": before or after,
        "after": after,
        "wanted_before": world.wanted(),
        "wanted": world.wanted(),
        "step": step or Step(frozenset(["operator"])),
        "pending": world.pending,
        "listening": True,
    }
    return Case(**{**usual, **more})


def a_world(seed: int = 4, count: int = 60) -> World:
    world = first_world()
    for operation in generate(seed, count):
        apply(world, operation)
    if not world.on:
        apply(world, Operation("boot", {}))
    apply(world, Operation("start", {}))
    return world


@pytest.mark.parametrize("backend", ["networkd", "ifupdown"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_wrong_with_a_guest_that_follows(seed: int, backend: str) -> None:
    world = a_world(seed)
    assert len(world.plugged) > 1
    assert oracle.judge(case(world, good(world, backend))) == []


@pytest.mark.parametrize(("shown", "said"), [("connected:cloud-init {}", 0), ("connected:Wired connection 1", 2), ("", 2)])
def test_networkmanager_must_use_our_profile(shown: str, said: int) -> None:
    world = first_world()
    now = good(world, "nm")
    now = now._replace(nics={mac: nic._replace(networkmanager=shown.format(nic.name)) for mac, nic in now.nics.items()})
    found = [str(finding) for finding in oracle.judge(case(world, now, backend="nm"))]
    assert len([text for text in found if "NetworkManager says" in text]) == len(found) == said


def test_the_parts_of_keyfiles_and_ifcfg_files() -> None:
    files = {
        "/etc/NetworkManager/system-connections/cloud-init-ens3.nmconnection": "a",
        "/etc/sysconfig/network-scripts/ifcfg-ens4": "b",
        "/etc/sysconfig/network-scripts/route6-ens4": "c",
    }
    assert parts_of(files) == {"ens3": "a", "ens4": "bc"}


_STEADY_MAC = "fa:16:3e:00:00:01"


def _with_nic(picture: Picture, mac: str = _STEADY_MAC, **fields: Any) -> Picture:
    return picture._replace(nics={**picture.nics, mac: picture.nics[mac]._replace(**fields)})


_FAULTS: Dict[str, Callable[[Picture], Picture]] = {
    "no address 10.89.0.10/24": lambda p: _with_nic(p, addresses=()),
    "address of nobody 10.89.0.66/24": lambda p: _with_nic(p, addresses=("10.89.0.10/24", "10.89.0.66/24")),
    "MTU 1449, not 1450": lambda p: _with_nic(p, mtu=1449),
    "not up": lambda p: _with_nic(p, flags=("BROADCAST",)),
    "route of nobody to 10.9.0.0/16 by 10.89.0.9": lambda p: _with_nic(p, routes=(("10.9.0.0/16", "10.89.0.9", 0),)),
    "DNS server 10.89.0.2 not in use": lambda p: _with_nic(p, dns=()),
    "DNS server of nobody 10.1.1.1": lambda p: _with_nic(p, dns=("10.1.1.1", "10.89.0.2")),
    "networkd says failed": lambda p: _with_nic(p, networkd="failed"),
    "renamed: it was plugged as ens4": lambda p: _with_nic(p, name="eth1"),
    "no NIC has this MAC": lambda p: p._replace(nics={m: n for m, n in p.nics.items() if m != _STEADY_MAC}),
    "status says failed (why), not ok": lambda p: p._replace(states={**p.states, _STEADY_MAC: ("failed", "why")}),
    "ens4 is not configured on disk": lambda p: p._replace(parts={n: t for n, t in p.parts.items() if n != "ens4"}),
    "ens77 is configured on disk, and should not be": lambda p: p._replace(parts={**p.parts, "ens77": "of a NIC that left"}),
    "ens4 is not in the ledger": lambda p: p._replace(ledger=tuple(n for n in p.ledger if n != "ens4")),
    "at work: the service is active": lambda p: p._replace(busy=("the service is active",)),
    "an event that nobody serves: 1.added": lambda p: p._replace(queue=("1.added",)),
    "cloudinit-osnetd-retry.timer is set, though nothing is pending": lambda p: p._replace(timers=("cloudinit-osnetd-retry.timer",)),
    "cloudinit-osnetd.service failed": lambda p: p._replace(failed=("cloudinit-osnetd.service",)),
    "left behind: /etc/.osnetd-x": lambda p: p._replace(left=("/etc/.osnetd-x",)),
    "2 default routes are the best one": lambda p: _with_nic(
        _with_nic(p, routes=(("0.0.0.0/0", "10.89.0.1", 0),)), "fa:16:3e:00:00:00", routes=(("0.0.0.0/0", "10.90.0.1", 0),)
    ),
}


@pytest.mark.parametrize("said", _FAULTS)
def test_a_fault_in_the_guest_is_found_and_named(said: str) -> None:
    world = first_world()
    found = [str(finding) for finding in oracle.judge(case(world, _FAULTS[said](good(world))))]
    assert any(said in text for text in found), found
    about = [text for text in found if text.startswith(f"{STEADY} ({_STEADY_MAC}, ")]
    whole = ("ens4 is", "ens77", "at work", "an event", "cloudinit-osnetd", "left", "2 default")
    assert about or said.startswith(whole)


def test_ifupdowns_own_state_and_clients_are_looked_at() -> None:
    world = first_world()
    picture = _with_nic(good(world, "ifupdown"), dhclients=1)._replace(ifstate=("ens3",))
    found = [str(finding) for finding in oracle.judge(case(world, picture))]
    assert any("1 DHCP clients, not 0" in text for text in found)
    assert "ens4 is not up for ifupdown" in found


_OTHERS: Dict[str, Callable[[Picture], Picture]] = {
    "its ifindex was": lambda p: _with_nic(p, ifindex=99),
    "its configuration on disk was changed": lambda p: p._replace(parts={**p.parts, "ens4": "another"}),
    "its flags were": lambda p: _with_nic(p, flags=("BROADCAST", "NOARP", "UP")),
    "and was touched": lambda p: p._replace(history=(Record(5.0, ("operator",), (_STEADY_MAC,)),)),
    "served by boot, not by operator": lambda p: p._replace(history=(Record(5.0, ("boot",), ()),)),
}


@pytest.mark.parametrize("said", _OTHERS)
def test_who_has_nothing_to_do_with_it_is_as_before(said: str) -> None:
    world = first_world()
    before = good(world)
    found = [str(finding) for finding in oracle.judge(case(world, _OTHERS[said](before), before))]
    assert any(said in text for text in found), found


def test_a_change_that_no_run_has_a_record_of_is_found() -> None:
    world = first_world()
    before, wanted = good(world), world.wanted()
    apply(world, Operation("edit", {"label": "p0", "fields": {"mtu": 1300}, "via": "push"}))
    step, after = Step(frozenset(["push"])), good(world)
    found = [str(f) for f in oracle.judge(case(world, after, before, step, wanted_before=wanted))]
    assert found == ["p0 (fa:16:3e:00:00:00, ens3): no run has a record of having touched it"]
    after = after._replace(history=(Record(5.0, ("push",), ("fa:16:3e:00:00:00",)),))
    assert oracle.judge(case(world, after, before, step, wanted_before=wanted)) == []


def test_an_address_of_others_that_went_is_found() -> None:
    world = first_world()
    apply(world, Operation("address", {"label": "p0", "address": "10.98.0.1/32"}))
    mac = "fa:16:3e:00:00:00"
    assert oracle.judge(case(world, good(world))) == []
    found = oracle.judge(case(world, _with_nic(good(world), mac, addresses=("10.90.0.10/22",))))
    assert "the address 10.98.0.1/32 that somebody gave it is gone" in [finding.what for finding in found]


def test_a_nic_that_no_source_lists_is_looked_for_and_has_nothing() -> None:
    world = first_world()
    port = {"label": "p2", "mac": "fa:16:3e:00:00:02", "network": "green", "ips": [], "name": "ens5"}
    apply(world, Operation("attach", {"ports": [port]}))
    assert oracle.judge(case(world, good(world))) == []
    found = oracle.judge(case(world, good(world)._replace(timers=())))
    assert [finding.what for finding in found] == [f"no {LOOK_TIMER}, though something is pending"]
    found = oracle.judge(case(world, _with_nic(good(world), "fa:16:3e:00:00:02", addresses=("10.91.0.5/22",))))
    assert [finding.what for finding in found] == ["an address though nobody names it: 10.91.0.5/22"]


def test_a_second_run_that_does_something_is_found() -> None:
    before = good(first_world())
    assert oracle.nothing_to_do({"changes": [], "touches": [], "commands": []}, before, before, True) == []
    after = before._replace(disk=copy.deepcopy({**before.disk, "/etc/hosts": [9, 2, "3"]}))
    found: List[str] = [str(f) for f in oracle.nothing_to_do({"changes": ["x"], "commands": ["ip"]}, before, after, True)]
    assert len(found) == 3 and "a second run wrote /etc/hosts" in found


def test_the_configuration_on_disk_is_cut_by_nic() -> None:
    interfaces = "auto lo\niface lo inet loopback\n\nauto ens3\niface ens3 inet dhcp\n\n# IPv6\niface ens3 inet6 auto\n\nauto ens4\niface ens4 inet dhcp\n"
    parts = parts_of({"/etc/network/interfaces.d/50-cloud-init": interfaces})
    assert sorted(parts) == ["ens3", "ens4"] and "inet6 auto" in parts["ens3"]
    assert sorted(parts_of({"/etc/systemd/network/10-cloud-init-ens3.network": "[Match]"})) == ["ens3"]
    netplan = "network: {version: 2, ethernets: {ens3: {mtu: 1400}, ens4: {}}}"
    assert sorted(parts_of({"/etc/netplan/50-cloud-init.yaml": netplan})) == ["ens3", "ens4"]
