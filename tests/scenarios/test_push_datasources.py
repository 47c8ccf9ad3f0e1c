# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Pushes to servers of another datasource, of none, and to those whose cache of it is gone: what was pushed is followed."""

from __future__ import annotations

import json

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    NO_WIRED_CONNECTION,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    settled,
    state_of,
    status,
    timers,
    wait_until,
)
from tests.scenarios.test_push import a_nocloud_server, a_server, encoded, push

_NONE = {"etc/cloud/cloud.cfg.d/99_none.cfg": "datasource_list: [None]\n"}


def test_a_push_to_a_server_without_a_datasource(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """cloud-init gives its first NIC a lease; the push says what the second has, and then another of both."""
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True, dns=["10.92.0.2"])
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("none")
    first, second = server.create_port(leased), server.create_port(green)
    guest = guest_factory(server, datasource="None", files={**_NONE, **NO_WIRED_CONNECTION})
    guest.boot()
    wait_until(lambda: guest.run(f"ip -4 -o addr show dev {guest.nic(first)}").stdout, 30, "cloud-init's own lease")
    assert "None" in status(guest)["hands_off"]

    code, said = push(guest, server.network_data())
    assert code == 0 and second.mac in [touch["mac"] for touch in said["touches"]], said
    assert_follows(guest, first, second)
    server.edit_port(second, fixed_ips=["10.91.0.77"], mtu=1300)
    code, said = push(guest, server.network_data())
    assert (code, [touch["mac"] for touch in said["touches"]]) == (0, [second.mac]), said
    assert_follows(guest, first, second)
    guest.reboot()
    assert_follows(guest, first, second)
    code, said = push(guest, server.network_data())
    assert (code, said["changes"], said["touches"]) == (0, [], []), said


def test_what_was_pushed_is_followed_and_nothing_else(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Later events keep it: its NIC comes, goes and comes again; a NIC that was not pushed is cloud-init's or nobody's."""
    port, guest = a_nocloud_server(cloud, guest_factory)
    server = guest.server
    second = server.create_port(port.network)
    code, said = push(guest, server.network_data())
    assert (code, said["absent"]) == (0, [second.mac]), said
    assert_follows(guest, port)
    name = guest.plug(second, "ens8")
    assert_follows(guest, port, second)
    third = server.create_port(port.network)
    guest.plug(third, "ens9")
    settled(guest, 20)
    assert state_of(guest, third) == "ignored" and configuration(guest, third) == ""
    report = status(guest)
    assert (report["hands_off"], report["next"], timers(guest)) == ("", [], []), report
    assert_nothing_to_do(guest)
    guest.unplug(second)
    assert_gone(guest, name)
    guest.plug(second, "ens8")
    assert_follows(guest, port, second)
    guest.reboot()
    assert_follows(guest, port, second)
    assert status(guest)["boot"]["early"]["problems"] == {}
    assert_nothing_to_do(guest)

    # Once it is forgotten, the server is nobody's again, and as it was: the push is all that it had.
    done = guest.run("cloudinit-osnetd apply --forget --json", check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["touches"], told["kept"]) == (0, [], sorted(str(guest.nic(one)) for one in (port, second))), told
    assert "NoCloud" in status(guest)["hands_off"]
    guest.reboot()
    assert_follows(guest, port, second)
    # And the next push finds its files.
    server.edit_port(second, fixed_ips=["10.91.0.77"])
    code, said = push(guest, server.network_data())
    assert (code, {touch["mac"] for touch in said["touches"]} - {third.mac}) == (0, {second.mac}), said
    assert_follows(guest, port, second, third)


def test_a_push_where_the_cache_of_the_datasource_is_gone(cloud: Cloud, guest_factory: GuestFactory) -> None:
    first, second, guest = a_server(cloud, guest_factory)
    server = guest.server
    server.freeze_metadata()
    # The cache alone; then all that cloud-init keeps of an instance, as after `cloud-init clean`.
    for address, gone in (("10.91.0.77", "/var/lib/cloud/instance/obj.pkl"), ("10.91.0.78", "/var/lib/cloud/instance /var/lib/cloud/instances/* /var/lib/cloud/data")):
        guest.run(f"rm -r {gone}")
        server.edit_port(second, fixed_ips=[address])
        code, said = push(guest, server.network_data())
        assert code == 0 and [touch["mac"] for touch in said["touches"]] == [second.mac], said
        assert_follows(guest, first, second)
    guest.reboot()
    settled(guest)
    assert_follows(guest, first, second)
    assert {row["source"] for row in status(guest)["nics"] if row["mac"] == second.mac} == {"push"}


def test_where_cloud_init_does_not_run_at_all_nobody_waits_for_it(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """No datasource was found, so it is disabled for this boot: there is no instance to which a push could belong."""
    server = cloud.server("nobody")
    server.create_port(cloud.network("green", cidr="10.91.0.0/24"))
    guest = guest_factory(server, datasource="none was found")
    guest.boot(wait=False)
    wait_until(lambda: "running" in guest.run("systemctl is-system-running", check=False).stdout, 60, "the end of the boot")
    assert guest.run("ls /run/cloud-init/enabled", check=False).returncode != 0
    done = guest.run(f"echo {encoded(server.network_data())} | cloudinit-osnetd apply --json --stdin --timeout 40", check=False, timeout=20)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "cloud-init is disabled" in json.loads(done.stdout)["hands_off"]
