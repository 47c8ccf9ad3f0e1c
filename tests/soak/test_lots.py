# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The pure parts of the soak: the lots that are drawn, the world that they make, and how a failure's list is made shorter."""

from __future__ import annotations

import random
from collections import Counter
from typing import List

import pytest

from tests.lab import ports as lab_ports
from tests.lab.nova import network_data
from tests.soak.__main__ import chosen
from tests.soak.generator import FAULT_SHARE, MOST_NICS, generate
from tests.soak.operations import FAULTS, KINDS, Operation, apply, first_world, read
from tests.soak.shrink import shrunk
from tests.soak.world import NETWORKS, Entry, Port, entry_of, slaac_address


def test_a_seed_is_a_list_of_operations_and_another_one_another() -> None:
    assert generate(7, 200) == generate(7, 200)
    assert generate(7, 200) != generate(8, 200)
    assert generate(7, 50) == generate(7, 200)[:50]


def test_an_operation_is_a_line_and_back() -> None:
    operations = generate(3, 300)
    assert [read(str(operation)) for operation in operations] == operations


def test_everything_happens_and_a_fifth_of_it_are_faults() -> None:
    drawn = Counter(operation.kind for seed in range(6) for operation in generate(seed, 300))
    assert set(drawn) == set(KINDS)
    assert {op.args["how"] for op in generate(1, 400) if op.kind == "fault"} == set(FAULTS)
    begun = sum(drawn[kind] for kind in ("fault", "stop", "kill", "drive")) + drawn["router"] // 2
    # Those that end something, and those that could not be, are drawn again.
    assert FAULT_SHARE - 0.07 < begun / drawn.total() < FAULT_SHARE + 0.07


def test_what_is_excluded_does_not_happen() -> None:
    assert {"address", "drift"}.isdisjoint({operation.kind for operation in generate(5, 500, ["address", "drift"])})


def test_no_two_ports_are_on_a_network_that_is_to_have_one_at_a_time() -> None:
    world = first_world()
    for operation in generate(5, 300, single=["six", "dual"]):
        apply(world, operation)
        here = [world.known[label].network for label in world.plugged]
        assert here.count("six") <= 1 and here.count("dual") <= 1


def test_each_operation_can_be_done_after_those_before_it() -> None:
    world = first_world()
    for operation in generate(11, 500):
        assert apply(world, operation) is not None, operation
        assert len(world.plugged) <= MOST_NICS
        names = [name for name, _number in world.plugged.values()]
        assert len(set(names)) == len(names) and len(world.macs_here()) == len(names)


@pytest.mark.parametrize("seed", range(5))
def test_some_of_the_operations_can_be_done_without_the_others(seed: int) -> None:
    dice, world = random.Random(seed), first_world()
    some = [operation for operation in generate(seed, 400) if dice.random() < 0.5]
    done = [apply(world, operation) for operation in some]
    assert sum(step is not None for step in done) > len(some) / 4
    assert len(world.macs_here()) == len(world.plugged)


def test_steps_are_chosen_by_number() -> None:
    operations = generate(1, 10)
    assert chosen(operations, "") == operations
    assert chosen(operations, "1-3,9") == [*operations[:3], operations[8]]
    assert chosen(operations, "9-12") == operations[8:]


# -- what the guest can know -----------------------------------------------------------------------------------------


def _do(*operations: Operation) -> List[str]:
    """The states that p2 may have after each."""
    world, states = first_world(), []
    for operation in operations:
        assert apply(world, operation) is not None, operation
        states.append("/".join(sorted(s for w in world.wanted().values() if w.label == "p2" for s in w.states)))
    return states


_PORT = {"label": "p2", "mac": "fa:16:3e:00:00:02", "network": "green", "ips": ["10.91.0.16"], "name": "ens5"}
_ATTACH = Operation("attach", {"ports": [_PORT]})
_LOOK = Operation("look", {"via": "reconcile"})


def test_a_nic_that_no_source_lists_is_pending_until_one_does() -> None:
    for fault in ("frozen", "refuse", "drop", "503", "garbage"):
        heal = Operation("heal", {"via": "none"})
        assert _do(Operation("fault", {"how": fault}), _ATTACH, _LOOK, heal) == ["", "pending", "pending", "ok"]
    assert _do(Operation("fault", {"how": "slow"}), _ATTACH) == ["", "ok"]


def test_a_port_that_is_no_longer_listed_leaves_an_orphan_once_that_is_heard() -> None:
    unlist = Operation("unlist", {"label": "p2", "via": "none"})
    assert _do(_ATTACH, unlist, _LOOK) == ["ok", "ok", "orphan"]


def test_an_edit_is_known_when_it_was_heard() -> None:
    world = first_world()
    edit = {"label": "p2", "fields": {"mtu": 1300}}
    for operation in (_ATTACH, Operation("edit", {**edit, "via": "none"})):
        apply(world, operation)
    assert world.heard["fa:16:3e:00:00:02"].mtu == 1400 and world.unheard
    apply(world, _LOOK)
    assert world.heard["fa:16:3e:00:00:02"].mtu == 1300 and not world.unheard


def test_an_address_of_others_has_to_outlive_an_edit_of_others_things() -> None:
    for fields, must in (({"dns": ["10.88.0.1"]}, True), ({"mtu": 1300}, True), ({"fixed_ips": ["10.91.0.77"]}, False)):
        world = first_world()
        address = Operation("address", {"label": "p2", "address": "10.98.0.1/32"})
        for operation in (_ATTACH, address, Operation("edit", {"label": "p2", "fields": fields, "via": "push"})):
            assert apply(world, operation) is not None
        wanted = world.wanted()["fa:16:3e:00:00:02"]
        assert wanted.may == {"10.98.0.1/32"} and wanted.extra == ({"10.98.0.1/32"} if must else set())


@pytest.mark.parametrize("network", NETWORKS)
def test_an_entry_says_what_novas_document_says(network: str) -> None:
    """The world is written from Nova's rules by itself: it is compared with the lab's document, which has another maker."""
    mtu, subnets = NETWORKS[network]
    mac = "fa:16:3e:00:00:09"
    ips = [slaac_address(s.cidr, mac) if s.ipv6_mode else str(s.network.network_address + 40) for s in subnets]
    entry = entry_of(Port("p9", mac, network, tuple(ips)), subnets)
    assert entry is not None
    port = lab_ports.Port(lab_ports.Network(network, "br0", mtu, subnets), mac, ips)
    told = network_data([port.vif()])
    assert entry.mtu == told["links"][0]["mtu"]
    static = [net for net in told["networks"] if net["type"] in ("ipv4", "ipv6")]
    for net in static:
        assert any(address.startswith(net["ip_address"] + "/") for address in entry.addresses)
        assert {service["address"] for service in net["services"]} <= entry.dns
        assert {route["gateway"] for route in net["routes"]} <= {by for _to, by in entry.routes}
    if len(static) == len(told["networks"]):
        assert len(entry.addresses) == len(static)
        assert len(entry.routes) == sum(len(net["routes"]) for net in static)
    assert entry.dhcp4 == any(net["type"] == "ipv4_dhcp" for net in told["networks"])
    assert entry_of(Port("p9", mac, network, ()), subnets) is None


def test_a_port_is_told_with_one_address_of_one_subnet_a_version() -> None:
    _mtu, subnets = NETWORKS["many"]
    entry = entry_of(Port("p9", "fa:16:3e:00:00:09", "many", ("10.97.2.9", "10.97.0.8", "10.97.0.9")), subnets)
    assert isinstance(entry, Entry) and entry.addresses == {"10.97.0.8/23"}


# -- a shorter list --------------------------------------------------------------------------------------------------


def test_a_failure_is_shrunk_to_what_it_takes() -> None:
    tried: List[List[int]] = []

    def fails(some: List[int]) -> bool:
        tried.append(some)
        return {17, 61} <= set(some)

    assert shrunk(range(100), fails) == [17, 61]
    assert len(tried) <= 60


def test_a_failure_of_one_operation_is_that_one() -> None:
    assert shrunk([3], lambda some: True) == [3]
    assert shrunk(range(9), lambda some: 4 in some) == [4]
