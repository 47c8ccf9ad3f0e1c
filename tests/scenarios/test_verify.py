# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a change did is verified in the kernel, NIC by NIC, and taken back where it cost what was reachable before."""

from __future__ import annotations

import json
import threading
from typing import Any, Dict, List

import pytest

from tests.lab import Cloud, Container, Network, Port, Subnet
from tests.scenarios.conftest import GuestFactory, Kind
from tests.scenarios.package import install
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    configured_names,
    ip,
    lacks,
    log_of,
    proved_unique,
    reason_of,
    reconcile,
    settled,
    state_of,
    status,
    timers,
    wait_until,
)
from tests.scenarios.serving import history, serving


def reconcile_anyway(guest: Container, *options: str) -> Dict[str, Any]:
    """Reconcile by hand; the record, also where a NIC failed."""
    done = guest.run("cloudinit-osnetd reconcile --json " + " ".join(options), check=False, timeout=200)
    return dict(json.loads(done.stdout))


def findings_of(guest: Container, port: Port) -> List[str]:
    """What status says may still come by itself."""
    return [text for row in status(guest)["nics"] if row["mac"] == port.mac for text in row["findings"]]


# -- in the kernel -----------------------------------------------------------------------------------------------


def test_an_mtu_and_a_route_that_somebody_took_away_are_put_back_once(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("taken")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, rung="drive")
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
    """A gateway that is not on-link: no backend gets that route into the kernel, however often it is asked."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("refused")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)

    server.edit_port(second, routes=[("10.200.0.0/16", "10.77.0.9")])
    with serving(guest, touches=[second], streams=[first], starts_of_service=0, nothing_to_do=False):
        record = reconcile_anyway(guest)
    lacking = "the kernel lacks the route 10.200.0.0/16 via 10.77.0.9"
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


# -- taken back --------------------------------------------------------------------------------------------------

GOOD, BAD = "10.90.0.0/24", "10.99.0.0/24"


def two_subnets(cloud: Cloud) -> Network:
    """A network with two subnets, of which the second one's router does not answer."""
    subnet = Subnet(BAD, gateway="10.99.0.1", dns=("10.99.0.2",))
    blue = cloud.network("blue", cidr=GOOD, gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450, subnets=[subnet])
    cloud.router_down(blue, BAD)
    return blue


def settings(**values: Any) -> Dict[str, str]:
    return {"etc/cloud/cloud.cfg.d/92_osnetd-test.cfg": json.dumps({"osnetd": values})}


def test_an_edit_that_cuts_the_primary_off_is_rolled_back_and_its_sibling_stays(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    blue = two_subnets(cloud)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("cut-off")
    first, second = server.create_port(blue, fixed_ips=["10.90.0.5"]), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, rung="drive")
    assert_follows(guest, first, second)
    kept = configuration(guest, first)

    server.edit_port(first, fixed_ips=["10.99.0.5"])
    sibling = server.create_port(green)
    with serving(guest, touches=[first, sibling], events=["added"], streams=[second], nothing_to_do=False, fails=True) as served:
        guest.plug(sibling)
        assert_follows(guest, sibling, seconds=5)
        wait_until(lambda: "rejected until" in reason_of(guest, first), 45, "rolled back")
    (record,) = served.records
    assert [(t["action"], t["mac"]) for t in record["touches"] if t["reason"] == "rolled back"] == [("reconfigure", first.mac)]
    assert set(record["problems"]) == {first.mac} and "the gateway for 0.0.0.0/0" in record["problems"][first.mac]
    assert configuration(guest, first) == kept
    assert "inet 10.90.0.5/24" in guest.run(f"ip addr show {guest.nic(first)}").stdout
    assert guest.run("ping -c 1 -W 2 10.90.0.1", check=False).returncode == 0
    assert_follows(guest, second, sibling)
    assert state_of(guest, first) == "failed" and "the gateway for 0.0.0.0/0" in reason_of(guest, first)

    # Nothing is tried again before its time, and the plan says so.
    shown = json.loads(guest.run("cloudinit-osnetd plan --json", check=False).stdout)
    assert (shown["changes"], shown["touches"]) == ([], []) and "rejected until" in shown["problems"][first.mac]
    record = reconcile_anyway(guest)
    assert (record["changes"], record["touches"]) == ([], []) and "rejected until" in record["problems"][first.mac]
    assert timers(guest) == ["cloudinit-osnetd-look.timer"]

    # It holds over a reboot, and the reboot is right.
    guest.reboot()
    settled(guest, fails=True)
    assert configuration(guest, first) == kept
    assert_follows(guest, second, sibling)
    assert "rejected until" in reason_of(guest, first)

    # What the cloud says anew is taken at once.
    proved_unique(guest)
    server.edit_port(first, fixed_ips=["10.90.0.6"])
    record = reconcile(guest)
    assert {t["mac"] for t in record["touches"]} == {first.mac} and record["seconds"] < 5
    assert_follows(guest, first, second, sibling)
    assert_nothing_to_do(guest)
    assert timers(guest) == []


def test_where_the_old_router_is_silent_too_nothing_is_rolled_back(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = two_subnets(cloud)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("silent")
    first, second = server.create_port(green), server.create_port(blue, fixed_ips=["10.90.0.5"])
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, rung="drive")
    cloud.router_down(blue, GOOD)
    server.edit_port(second, fixed_ips=["10.99.0.5"])
    with serving(guest, touches=[second], streams=[first], starts_of_service=0):
        record = reconcile(guest)
    assert record["problems"] == {} and record["seconds"] < 5
    assert_follows(guest, first, second)
    assert "reachable before: the gateway" not in log_of(guest)


def test_a_router_that_answers_late_and_an_edit_that_is_to_blame_for_nothing(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """Twenty seconds of silence reject nothing; where going back does not help, the new entry stays."""
    blue = two_subnets(cloud)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("late")
    first, second = server.create_port(green), server.create_port(blue, fixed_ips=["10.90.0.5"])
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, rung="drive")
    server.edit_port(second, fixed_ips=["10.99.0.5"])
    later = threading.Timer(20, cloud.router_up, [blue, BAD])
    with serving(guest, touches=[second], streams=[first], starts_of_service=0):
        later.start()
        record = reconcile(guest)
    later.join()
    slack = 2 * guest.patience
    assert record["problems"] == {} and 20 - slack < record["seconds"] < 26 + slack, record["seconds"]
    assert_follows(guest, first, second)

    # Both routers fall silent as soon as the part is written: nobody knows better, so the cloud's word stands.
    part = guest.root / ("etc/systemd/network" if guest.backend == "networkd" else "etc/network/interfaces.d")

    def fall_silent() -> None:
        wait_until(lambda: any("10.99.0.6" in path.read_text() for path in part.iterdir() if path.is_file()), 20, "written")
        cloud.router_down(blue)

    server.edit_port(second, fixed_ips=["10.99.0.6"])
    falling = threading.Thread(target=fall_silent)
    falling.start()
    record = reconcile_anyway(guest)
    falling.join()
    assert "going back did not restore it" in record["problems"][second.mac]
    assert [t["reason"] for t in record["touches"]] == ["its entry changed", "rolled back", "its entry changed"]
    assert "10.99.0.6" in configuration(guest, second)
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_what_was_rejected_is_tried_again_ever_later(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = two_subnets(cloud)
    server = cloud.server("again")
    port = server.create_port(blue, fixed_ips=["10.90.0.5"])
    guest = guest_factory(server, files=settings(rejected_for=3))
    guest.boot()
    assert_boot(guest, rung="drive")
    server.edit_port(port, fixed_ips=["10.99.0.5"])
    record = reconcile_anyway(guest)
    assert "rejected until" in record["problems"][port.mac] and 0 < record["look_again"] <= 3
    # The timer tries it, and again it has to be taken back; then for six seconds.
    wait_until(lambda: sum("rolled back" in str(r["touches"]) for r in history(guest)) == 2, 60, "a second try")
    settled(guest, fails=True)
    assert 3 < history(guest)[-1]["look_again"] <= 6 and history(guest)[-1]["reasons"] == ["timer"]
    assert "10.90.0.5" in configuration(guest, port)
    # The router is mended, and nobody has to tell the guest.
    cloud.router_up(blue, BAD)
    assert_follows(guest, port, seconds=20)
    settled(guest)
    assert timers(guest) == [] and state_of(guest, port) == "ok"
    assert_nothing_to_do(guest)

    # What has worked since is held against the port no more, least of all at a boot, where nobody could be asked.
    part = configuration(guest, port)
    guest.reboot()
    assert_boot(guest, rung="store")
    assert_follows(guest, port)
    settled(guest)
    assert configuration(guest, port) == part and "10.99.0.5" in part
    assert status(guest)["boot"]["early"]["changes"] == 0 and "its entry changed" not in log_of(guest)
    assert_nothing_to_do(guest)

    # Nor what was tried again by force.
    cloud.router_down(blue, BAD)
    server.edit_port(port, fixed_ips=["10.90.0.6"])
    reconcile(guest)
    server.edit_port(port, fixed_ips=["10.99.0.6"])
    assert "rejected until" in reconcile_anyway(guest)["problems"][port.mac]
    cloud.router_up(blue, BAD)
    assert reconcile(guest, "--force")["problems"] == {}
    assert_follows(guest, port)
    assert timers(guest) == []
    assert_nothing_to_do(guest)


def test_an_operators_list_counts(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """No gateway is lost here, and not the metadata service: only the host that the operator named."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, subnets=[Subnet("10.98.0.0/24")])
    server = cloud.server("listed")
    first, second = server.create_port(blue), server.create_port(green, fixed_ips=["10.91.0.5"])
    guest = guest_factory(server, files=settings(must_reach=["10.91.0.254", "192.0.2.77"]))
    guest.boot()
    assert_boot(guest, rung="drive")
    assert_follows(guest, first, second)
    kept = configuration(guest, second)

    server.edit_port(second, fixed_ips=["10.98.0.5"])
    with serving(guest, touches=[second], streams=[first], starts_of_service=0, nothing_to_do=False):
        record = reconcile_anyway(guest)
    assert set(record["problems"]) == {second.mac} and "not reachable: 10.91.0.254" in record["problems"][second.mac]
    assert configuration(guest, second) == kept
    assert guest.run("ping -c 1 -W 2 10.91.0.254", check=False).returncode == 0

    # By force it is tried once more.
    record = reconcile_anyway(guest, "--force")
    assert [t["reason"] for t in record["touches"] if t["mac"] == second.mac][-1] == "rolled back"


def test_a_new_nic_that_takes_the_way_from_another_is_taken_down_again(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Its host route hides a host of the first NIC's network, which nobody has touched."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, routes=[("10.90.0.1/32", "10.91.0.9")])
    server = cloud.server("hidden")
    first = server.create_port(blue)
    guest = guest_factory(server, files=settings(must_reach=["10.90.0.1"]))
    guest.boot()
    assert_boot(guest, rung="drive")

    port = server.create_port(green)
    with serving(guest, touches=[port], events=["added"], streams=[], nothing_to_do=False, settles_in=60, fails=True) as served:
        name = guest.plug(port)
        wait_until(lambda: "rejected until" in reason_of(guest, port), 50, "taken down")
    (record,) = served.records
    assert [(t["action"], t["mac"]) for t in record["touches"]] == [("up", port.mac), ("down", port.mac)]
    assert "not reachable: 10.90.0.1" in reason_of(guest, port) and name not in configured_names(guest)
    (link,) = ip(guest, f"addr show dev {name}")
    assert "UP" not in link["flags"] and link["addr_info"] == []
    assert guest.run("ping -c 1 -W 2 10.90.0.1").returncode == 0
    guest.reboot()
    settled(guest, fails=True)
    assert name not in configured_names(guest)
    assert_follows(guest, first)
    # Mended in the cloud.
    server.edit_port(port, routes=[])
    reconcile(guest)
    assert_follows(guest, first, port)
    assert_nothing_to_do(guest)


def test_dhcp_without_a_server_is_a_finding(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, mtu=1420)
    server = cloud.server("findings")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, rung="drive")
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


def test_ifupdown_without_net_tools_and_resolvconf(cloud: Cloud, kind: Kind, guest_factory: GuestFactory) -> None:
    """Routes go by ip(8); DNS servers, which nothing takes up there, are a finding of every NIC that names some."""
    if kind != Kind("bookworm", "ifupdown"):
        pytest.skip("the root without them is bookworm's")
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400, routes=[("10.200.0.0/16", "10.91.0.9")])
    server = cloud.server("bare")
    first = server.create_port(blue)
    guest = guest_factory(server, without=NEITHER)
    guest.boot()
    assert guest.run("type route resolvconf", check=False).returncode != 0
    assert_boot(guest, rung="drive")
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
    assert_boot(guest, rung="store")
    assert follows_but_for_dns(guest, first) and follows_but_for_dns(guest, second)
    assert_nothing_to_do(guest)


def test_installed_on_a_running_server_without_net_tools_nothing_is_touched_and_the_lost_route_is_told(
    cloud: Cloud, kind: Kind, guest_factory: GuestFactory
) -> None:
    if kind != Kind("bookworm", "ifupdown"):
        pytest.skip("the root without them is bookworm's")
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
