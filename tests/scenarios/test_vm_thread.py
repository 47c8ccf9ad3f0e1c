# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The thin thread once more, in a virtual machine.

Only there the shipped udev rule meets real devices (in a container every NIC is a claimed veth), udev gives NICs their
names, the drive is a volume, and cloud-init trusts its cached datasource by the DMI uuid.
"""

from __future__ import annotations

import re
from typing import Callable

import pytest

from tests.lab import VM, Cloud, Port
from tests.scenarios.conftest import Kind
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    configured_names,
    log_of,
    reconcile,
    settled,
    state_of,
)

pytestmark = pytest.mark.vm
KINDS = [Kind("trixie", "networkd")] + [
    pytest.param(Kind(*words), marks=pytest.mark.deep)
    for words in (("bookworm", "ifupdown"), ("bullseye", "ifupdown"), ("sid", "networkd"), ("bookworm", "netplan"), ("sid", "netplan"))
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_server_on_real_devices_follows_its_ports(cloud: Cloud, vm_factory: Callable[..., VM], kind: Kind) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    green = cloud.network(
        "green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")]
    )
    amber = cloud.network("amber", cidr="10.93.0.0/26", dns=["10.93.0.2"], mtu=1300)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("web")
    first, listed = server.create_port(blue), server.create_port(green)
    guest = vm_factory(server, suite=kind.suite, backend=kind.backend)
    names: dict[Port, str] = {}

    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, listed)
    assert_names_kept(guest, names)
    assert_rule_matched(guest, "added", names[first])
    assert_nothing_to_do(guest)
    kept = configuration(guest, first)

    # A static port is attached.
    static = server.create_port(amber)
    guest.plug(static)
    assert_follows(guest, static)
    settled(guest)
    assert_names_kept(guest, names)
    assert_rule_matched(guest, "added", names[static])
    assert configuration(guest, first) == kept
    assert_nothing_to_do(guest)

    reboot(guest)
    assert_follows(guest, first, listed, static)
    assert_names_kept(guest, names)
    assert_nothing_to_do(guest)

    # A DHCP port is attached.
    dynamic = server.create_port(leased)
    guest.plug(dynamic)
    assert_follows(guest, dynamic)
    settled(guest)
    assert_names_kept(guest, names)
    assert_rule_matched(guest, "added", names[dynamic])
    assert (dynamic.mac, dynamic.fixed_ips[0]) in cloud.leases(leased)
    assert_nothing_to_do(guest)

    reboot(guest)
    assert_follows(guest, first, listed, static, dynamic)
    assert_names_kept(guest, names)

    # A port is detached while the metadata still lists it.
    guest.unplug(static)
    assert_gone(guest, names[static])
    settled(guest)
    assert_rule_matched(guest, "removed", names[static])
    assert state_of(guest, static) == "absent"
    assert_follows(guest, first, listed, dynamic)
    assert_nothing_to_do(guest)

    reboot(guest)
    assert_follows(guest, first, listed, dynamic)
    assert_names_kept(guest, names)
    assert sorted(configured_names(guest)) == sorted(names[port] for port in (first, listed, dynamic))

    # A port that the drive lists is detached, and the drive will list it for ever.
    server.delete_port(listed)
    guest.unplug(listed)
    assert_gone(guest, names[listed])
    settled(guest)
    assert_rule_matched(guest, "removed", names[listed])
    assert_nothing_to_do(guest)

    reboot(guest)
    assert_follows(guest, first, dynamic)
    assert_names_kept(guest, names)
    assert sorted(configured_names(guest)) == sorted(names[port] for port in (first, dynamic))
    assert configuration(guest, first) == kept
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["commands"]) == ([], [], []), record
    assert_nothing_to_do(guest)


def reboot(guest: VM) -> None:
    """Reboot; what our store says served that boot, and cloud-init kept the datasource that it had cached."""
    guest.reboot()
    assert_boot(guest, level="store")
    log = guest.run("cat /var/log/cloud-init.log").stdout
    assert "restored from checked cache: DataSourceConfigDrive" in log, "the cached datasource was not trusted"


def assert_rule_matched(guest: VM, reason: str, name: str) -> None:
    """The shipped rule saw the kernel's event of a PCI device, and the service took it."""
    assert f"reason={reason} nic={name}" in log_of(guest), log_of(guest)
    if reason == "added":
        properties = guest.run(f"udevadm info --query=property /sys/class/net/{name}").stdout.splitlines()
        assert "ID_BUS=pci" in properties
        assert not any(line.startswith("OSNETD_MANAGE") for line in properties), "claimed, so the rule proved nothing"


def assert_names_kept(guest: VM, names: dict[Port, str]) -> None:
    """Every NIC has the name that udev gave it when it came, and udev is all that ever renamed one."""
    for port in guest.plugged:
        name = guest.nic(port)
        assert name is not None, f"no NIC for {port}"
        assert names.setdefault(port, name) == name, f"{port} was renamed"
    log = guest.run("journalctl -k -b --no-pager -o cat | grep 'renamed from'", check=False).stdout
    renamed = re.findall(r"(\S+): renamed from (\S+)", log)
    assert all(re.fullmatch(r"eth\d+", old) for _new, old in renamed), log
    assert {new for new, _old in renamed} <= set(names.values()), log
