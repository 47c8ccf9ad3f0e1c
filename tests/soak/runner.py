# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Operation by operation: do it to the world and to the guest, wait until the guest is as it must be, and judge."""

from __future__ import annotations

import contextlib
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from tests.lab import VM, Cloud, LabError
from tests.scenarios.stream import Stream
from tests.soak import oracle, picture
from tests.soak.deeds import Stage
from tests.soak.operations import Operation, Step, apply, first_world
from tests.soak.oracle import Case, Finding
from tests.soak.picture import Picture
from tests.soak.world import Wanted, World

SECONDS = 45.0  # for a step to come right, on real hardware
LEASE_SECONDS = 75.0  # longer for each NIC by which a lease is asked for, one after the other, where nobody answers
DOUBT_SECONDS = 45.0  # longer where the guest has seen a content come back, and looks again
MOST_SECONDS = 400.0  # of an emulated guest
_UNRECORDED = ("kill", "reboot", "boot", "reinstall", "force")
_OUTSIDE = ("fault", "router", "stop")  # nothing happens in the guest


class Kind(NamedTuple):
    """suite-backend[-vm], as for the scenarios (OSNETD_KINDS)."""

    suite: str
    backend: str
    machine: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, self))


class Failure(NamedTuple):
    step: int  # from 1; 0: the first boot
    operation: Optional[Operation]
    findings: List[Finding]
    evidence: str


class Result(NamedTuple):
    done: int  # operations that were done, and judged
    skipped: int
    seconds: float
    failure: Optional[Failure]


Say = Callable[[str], None]
Plant = Callable[[Stage, int], None]


def soak(
    kind: Kind,
    operations: Sequence[Operation],
    say: Say,
    trusted: bool = False,
    plant: Optional[Plant] = None,
    seconds: float = SECONDS,
) -> Result:
    """Do the operations, in a cloud of their own, to the first failure. `plant` is called before each judgement.

    trusted: cloud-init keeps its cached datasource over reboots, see Container. seconds: for a step to come right.
    """
    began = time.monotonic()
    with Cloud() as cloud:
        world = first_world()
        stage = Stage(cloud, kind.suite, kind.backend, kind.machine, world, trusted)
        with stage.guest:
            run = _Run(stage, world, say, plant, seconds)
            failure = run.through(operations)
            return Result(run.done, run.skipped, time.monotonic() - began, failure)


class _Run:
    def __init__(self, stage: Stage, world: World, say: Say, plant: Optional[Plant], seconds: float) -> None:
        self.stage, self.world, self.say, self.plant, self.seconds = stage, world, say, plant, seconds
        self.guest = stage.guest
        self.done = self.skipped = 0
        self.last: Optional[Picture] = None

    def through(self, operations: Sequence[Operation]) -> Optional[Failure]:
        boot = Operation("reboot", {})
        try:
            self.guest.boot()
            self.guest.put(picture.SCRIPT.read_bytes(), picture.IN_GUEST)
        except LabError as error:
            return Failure(0, None, [Finding("", f"no first boot: {error}")], "")
        failure = self._judged(0, boot, Step(frozenset(["boot", "added"]), frozenset(self.world.plugged), boots=True), {})
        for number, operation in enumerate(operations, 1):
            if failure:
                break
            failure = self._one(number, operation)
        return failure

    def _one(self, number: int, operation: Operation) -> Optional[Failure]:
        was_on, before = self.world.on, self._wanted()
        restless = self.world.restless
        step = apply(self.world, operation)
        if step is None:
            self.skipped += 1
            self.say(f"{number:5} skipped {operation}")
            return None
        if restless:  # what is served now may be served by a run that has been at it for long
            step = step._replace(reasons=step.reasons | {"added", "boot", "removed", "timer", "push"})
        began = time.monotonic()
        try:
            streams = was_on and self.world.on and not step.boots and operation.kind not in _OUTSIDE
            with self._streaming(streams) as lost:
                self.stage.do(operation)
                failure = self._judged(number, operation, step, before) if self.world.on else None
        except LabError as error:
            return self._failed(number, operation, [Finding("", f"the guest: {error}")])
        if failure is None and lost:
            failure = self._failed(number, operation, [Finding("p1", f"it has nothing to do with this, and lost {lost[0]}")])
        self.done += 1
        self.say(f"{number:5} {time.monotonic() - began:6.1f} s {operation}")
        return failure

    @contextlib.contextmanager
    def _streaming(self, on: bool) -> Iterator[List[str]]:
        """A stream over the steady NIC; what was lost of it is in the list at the end."""
        lost: List[str] = []
        if not on:
            yield lost
            return
        stream = Stream(self.guest, self.stage.steady)
        try:
            yield lost
            lost += filter(None, [stream.lost()])
        except BaseException:
            stream.close()
            raise

    def _judged(self, number: int, operation: Operation, step: Step, before: Dict[str, Wanted]) -> Optional[Failure]:
        if self.plant:
            self.plant(self.stage, number)
        began = time.monotonic()
        patience = self.guest.patience
        limit = min(self.seconds * patience, MOST_SECONDS)
        doubt = 0.0
        while True:
            now = self._look()
            case = self._case(operation, step, before, now)
            findings = oracle.judge(case)
            if not findings:
                break
            if oracle.doubted(now):
                doubt = min(DOUBT_SECONDS * patience, MOST_SECONDS)
                step = step._replace(reasons=step.reasons | {"timer"})
            if time.monotonic() - began > limit + doubt + LEASE_SECONDS * patience * len(self.world.nameless) * self.world.restless:
                return self._failed(number, operation, findings)
            time.sleep(0.2)
        self.last = now
        findings = [] if operation.kind in _OUTSIDE else self._again()
        return self._failed(number, operation, findings) if findings else None

    def _case(self, operation: Operation, step: Step, before: Dict[str, Wanted], now: Picture) -> Case:
        return Case(
            backend=self.guest.backend,
            suite=self.guest.suite,
            before=self.last or now,
            after=now,
            wanted_before=before,
            wanted=self._wanted(),
            step=step,
            pending=self.world.pending,
            listening=not self.world.stopped,
            served=operation.kind not in _UNRECORDED,
            dirty=self.world.dirty,
            restless=self.world.restless,
        )

    def _wanted(self) -> Dict[str, Wanted]:
        """A virtual machine names its NICs itself."""
        wanted = self.world.wanted()
        return {mac: one._replace(name="") for mac, one in wanted.items()} if isinstance(self.guest, VM) else wanted

    def _look(self) -> Picture:
        return picture.read(self.guest.run(f"python3 {picture.IN_GUEST}").stdout)

    def _again(self) -> List[Finding]:
        """A second run, where one would have nothing to do."""
        world = self.world
        # Where nobody answers, whoever looks for a NIC's name goes through every way that there might be.
        if world.stopped or world.unheard or world.fault == "drop" or world.restless:
            return []
        assert self.last is not None
        done = self.stage.reconcile()
        then, self.last = self.last, self._look()
        return oracle.nothing_to_do(done, then, self.last, commands=world.fault == "" and not world.pending)

    def _failed(self, number: int, operation: Optional[Operation], findings: List[Finding]) -> Failure:
        return Failure(number, operation, findings, self._evidence())

    def _evidence(self) -> str:
        looks = (
            "cloudinit-osnetd status; cloudinit-osnetd plan",
            "ip address; ip route; ip -6 route",
            "systemctl --failed --no-legend; systemctl list-timers --all --no-pager 'cloudinit*'; ls -la /run/cloudinit-osnetd/*",
            "tail -n +1 /etc/systemd/network/* /etc/network/interfaces.d/* /etc/netplan/* /run/network/ifstate 2>/dev/null",
            "ps axww | grep -e dhc -e osnetd",
            "cat /var/lib/cloudinit-osnetd/store.json /run/cloudinit-osnetd/status.json",
            "tail -n 6 /var/lib/cloudinit-osnetd/history.jsonl",
            "journalctl --no-pager -b -o short-precise | grep -v -e kernel: | tail -n 400",
        )
        story = [f"wanted:\n{chr(10).join(f'{mac} {wanted}' for mac, wanted in self.world.wanted().items())}"]
        for look in looks:
            try:
                story.append(f"# {look}\n{self.guest.run(look, check=False, timeout=30).stdout}")
            except LabError as error:
                story.append(f"# {look}\n{error}")
        return "\n".join(story)
