# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Power cuts: whatever of a run is on the disk, each NIC is in the old or the new state, and the next boot finishes.

A push that waits for its confirmation is gone after each of them, and one that was confirmed stays.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import pytest

from cloudinit_osnetd.apply import commit
from cloudinit_osnetd.backends import of_renderer
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import paths
from tests.lab import VM, Cloud, Port
from tests.scenarios import power
from tests.scenarios.killing import PROGRAM, SERVE, SETTINGS, STATE, Parts, parts_of
from tests.scenarios.seen import assert_boot, assert_follows, assert_nothing_to_do, settled, status, store_of, timers

pytestmark = [pytest.mark.vm, pytest.mark.deep]
KINDS = pytest.mark.parametrize(("suite", "backend"), [("bookworm", "ifupdown"), ("trixie", "networkd"), ("trixie", "netplan")])
BOOTS = int(os.environ.get("OSNETD_BOOTS", "99"))  # of those after a push; minutes each where QEMU has to emulate
NEW = "10.91.7.7"  # the address that is pushed

RENDERERS = {"ifupdown": "eni", "networkd": "networkd", "netplan": "netplan"}
DIRECTORIES = {"ifupdown": "/etc/network", "networkd": "/etc/systemd/network", "netplan": "/etc/netplan"}


@KINDS
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
    return read_parts(guest), guest.writes.stat().st_size


def read_parts(guest: VM) -> Parts:
    with tempfile.TemporaryDirectory() as scratch:
        directory = DIRECTORIES[guest.backend]
        for name in guest.run(f"find {directory} -type f").stdout.split():
            path = Path(scratch + name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(guest.run(f"cat {name}").stdout)
        return parts_of(Path(scratch), guest.backend)


def assert_whole(
    root: Path, backend: str, steady: str, old: Parts, new: Parts, uuid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is the old or the new one, and the program knows which: it takes none for somebody else's."""
    now = parts_of(root, backend)
    assert now.of[steady] == old.of[steady]
    assert now.rest == old.rest
    for name in {*old.of, *new.of, *now.of}:
        assert now.of.get(name) in (old.of.get(name), new.of.get(name)), name
    assert_known(root, backend, now, uuid, monkeypatch)


def assert_known(root: Path, backend: str, now: Parts, uuid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program has noted can be read, and is what is on the disk."""
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


# -- a push and its confirmation -----------------------------------------------------------------------------------


class Left(NamedTuple):
    """What a power cut has left, in the order in which `apply` and `confirm` get there."""

    confirming: bool  # it was `confirm` that was at work
    is_new: bool  # the NIC's part on the disk
    waits: bool  # the push is noted as not confirmed
    intent: bool

    @property
    def stays(self) -> bool:
        """The next boot leaves the push in force."""
        return self.is_new and not self.waits


class Disks:
    """The disks that a guest could have had after a power cut while two commands were at work, one after the other."""

    def __init__(self, first: Path, writes: Path, marks: Sequence[int], here: Path) -> None:
        self.first, self.here, self.disk = first, here, here / "disk"
        begin, middle, end = marks
        self.before, applying = power.noted(writes, begin, middle)
        _before, confirming = power.noted(writes, middle, end)
        self.rounds = [*((False, one) for one in applying), *((True, one) for one in confirming)]

    def each(self, directories: Sequence[str]) -> Iterator[Tuple[bool, List[power.Write]]]:
        """Puts these directories of each disk into `here`: whether `confirm` had begun, and what had been written."""
        shutil.copy(self.first, self.disk)
        with self.disk.open("r+b") as file:
            power.put(file, self.before)
            done: List[power.Write] = []
            for number, (confirming, writes) in enumerate(self.rounds):
                for cut in power.cuts(writes, number):
                    with power.written(file, cut):
                        power.recovered(self.disk, directories, self.here)
                        yield confirming, [*done, *cut]
                power.put(file, writes)
                done += writes

    def made(self, written: Sequence[power.Write]) -> Path:
        """The disk itself; it stays as it is until the next one is made."""
        path = self.here / "booted"
        shutil.copy(self.first, path)
        with path.open("r+b") as file:
            power.put(file, [*self.before, *written])
        return path


@KINDS
def test_the_power_is_cut_at_each_write_of_a_push_and_of_its_confirmation(
    cloud: Cloud, vm_factory: Callable[..., VM], monkeypatch: pytest.MonkeyPatch, suite: str, backend: str
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/16", dns=["10.91.0.2"])
    server = cloud.server("mortal")
    first, pushed = server.create_port(blue), server.create_port(green)
    guest = vm_factory(server, suite=suite, backend=backend, files=SETTINGS, noted=True)
    guest.boot()
    assert_follows(guest, first, pushed)
    settled(guest)
    address = pushed.fixed_ips[0]
    server.freeze_metadata()  # nobody has heard of the push but the guest
    document = json.dumps(server.network_data()).replace(f'"{address}"', f'"{NEW}"')
    assert NEW in document
    guest.put(document.encode(), "/root/pushed.json")
    steady, edited = str(guest.nic(first)), str(guest.nic(pushed))

    old, begin = written_so_far(guest)
    guest.run(f"{PROGRAM} apply --file /root/pushed.json --confirm-within 3000")
    new, middle = written_so_far(guest)
    guest.run(f"{PROGRAM} confirm")
    kept, end = written_so_far(guest)
    guest.poweroff(hard=True)
    assert old.of[edited] != new.of[edited] and {**old.of, edited: new.of[edited]} == new.of == kept.of

    assert guest.writes is not None
    began, count = time.monotonic(), 0
    seen: Dict[Left, List[power.Write]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        disks = Disks(guest.first_disk, guest.writes, (begin, middle, end), Path(scratch))
        for confirming, written in disks.each([DIRECTORIES[backend], f"/{STATE}"]):
            left = what_is_left(disks.here, backend, confirming, edited, old, new)
            assert_whole(disks.here, backend, steady, old, new, server.uuid, monkeypatch)
            seen.setdefault(left, written)
            count += 1
        took = time.monotonic() - began
        print(f"\n{suite}: power cut at {count} points of a push and its confirmation, in {took:.0f} s: {sorted(seen)}")
        assert count > 20
        # Before the push, while it waits, and afterwards; and while it is confirmed, not yet and already.
        assert {(one.confirming, one.is_new, one.waits) for one in seen} >= {
            (False, False, False), (False, True, True), (True, True, True), (True, True, False),
        }, seen  # fmt: skip

        # And one of each for real, the more telling ones first. (What was before the push is what any boot begins with.)
        found = [one for one in seen if one.waits or one.intent or one.is_new]
        for left in sorted(found, key=lambda one: (one.intent, not one.is_new, one))[:BOOTS]:
            guest.change_disk(disks.made(seen[left]))
            guest.boot()
            server.edit_port(pushed, fixed_ips=[NEW if left.stays else address])
            assert_as_it_should_be(guest, left, pushed, first)
            assert read_parts(guest).of == (new.of if left.stays else old.of), left
            guest.poweroff(hard=True)


def what_is_left(root: Path, backend: str, confirming: bool, edited: str, old: Parts, new: Parts) -> Left:
    store_text = (root / STATE / "store.json").read_text()
    is_new = parts_of(root, backend).of[edited] == new.of[edited]
    left = Left(confirming, is_new, "provisional" in json.loads(store_text), (root / STATE / "intent.json").exists())
    # Nothing of a push is on the disk that the next boot would not know to take back, until it is confirmed.
    assert confirming or left.waits or not is_new, left
    assert is_new or not confirming, left
    assert left.is_new or parts_of(root, backend).of[edited] == old.of[edited]
    return left


def assert_as_it_should_be(guest: VM, left: Left, pushed: Port, first: Port) -> None:
    """The boot has found the push in force or has taken it back; the server is reached, and status tells the truth."""
    assert_boot(guest, level="store")
    settled(guest)
    assert_follows(guest, first, pushed)
    assert guest.run("ping -c 1 -W 5 10.90.0.1", check=False).returncode == 0, left
    store, report = store_of(guest), status(guest)
    assert "provisional" not in store and ('"push"' in json.dumps(store["truth"]["keys"])) == left.stays, left
    rows = {row["mac"]: row for row in report["nics"]}
    assert {row["state"] for row in rows.values()} == {"ok"} and set(rows) == {first.mac, pushed.mac}, rows
    assert (rows[pushed.mac]["source"] == "push") == left.stays, rows
    assert (report["on_trial"], report["next"], timers(guest)) == ([], [], []), report
    assert bool(report["taken_back"]) == left.waits, report["taken_back"]
    assert guest.run(f"{PROGRAM} confirm", check=False).returncode == (9 if left.waits else 8), left
    assert guest.run(f"{PROGRAM} history", check=False).returncode == 0
    assert_nothing_to_do(guest)
    rest = guest.run(f"ls /{STATE}/intent.json; find /etc /var/lib /run/cloudinit-osnetd -name '.osnetd-*'", check=False)
    assert rest.stdout == "", left
