# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server that goes on from where it was kept: suspended and resumed, or its disk taken as the image of another one."""

from __future__ import annotations

from typing import List

import pytest

from tests.lab import VM, Port
from tests.scenarios.package import identity
from tests.scenarios.place import Place
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    lacks,
    log_of,
    reconcile,
    settled,
    starts,
    state_of,
    status,
)
from tests.scenarios.serving import history, serving
from tests.scenarios.test_vm_thread import assert_names_kept

pytestmark = [pytest.mark.vm, pytest.mark.deep]


def test_a_server_resumes_on_another_port_list(place: Place, guest: VM) -> None:
    """Nothing tells a guest that it slept: the next event does, an operator, or the timer that somebody enabled."""
    server = place.server
    third = server.create_port(place.amber)
    guest.plug(third)
    assert_follows(guest, third)
    settled(guest)
    names = {port: str(guest.nic(port)) for port in guest.plugged}
    guest.snapshot("suspended")

    server.edit_port(third, fixed_ips=["10.93.0.40"], mtu=1280, routes=[("10.211.0.0/16", "10.93.0.8")])
    server.delete_port(place.second)
    fourth = server.create_port(place.amber)

    guest.restore("suspended", cloud=False)
    before, story = starts(guest), log_of(guest)
    guest.run("sleep 3")
    assert (starts(guest), log_of(guest)) == (before, story)
    assert lacks(guest, third) != []

    # An operator asks. The port that has gone from the list has its NIC still, and keeps what it had.
    with serving(guest, touches=[third], streams=[place.first, place.second], starts_of_service=0):
        reconcile(guest)
        assert_follows(guest, third)
    assert state_of(guest, place.second) == "orphan"

    # Or an event comes, any event: all that was missed is taken with it.
    guest.restore("suspended", cloud=False)
    with serving(guest, touches=[third, fourth], events=["added"], streams=[place.first]):
        guest.plug(fourth)
        assert_follows(guest, third, fourth)
    with serving(guest, touches=[place.second], events=["removed"], streams=[place.first]):
        guest.unplug(place.second)
        assert_gone(guest, names[place.second])
    assert_names_kept(guest, names)


def test_the_timer_that_somebody_enabled_notices_that_the_server_slept(place: Place, guest: VM) -> None:
    """Nova has the guest agent set the clock when a server resumes; the lab does the same."""
    guest.run("systemctl start cloudinit-osnetd-periodic.timer")
    guest.snapshot("suspended")
    before = history(guest)
    place.server.edit_port(place.first, mtu=1400, routes=[("10.212.0.0/16", "10.90.0.8")])
    guest.restore("suspended", cloud=False)
    assert_follows(guest, place.first)
    settled(guest)
    (record,) = history(guest)[len(before) :]
    assert record["reasons"] == ["timer"]
    assert [(touch["action"], touch["mac"]) for touch in record["touches"]] == [("reconfigure", place.first.mac)]
    assert_nothing_to_do(guest)


def test_an_image_of_a_server_boots_as_another_instance(place: Place, guest: VM) -> None:
    """Nobody cleaned it: what it remembers of the other instance is dropped, its NICs' parts go, those of this one come."""
    third = place.server.create_port(place.amber)
    guest.plug(third)
    assert_follows(guest, third)
    settled(guest)
    old = list(guest.plugged)
    was = identity(guest)
    assert history(guest) != []
    guest.run("sync")
    guest.poweroff(hard=True)

    server = place.cloud.server("clone", uuid="6e09f1b2-0000-4000-8000-00000000c001")
    first = server.create_port(place.first.network, mac="fa:16:3e:c0:00:01", fixed_ips=["10.90.0.31"])
    second = server.create_port(place.amber, mac="fa:16:3e:c0:00:02", fixed_ips=["10.93.0.32"])
    with VM(place.cloud, server, suite=guest.suite, backend=guest.backend, disk_of=guest) as clone:
        clone.boot()
        assert_boot(clone, level="drive")
        early = clone.run("journalctl -b --no-pager -o cat -u cloudinit-osnetd-early.service").stdout
        assert f"store of another instance dropped: was={place.server.uuid} is={server.uuid}" in early, early
        assert_follows(clone, first, second)
        assert configured_names(clone) == sorted(str(clone.nic(port)) for port in (first, second))
        assert_new_instance(clone, was)
        assert traces(clone, old) == []
        assert {row["mac"] for row in status(clone)["nics"]} == {first.mac, second.mac}
        assert_nothing_to_do(clone)

        dynamic = server.create_port(place.second.network)
        with serving(clone, touches=[dynamic], events=["added"], streams=[first]):
            clone.plug(dynamic)
            assert_follows(clone, dynamic)

        clone.reboot()
        assert_boot(clone, level="store")
        assert_follows(clone, first, second, dynamic)
        assert traces(clone, old) == []
        assert_nothing_to_do(clone)


def assert_new_instance(guest: VM, was: dict[str, str]) -> None:
    """cloud-init's per-instance things ran anew, for this server."""
    now = identity(guest)
    assert now["instance"] == guest.server.uuid != was["instance"]
    assert now["host keys"] and now["host keys"] != was["host keys"]
    assert guest.run("hostname").stdout.strip() == guest.server.name
    semaphores = "ls /var/lib/cloud/instances/{}/sem"
    ran, ran_then = (guest.run(semaphores.format(uuid)).stdout for uuid in (now["instance"], was["instance"]))
    assert ran == ran_then != ""


# Not cloud-init's own: it keeps each instance's directory, and its log, for whoever asks.
_WHERE = "/etc /run/systemd /run/udev/rules.d /run/netplan /run/cloudinit-osnetd /var/lib/cloudinit-osnetd /var/lib/cloud/instance/"


def traces(guest: VM, ports: List[Port]) -> List[str]:
    """The files that speak of the ports' MACs."""
    macs = " ".join(f"-e {port.mac}" for port in ports)
    return guest.run(f"grep -rliI {macs} {_WHERE} --exclude-dir=journal", check=False).stdout.split()


