# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A port becomes one of another kind: by DHCP, static, without a fixed IP; and several of all sorts come and go at once."""

from __future__ import annotations

from typing import Any, Dict

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    reason_of,
    reconcile,
    state_of,
    timers,
    wait_until,
)
from tests.scenarios.serving import serving


def test_a_subnet_is_served_by_dhcp_then_static_again(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("kinds")
    first, port = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, port)

    cloud.edit_subnet(green, dhcp=True)
    with serving(guest, touches=[port], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, port)
    assert cloud.acknowledged(green, port) >= 1
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, port)

    cloud.edit_subnet(green, dhcp=False)
    server.edit_port(port, fixed_ips=["10.91.0.78"])
    with serving(guest, touches=[port], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, port)
    assert f"dhclient.{guest.nic(port)}" not in guest.run("ps axww").stdout
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, port)
    assert_nothing_to_do(guest)


def test_a_port_without_a_fixed_ip_is_looked_for_and_one_that_loses_it_stays(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Nova tells nothing of such a port: it is not in network_data.json."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("bare")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    port = server.create_port(green, fixed_ips=[])
    with serving(guest, touches=[port], events=["added"], settles_in=30):
        guest.plug(port)
        wait_until(lambda: state_of(guest, port) == "pending", 5, "the NIC is looked for")
        assert "no source names it" in reason_of(guest, port)
        server.edit_port(port, fixed_ips=["10.91.0.77"])
        assert_follows(guest, port, seconds=16)
    assert timers(guest) == []

    server.edit_port(port, fixed_ips=[])
    assert_nothing_to_do_but_say(guest, port, "orphan")
    guest.reboot()
    assert_boot(guest, level="store")
    assert state_of(guest, port) == "orphan"
    server.edit_port(port, fixed_ips=["10.91.0.78"])
    with serving(guest, touches=[port], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, first, port)


def assert_nothing_to_do_but_say(guest: Container, port: Port, state: str) -> None:
    """The next run notes what it heard, and changes no NIC."""
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["commands"]) == ([], [], []), record
    assert state_of(guest, port) == state
    assert_nothing_to_do(guest)


def test_ports_of_all_sorts_come_and_go_at_once(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("mixed")
    first, stays = server.create_port(blue), server.create_port(green)
    leaving = [server.create_port(network) for network in (green, leased, blue)]
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, stays, *leaving)

    replaced, *others = leaving  # its name is the next one's
    names = [str(guest.nic(port)) for port in others]
    coming = [server.create_port(network) for network in (leased, green)]
    for port in leaving:
        server.delete_port(port)
    with serving(guest, [*others, *coming], [replaced], ["added", "removed"], starts_of_service=5, settles_in=25):
        guest.unplug(replaced)
        guest.plug_all(coming)
        for port in others:
            guest.unplug(port)
        assert_follows(guest, *coming, seconds=20)
        for name in names:
            assert_gone(guest, name)
    assert configured_names(guest) == sorted(str(guest.nic(port)) for port in (first, stays, *coming))
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, stays, *coming)
    assert_nothing_to_do(guest)


def test_nics_that_are_told_a_name_and_no_mac(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """As bare-metal operators write it: at a first boot, at an edit, of one that comes, and over a reboot."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("metal")
    first, second = server.create_port(blue), server.create_port(green)
    names = {first.mac: "ens3", second.mac: "ens4"}

    def compose(document: Dict[str, Any]) -> Dict[str, Any]:
        for link in document["links"]:
            link["name"] = names[link.pop("ethernet_mac_address")]
        return document

    server.compose = compose
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    assert [guest.nic(port) for port in (first, second)] == ["ens3", "ens4"]
    assert [state_of(guest, port) for port in (first, second)] == ["ok", "ok"]
    assert_nothing_to_do(guest)

    server.edit_port(second, fixed_ips=["10.91.0.77"])
    with serving(guest, touches=[second], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, first, second)

    third = server.create_port(green)
    names[third.mac] = "ens5"
    with serving(guest, touches=[third], events=["added"]):
        guest.plug(third)
        assert_follows(guest, third)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, third)
    assert_nothing_to_do(guest)
