# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager with keyfiles: which of its ways serves a port, and what it does by itself before and after."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from tests.lab import Cloud, Container, Port
from tests.lab.ports import Subnet
from tests.scenarios.conftest import KINDS, GuestFactory, Kind
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    reconcile,
    settled,
    status,
)
from tests.scenarios.serving import serving

_ASKED = [kind for kind in KINDS if kind.backend == "nm"]
pytestmark = pytest.mark.parametrize("kind", _ASKED or [Kind("trixie", "nm")], ids=str)


def _blue(cloud: Cloud) -> Any:
    return cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)


def _commands(records: List[Dict[str, Any]]) -> List[str]:
    return [command for record in records for command in record["commands"]]


def _profile(guest: Container, port: Port) -> str:
    """The file of the profile that is active on the port's NIC."""
    lines = guest.run("nmcli -t -f DEVICE,FILENAME connection show --active").stdout.splitlines()
    return dict(line.split(":", 1) for line in lines)[str(guest.nic(port))]


def test_ports_come_and_go(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """One file is loaded and its profile brought up; nothing else is asked of NetworkManager."""
    blue = _blue(cloud)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("web")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert status(guest)["boot"]["early"]["drifted"] == []
    assert_follows(guest, first)
    static, dynamic = server.create_port(blue), server.create_port(leased)
    for port in (static, dynamic):
        with serving(guest, touches=[port], events=["added"]) as served:
            name = guest.plug(port)
            assert_follows(guest, first, port)
        path = f"/etc/NetworkManager/system-connections/cloud-init-{name}.nmconnection"
        commands = _commands(served.records)
        assert commands[0] == f"nmcli connection load {path}"
        assert any(command.startswith("nmcli --wait 0 connection up uuid ") for command in commands)
        assert all(command.startswith("nmcli ") for command in commands), commands
        assert _profile(guest, port) == path
        assert guest.run(f"stat -c '%a %U' {path}").stdout == "600 root\n"
    name = str(guest.nic(static))
    with serving(guest, leaves=[static], events=["removed"]):
        guest.unplug(static)
        assert_gone(guest, name)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, dynamic)
    assert len(configured_names(guest)) == 2
    assert_nothing_to_do(guest)


_SIX = Subnet("2001:db8:1::/64", "2001:db8:1::1", dns=("2001:db8:1::53",))


def test_an_edit_is_reapplied(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Of a route, DNS and the MTU: the NIC stays up, its addresses of both families too."""
    green = cloud.network("green", mtu=1400, subnets=[Subnet("10.91.0.0/24", dns=("10.91.0.2",)), _SIX])
    server = cloud.server("edited")
    first, second = server.create_port(_blue(cloud)), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)
    edits: List[Dict[str, Any]] = [
        {"routes": [("10.200.0.0/16", "10.91.0.9")]},
        {"dns": ["10.91.0.3", "2001:db8:1::54"]},
        {"mtu": 1380},
        {"fixed_ips": ["10.91.0.77", second.fixed_ips[1]]},
    ]
    for edit in edits:
        # The last one takes the address away that the stream leaves by.
        streams = [first] if "fixed_ips" in edit else [first, second]
        with serving(guest, touches=[second], streams=streams) as served:
            server.edit_port(second, **edit)
            watch = f"timeout 30 ip -6 monitor address dev {guest.nic(second)} >/run/seen & echo $!"
            pid = guest.run(watch).stdout.strip()
            reconcile(guest)
            assert_follows(guest, first, second)
            guest.run(f"kill {pid}; ! grep tentative /run/seen")
        commands = _commands(served.records)
        assert f"nmcli device reapply {guest.nic(second)}" in commands
        assert not any("connection up" in command for command in commands), commands
    assert guest.run(f"cat /proc/sys/net/ipv6/conf/{guest.nic(second)}/accept_dad").stdout == "1\n"
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
