# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a change did is verified in the kernel, NIC by NIC, and taken back where it cost what was reachable before."""

from __future__ import annotations

import json
from typing import Any, Dict

from tests.lab import Cloud, Container, Network, Subnet
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    reason_of,
    reconcile,
    settled,
    state_of,
    timers,
    wait_until,
)
from tests.scenarios.serving import serving


def reconcile_anyway(guest: Container, *options: str) -> Dict[str, Any]:
    """Reconcile by hand; the record, also where a NIC failed."""
    done = guest.run("cloudinit-osnetd reconcile --json " + " ".join(options), check=False, timeout=200)
    return dict(json.loads(done.stdout))


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

    for by_hand, lacks in (
        (f"ip link set dev {guest.nic(second)} mtu 1300", "the MTU is 1300, not 1400"),
        (f"ip route del 10.200.0.0/16 via 10.91.0.9 dev {guest.nic(second)}", "the kernel lacks the route 10.200.0.0/16 via 10.91.0.9 metric 2100"),
    ):
        guest.run(by_hand)
        assert state_of(guest, second) == "failed" and reason_of(guest, second) == lacks
        with serving(guest, touches=[second], streams=[first], starts_of_service=0):
            record = reconcile(guest)
            assert [(t["action"], t["mac"], t["reason"]) for t in record["touches"]] == [("kick", second.mac, lacks)]
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
    lacks = "the kernel lacks the route 10.200.0.0/16 via 10.77.0.9"
    assert lacks in record["problems"][second.mac] and 30 <= record["seconds"] < 40
    assert set(record["problems"]) == {second.mac}
    for _again in range(2):
        record = reconcile_anyway(guest)
        assert (record["changes"], record["touches"], record["commands"]) == ([], [], [])
        assert lacks in record["problems"][second.mac] and record["seconds"] < 3
    assert state_of(guest, second) == "failed" and lacks in reason_of(guest, second)
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
    server.edit_port(first, fixed_ips=["10.90.0.6"])
    record = reconcile(guest)
    assert {t["mac"] for t in record["touches"]} == {first.mac} and record["seconds"] < 5
    assert_follows(guest, first, second, sibling)
    assert_nothing_to_do(guest)
    assert timers(guest) == []
