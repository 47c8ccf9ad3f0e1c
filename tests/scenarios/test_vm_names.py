# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Names that change from boot to boot, by nobody's doing but the kernel's or an old rule's: a NIC is known by its MAC."""

from __future__ import annotations

import re
from typing import Callable, List

import pytest

from tests.lab import VM, Cloud, Port
from tests.scenarios.place import Place
from tests.scenarios.seen import (
    NETPLAN,
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    reconcile,
    status,
)
from tests.scenarios.serving import serving

pytestmark = [pytest.mark.vm, pytest.mark.deep]


def test_the_kernels_own_names_move_up_when_a_nic_has_left(cloud: Cloud, vm_factory: Callable[..., VM]) -> None:
    """net.ifnames=0: eth0, eth1, eth2 in the order of the slots."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    amber = cloud.network("amber", cidr="10.93.0.0/26", dns=["10.93.0.2"], mtu=1300, routes=[("10.210.0.0/16", "10.93.0.9")])
    server = cloud.server("eth", uuid="6e09f1b2-0000-4000-8000-00000000e001")
    first = server.create_port(blue, mac="fa:16:3e:e0:00:01", fixed_ips=["10.90.0.11"])
    second = server.create_port(leased, mac="fa:16:3e:e0:00:02", fixed_ips=["10.92.0.12"])
    third = server.create_port(amber, mac="fa:16:3e:e0:00:03", fixed_ips=["10.93.0.13"])
    guest = vm_factory(server, suite="trixie", backend="netplan", append="net.ifnames=0")
    guest.boot(saved=True)
    assert_boot(guest, level="drive")
    assert names(guest, first, second, third) == ["eth0", "eth1", "eth2"]
    assert_follows(guest, first, second, third)
    assert_nobody_renames(guest)
    assert_nothing_to_do(guest)

    server.delete_port(second)
    with serving(guest, touches=[second], events=["removed"], streams=[first]):
        guest.unplug(second)
        assert_gone(guest, "eth1")
    assert names(guest, first, third) == ["eth0", "eth2"]

    # At the boot eth2 moves up: in its configuration too, before the network starts, and to the other's place.
    guest.reboot()
    assert_boot(guest, level="store")
    assert names(guest, first, third) == ["eth0", "eth1"]
    assert status(guest)["boot"]["early"]["changes"] == 2
    assert_follows(guest, first, third)
    assert_only(guest, first, third)

    # A newcomer takes the free slot: eth2 while the server runs. At the next boot the two change names.
    fourth = server.create_port(leased)
    with serving(guest, touches=[fourth], events=["added"], streams=[first]):
        assert guest.plug(fourth) == "eth2"
        assert_follows(guest, fourth)
    guest.reboot()
    assert_boot(guest, level="store")
    assert names(guest, first, fourth, third) == ["eth0", "eth1", "eth2"]
    assert status(guest)["boot"]["early"]["changes"] == 2
    assert_follows(guest, first, third, fourth)
    assert_only(guest, first, third, fourth)


RULES = "/etc/udev/rules.d/70-persistent-net.rules"
# As cloud-init's eni and sysconfig renderers wrote them, and still do where nobody stops them.
_RULE = 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{mac}", NAME="{name}"\n'


def test_rules_of_an_older_cloud_init_stay_and_name_whom_they_name(place: Place, guest: VM) -> None:
    """They are not ours to remove (and the kernel's name of the moment is all that counts)."""
    rules = _RULE.format(mac=place.first.mac, name="eth0") + _RULE.format(mac=place.second.mac, name="eth1")
    guest.put(rules.encode(), RULES)
    written = guest.run(f"stat -c '%i %y' {RULES}").stdout
    before = names(guest, place.first, place.second)

    # The names that the server had under its older cloud-init are back.
    guest.reboot()
    assert_boot(guest, level="store", rules=[RULES])
    assert names(guest, place.first, place.second) == ["eth0", "eth1"] != before
    assert status(guest)["boot"]["early"]["changes"] == 4
    assert_follows(guest, place.first, place.second)
    assert_only(guest, place.first, place.second)

    place.server.delete_port(place.second)
    with serving(guest, touches=[place.second], events=["removed"], streams=[place.first]):
        guest.unplug(place.second)
        assert_gone(guest, "eth1")
    # In its slot, and eth1 to the kernel until udev has named it.
    third = place.server.create_port(place.amber)
    with serving(guest, touches=[third], events=["added"], streams=[place.first]):
        assert guest.plug(third) == before[1]
        assert_follows(guest, third)

    guest.reboot()
    assert_boot(guest, level="store", rules=[RULES])
    assert names(guest, place.first, third) == ["eth0", before[1]]
    assert status(guest)["boot"]["early"]["changes"] == 0
    assert_follows(guest, place.first, third)
    assert_only(guest, place.first, third)
    assert guest.run(f"cat {RULES}").stdout == rules
    assert guest.run(f"stat -c '%i %y' {RULES}").stdout == written


# Holds udev up until cloud-init is at work on the network of this boot.
_LATE = """SUBSYSTEM=="net", ACTION=="add", KERNEL!="lo", PROGRAM="/root/late"\n"""
_WAIT = """#!/bin/sh
for _ in $(seq 100); do [ -e /run/cloud-init/status.json ] && break; sleep 1; done
sleep 15
"""


def test_a_boot_on_which_udev_is_late(place: Place, guest: VM) -> None:
    """Until it has seen a NIC, that has a name of the kernel's: whoever configures it under that one is soon wrong."""
    before = names(guest, place.first, place.second)
    waited = settles(guest)
    guest.put(_WAIT.encode(), "/root/late", mode=0o755)
    guest.put(_LATE.encode(), "/etc/udev/rules.d/00-late.rules")
    guest.reboot()
    assert_boot(guest, level="store")
    log = guest.run("journalctl -b --no-pager -o short-monotonic").stdout
    renamed = [float(time) for time in re.findall(r"^\[ *(\S+)\] .* renamed from", log, re.MULTILINE)]
    (early,) = re.findall(r"^\[ *(\S+)\] .* Finished cloudinit-osnetd-early", log, re.MULTILINE)
    assert len(renamed) == 2
    assert max(renamed) < float(early)
    assert settles(guest) > waited, "udev was not late enough: the rest proves nothing"
    assert names(guest, place.first, place.second) == before
    assert status(guest)["boot"]["early"]["changes"] == 0
    assert status(guest)["boot"]["names"] == {port.mac: name for port, name in zip((place.first, place.second), before)}
    assert_follows(guest, place.first, place.second)
    assert_only(guest, place.first, place.second)


def settles(guest: VM) -> int:
    """How often cloud-init, and what it loads, has waited for udev."""
    return int(guest.run("grep -c \"'udevadm', 'settle'\" /var/log/cloud-init.log", check=False).stdout)


def names(guest: VM, *ports: Port) -> List[str]:
    return [str(guest.nic(port)) for port in ports]


def assert_only(guest: VM, *ports: Port) -> None:
    """These have a configuration, each under its name of this moment, and nobody else has; there is nothing left to do."""
    assert configured_names(guest) == sorted(names(guest, *ports))
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["problems"]) == ([], [], {}), record
    assert_nothing_to_do(guest)
    assert "set-name" not in guest.run(f"cat {NETPLAN}").stdout


def assert_nobody_renames(guest: VM) -> None:
    assert guest.run("journalctl -k -b --no-pager -o cat | grep 'renamed from'", check=False).stdout == ""
