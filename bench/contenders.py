# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Who is compared: each in a guest of its own, the same cloud around it.

osnetd       this project's package.
cloud-init   its own hotplug, switched on as its documentation says, without our package.
floor        a shell script in a udev rule that has the right file at hand and runs the backend's narrowest command: what
             nobody can be faster than who lets the backend do the work.

What a contender starts for an event runs in a slice of its own, bench.slice, so that its CPU time and its memory can be
told from the rest of the guest's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from tests.lab import Cloud, Container, Network, Port, Server, Subnet, netns

SLICE = "bench.slice"
_FLOOR = "/etc/bench-floor"
_IN_SLICE = f"[Service]\nSlice={SLICE}\n"
_INTO_SLICE = f"echo $$ > /sys/fs/cgroup/{SLICE}/floor/cgroup.procs"

_FLOOR_RULE = (
    'SUBSYSTEM=="net", ENV{OSNETD_MANAGE}=="1", ACTION=="add", RUN+="/etc/bench-floor/follow up $name"\n'
    'SUBSYSTEM=="net", ACTION=="remove", TEST=="/etc/bench-floor/$name", RUN+="/etc/bench-floor/follow down $name"\n'
)
# A unit that does nothing where our early unit is: what remains is pid 1's own time.
_FLOOR_EARLY = """[Unit]
DefaultDependencies=no
After=cloud-init-local.service
Wants=network-pre.target
Before=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
"""
_FLOOR_SCRIPT = {
    "ifupdown": """#!/bin/sh
echo $$ > /sys/fs/cgroup/bench.slice/floor/cgroup.procs
there=/etc/network/interfaces.d/$2
case $1 in
    up) cp /etc/bench-floor/$2 $there && ifup $2 ;;
    edit) ifdown $2; cp /etc/bench-floor/$2 $there && ifup $2 ;;
    down) ifdown --force $2; rm -f $there ;;
esac
""",
    "networkd": """#!/bin/sh
echo $$ > /sys/fs/cgroup/bench.slice/floor/cgroup.procs
there=/etc/systemd/network/10-floor-$2.network
case $1 in
    up | edit) cp /etc/bench-floor/$2 $there ;;
    down) rm -f $there ;;
esac
networkctl reload
""",
}


class Kind(NamedTuple):
    """A suite and the backend of its guest."""

    suite: str
    backend: str

    def __str__(self) -> str:
        return f"{self.suite}/{self.backend}"


class Contender:
    """One contender in its guest: booted on entry, gone on exit."""

    name = ""
    package = False
    unit = ""  # what works for it; empty where a udev rule does
    early_unit = ""  # what the network waits for at a boot
    can_be_pushed = False  # a host can hand it a document
    patience = 25.0  # seconds in which it follows a NIC that leaves

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.cloud = Cloud()
        # Kind to cloud-init's hotplug: no leased route to the metadata service, on which 22.4.2 fails where it is there
        # already; and where the DNS server should be there is a host that says no, else it waits 20 s for an answer.
        subnet = Subnet("10.90.0.0/24", "10.90.0.1", dhcp=True, dns=("10.90.0.1",), metadata_route=False)
        first = self.cloud.network("first", mtu=1450, subnets=[subnet])
        netns.output(self.cloud.namespace, ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"])  # and says it each time
        self.networks: List[Network] = [
            self.cloud.network(f"net{n}", cidr=f"10.91.{n}.0/24", dns=[f"10.91.{n}.2"], mtu=1400 + n) for n in range(8)
        ]
        self.server: Server = self.cloud.server("bench")
        self.first: Port = self.server.create_port(first)
        self.guest = Container(
            self.cloud,
            self.server,
            kind.suite,
            kind.backend,
            package=self.package,
            files=self.files(),
            datasource="OpenStack",
        )
        self.prepare()
        self.guest.boot()
        self.prepare_run()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.guest.destroy()
        self.cloud.close()

    def files(self) -> Dict[str, str]:
        """Files for the guest's disk, path to content."""
        return {f"etc/systemd/system/{self.unit}.d/bench.conf": _IN_SLICE}

    def prepare(self) -> None:
        """What else is to be done before the guest boots."""

    def prepare_run(self) -> None:
        """What is to be done after each boot."""
        self.guest.run(f"systemctl start {SLICE} && mkdir -p /sys/fs/cgroup/{SLICE}/floor")

    def make_ready(self, port: Port, name: str) -> None:
        """What is to be at hand before the NIC comes."""

    def push_command(self, document: Dict[str, Any], port: Port, name: str) -> str:
        """What a host has the guest run to put a document in force in which `port` was edited."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what was pushed."""

    def create_ports(self, count: int) -> List[Port]:
        return [self.server.create_port(self.networks[n % len(self.networks)]) for n in range(count)]

    def recover(self) -> None:
        """Undo what a failure of its own has left, so that the next measurement starts afresh."""
        self.guest.run("systemctl reset-failed", check=False)


class Osnetd(Contender):
    name = "osnetd"
    package = True
    unit = "cloudinit-osnetd.service"
    early_unit = "cloudinit-osnetd-early.service"
    can_be_pushed = True

    def push_command(self, document: Dict[str, Any], port: Port, name: str) -> str:
        return f"{_INTO_SLICE}; exec cloudinit-osnetd apply --stdin <<'end'\n{json.dumps(document)}\nend"

    def forget(self) -> None:
        self.guest.run("cloudinit-osnetd apply --forget")


class CloudInit(Contender):
    name = "cloud-init"
    unit = "cloud-init-hotplugd.service"
    patience = 5.0  # it does within one, or goes on trying for most of a minute

    def files(self) -> Dict[str, str]:
        said = {"updates": {"network": {"when": ["hotplug"]}}}
        return {**super().files(), "etc/cloud/cloud.cfg.d/92_bench.cfg": json.dumps(said) + "\n"}

    def prepare(self) -> None:
        """22.4.2 knows in what words its own suite's kernel says that an address is there, and fails on newer ones'.

        That is this lab's doing, whose guests share the host's kernel: without it, it would need no kinder treatment.
        """
        path = self.guest.root / "usr/lib/python3/dist-packages/cloudinit/net/ephemeral.py"
        if path.exists():
            old = '"File exists" not in str(e.stderr)'
            new = '"File exists" not in str(e.stderr).replace("Address already assigned", "File exists")'
            path.write_text(path.read_text().replace(old, new))

    def recover(self) -> None:
        self.guest.run(f"systemctl stop {self.unit}", check=False)
        super().recover()
        self.guest.run("systemctl start cloud-init-hotplugd.socket", check=False)
        self.guest.run("rm -f /etc/systemd/network/*-ens[4-9]* /etc/systemd/network/*-ens[1-3][0-9]*")


class Floor(Contender):
    name = "floor"
    early_unit = "bench-floor-early.service"
    can_be_pushed = True

    def files(self) -> Dict[str, str]:
        return {
            "etc/udev/rules.d/90-bench-floor.rules": _FLOOR_RULE,
            f"{_FLOOR.lstrip('/')}/follow": _FLOOR_SCRIPT[self.kind.backend],
            f"etc/systemd/system/{self.early_unit}": _FLOOR_EARLY,
        }

    def prepare(self) -> None:
        os.chmod(self._file("follow"), 0o755)
        wants = self.guest.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / self.early_unit).symlink_to(f"/etc/systemd/system/{self.early_unit}")

    def push_command(self, document: Dict[str, Any], port: Port, name: str) -> str:
        self.make_ready(port, name)
        return f"{_FLOOR}/follow edit {name}"

    def make_ready(self, port: Port, name: str) -> None:
        (subnet, addresses), *_ = port.subnets()
        address = f"{addresses[0]}/{subnet.network.prefixlen}"
        if self.kind.backend == "networkd":
            text = f"[Match]\nMACAddress={port.mac}\nName={name}\n\n[Link]\nMTUBytes={port.mtu}\n\n"
            text += f"[Network]\nDHCP=no\nDNS={subnet.dns[0]}\n\n[Address]\nAddress={address}\n"
        else:
            text = f"auto {name}\niface {name} inet static\n    address {address}\n"
            text += f"    dns-nameservers {subnet.dns[0]}\n    mtu {port.mtu}\n"
        self._file(name).write_text(text)

    def _file(self, name: str) -> Path:
        return self.guest.root / _FLOOR.lstrip("/") / name


CONTENDERS = (Floor, Osnetd, CloudInit)
