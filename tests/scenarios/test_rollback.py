# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A change that cost what was reachable before is taken back, on that NIC alone and only where that helps."""

from __future__ import annotations

import json
import threading
from typing import Any, Dict, Tuple

from tests.lab import Cloud, Container, Network, Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    NO_WIRED_CONNECTION,
    PROFILES,
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    configured_names,
    ip,
    log_of,
    proved_unique,
    reason_of,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    status,
    timers,
    wait_until,
)
from tests.scenarios.serving import history, serving
from tests.scenarios.slow import quicken, slow_down, wait_until_at_work

GOOD, BAD = "10.90.0.0/24", "10.99.0.0/24"


def two_subnets(cloud: Cloud) -> Network:
    """A network with two subnets, of which the second one's router does not answer."""
    subnet = Subnet(BAD, gateway="10.99.0.1", dns=("10.99.0.2",))
    blue = cloud.network("blue", cidr=GOOD, gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450, subnets=[subnet])
    cloud.router_down(blue, BAD)
    return blue


def with_a_second_nic(cloud: Cloud, guest_factory: GuestFactory) -> Tuple[Network, Container]:
    """The network of two subnets, and a guest whose second NIC is in the good one; its first has a router of its own."""
    blue = two_subnets(cloud)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("second")
    server.create_port(green)
    server.create_port(blue, fixed_ips=["10.90.0.5"])
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    return blue, guest


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
    assert_boot(guest, level="drive")
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
    blue, guest = with_a_second_nic(cloud, guest_factory)
    server, (first, second) = guest.server, guest.plugged
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
    blue, guest = with_a_second_nic(cloud, guest_factory)
    server, (first, second) = guest.server, guest.plugged
    server.edit_port(second, fixed_ips=["10.99.0.5"])
    later = threading.Timer(20, cloud.router_up, [blue, BAD])
    with serving(guest, touches=[second], streams=[first], starts_of_service=0):
        later.start()
        record = reconcile(guest)
    later.join()
    slack = 2 * guest.patience
    assert record["problems"] == {} and 20 - slack < record["seconds"] < 26 + slack, record["seconds"]
    assert_follows(guest, first, second)

    # Both routers fall silent while the NIC is put in force: nobody knows better, so the cloud's word stands.
    server.edit_port(second, fixed_ips=["10.99.0.6"])
    slow_down(guest)
    unit = "--quiet --collect --unit=lab-reconcile -p StandardOutput=file:/run/record -p StandardError=journal"
    guest.run(f"systemd-run {unit} cloudinit-osnetd reconcile --json")
    wait_until_at_work(guest)
    cloud.router_down(blue)
    at_work = "systemctl is-active lab-reconcile"
    wait_until(lambda: guest.run(at_work, check=False).stdout != "active\n", 90 * guest.patience, "the run's end")
    quicken(guest)
    record = json.loads(guest.run("cat /run/record").stdout)
    assert "rolling back did not restore it" in record["problems"][second.mac]
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
    assert_boot(guest, level="drive")
    server.edit_port(port, fixed_ips=["10.99.0.5"])
    record = reconcile_anyway(guest)
    assert "rejected until" in record["problems"][port.mac] and 0 < record["next_check"] <= 3
    # The timer tries it, and again it has to be taken back; then for six seconds.
    wait_until(lambda: sum("rolled back" in str(r["touches"]) for r in history(guest)) == 2, 60, "a second try")
    settled(guest, fails=True)
    assert 3 < history(guest)[-1]["next_check"] <= 6 and history(guest)[-1]["reasons"] == ["timer"]
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
    assert_boot(guest, level="store")
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
    assert_boot(guest, level="drive")
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
    guest = guest_factory(server, files={**settings(must_reach=["10.90.0.1"]), **NO_WIRED_CONNECTION})
    guest.boot()
    assert_boot(guest, level="drive")

    port = server.create_port(green)
    with serving(guest, touches=[port], events=["added"], streams=[], nothing_to_do=False, settles_in=60, fails=True) as served:
        name = guest.plug(port)
        wait_until(lambda: "rejected until" in reason_of(guest, port), 50, "taken down")
    (record,) = served.records
    assert [(t["action"], t["mac"]) for t in record["touches"]] == [("up", port.mac), ("down", port.mac)]
    assert "not reachable: 10.90.0.1" in reason_of(guest, port) and name not in configured_names(guest)
    (link,) = ip(guest, f"addr show dev {name}")
    # NetworkManager has the links of all NICs up that it manages, connected or not.
    assert ("UP" in link["flags"]) == (guest.backend in PROFILES) and link["addr_info"] == []
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
