# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Boots: whatever happened before or during one, the network is the same, and nobody waits longer for it."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, List

import pytest

from tests.lab import Cloud, Container, Network, Port, Server
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    ip,
    lacks,
    log_of,
    reconcile,
    settled,
    state_of,
    status,
    wait_until,
)

pytestmark = pytest.mark.every_kind

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


def two_networks(cloud: Cloud) -> List[Network]:
    return [
        cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450),
        cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")]),
    ]


@pytest.mark.parametrize("boot", ["first", "later"])
def test_ports_come_and_go_while_the_server_boots(cloud: Cloud, guest_factory: GuestFactory, boot: str) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("early")
    first = server.create_port(blue)
    leaving = [server.create_port(green) for _ in range(3)]
    guest = guest_factory(server)
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


# -- reboots -----------------------------------------------------------------------------------------------------


def network_of(guest: Container) -> Dict[str, Any]:
    """The network as the kernel has it: by MAC the name, the MTU and the addresses; and the routes."""
    links = [link for link in ip(guest, "addr") if link["ifname"] != "lo"]
    routes = [
        (route["dst"], route.get("gateway"), route["dev"], route.get("metric", 0), route.get("protocol"))
        for route in ip(guest, "route") + ip(guest, "-6 route")
    ]
    return {
        "links": {
            link["address"]: (
                link["ifname"],
                link["mtu"],
                sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]),
            )
            for link in links
        },
        "routes": sorted(routes, key=repr),
    }


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
        taken = seconds_to_network_online(guest)
        assert taken < first_boot + 1, f"{taken:.1f} s to network-online.target, at the first boot {first_boot:.1f} s"
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


@pytest.mark.on("networkd", "ifupdown")  # netplan's generator is run at each boot
def test_a_boot_at_which_nothing_has_changed_is_not_gone_through_again(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """And one at which anything has is, whatever changed while the server was off."""
    blue, green = two_networks(cloud)
    server = cloud.server("skip")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    def early() -> Dict[str, Any]:
        settled(guest)
        return dict(status(guest)["boot"]["early"])

    def assert_unchanged() -> None:
        """The second reboot with the same files is one at the latest: cloud-init may have written anew at the first."""
        for _number in range(3):
            guest.reboot()
            if early().get("unchanged"):
                break
        assert_boot(guest, level="store")
        assert early().get("unchanged"), early()
        assert_follows(guest, *guest.plugged)

    assert_unchanged()
    network, files_there = network_of(guest), configured_names(guest)
    assert_nothing_to_do(guest)

    def upgrade_cloud_init() -> None:
        there = guest.root / cloud_init.lstrip("/")
        there.write_text(there.read_text() + "# another\n")

    def edit_port() -> None:
        server.edit_port(second, mtu=1380)
        guest.rebuild_drive()

    cloud_init = guest.run("python3 -c 'import cloudinit.version as v; print(v.__file__)'").stdout.strip()
    ours = guest.run("python3 -c 'import cloudinit_osnetd as o; print(o.__file__)'").stdout.strip()
    version = ours.replace("__init__.py", "new.py")
    changes: Dict[str, Callable[[], None]] = {
        "configuration": lambda: guest.put(b"osnetd: {patience: 80}\n", "/etc/cloud/cloud.cfg.d/96-test.cfg"),
        "cloud-init": upgrade_cloud_init,
        "our program": lambda: guest.put(b"", version),
        "the drive": edit_port,
    }
    for what, change in changes.items():
        guest.poweroff()
        change()
        guest.boot()
        found = early()
        assert "unchanged" not in found and "error" not in found, (what, found)
        assert_boot(guest, level="store")
        assert_follows(guest, first, second)
    assert network_of(guest)["routes"] == network["routes"] and configured_names(guest) == files_there

    # A NIC, and then a person's edit of its part.
    assert_unchanged()
    guest.poweroff()
    third = server.create_port(green)
    guest.rebuild_drive()
    guest.plug(third, name="ens9")
    guest.boot()
    assert early()["changes"] == 1
    assert_follows(guest, first, second, third)
    assert_unchanged()
    guest.poweroff()
    files_of = [path for path in guest.root.glob("etc/systemd/network/*ens9*")] or [
        path for path in (guest.root / "etc/network").rglob("50-cloud-init*")
    ]
    for path in files_of:
        path.write_text(path.read_text().replace("1400", "1390"))
    guest.boot()
    assert early()["drifted"] == ["ens9"], early()


# Nothing waits for the network in networkd's guest: it would be cloud-init that misses its link.
@pytest.mark.on("ifupdown")
def test_the_link_to_the_instance_is_away_when_early_boot_begins(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """cloud-init's network stage makes it anew, and runs beside early boot where nothing waits for the network.

    Nothing is read through it, so early boot does its work while it is away: it comes back when that is over.
    """
    blue, green = two_networks(cloud)
    server = cloud.server("link")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    name = str(guest.nic(second))

    away = "/run/away-while-early-boot-ran"
    guest.run(
        "d=/etc/systemd/system/cloudinit-osnetd-early.service.d; mkdir $d; cat > $d/link.conf <<'end'\n"
        f'[Service]\nExecStartPre=/bin/mv -T /var/lib/cloud/instance {away}\n'
        f'ExecStartPost=/bin/sh -c "test ! -e /var/lib/cloud/instance && mv -T {away} /var/lib/cloud/instance"\nend'
    )
    # What early boot is to see to: the file of a NIC that has left is taken away.
    guest.poweroff()
    server.delete_port(second)
    guest.unplug(second)
    guest.boot()
    assert_boot(guest, level="store")
    early = status(guest)["boot"]["early"]
    assert "hands_off" not in early and early["changes"] == 1, early
    assert guest.run("systemctl show -p Result --value cloudinit-osnetd-early.service").stdout == "success\n"
    assert guest.run("systemctl show -p ExecStartPost cloudinit-osnetd-early.service").stdout.count("status=0") == 1
    assert_follows(guest, first)
    assert_gone(guest, name)


# -- powered off -------------------------------------------------------------------------------------------------


def test_ports_come_go_and_swap_while_the_server_is_off(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("off")
    first, leaving, swapped = server.create_port(blue), server.create_port(green), server.create_port(green)
    guest = guest_factory(server)
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


# -- the drive and the metadata service ----------------------------------------------------------------------------


def identity(guest: Container) -> Dict[str, str]:
    commands = {
        "instance": "cat /run/cloud-init/.instance-id /var/lib/cloud/data/instance-id",
        "host keys": "sha256sum /etc/ssh/ssh_host_*_key",
    }
    return {what: guest.run(command).stdout for what, command in commands.items()}


def test_a_rebuilt_drive_with_other_content_wins_at_boot(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("rebuilt")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    before = identity(guest)

    guest.poweroff()
    server.edit_port(second, fixed_ips=["10.91.0.55"], mtu=1380)
    guest.rebuild_drive()
    cloud.metadata_down()  # so it is the drive that said it
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    sources = {row["mac"]: row["source"] for row in status(guest)["nics"]}
    assert sources[second.mac] == "drive"
    assert identity(guest) == before
    cloud.metadata_up()
    assert reconcile(guest)["changes"] == []
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


@pytest.mark.parametrize("gone", ["drive", "metadata", "both"])
def test_without_the_drive_or_the_metadata_service_a_trusted_cache_boots_as_before(
    cloud: Cloud, guest_factory: GuestFactory, gone: str
) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("bereft")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server, trusted_cache=True)
    guest.boot()
    assert_boot(guest, level="drive")
    late = server.create_port(green)
    guest.plug(late)
    assert_follows(guest, first, second, late)
    settled(guest)
    before, network = identity(guest), network_of(guest)

    guest.poweroff()
    if gone in ("drive", "both"):
        guest.take_drive()
    if gone in ("metadata", "both"):
        cloud.metadata_down()
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, late)
    assert identity(guest) == before
    wait_until(lambda: network_of(guest) == network, 10, "the network as before")


def test_without_the_drive_a_distrusted_cache_is_no_worse_than_cloud_init_alone(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """cloud-init finds no datasource then, and without us the network of the last boot comes up."""
    blue, green = two_networks(cloud)

    def after_reboot(server: Server, package: bool) -> Dict[str, Any]:
        ports = [server.create_port(blue), server.create_port(green)]
        guest = guest_factory(server, package=package)
        guest.boot()
        if package:
            assert_boot(guest, level="drive")
        wait_until(lambda: network_is_up(guest, ports), 15, "the network of the first boot")
        guest.poweroff()
        guest.take_drive()
        # Without a datasource cloud-init is disabled, and writes no result.
        guest.boot(wait=False)
        wait_until(lambda: network_is_up(guest, ports), 40 * guest.patience, "the network as before")
        shown = guest.run("cloud-init status --long", check=False).stdout
        if package:
            assert status(guest)["hands_off"] or [state_of(guest, port) for port in ports] == ["ok", "ok"]
            guest.run("/usr/lib/cloudinit-osnetd/queue-event operator")
            settled(guest)
            assert_follows(guest, *ports)
            assert guest.run("systemctl --failed --no-legend --plain").stdout == ""
        return {"status": shown.splitlines()[0], "links": len(network_of(guest)["links"])}

    alone = after_reboot(cloud.server("alone"), package=False)
    assert after_reboot(cloud.server("with-us"), package=True) == alone


def network_is_up(guest: Container, ports: List[Port]) -> bool:
    """All but the DNS servers, which cloud-init alone puts on `lo`, or on every NIC."""
    return all(lack.startswith("DNS server") for port in ports for lack in lacks(guest, port))
