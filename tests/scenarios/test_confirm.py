# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply --confirm-within`: in force, but taken back unless it is confirmed."""

from __future__ import annotations

import json
from typing import Any, Dict, Tuple

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    ip,
    log_of,
    reason_of,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    status,
    store_of,
    timers,
    wait_until,
)
from tests.scenarios.serving import history, serving
from tests.scenarios.test_push import a_nocloud_server, a_server, push
from tests.scenarios.test_rollback import BAD, two_subnets


def confirm(guest: Container) -> Tuple[int, Dict[str, Any]]:
    """The exit status of `confirm --json`, and what it says."""
    done = guest.run("cloudinit-osnetd confirm --json", check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_push_that_is_not_confirmed_is_taken_back(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Where nobody answers; and one that is confirmed stays."""
    first, second, guest = a_server(cloud, guest_factory)
    server, before, rest = guest.server, configuration(guest, second), store_of(guest)["truth"]["keys"]
    old = second.fixed_ips
    cloud.metadata_down("drop")
    server.freeze_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.77"], mtu=1380)
    code, said = push(guest, server.network_data(), "--confirm-within 12")
    assert code == 0 and [touch["mac"] for touch in said["touches"]] == [second.mac], said
    assert_follows(guest, second, seconds=2)
    (trial,) = status(guest)["on_trial"]
    assert (trial["run"], trial["nics"], trial["until"]) == (said["run"], [guest.nic(second)], said["confirm_by"]), trial
    assert timers(guest) == ["cloudinit-osnetd-look.timer"]
    with serving(guest, touches=[second], events=["timer"], nothing_to_do=False) as served:
        wait_until(lambda: not store_of(guest).get("provisional"), 15, "taken back")
        settled(guest)
        server.edit_port(second, fixed_ips=old, mtu=1400)
        assert_follows(guest, first, second, seconds=2)
    assert [(t["mac"], t["reason"]) for t in served.records[-1]["touches"]] == [(second.mac, "not confirmed in time")]
    assert "taking back the push of run %d" % said["run"] in log_of(guest)
    assert configuration(guest, second) == before
    assert store_of(guest)["truth"]["keys"] == rest
    assert timers(guest) == [] and status(guest)["on_trial"] == []
    code, answer = confirm(guest)
    assert code == 9 and "not confirmed in time" in answer["too_late"], answer
    assert "taken back" in guest.run("cloudinit-osnetd history").stdout

    server.edit_port(second, fixed_ips=["10.91.0.78"])
    code, said = push(guest, server.network_data(), "--confirm-within 5")
    assert code == 0, said
    assert confirm(guest) == (0, {"confirmed": said["run"]})
    assert confirm(guest)[0] == 8
    assert timers(guest) == []
    guest.reboot()
    cloud.metadata_up()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_a_reboot_takes_it_back_before_the_network_starts(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server, before, old = guest.server, configuration(guest, second), second.fixed_ips
    server.freeze_metadata()
    server.edit_port(second, fixed_ips=["10.91.0.77"], mtu=1380)
    assert push(guest, server.network_data(), "--confirm-within 600")[0] == 0
    assert_follows(guest, first, second)
    ran = len(history(guest))
    guest.poweroff(hard=True)
    guest.boot()
    server.edit_port(second, fixed_ips=old, mtu=1400)
    assert_boot(guest, level="store")
    assert configuration(guest, second) == before
    assert_follows(guest, first, second)
    assert len(history(guest)) == ran  # nothing was left to do for the boot's run
    code, answer = confirm(guest)
    assert code == 9 and "reboot" in answer["too_late"], answer
    assert_nothing_to_do(guest)


def test_it_is_switched_off_before_it_is_confirmed(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Hands off: what was pushed stays, and is taken back once the server is managed again, or confirmed at any time."""
    first, second, guest = a_server(cloud, guest_factory)
    server, before, old = guest.server, configuration(guest, second), second.fixed_ips
    server.freeze_metadata()
    switch = "/etc/cloud/cloud.cfg.d/99_test-switch.cfg"

    def pushed_and_switched_off(address: str, times: int) -> int:
        server.edit_port(second, fixed_ips=[address])
        code, said = push(guest, server.network_data(), "--confirm-within 3")
        assert code == 0, said
        guest.run(f"echo 'osnetd: {{enabled: false}}' >{switch}")
        wait_until(lambda: log_of(guest).count("not managed: switched off") == times, 10, "the event of its timer")
        settled(guest)
        assert_follows(guest, second)
        state = status(guest)
        assert "switched off" in state["hands_off"]
        (trial,) = state["on_trial"]
        assert (trial["run"], trial["nics"]) == (said["run"], [guest.nic(second)]) and "once the network is managed" in trial["ends"]
        assert timers(guest) != []
        return int(said["run"])

    pushed_and_switched_off("10.91.0.77", 1)
    guest.run(f"rm {switch}; /usr/lib/cloudinit-osnetd/queue-event timer")  # as its timer does, every 15 minutes
    wait_until(lambda: "provisional" not in store_of(guest), 15, "taken back")
    settled(guest)
    server.edit_port(second, fixed_ips=old)
    assert_follows(guest, first, second)
    assert configuration(guest, second) == before and timers(guest) == []
    assert "not confirmed in time" in status(guest)["taken_back"]

    run = pushed_and_switched_off("10.91.0.78", 2)
    assert confirm(guest) == (0, {"confirmed": run})
    guest.run(f"rm {switch}")
    assert reconcile(guest)["touches"] == []  # it reads cloud-init's configuration anew
    assert_nothing_to_do(guest)
    assert_follows(guest, first, second)
    assert timers(guest) == [] and status(guest)["on_trial"] == []


def test_a_server_of_another_datasource_goes_back_to_what_it_had(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Of which no source of ours has said anything: by the clock, and by a reboot."""
    port, guest = a_nocloud_server(cloud, guest_factory)
    server = guest.server
    before = configuration(guest, port)

    def has() -> Any:
        return [a["local"] for link in ip(guest, "-4 addr show dev ens3") for a in link["addr_info"]]

    assert push(guest, server.network_data(), "--confirm-within 3")[0] == 0
    assert_follows(guest, port)
    assert has() == port.fixed_ips
    wait_until(lambda: has() == ["10.91.0.200"], 15, "taken back")
    settled(guest)
    assert configuration(guest, port) == before and timers(guest) == []

    assert push(guest, server.network_data(), "--confirm-within 600")[0] == 0
    assert_follows(guest, port)
    guest.poweroff(hard=True)
    guest.boot()
    wait_until(lambda: has() == ["10.91.0.200"], 15, "taken back")
    assert configuration(guest, port) == before
    assert "not OpenStack's" in status(guest)["hands_off"]
    assert confirm(guest)[0] == 9


def test_what_was_rejected_and_works_since_stays_when_a_push_is_taken_back(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """An edit of the second NIC was rolled back before the push of the first, and is put in force by hand during its trial."""
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
    blue = two_subnets(cloud)
    server = cloud.server("rejected")
    first, second = server.create_port(green), server.create_port(blue, fixed_ips=["10.90.0.5"])
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    before = configuration(guest, first)
    server.edit_port(second, fixed_ips=["10.99.0.5"])
    assert "rejected until" in reconcile_anyway(guest)["problems"][second.mac]

    document = server.network_data()
    of_first = [link for link in document["links"] if link["ethernet_mac_address"] == first.mac]
    networks = [network for network in document["networks"] if network["link"] == of_first[0]["id"]]
    pushed = dict(document, links=[dict(of_first[0], mtu=1380)], networks=networks)
    code, said = push(guest, pushed, "--confirm-within 15")
    assert (code, set(said["problems"])) == (1, {second.mac}), said  # as before: it is still rejected
    cloud.router_up(blue, BAD)
    record = reconcile(guest, "--force")
    assert second.mac in {touch["mac"] for touch in record["touches"]} and record["problems"] == {}, record
    assert_follows(guest, second)
    wait_until(lambda: "provisional" not in store_of(guest), 20, "taken back")
    settled(guest)
    assert configuration(guest, first) == before
    assert_follows(guest, first, second)
    assert (state_of(guest, second), reason_of(guest, second), timers(guest)) == ("ok", "", [])
    assert_nothing_to_do(guest)
