# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""history and show on a guest: an operator sees what was done, when and why."""

from __future__ import annotations

import json

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import assert_follows, reconcile, settled


def test_history_and_show_tell_what_each_run_did(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1400)
    server = cloud.server("web")
    server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)

    late = server.create_port(green)
    guest.plug(late)
    assert_follows(guest, late)
    settled(guest)
    name = guest.nic(late)
    newest = guest.run("cloudinit-osnetd history -n 1").stdout.splitlines()[1].split()
    assert newest[-2:] == [name, "done"] and "added" in newest

    late.mtu = 1380
    reconcile(guest)
    assert_follows(guest, late)
    edit, attach = json.loads(guest.run("cloudinit-osnetd history --json -n 2").stdout)
    assert edit["run"] == attach["run"] + 1 and edit["reasons"] == ["operator"]
    told = guest.run("cloudinit-osnetd show").stdout
    assert told.startswith(f"run      {edit['run']}: done")
    removed = [line for line in told.splitlines() if line.startswith("-") and "1400" in line]
    added = [line for line in told.splitlines() if line.startswith("+") and "1380" in line]
    assert removed and added, told
    first = guest.run(f"cloudinit-osnetd show {attach['run']}").stdout.splitlines()
    assert [line for line in first if line.startswith("+") and "1400" in line], first
    # There was nothing before, which the record knows.
    assert not [line for line in first if line.startswith("-") and not line.startswith("---") or "not recorded" in line], first
    assert guest.run("cloudinit-osnetd show 999", check=False).returncode == 2
