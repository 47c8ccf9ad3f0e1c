# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`cloudinit-osnetd plan` says what would be done, and does nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import tests.lab
from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import assert_follows, files, settled

WATCH = Path(tests.lab.__file__).with_name("inside") / "watch_writes.py"
EVERYWHERE = "/etc,/usr,/var,/run,/root,/tmp,/home,/opt,/srv,/boot"
# Whom anybody may wake: the journal, and what hears of every program that is started.
OTHERS = ("/run/log/journal/", "/var/log/journal/")
# What networkd and resolved note of the links, whenever one changes. They are users of their own, and our program is root.
NOTES = {"/run/systemd/netif": "systemd-network", "/run/systemd/resolve": "systemd-resolve"}


def written(guest: Container, command: str) -> List[str]:
    guest.put(WATCH.read_bytes(), "/root/watch_writes.py")
    said = guest.run(f"python3 /root/watch_writes.py {EVERYWHERE} {command}", check=False)
    assert "Traceback" not in said.stderr, said.stderr
    for directory, user in NOTES.items():
        look = f"test ! -e {directory} || find {directory} -mindepth 1 ! -user {user}"
        assert guest.run(look).stdout == "", "not written by who notes it there"
    others = OTHERS + tuple(directory + "/" for directory in NOTES)
    return [path for path in said.stdout.splitlines() if not path.startswith(others)]


def test_plan_writes_nothing_but_its_staging_tree(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    server = cloud.server("planned")
    first = server.create_port(blue)
    second = server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    before = files(guest)

    assert written(guest, "cloudinit-osnetd status --json") == []
    assert written(guest, "cloudinit-osnetd plan --json") == [], "nothing is to be done, so nothing is rendered"

    guest.run("systemctl stop cloudinit-osnetd.path")  # or the service does what plan is to tell
    third = server.create_port(green)
    name = guest.plug(third)
    guest.run("udevadm settle")  # it notes that there is a NIC, and queues our event
    server.edit_port(second, fixed_ips=["10.91.0.77"])
    staged = written(guest, "cloudinit-osnetd plan --json")
    assert staged and [path for path in staged if not path.startswith("/run/cloudinit-osnetd/staging")] == []
    assert files(guest) == before
    told = json.loads(guest.run("cloudinit-osnetd plan --json").stdout)
    assert name in [touch["name"] for touch in told["touches"]]

    guest.run("systemctl start cloudinit-osnetd.path")
    assert_follows(guest, first, second, third)
    assert "/run/cloudinit-osnetd/status.json" in written(guest, "cloudinit-osnetd reconcile"), "the watch sees nothing"


def test_plan_waits_for_a_run(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = cloud.server("patient")
    server.create_port(cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1"))
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    guest.run("flock /run/cloudinit-osnetd/lock sleep 4 >/dev/null 2>&1 & sleep 0.5")
    assert "waiting for another run: pid=unknown" in guest.run("cloudinit-osnetd plan").stderr
