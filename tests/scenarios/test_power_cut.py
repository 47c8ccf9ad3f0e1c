# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Power cuts: whatever of a run is on the disk, each NIC is in the old or the new state, and the next boot finishes."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Callable

import pytest

from cloudinit_osnetd.apply import commit
from cloudinit_osnetd.backends import of_renderer
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import paths
from tests.lab import VM, Cloud
from tests.scenarios import power
from tests.scenarios.killing import SERVE, SETTINGS, STATE, Parts, parts_of
from tests.scenarios.seen import assert_boot, assert_follows, assert_nothing_to_do, settled

pytestmark = [pytest.mark.vm, pytest.mark.deep]

RENDERERS = {"ifupdown": "eni", "networkd": "networkd", "netplan": "netplan"}
DIRECTORIES = {"ifupdown": "/etc/network", "networkd": "/etc/systemd/network", "netplan": "/etc/netplan"}


@pytest.mark.parametrize(("suite", "backend"), [("bookworm", "ifupdown"), ("trixie", "networkd"), ("trixie", "netplan")])
def test_the_power_is_cut_at_each_write(
    cloud: Cloud, vm_factory: Callable[..., VM], monkeypatch: pytest.MonkeyPatch, suite: str, backend: str
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/16", dns=["10.91.0.2"])
    server = cloud.server("mortal")
    first, edited, leaving = [server.create_port(network) for network in (blue, green, green)]
    guest = vm_factory(server, suite=suite, backend=backend, files=SETTINGS, noted=True)
    guest.boot()
    assert_follows(guest, first, edited, leaving)
    settled(guest)
    guest.run("systemctl stop cloudinit-osnetd.path")

    server.delete_port(leaving)
    guest.unplug(leaving)
    server.edit_port(edited, fixed_ips=["10.91.7.7"])
    coming = server.create_port(green)
    guest.plug(coming)
    old, begin = written_so_far(guest)
    began = time.monotonic()
    guest.run(" ".join(SERVE))
    took = time.monotonic() - began
    new, end = written_so_far(guest)
    steady = str(guest.nic(first))
    guest.poweroff(hard=True)

    assert guest.writes is not None
    before, rounds = power.noted(guest.writes, begin, end)
    count, kept = 0, []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        here = Path(scratch)
        disk = here / "disk"
        shutil.copy(guest.first_disk, disk)
        with disk.open("r+b") as file:
            power.put(file, before)
            for number, writes in enumerate(rounds):
                for cut in power.cuts(writes, number):
                    with power.written(file, cut):
                        power.recovered(disk, [DIRECTORIES[backend], f"/{STATE}"], here)
                        assert_whole(here, backend, steady, old, new, server.uuid, monkeypatch)
                    count += 1
                power.put(file, writes)
                kept.append(number)
        print(f"\n{suite}: power cut at {count} points of a run that took {took:.1f} s, in {time.monotonic() - began:.0f} s")
        assert count > 20

        # And a few of them for real.
        for number in kept[1 :: max(1, len(kept) // 2)]:
            shutil.copy(guest.first_disk, disk)
            with disk.open("r+b") as file:
                power.put(file, [*before, *(write for writes in rounds[:number] for write in writes), *rounds[number][:1]])
            guest.change_disk(disk)
            guest.boot()
            assert_boot(guest, level="store")
            assert_follows(guest, first, edited, coming)
            assert_nothing_to_do(guest)
            left = guest.run(f"ls /{STATE}/intent.json; find /etc /var/lib /run/cloudinit-osnetd -name '.osnetd-*'", check=False)
            assert left.stdout == ""
            guest.poweroff(hard=True)


def written_so_far(guest: VM) -> tuple[Parts, int]:
    """The configuration, and how much the guest has written when all that it had is on its disk."""
    guest.run("sync")
    assert guest.writes is not None
    with tempfile.TemporaryDirectory() as scratch:
        directory = DIRECTORIES[guest.backend]
        for name in guest.run(f"find {directory} -type f").stdout.split():
            path = Path(scratch + name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(guest.run(f"cat {name}").stdout)
        return parts_of(Path(scratch), guest.backend), guest.writes.stat().st_size


def assert_whole(
    root: Path, backend: str, steady: str, old: Parts, new: Parts, uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is the old or the new one, and the program knows which: it takes none for somebody else's."""
    now = parts_of(root, backend)
    assert now.of[steady] == old.of[steady]
    assert now.rest == old.rest
    for name in {*old.of, *new.of, *now.of}:
        assert now.of.get(name) in (old.of.get(name), new.of.get(name)), name
    for name in ("store.json", "intent.json"):
        path = root / STATE / name
        if path.exists():
            text = path.read_text()
            json.loads(text)
            path.write_text(text.replace(f'"{DIRECTORIES[backend]}', f'"{root}{DIRECTORIES[backend]}'))
    with monkeypatch.context() as patched:
        for constant in ("STORE", "INTENT"):
            patched.setattr(paths, constant, f"{root}/{STATE}/{constant.lower()}.json")
        of = of_renderer(RENDERERS[backend])
        assert of is not None
        state, _touches = commit.recover(store.load(uuid), of)
        disk = render.disk_parts(of, render.places(state))
    ledger = {row.name: row for row in state.ledger}
    assert sorted(ledger) == sorted(now.of)
    assert {name: disk.get(row.place) for name, row in ledger.items()} == {name: row.disk for name, row in ledger.items()}
