# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Boots: whatever ports did before or during one, the network is the same, and nobody waits longer for it."""

from __future__ import annotations

import json
import os
from typing import List

import pytest

from tests.lab import Cloud, Container, Port
from tests.scenarios.boots import network_of, two_networks
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    NO_WIRED_CONNECTION,
    PROFILES,
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    ip,
    log_of,
    settled,
    status,
    wait_until,
)

# How far a boot has come: the stage of cloud-init that has begun; "" before the first. Between the first and the second
# the network starts.
STAGES = ["", "init-local", "init", "modules-config", "modules-final"]


def stage_of(guest: Container) -> str:
    shown = guest.run("cat /run/cloud-init/status.json", check=False).stdout
    try:
        begun = json.loads(shown)["v1"]
    except (ValueError, KeyError):
        return ""
    return next((stage for stage in reversed(STAGES) if (begun.get(stage) or {}).get("start")), "")


def wait_for_stage(guest: Container, stage: str) -> None:
    wait_until(lambda: STAGES.index(stage_of(guest)) >= STAGES.index(stage), 60, f"stage {stage}")


@pytest.mark.every_kind
@pytest.mark.parametrize("boot", ["first", "later"])
def test_ports_come_and_go_while_the_server_boots(cloud: Cloud, guest_factory: GuestFactory, boot: str) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("early")
    first = server.create_port(blue)
    leaving = [server.create_port(green) for _ in range(3)]
    # With its default NetworkManager asks for a lease on a NIC that comes before cloud-init's network stage, which then
    # waits a minute: the next port here would come after that.
    guest = guest_factory(server, files=NO_WIRED_CONNECTION)
    if boot == "later":
        guest.boot()
        settled(guest)
        guest.reboot(wait=False)
    else:
        guest.boot(wait=False)

    came: List[Port] = []
    names: List[str] = []
    for stage in STAGES:
        wait_for_stage(guest, stage)
        came.append(server.create_port(green))
        guest.plug(came[-1], name=f"ens1{len(came)}")
        if stage in ("init-local", "init", "modules-config"):
            port = leaving.pop()
            names.append(str(guest.nic(port)))
            server.delete_port(port)
            guest.unplug(port)
    guest.wait_for_cloud_init()
    assert_follows(guest, first, *came, seconds=30)
    # In a machine the next NIC in a slot has the name of the last.
    for name in set(names) - {guest.nic(port) for port in guest.plugged}:
        assert_gone(guest, name)
    settled(guest)
    assert len(configured_names(guest)) == 1 + len(came)
    assert status(guest)["boot"]["level"] == ("store" if boot == "later" else "drive")
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, *came)
    assert len(configured_names(guest)) == 1 + len(came)


def seconds_to_network_online(guest: Container) -> float:
    """From the start of user space to network-online.target, of this boot."""
    reached = guest.run("systemctl show --value -p ActiveEnterTimestampMonotonic network-online.target").stdout
    began = guest.run("systemctl show --value -p UserspaceTimestampMonotonic").stdout
    assert int(reached), "network-online.target was not reached"
    return (int(reached) - int(began)) / 1e6


def wait_for_the_network(guest: Container) -> None:
    """Undo what the lab masks: a networkd server's network-online.target waits for its network."""
    if guest.backend == "networkd":
        unit = "systemd-networkd-wait-online.service"
        mask = guest.root / "etc/systemd/system" / unit
        mask.unlink()
        wants = guest.root / "etc/systemd/system/network-online.target.wants"
        wants.mkdir(exist_ok=True)
        os.symlink(f"/usr/lib/systemd/system/{unit}", wants / unit)


@pytest.mark.every_kind
def test_a_reboot_changes_nothing_and_takes_no_longer(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("same")
    first = server.create_port(blue)
    guest = guest_factory(server)
    wait_for_the_network(guest)
    guest.boot()
    assert_boot(guest, level="drive")
    first_boot = seconds_to_network_online(guest)
    ports = [first]

    def assert_same_after_reboot() -> None:
        settled(guest)
        assert_follows(guest, *ports)
        before = network_of(guest)
        guest.reboot()
        assert_boot(guest, level="store")
        assert_follows(guest, *ports)
        wait_until(lambda: network_of(guest) == before, 10, "the network as before")
        taken = [seconds_to_network_online(guest)]
        # Another program of this machine may take the time of one boot, not that of three in a row.
        while min(taken) >= first_boot + 1 and len(taken) < 3:
            guest.reboot()
            taken.append(seconds_to_network_online(guest))
        assert min(taken) < first_boot + 1, f"{taken} s to network-online.target, at the first boot {first_boot:.1f} s"
        assert_nothing_to_do(guest)

    second = server.create_port(green)
    other_way_out = server.create_port(blue)
    for port in (second, other_way_out):
        guest.plug(port)
        ports.append(port)
    assert_same_after_reboot()

    ports.remove(second)
    server.delete_port(second)
    name = str(guest.nic(second))
    guest.unplug(second)
    assert_gone(guest, name)
    assert_same_after_reboot()

    ports.remove(first)
    server.delete_port(first)
    name = str(guest.nic(first))
    guest.unplug(first)
    assert_gone(guest, name)
    assert_same_after_reboot()
    assert [route["dev"] for route in ip(guest, "route show default")] == [guest.nic(other_way_out)]


def test_a_secondary_nic_that_nobody_serves_delays_no_boot(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue, green = two_networks(cloud)
    dead = cloud.network("dead", cidr="10.94.0.0/24", dhcp=True)
    server = cloud.server("dead-end")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    wait_for_the_network(guest)
    guest.boot()
    assert_boot(guest, level="drive")
    first_boot = seconds_to_network_online(guest)

    unserved = server.create_port(dead)
    cloud.stop_dhcp(dead)
    name = guest.plug(unserved)
    wait_until(lambda: name in configured_names(guest), 20, "a configuration for it")
    guest.reboot()
    assert_follows(guest, first, second)
    taken = seconds_to_network_online(guest)
    assert taken < first_boot + 1, f"{taken:.1f} s to network-online.target, at the first boot {first_boot:.1f} s"
    if guest.backend in PROFILES:
        # For NetworkManager the NIC is connected by now, with its link-local address; it goes on asking.
        server.edit_port(unserved)  # the DHCP server is back
        assert_follows(guest, first, second, unserved, seconds=60)


@pytest.mark.every_kind
def test_ports_come_go_and_swap_while_the_server_is_off(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("off")
    first, leaving, swapped = server.create_port(blue), server.create_port(green), server.create_port(green)
    guest = guest_factory(server, files=NO_WIRED_CONNECTION)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, leaving, swapped)
    place = str(guest.nic(swapped))

    guest.poweroff()
    for port in (leaving, swapped):
        guest.unplug(port)
        server.delete_port(port)
    instead, new = server.create_port(green), server.create_port(green)
    # In this order: in a machine, where udev names them, each takes the first slot that is free.
    guest.plug(new, name="ens9")
    guest.plug(instead, name=place)
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, instead, new)
    assert guest.nic(instead) == place and guest.nic(new) not in (None, place)
    assert guest.nic(new) == "ens9" or not isinstance(guest, Container)  # a VM's has udev's name
    assert len(configured_names(guest)) == 3
    log = log_of(guest)
    assert "reason=boot" in log, log
    assert_nothing_to_do(guest)


