# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One guest, many deaths: a change of everything at once, a run that is struck at its n-th operation, and what is left.

The change, ever another: one NIC is edited, two swap their names, one leaves, one comes; the first is in none of it.
The path unit is stopped, so what happens is what the test does; the rest is as in a server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

import yaml

from tests.lab import Cloud, Container, Port, netns
from tests.scenarios.seen import wait_until
from tests.scenarios.strike import Operation, Report

STRIKE = str(Path(__file__).with_name("strike.py"))
PROGRAM = "/usr/bin/cloudinit-osnetd"
SETTINGS = {"etc/cloud/cloud.cfg.d/92_osnetd-lab-death.cfg": "osnetd: {debounce: 0.05, patience: 0}\n"}
SERVE = (PROGRAM, "reconcile", "--queue")
QUEUE_EVENT = "/usr/lib/cloudinit-osnetd/queue-event"
STATE, RUN = "var/lib/cloudinit-osnetd", "run/cloudinit-osnetd"
_NETPLAN = "etc/netplan/50-cloud-init.yaml"
_NETWORKD, _INTERFACES = "etc/systemd/network", "etc/network/interfaces.d/50-cloud-init"
_KEYFILES, _IFCFG = "etc/NetworkManager/system-connections", "etc/sysconfig/network-scripts"


class Parts(NamedTuple):
    """The configuration on disk: by NIC's name; and what is nobody's part of it."""

    of: Dict[str, str]
    rest: str


def parts_of(root: Path, backend: str) -> Parts:
    """What stands below `root`."""
    if backend == "networkd":
        files = (root / _NETWORKD).glob("10-cloud-init-*.network")
        return Parts({path.name[len("10-cloud-init-") : -len(".network")]: path.read_text() for path in files}, "")
    of: Dict[str, str] = {}
    if backend == "nm":
        files = (root / _KEYFILES).glob("cloud-init-*.nmconnection")
        return Parts({path.name[len("cloud-init-") : -len(".nmconnection")]: path.read_text() for path in files}, "")
    if backend == "ifcfg":  # no port of the change has a route of its own
        files = (path for path in (root / _IFCFG).glob("ifcfg-*") if path.name != "ifcfg-lo")
        return Parts({path.name[len("ifcfg-") :]: path.read_text() for path in files}, "")
    if backend in ("netplan", "netplan_nm"):
        said = yaml.safe_load((root / _NETPLAN).read_text())["network"]
        nics = said.pop("ethernets")
        return Parts({name: yaml.safe_dump(body) for name, body in nics.items()}, yaml.safe_dump(said))
    rest = []
    for paragraph in re.split(r"\n\n+", (root / _INTERFACES).read_text().rstrip("\n")):
        found = re.search(r"^(?:auto|iface) (\S+)", paragraph, re.MULTILINE)
        if found and found[1] != "lo":
            of[found[1]] = of.get(found[1], "") + paragraph + "\n"
        else:
            rest.append(paragraph)
    return Parts(of, "\n\n".join(rest))


class Scene:
    def __init__(self, cloud: Cloud, guest: Container, ports: List[Port]) -> None:
        self.cloud, self.guest = cloud, guest
        self.steady, self.edited, *self.swapped, self.passing = ports
        self.number = 0
        self.before, self.old_address = Parts({}, ""), ""
        self.died = Parts({}, "")
        self.said = ""  # by the last run
        self.log = tempfile.NamedTemporaryFile("a")
        self.monitor: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.unwatch()
        self.log.close()

    # The change

    def change(self) -> None:
        self.number += 1
        guest, server = self.guest, self.guest.server
        self.before, self.old_address = self.parts(), self.edited.fixed_ips[0]
        server.edit_port(self.edited, fixed_ips=[f"10.91.{self.number // 200}.{self.number % 200 + 10}"])
        gone, names = self.passing, self.swapped_names()
        server.delete_port(gone)
        self.passing = server.create_port(gone.network)
        for port in (gone, *self.swapped):
            guest.unplug(port)
        new = "ens8" if self.number % 2 else "ens7"
        guest.plug_all([*self.swapped, self.passing], [*reversed(names), new])
        if not guest.is_on:
            return
        queue = self.guest.running_root / RUN / "queue"
        wait_until(lambda: len(os.listdir(queue)) == 6, 5, "three NICs removed, three added")

    # The run

    def count(self, whose: str = "own", argv: Sequence[str] = SERVE) -> List[Operation]:
        """What it does for a change, unharmed."""
        self.change()
        report = self.run(whose=whose, argv=argv)
        self.assert_whole()
        return report.operations

    def run(self, at: int = 0, how: str = "before", error: str = "ENOSPC", whose: str = "own", argv: Sequence[str] = SERVE) -> Report:
        """Run the program under strike.py; see there."""
        with tempfile.NamedTemporaryFile("r") as out:
            words = [sys.executable, STRIKE, f"--report={out.name}", f"--begin={argv[0]}", f"--whose={whose}"]
            words += [f"--at={at}", f"--how={how}", f"--error={error}", "--", *self.guest.entering(list(argv))]
            done = subprocess.run(words, capture_output=True, text=True, timeout=150, stdin=subprocess.DEVNULL)
            text = out.read()
        assert text, done.stderr
        raw = json.loads(text)
        self.said = done.stdout + done.stderr
        return Report([Operation(*one) for one in raw["operations"]], raw["struck"], raw["status"])

    def next_run(self, event: str = "") -> None:
        """The service as it is started again; `event`: for a reason of its own."""
        if event:
            self.guest.run(f"{QUEUE_EVENT} {event}")
        done = self.guest.run(" ".join(SERVE), check=False, timeout=90)
        self.said = done.stdout + done.stderr
        assert done.returncode == 0, self.said

    # What is left

    def parts(self) -> Parts:
        return parts_of(self.guest.running_root if self.guest.is_on else self.guest.root, self.guest.backend)

    def assert_whole(self) -> None:
        """Right after its death: what it did not have to do is as it was, and what it has noted can be read."""
        self.died = self.parts()
        steady = str(self.guest.nic(self.steady))
        assert self.died.of[steady] == self.before.of[steady]
        assert self.died.rest == self.before.rest
        for directory in (STATE, RUN):
            for path in (self.guest.running_root / directory).glob("[!.]*.json"):
                json.loads(path.read_text())

    def swapped_names(self) -> List[str]:
        return [self.guest._nics[port][1] for port in self.swapped]

    def assert_converged(self, struck: Optional[Operation] = None, void: Sequence[str] = ()) -> None:
        """Everything is in the new state, every part was in the old or the new one, and nothing is left behind.

        void: names that may have had no part: the NIC that had it goes by another, and the new one's could not be made.
        """
        try:
            self._assert_converged(void)
        except AssertionError as error:
            raise AssertionError(f"after {struck}: {error}\n{self.said}") from error

    def _assert_converged(self, void: Sequence[str]) -> None:
        ports = {self.guest.nic(port): port for port in self.guest.plugged}
        now = self.parts()
        assert sorted(now.of) == sorted(map(str, ports)), self.said
        for name, port in ports.items():
            assert port.fixed_ips[0] in now.of[str(name)], (name, port, now.of, self.said)
        for name in {*self.before.of, *now.of, *self.died.of}:
            may_be = [self.before.of.get(name), now.of.get(name)] + [None] * (name in void)
            assert self.died.of.get(name) in may_be, (name, self.died.of.get(name))
        wait_until(lambda: self._kernel() == {str(name): set(port.fixed_ips) for name, port in ports.items()}, 5, f"{ports} in the kernel")
        if self.guest.backend == "ifupdown":
            state = (self.guest.running_root / "run/network/ifstate").read_text().split()
            assert sorted(state) == sorted(["lo=lo", *(f"{name}={name}" for name in ports)])
        assert self.leftovers() == []
        self.ledger_is(now)
        assert self._disturbed() == []

    def assert_up(self) -> None:
        """A run that was not killed, but failed: the NIC that it was to edit is up, the old way or the new."""
        name = str(self.guest.nic(self.edited))
        addresses = [{self.old_address}, set(self.edited.fixed_ips)]
        wait_until(lambda: self._kernel()[name] in addresses, 5, f"{name} up: {self.said}")

    def _kernel(self) -> Dict[str, Set[str]]:
        links = json.loads(netns.output(self.guest.name, ["ip", "-json", "-4", "address"]))
        return {link["ifname"]: {a["local"] for a in link["addr_info"] if "UP" in link["flags"]} for link in links if link["ifname"] != "lo"}

    def ledger_is(self, parts: Parts) -> None:
        store = json.loads((self.guest.running_root / STATE / "store.json").read_text())
        assert sorted(row["name"] for row in store["ledger"]) == sorted(parts.of)

    def leftovers(self) -> List[str]:
        """Files that only a run at work has, and events that nobody served."""
        root = self.guest.running_root
        found = [str(path) for path in (root / STATE / "intent.json", root / RUN / "temporary-access.json") if path.exists()]
        found += [str(path) for name in ("queue", "work") for path in (root / RUN / name).iterdir()]
        for top in ("etc", "var/lib/cloudinit-osnetd", "var/lib/cloud", "run/cloudinit-osnetd", "run/network", "run/systemd/network", "tmp"):
            for directory, _inside, names in os.walk(root / top):
                found += [f"{directory}/{name}" for name in names if ".osnetd-" in name or top == "tmp"]
        return found

    # The NIC that has nothing to do with it

    def watch(self) -> None:
        """From now on note all that happens to the first NIC in the kernel."""
        tentative = ["ip", "-json", "address", "show", "tentative"]  # its link-local address, seconds after the boot
        wait_until(lambda: not json.loads(netns.output(self.guest.name, tentative) or "[]"), 10, "no address tentative")
        self.monitor = subprocess.Popen(
            [*netns.enter(self.guest.name), "ip", "-oneline", "monitor", "link", "address", "route"],
            stdout=self.log, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def unwatch(self) -> None:
        """To be called before a reboot: whoever is in the guest's network namespace keeps that boot's NICs alive."""
        if self.monitor:
            self.monitor.kill()
            self.monitor.wait()
        self.monitor = None

    def forget(self) -> None:
        """What has happened to it until now was the test's own doing."""
        self.log.truncate(0)

    def _disturbed(self) -> List[str]:
        name = str(self.guest.nic(self.steady))
        return [line for line in Path(self.log.name).read_text().splitlines() if name in line]
