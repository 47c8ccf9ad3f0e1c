# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Settings that the kernel refuses cost themselves: never the NIC, not at an edit, not at a boot, not in a roll-back."""

from __future__ import annotations

import re

from tests.lab import Cloud, Port
from tests.lab.ports import Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.place import KNOWN, boot_known
from tests.scenarios.seen import (
    Guest,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    findings_of,
    ip,
    lacks,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    wait_until,
)

_V4 = Subnet("10.90.0.0/24", "10.90.0.1", dns=("10.90.0.2",))
_V6 = Subnet("2001:db8:1::/64", "2001:db8:1::1", dns=("2001:db8:1::53",))


def all_but_the_mtu(guest: Guest, port: Port) -> bool:
    return [fault for fault in lacks(guest, port) if not fault.startswith("MTU ")] == []


def assert_all_but_the_mtu(guest: Guest, port: Port) -> None:
    """It has its network, and it is told what its MTU is and why."""
    wait_until(lambda: all_but_the_mtu(guest, port), 15 * guest.patience, f"{port} has its network: {lacks(guest, port)}")
    settled(guest)
    assert state_of(guest, port) == "ok"
    (link,) = ip(guest, f"link show dev {guest.nic(port)}")
    (told,) = [text for text in findings_of(guest, port) if "MTU" in text]
    assert re.match(rf"the MTU is {link['mtu']}, not {port.mtu}: the device takes \d+ at the most$", told), told


def test_an_mtu_above_what_the_device_takes(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Nova sets host_mtu, so any raise of a network's MTU is one to its running servers."""
    silent = Subnet("10.99.0.0/24", "10.99.0.1", dns=("10.99.0.2",))
    blue = cloud.network("blue", subnets=[_V4, _V6, silent], mtu=1450)
    cloud.router_down(blue, silent.cidr)
    server, its = cloud.server("raised", uuid=KNOWN.format(6)), ["10.90.0.18", "2001:db8:1::18"]
    port = server.create_port(blue, mac="fa:16:3e:a0:06:01", fixed_ips=its)
    guest = guest_factory(server, mtu_limit=True)
    boot_known(guest)
    assert_boot(guest, level="drive")
    assert_follows(guest, port)

    server.edit_port(port, mtu=8950)
    reconcile(guest)
    assert_all_but_the_mtu(guest, port)
    assert_nothing_to_do(guest)

    # A roll-back goes to a configuration with that MTU.
    kept = configuration(guest, port)
    server.edit_port(port, fixed_ips=["10.99.0.18", its[1]])
    record = reconcile_anyway(guest)
    assert [t["action"] for t in record["touches"] if t["reason"] == "rolled back"] == ["reconfigure"], record
    assert configuration(guest, port) == kept
    server.edit_port(port, fixed_ips=its)
    wait_until(lambda: all_but_the_mtu(guest, port), 15 * guest.patience, f"its network is back: {lacks(guest, port)}")
    reconcile(guest)
    assert_all_but_the_mtu(guest, port)
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_all_but_the_mtu(guest, port)
    assert_nothing_to_do(guest)

    server.edit_port(port, mtu=1400)
    reconcile(guest)
    assert_follows(guest, port)


def test_the_first_boot_of_a_server_whose_device_takes_less_than_its_network(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """cloud-init itself writes the configuration; then a NIC of that kind comes to the running server."""
    blue = cloud.network("blue", subnets=[_V4, _V6], mtu=1450)
    server = cloud.server("first")
    first, second = server.create_port(blue), server.create_port(cloud.network("green", cidr="10.91.0.0/24", mtu=1450))
    guest = guest_factory(server, mtu_limit=True)
    guest.unplug(second)
    server.edit_port(first, mtu=8950)
    guest.rebuild_drive()
    guest.boot()
    assert_boot(guest, level="drive")
    assert_all_but_the_mtu(guest, first)
    guest.plug(second)
    server.edit_port(second, mtu=8950)
    reconcile(guest)
    assert_all_but_the_mtu(guest, second)
    assert_all_but_the_mtu(guest, first)


NO_IPV6 = """\
[Unit]
DefaultDependencies=no
Before=network-pre.target cloud-init-local.service
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for one in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >"$one"; done'

[Install]
WantedBy=multi-user.target
"""


def test_an_administrator_has_switched_ipv6_off(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The IPv6 subnet stands first in the document, and IPv4 has its address, routes and DNS all the same."""
    blue = cloud.network("blue", subnets=[_V6, _V4], mtu=1450)
    green = cloud.network(
        "green",
        subnets=[Subnet("2001:db8:2::/64"), Subnet("10.91.0.0/24", routes=(("10.9.0.0/16", "10.91.0.9"),))],
        mtu=1400,
    )
    server = cloud.server("four")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_follows(guest, first)
    guest.put(NO_IPV6.encode(), "/etc/systemd/system/no-ipv6.service")
    guest.run("systemctl enable no-ipv6.service")
    guest.reboot()

    def assert_by_ipv4(port: Port) -> None:
        def there() -> bool:
            wrong = [fault for fault in lacks(guest, port) if "2001:db8" not in fault]
            return wrong == []

        wait_until(there, 15 * guest.patience, f"{port} has IPv4: {lacks(guest, port)}")
        settled(guest)
        assert state_of(guest, port) == "ok"
        off = guest.run(f"cat /proc/sys/net/ipv6/conf/{guest.nic(port)}/disable_ipv6").stdout.strip() == "1"
        # networkd switches it on again for a NIC that has IPv6 addresses by its file.
        assert off or guest.backend != "ifupdown"
        told = any(text.startswith("IPv6 is switched off: no 2001:db8") for text in findings_of(guest, port))
        assert told if off else lacks(guest, port) == []

    assert_boot(guest, level="store")
    assert_by_ipv4(first)
    second = server.create_port(green, fixed_ips=["2001:db8:2::70", "10.91.0.70"])  # not the next hop of its route
    guest.plug(second)
    assert_by_ipv4(second)
    server.edit_port(second, fixed_ips=["2001:db8:2::77", "10.91.0.77"])
    reconcile(guest)
    assert_by_ipv4(second)
    assert_nothing_to_do(guest)
