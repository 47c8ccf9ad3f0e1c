# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`make demo`: a guest in a simulated OpenStack follows its ports, before your eyes.

    GUEST=vm|container   SUITE=trixie|bookworm   python3 -m tests.demo

A virtual machine needs no root where the machine has what the lab does without it (tests/lab/rootless.py).

Each step changes the ports as an operator would, waits for the guest, and shows the cloud's list of ports beside the
guest's own view. The two are compared: a cross, and a failed exit, where they differ.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, NamedTuple

from tests.lab import VM, Cloud, Container, LabError, Port, rootless
from tests.lab.stopwatch import Stopwatch
from tests.lab.view import Nic, differences, look, wanted
from tests.screen import CROSS, TICK, Screen

BACKENDS = {"trixie": "networkd", "bookworm": "ifupdown"}
GUESTS: dict[str, Any] = {"container": Container, "vm": VM}
CONFIGURATION = "/etc/systemd/network /etc/network /etc/netplan /run/network/ifstate"  # where backends keep NICs
PATIENCE = float(os.environ.get("OSNETD_DEMO_PATIENCE") or 20)  # seconds to follow, more in an emulated guest
COLUMNS = ("", "port in the cloud", "NIC in the guest", "addresses", "routes", "DNS", "osnetd says")


class Result(NamedTuple):
    """How a step ended, for the summary."""

    title: str
    good: bool
    told: str


class Demo:
    """The story, in steps; `results` has what came of each."""

    def __init__(self, screen: Screen, cloud: Cloud, guest_kind: str, suite: str) -> None:
        self.screen, self.cloud = screen, cloud
        self.results: list[Result] = []
        self.gone: dict[Port, str] = {}  # detached ports, and what the guest called their NICs
        self.blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
        self.green = cloud.network(
            "green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")]
        )
        self.leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1450)
        self.server = cloud.server("web")
        self.server.create_port(self.blue)
        self.guest = GUESTS[guest_kind](cloud, self.server, suite=suite, backend=BACKENDS[suite], package=True)
        self.patience = PATIENCE * self.guest.patience

    def play(self) -> None:
        self.boot()
        static = self.attach("a static port is attached", self.green)
        self.attach("a port with DHCP is attached", self.leased)
        self.edit(static)
        self.detach(static)
        self.reboot()

    def boot(self) -> None:
        self.screen.heading(f"boot: {self.guest.suite} with {self.guest.backend}, one port, told by the config drive")
        if self.guest.patience > 1:
            self.screen.say(
                "QEMU emulates this guest, without KVM: times are ten times those of a real server, or more"
            )
        self.guest.boot()
        self.compare("boot", f"booted in {self.guest.boot_seconds:.1f} s")

    def attach(self, title: str, network: Any) -> Port:
        self.screen.heading(f"attach: {title}, while the server runs")
        port = self.server.create_port(network)
        with Stopwatch(self.guest, [address.split("/")[0] for address in wanted(port).addresses]) as watch:
            self.guest.plug(port)
        seconds = watch.seconds(self.patience)
        took = (
            "the address did not come" if seconds is None else f"{seconds:.3f} s from the kernel's event to the address"
        )
        self.compare(f"attach: {network.name}", took)
        return port

    def edit(self, port: Port) -> None:
        self.screen.heading(
            "edit: another fixed IP and MTU; no event tells the guest, `cloudinit-osnetd reconcile` does"
        )
        with Stopwatch(self.guest, ["10.91.5.77"]) as watch:
            self.server.edit_port(port, fixed_ips=["10.91.5.77"], mtu=1380)
            done = self.guest.run(
                "read -r uptime _ < /proc/uptime; echo $uptime; cloudinit-osnetd reconcile",
                check=False,
                timeout=self.patience,
            )
        began, _, said = (done.stdout + done.stderr).partition("\n")
        for line in said.splitlines():
            self.screen.say(f"  guest# {line}")
        seconds = watch.seconds(2 if done.returncode else self.patience, since=float(began))
        took = "the address did not come" if seconds is None else f"{seconds:.3f} s from the command to the address"
        self.compare("edit", took)

    def detach(self, port: Port) -> None:
        self.screen.heading("detach: the NIC goes, while the metadata service still lists its port")
        self.gone[port] = str(self.guest.nic(port))
        self.guest.unplug(port)
        self.compare("detach", f"{self.gone[port]} detached")

    def reboot(self) -> None:
        self.screen.heading("reboot: the config drive still lists the first port only, the metadata one too many")
        self.guest.reboot()
        self.compare("reboot", f"rebooted in {self.guest.boot_seconds:.1f} s")

    def compare(self, title: str, told: str) -> None:
        """Wait for the guest to follow, then show and judge."""
        deadline = time.monotonic() + self.patience
        while True:
            nics = look(self.guest)
            wrong = self._wrong(nics)
            if not any(wrong.values()) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        says = self._states()
        self.screen.table(
            COLUMNS, [self._row(port, nics.get(port.mac), wrong[port], says) for port in self.server.ports]
        )
        for port, what in wrong.items():
            if what:
                self.screen.verdict(False, f"{port.mac}: {'; '.join(what)}")
        good = not any(wrong.values())
        self.results.append(Result(title, good, told))
        self.screen.verdict(
            good, ", ".join(filter(None, [told, "every port followed" if good else "NOT every port followed"]))
        )

    def _wrong(self, nics: dict[str, Nic]) -> dict[Port, list[str]]:
        found = {}
        for port in self.server.ports:
            if port not in self.gone:
                found[port] = differences(port, nics.get(port.mac))
            else:
                found[port] = ["its NIC is still there"] if port.mac in nics else self._left_behind(port)
        return found

    def _left_behind(self, port: Port) -> list[str]:
        """The files that still configure a NIC that is gone."""
        said = self.guest.run(f"grep -rlsw {self.gone[port]} {CONFIGURATION}", check=False).stdout
        return [f"{self.gone[port]} is gone, but not from {path}" for path in said.split()]

    def _row(self, port: Port, nic: Nic | None, wrong: list[str], says: dict[str, str]) -> list[str]:
        want = wanted(port)
        listed = [port.mac, f"{port.network.name}{', DHCP' if want.mtu is None else ''}", *want.addresses]
        listed.append(f"MTU {port.mtu}{' (by DHCP)' if want.mtu is None else ''}")
        if port in self.gone:
            listed.append("(NIC detached)")
        seen = ["(none)", "", "", ""]
        if nic is not None:
            routes = [f"{destination}\n  via {gateway}" for destination, gateway in nic.routes if gateway]
            link = f"{nic.mac}\n{nic.name}\n{'up' if nic.up else 'DOWN'}\nMTU {nic.mtu}"
            seen = [link, "\n".join(nic.addresses), "\n".join(routes), "\n".join(nic.dns)]
        return [CROSS if wrong else TICK, "\n".join(listed), *seen, says.get(port.mac, "-")]

    def _states(self) -> dict[str, str]:
        """What the package itself says of each MAC; shown, not judged by."""
        said = self.guest.run("cloudinit-osnetd status --json", check=False).stdout
        try:
            return {nic["mac"]: str(nic["state"]) for nic in json.loads(said)["nics"]}
        except (ValueError, KeyError, TypeError):
            return {}


def summary(screen: Screen, results: list[Result]) -> bool:
    """Every step with its tick and its time; whether all are good."""
    screen.heading("in short")
    for result in results:
        screen.verdict(result.good, f"{result.title:<16} {result.told}")
    return all(result.good for result in results)


def main() -> int:
    kind, suite = os.environ.get("GUEST") or "vm", os.environ.get("SUITE") or "trixie"
    if kind not in GUESTS or suite not in BACKENDS:
        print(f"demo: GUEST is {' or '.join(GUESTS)}, SUITE is {' or '.join(BACKENDS)}", file=sys.stderr)
        return os.EX_USAGE
    if os.geteuid() != 0:
        if kind == "container":
            print("demo: a container needs root; GUEST=vm, the default, does not", file=sys.stderr)
            return os.EX_NOPERM
        try:
            rootless.go_on(["-m", "tests.demo"])
        except LabError as error:
            print(f"demo: {error}", file=sys.stderr)
            return os.EX_UNAVAILABLE
    # A closed terminal ends it like Ctrl-C does.
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    screen = Screen()
    try:
        with Cloud() as cloud:
            demo = Demo(screen, cloud, kind, suite)
            try:
                demo.play()
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the cleaning short
                demo.guest.destroy()
        good = summary(screen, demo.results)
    except KeyboardInterrupt:
        screen.say("\ninterrupted: the guest and its cloud are removed")
        return 130
    except LabError as error:
        screen.verdict(False, str(error))
        return 1
    screen.say(
        "\nThe guest and its cloud are removed. GUEST=container runs it in a container (root), SUITE=bookworm on ifupdown."
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
