# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""IPv6 ports in each of Neutron's address modes, alone and beside IPv4."""

from __future__ import annotations

import ipaddress

import pytest

from tests.lab import Cloud
from tests.lab.ports import Subnet, address_by_mac, random_mac
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    findings_of,
    reconcile,
    settled,
    state_of,
)
from tests.scenarios.serving import serving

_V4 = Subnet("10.91.0.0/24", dns=("10.91.0.2",))
_MODES = {
    "static": ("2001:db8:1::/64", None),
    "slaac": ("2001:db8:2::/64", "slaac"),
    "stateless": ("2001:db8:3::/64", "dhcpv6-stateless"),
    "stateful": ("2001:db8:4::/64", "dhcpv6-stateful"),
}


@pytest.mark.parametrize("dual", [False, True], ids=["alone", "dual"])
@pytest.mark.parametrize("mode", sorted(_MODES))
def test_an_ipv6_port_is_attached(cloud: Cloud, guest_factory: GuestFactory, mode: str, dual: bool) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    cidr, ipv6_mode = _MODES[mode]
    six = Subnet(cidr, str(ipaddress.ip_network(cidr).network_address + 1), dns=(cidr.replace("::/64", "::53"),), ipv6_mode=ipv6_mode)
    green = cloud.network("green", mtu=1400, subnets=[_V4, six] if dual else [six])
    server = cloud.server("six")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    mac = random_mac()
    own = address_by_mac(cidr, mac) if mode in ("slaac", "stateless") else cidr.replace("::/64", "::77")
    port = server.create_port(green, mac=mac, fixed_ips=["10.91.0.77", own] if dual else [own])
    with serving(guest, touches=[port], events=["added"]):
        name = guest.plug(port)
        assert_follows(guest, port, seconds=25)

    if mode == "static":
        server.edit_port(port, fixed_ips=[*port.fixed_ips[:-1], cidr.replace("::/64", "::78")], mtu=1380)
        with serving(guest, touches=[port], starts_of_service=0):
            reconcile(guest)
            assert_follows(guest, port, seconds=5)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, port, seconds=25)
    assert_nothing_to_do(guest)

    server.delete_port(port)
    with serving(guest, touches=[port], events=["removed"]):
        guest.unplug(port)
        assert_gone(guest, name)


# On NetworkManager cloud-init's own profile lets the NIC fail then, before we come: test_networkmanager.py has it with ours.
@pytest.mark.on("networkd", "ifupdown", "netplan")
def test_where_ipv6_is_switched_off_no_nic_is_brought_up_again_for_it(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """By an administrator, on a server whose port has a static IPv6 address, before the package came."""
    cidr, _mode = _MODES["static"]
    blue = cloud.network("blue", subnets=[_V4._replace(gateway="10.91.0.1"), Subnet(cidr, "2001:db8:1::1")])
    server = cloud.server("four")
    port = server.create_port(blue)
    guest = guest_factory(server, package=False)
    guest.boot()
    guest.run("sysctl -w net.ipv6.conf.all.disable_ipv6=1")
    with package.untouched(guest):
        package.install(guest)
        settled(guest)
    assert state_of(guest, port) == "ok"
    assert f"IPv6 is switched off: no {port.fixed_ips[1]}/64" in findings_of(guest, port)
    assert_nothing_to_do(guest)
