# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is measured. Each scene leaves the guest as it found it, so that it can be measured again."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Callable, Iterator, List, NamedTuple, Sequence

from bench.contenders import Contender
from bench.meter import Cpu, Meter, Peak
from tests.lab import Port
from tests.lab.stopwatch import Stopwatch
from tests.scenarios.stream import Stream

LIMIT = 25.0  # seconds after which a contender counts as one that does not get there
PUSHED = ("10.91.0.250", "10.91.0.251")  # in the first network of contenders.py; the port may have one of them
LATENCY = 0.1  # seconds for each answer of the metadata service, as in a real cloud


class Sample(NamedTuple):
    """One measurement. `seconds` is None where the guest did not get there, or where no time is of interest."""

    seconds: float | None
    cpu: Cpu
    reached: int = 0  # how many of the NICs
    started: bool = True  # anything was started at all


class Watched(NamedTuple):
    """What is looked at in a run whose time does not count."""

    peak_mib: float
    lost: int  # datagrams of a stream of a thousand a second, through the NIC that is there all the time
    sent: int


class Bench:
    """One contender at work in its guest."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.guest = contender.guest
        self.server = contender.server
        self.meter = Meter(self.guest)

    # Scenes

    def one(self) -> Sample:
        """A NIC that the metadata service lists already: from the kernel's event to address, MTU and link up."""
        return self._attach_and_leave(1)

    def eight(self) -> Sample:
        return self._attach_and_leave(8)

    def one_100ms(self) -> Sample:
        """As `one`, with a metadata service whose answers take 100 ms each."""
        with self._latency():
            return self.one()

    def eight_100ms(self) -> Sample:
        with self._latency():
            return self.eight()

    def attach(self, count: int) -> Sample:
        """So many at once."""
        return self._attach_and_leave(count)

    def removal(self) -> Sample:
        """A NIC leaves that the metadata service goes on to list: from the kernel's event to clean files."""
        ports = self.contender.create_ports(1)
        self._attach(ports)
        name = self.guest.nic(ports[0]) or ""
        before = self.meter.cpu()
        with Stopwatch(self.guest, removed=name, seconds=LIMIT) as watch:
            before = self.meter.cpu()
            self.guest.unplug(ports[0])
        self.meter.settle(LIMIT)
        used = self.meter.cpu().since(before)
        began, cleaned = watch.removed_at(1), self._cleaned(name)
        self.server.delete_port(ports[0])
        self._leave([])
        return Sample(cleaned - began if began and cleaned else None, used)

    def push(self) -> Sample:
        """A host pushes a document with another fixed IP, the metadata tells nothing: from its command to the address."""
        ports = self.contender.create_ports(1)
        self._attach(ports)
        name = self.guest.nic(ports[0]) or ""
        self.server.freeze_metadata()
        pushed = next(address for address in PUSHED if address not in ports[0].fixed_ips)
        self.server.edit_port(ports[0], fixed_ips=[pushed])
        command = self.contender.push_command(self.server.network_data(), ports[0], name)
        with Stopwatch(self.guest, [pushed], seconds=LIMIT) as watch:
            before = self.meter.cpu()
            began = time.monotonic()  # a container has the clock of its host
            self.guest.run(command)
        self.meter.settle(LIMIT)
        used = self.meter.cpu().since(before)
        sample = Sample(watch.seconds(timeout=1.0, since=began), used, watch.reached())
        self.server.thaw_metadata()
        self.contender.forget()
        self._leave(ports)
        return sample

    def veths(self) -> Sample:
        """200 veth pairs come and go, as of containers, and right after them a NIC: its time, and all of the CPU."""
        pairs = range(200)
        lines = [f"link add bench{n} type veth peer name hcneb{n}" for n in pairs] + [f"link del bench{n}" for n in pairs]
        before = self.meter.cpu()
        self.guest.run("ip -batch - <<'end'\n" + "\n".join(lines) + "\nend")
        started = self.meter.cpu().agent - before.agent > 0.002
        ports = self.contender.create_ports(1)
        sample = self._attach(ports, before)
        self._leave(ports)
        return sample._replace(started=started)

    def nothing(self) -> Sample:
        """An event, and nothing to do."""
        self.meter.settle(LIMIT)
        before = self.meter.cpu()
        self.guest.run("/usr/lib/cloudinit-osnetd/queue-event timer")
        time.sleep(0.1)
        self.meter.settle(LIMIT)
        return Sample(None, self.meter.cpu().since(before))

    def boot(self) -> Sample:
        """A reboot after which nothing has changed: the time that the early unit takes before the network may start.

        It is the time that `systemd-analyze critical-chain` shows for the unit; its CPU time is systemd's as well.
        """
        unit = self.contender.early_unit
        self.guest.reboot()
        self.contender.prepare_run()
        shown = self.guest.run(f"systemctl show {unit} -p InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic,CPUUsageNSec")
        found = dict(line.split("=") for line in shown.stdout.splitlines())
        self.meter.settle(LIMIT)
        took = (int(found["ActiveEnterTimestampMonotonic"]) - int(found["InactiveExitTimestampMonotonic"])) / 1e6
        return Sample(took, Cpu(int(found["CPUUsageNSec"]) / 1e9, 0.0))

    def watched(self, scene: Callable[[], Sample]) -> Watched:
        """A scene once more, with a stream through the untouched NIC and an eye on the memory."""
        stream = Stream(self.guest, self.contender.first)
        time.sleep(0.3)
        self.meter.beside = True
        with Peak(self.meter) as peak:
            scene()
        self.meter.beside = False
        sent, missing = stream.end()
        return Watched(peak.mib, len(missing), sent)

    # Inner workings

    @contextlib.contextmanager
    def _latency(self) -> Iterator[None]:
        metadata = self.contender.cloud.metadata
        metadata.latency = LATENCY
        try:
            yield
        finally:
            metadata.latency = 0.0

    def _attach_and_leave(self, count: int) -> Sample:
        ports = self.contender.create_ports(count)
        sample = self._attach(ports)
        self._leave(ports)
        return sample

    def _attach(self, ports: Sequence[Port], before: Cpu | None = None) -> Sample:
        names = [f"ens{4 + number}" for number in range(len(ports))]
        for port, name in zip(ports, names):
            self.contender.make_ready(port, name)
        wanted = [f"{port.fixed_ips[0]}={port.mtu}" for port in ports]
        with Stopwatch(self.guest, wanted, seconds=LIMIT) as watch:
            before = before or self.meter.cpu()
            self.guest.plug_all(ports, names)
        if self.meter.beside:
            watch.seconds(LIMIT)  # at rest it is also before it has heard of the NIC
        self.meter.settle(LIMIT)
        used = self.meter.cpu().since(before)
        return Sample(watch.seconds(timeout=0.1), used, watch.reached())

    def _leave(self, ports: Sequence[Port]) -> None:
        """Away with the NICs, and from the metadata service's list; then everything comes to rest."""
        for port in ports:
            self.server.delete_port(port)
            self.guest.unplug(port)
        self.meter.settle(self.contender.patience)
        self.contender.recover()
        self.meter.settle(2)

    def _cleaned(self, name: str) -> float | None:
        """When the last trace of a NIC was removed, by the guest's monotonic clock; None: some is still there."""
        said = json.loads(self.guest.run(f"python3 - {name} <<'end'\n{_CLEANED}\nend").stdout)
        return None if said is None else float(said)


# The time of the last change of the files that tell of NICs, and of the directories in which they lie.
_CLEANED = r"""
import glob, json, os, re, sys, time
files = glob.glob("/etc/systemd/network/*") + glob.glob("/etc/network/interfaces.d/*") + ["/run/network/ifstate"]
there = [path for path in files if os.path.isfile(path)]
word = re.compile(r"(?<![a-z0-9])%s(?![a-z0-9])" % re.escape(sys.argv[1]))
traces = [path for path in there if word.search(path) or word.search(open(path).read())]
places = [path for path in there + ["/etc/systemd/network", "/etc/network/interfaces.d"] if os.path.exists(path)]
changed = max(max(os.stat(path).st_mtime, os.stat(path).st_ctime) for path in places)
print(json.dumps(None if traces else changed - time.time() + time.monotonic()))
"""

SCENES: List[str] = ["one", "eight", "one_100ms", "eight_100ms", "removal", "push", "veths", "nothing", "boot"]
