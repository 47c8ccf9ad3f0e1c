# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a change did is verified in the kernel, NIC by NIC."""

from __future__ import annotations

import pytest

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import install
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    findings_of,
    lacks,
    log_of,
    reason_of,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    wait_until,
)
from tests.scenarios.serving import serving


def test_an_mtu_and_a_route_that_somebody_took_away_are_put_back_once(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("taken")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)

    for by_hand, lacking in (
        (f"ip link set dev {guest.nic(second)} mtu 1300", "the MTU is 1300, not 1400"),
        (f"ip route del 10.200.0.0/16 via 10.91.0.9 dev {guest.nic(second)}", "the kernel lacks the route 10.200.0.0/16 via 10.91.0.9 metric 2100"),
    ):
        guest.run(by_hand)
        assert state_of(guest, second) == "failed" and reason_of(guest, second) == lacking
        with serving(guest, touches=[second], streams=[first], starts_of_service=0):
            record = reconcile(guest)
            assert [(t["action"], t["mac"], t["reason"]) for t in record["touches"]] == [("kick", second.mac, lacking)]
            assert_follows(guest, second, seconds=2)


def test_what_the_kernel_refuses_is_tried_once_and_reported(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """What no number of kicks gets into the kernel.

    ifupdown: a default route that somebody has over another NIC, with the same metric (of another destination that is a
    finding). networkd: an MTU that leaves no room for
    IPv6, which it knows better.
    """
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("refused")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)

    if guest.backend == "ifupdown":
        guest.run(f"ip route add default via 10.90.0.9 dev {guest.nic(first)} metric 2100")
        server.edit_port(second, routes=[("0.0.0.0/0", "10.91.0.9")])
        lacking = "the kernel lacks the route 0.0.0.0/0 via 10.91.0.9"
    else:
        server.edit_port(second, mtu=1000)
        lacking = "the MTU is 1280, not 1000"
    with serving(guest, touches=[second], streams=[first], starts_of_service=0, nothing_to_do=False):
        record = reconcile_anyway(guest)
    assert lacking in record["problems"][second.mac] and 30 <= record["seconds"] < 40
    assert set(record["problems"]) == {second.mac}
    for _again in range(2):
        record = reconcile_anyway(guest)
        assert (record["changes"], record["touches"], record["commands"]) == ([], [], [])
        assert lacking in record["problems"][second.mac] and record["seconds"] < 3
    assert state_of(guest, second) == "failed" and lacking in reason_of(guest, second)
    # Something else is lacking too: that is new.
    guest.run(f"ip -4 addr flush dev {guest.nic(second)}")
    record = reconcile_anyway(guest)
    assert [t["action"] for t in record["touches"]] == ["kick"]
    assert f"{second.fixed_ips[0]}/24" in guest.run(f"ip addr show {guest.nic(second)}").stdout


def test_dhcp_without_a_server_is_a_finding(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, mtu=1420)
    server = cloud.server("findings")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    port = server.create_port(leased)
    cloud.stop_dhcp(leased)
    with serving(guest, touches=[port], events=["added"], settles_in=45) as served:
        guest.plug(port)
        wait_until(lambda: "no DHCP lease yet" in findings_of(guest, port), 45, "the finding")
        settled(guest, 45)
    (record,) = served.records
    assert record["problems"] == {} and "no DHCP lease yet" in record["findings"][port.mac]
    assert state_of(guest, port) == "ok" and "rolled back" not in log_of(guest)
    assert_follows(guest, first)


# -- without the tools that cloud-init's renderer takes for granted --------------------------------------------------

NEITHER = ("net-tools", "resolvconf")


@pytest.mark.on("bookworm-ifupdown")  # whose root without them the lab has
def test_ifupdown_without_net_tools_and_resolvconf(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Routes go by ip(8); DNS servers, which nothing takes up there, are a finding of every NIC that names some."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("bare")
    first = server.create_port(blue)
    guest = guest_factory(server, without=NEITHER)
    guest.boot()
    assert guest.run("type route resolvconf", check=False).returncode != 0
    assert_boot(guest, level="drive")
    # No default route by cloud-init's own stanza; by the early unit's, before the network starts, there is.
    assert follows_but_for_dns(guest, first)
    assert findings_of(guest, first) == ["DNS servers not in use: 10.90.0.2 (resolvconf is not installed)"]

    second = server.create_port(green)
    with serving(guest, touches=[second], events=["added"]) as served:
        guest.plug(second)
        wait_until(lambda: follows_but_for_dns(guest, second), 5, "followed")
    third = server.create_port(blue)
    with serving(guest, touches=[third], events=["added"]) as served:
        guest.plug(third)
        wait_until(lambda: follows_but_for_dns(guest, third), 5, "followed")
    assert "resolvconf is not installed" in str(served.records[-1]["findings"][third.mac])
    server.edit_port(second, routes=[("10.201.0.0/16", "10.91.0.8")])
    with serving(guest, touches=[second], streams=[first], starts_of_service=0):
        reconcile(guest)
        assert follows_but_for_dns(guest, second)
    assert "rolled back" not in log_of(guest)
    name = str(guest.nic(third))
    guest.unplug(third)
    assert_gone(guest, name)
    guest.reboot()
    assert_boot(guest, level="store")
    assert follows_but_for_dns(guest, first) and follows_but_for_dns(guest, second)
    assert_nothing_to_do(guest)


@pytest.mark.on("bookworm-ifupdown")  # whose root without them the lab has
def test_installed_on_a_running_server_without_net_tools_nothing_is_touched_and_the_lost_route_is_reported(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", mtu=1450)
    server = cloud.server("bare")
    first = server.create_port(blue)
    guest = guest_factory(server, without=NEITHER, package=False)
    guest.boot()
    assert guest.run("ip route show default").stdout == ""
    install(guest)
    record = reconcile(guest)
    assert [c["action"] for c in record["changes"]] in ([], ["adopt"]) and record["touches"] == []
    assert findings_of(guest, first) == ["no route 0.0.0.0/0 via 10.90.0.1"]
    assert_nothing_to_do(guest)
    # The next edit writes what works.
    server.edit_port(first, mtu=1400)
    reconcile(guest)
    assert follows_but_for_dns(guest, first) and findings_of(guest, first) == []


def follows_but_for_dns(guest: Container, port: Port) -> bool:
    """Nobody takes up the DNS servers there; all else is as it should be."""
    return [wrong for wrong in lacks(guest, port) if not wrong.startswith("DNS server")] == []


@pytest.mark.on("ifupdown")
@pytest.mark.deep
def test_an_ifup_that_takes_longer_than_a_run_waits_is_not_disturbed(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A hook of the administrator's, or a busy machine. The NIC is ok without another event once `ifup` is done."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("slow")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    hook = "/etc/network/if-pre-up.d/slow"
    guest.put(b'#!/bin/sh\n[ "$IFACE" = ens4 ] || exit 0\necho ran >> /root/hook\nsleep 100\n', hook)
    guest.run(f"chmod 755 {hook}")
    second = server.create_port(green)
    guest.plug(second)
    settled(guest, 90, fails=True)
    assert state_of(guest, second) == "failed"
    record = reconcile_anyway(guest)
    assert record["touches"] == [] and record["problems"][second.mac].startswith("it is still being brought up: "), record
    wait_until(lambda: state_of(guest, second) == "ok", 90 * guest.patience, "ifup is done, and that is seen")
    assert guest.run("cat /root/hook").stdout == "ran\n"
    assert_follows(guest, first, second)
    assert guest.run("systemctl is-failed cloudinit-osnetd.service", check=False).stdout == "inactive\n"
    assert_nothing_to_do(guest)
