# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A guest that is a virtual machine: PCI NICs that udev names, a DMI uuid, the config drive as an ISO volume.

Same use as a Container. Its NICs are wired to the bridges of the cloud (wire.py); commands go through the guest agent, so they
need no network in the guest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterable, Mapping

from tests.lab import accel, deb, image, iso, netns, qemu, roots, run, selinux, wire
from tests.lab.agent import Agent, AgentAway, AgentError
from tests.lab.call import LabError
from tests.lab.cloud import Cloud
from tests.lab.ports import Port
from tests.lab.progress import step
from tests.lab.qmp import Qmp, QmpError
from tests.lab.server import Server
from tests.lab.snapshots import Snapshots

TAIL_LINES = 40
# What the console shows of a guest that will never finish its boot.
DEADLY = ("Kernel panic", "initrd: no disk", "You are in emergency mode")
# Prints the boot's id, and a file's name once cloud-init has written its result or decided not to run.
CLOUD_INIT_STATE = "cat /proc/sys/kernel/random/boot_id; ls /run/cloud-init/result.json /run/cloud-init/disabled 2>/dev/null | head -n1"


class VM(Snapshots):
    """A guest of a server of the cloud.

    package: install the package under test (True), a given .deb (a path), or nothing (False).
    files: more files for the guest's disk, path to content.
    model: QEMU's machine, "q35" (NICs in PCIe root ports) or "pc" (NICs in slots of the one PCI bus).
    append: more words for the kernel's command line.
    noted: each write to its disk is noted, in `writes`, and the disk has a journal: see tests/scenarios/power.py.
    slots: how many NICs fit, on q35.
    without, also: packages of the usual root that this one has not, and more that it has.
    disk_of: another guest, switched off, of whose disk this one has a copy: what a server from a snapshot's image has.
    mtu_limit: a NIC takes no MTU above that of its port when it is plugged, as Nova has it (host_mtu).
    enforcing: SELinux is, with the policy of its suite and our module for it: see selinux.py.
    The ports that the server has now are the guest's NICs at its first boot, and what its config drive lists. All time
    limits are those of KVM; an emulated guest gets `patience` times as long.
    """

    def __init__(
        self,
        cloud: Cloud,
        server: Server,
        suite: str = "trixie",
        backend: str = "networkd",
        package: bool | Path = True,
        files: Mapping[str, str] | None = None,
        model: str = "q35",
        append: str = "",
        noted: bool = False,
        slots: int = qemu.SLOTS,
        disk_of: VM | None = None,
        without: Iterable[str] = (),
        also: Iterable[str] = (),
        mtu_limit: bool = False,
        enforcing: bool = False,
    ) -> None:
        chosen = deb.under_test() if package is True else package or None
        tree = roots.tree(suite, backend, chosen, True, tuple(without), (*also, *(selinux.PACKAGES if enforcing else ())))
        tree = selinux.with_module(tree) if enforcing else tree
        append = " ".join(filter(None, [append, selinux.COMMAND_LINE if enforcing else ""]))
        self._image = image.build(tree, files or {}, journal=noted)
        self.accel = accel.choose(self._image.kernel)
        self.cloud, self.server, self.suite, self.backend = cloud, server, suite, backend
        self.model, self.append, self.slots = model, append, slots
        self.boot_seconds = 0.0
        self._mtu_limit = mtu_limit
        self.patience = self.accel.patience
        self._run = run.current()
        self.name = self._run.name("vm")
        self._dir = self._run.dir / self.name
        self._dir.mkdir()
        self._forget = self._run.at_exit(self.destroy)
        self.writes = self._dir.resolve() / "writes.log" if noted else None
        if self.writes:
            self.writes.touch()
        if disk_of is None:
            image.overlay(self._image.disk, self.disk)
        else:
            shutil.copyfile(disk_of.disk, self.disk)
        self._has_a_past = disk_of is not None
        self._nics: dict[Port, qemu.Nic] = {}
        self._carriers: dict[qemu.Nic, subprocess.Popen[bytes]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._boot_id = ""
        self._console_start = 0
        self.rebuild_drive()
        for port in server.ports:
            self.plug(port)

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.destroy()

    # Power

    def boot(self, timeout: float = 90, wait: bool = True, saved: bool = False) -> None:
        """Switch on; return when cloud-init has run all of its stages, or as soon as QEMU runs with wait=False.

        saved: take instead a guest of this identity as it was after an earlier first boot, or keep this one for later.
        """
        if self._alive():
            raise LabError(f"{self.name} is running already")
        if saved and self._has_a_past:
            raise LabError(f"{self.name} has another guest's disk: its boot cannot be found again")
        folder = self._image.disk.parent
        if saved and self._start_saved(folder):
            return
        began = time.monotonic()
        self._start()
        if wait:
            with step(f"booting {self.name} with {self.accel.name} ({self.accel.why})", self._last_words):
                self.wait_for_cloud_init(timeout)
            self.boot_seconds = time.monotonic() - began
        if saved:
            self._save(folder)

    def wait_for_cloud_init(self, timeout: float = 90) -> None:
        """Wait for the last stage's result of a boot that no earlier call has seen: see cloud_init_errors()."""
        limit = timeout * self.patience
        deadline = time.monotonic() + limit
        answer = 2.0  # nobody answers during most of the boot; a guest that has no CPU for itself answers late, each time
        while time.monotonic() < deadline:
            if not self._alive():
                raise self._trouble("QEMU ended during the boot")
            deadly = next((words for words in DEADLY if words in self.console()), None)
            if deadly:
                raise self._trouble(f"the guest is dead: {deadly}")
            try:
                with Agent(self.agent_socket, answer) as agent:
                    boot_id, *over = agent.run(CLOUD_INIT_STATE).stdout.split()
                if over and boot_id != self._boot_id:
                    self._boot_id = boot_id
                    return
            except (AgentError, subprocess.TimeoutExpired):
                answer = min(answer * 1.3, max(answer, self.patience))
            time.sleep(0.5)
        raise self._trouble(f"cloud-init did not finish in {limit:.0f} s")

    def poweroff(self, hard: bool = False, timeout: float = 30) -> None:
        """Shut down in order, or cut the power: then the disk keeps what the guest had written."""
        if self._process is None:
            raise LabError(f"{self.name} is not running")
        if not hard:
            with contextlib.suppress(AgentError), self._agent() as agent:
                agent.start("systemctl poweroff")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout * self.patience)
        self._process.kill()
        self._process.wait()
        for nic in list(self._carriers):
            self._drop(nic)
        if self._qmp:
            self._qmp.close()
        self._qmp = self._process = None

    def reboot(self, timeout: float = 90, wait: bool = True) -> None:
        """Reboot from inside: the disk and the NICs stay, each in its slot. With wait=False until the next boot can be looked into."""
        self._begin_console()
        began = time.monotonic()
        with self._agent() as agent:
            agent.start("systemctl reboot")  # the answer to more than its start would not come: the agent goes down too
        if wait:
            with step(f"rebooting {self.name}", self._last_words):
                self.wait_for_cloud_init(timeout)
            self.boot_seconds = time.monotonic() - began
        else:
            self._wait_for_another_boot(timeout)

    def destroy(self) -> None:
        """Remove the guest and everything of it."""
        if self._process:
            self.poweroff(hard=True)
        for nic in self._nics.values():
            wire.remove(self.cloud.namespace, nic)
        self._nics.clear()
        shutil.rmtree(self._dir, ignore_errors=True)
        self._forget()

    # Devices

    def plug(self, port: Port, name: str | None = None) -> str:
        """Plug the NIC of a port; the name that the guest gave it, "" while it is off. `name` means nothing to a VM."""
        self._insert(port)
        return self._wait_for_nic(port) if self._qmp else ""

    def plug_all(self, ports: Iterable[Port], names: Iterable[str] = ()) -> list[str]:
        """Plug the NICs of several ports within milliseconds; their names. `names` mean nothing to a VM."""
        ports = list(ports)
        for port in ports:
            self._insert(port)
        return [self._wait_for_nic(port) for port in ports] if self._qmp else []

    def _insert(self, port: Port) -> None:
        if port in self._nics:
            raise LabError(f"{port} is plugged already")
        used = {nic.slot for nic in self._nics.values()}
        slot = next((slot for slot in range(self.slots) if slot not in used), None)
        if slot is None:
            raise LabError(f"{self.name} has {self.slots} NICs already, no PCI slot is left")
        limit = port.mtu or 0 if self._mtu_limit else 0
        nic = qemu.Nic(slot, port.devname, port.mac, wire.kind(), limit)
        wire.add(self.cloud.namespace, nic, port.network.bridge)
        self._nics[port] = nic
        if self._qmp is not None:
            self._qmp.call("netdev_add", **qemu.backend_arguments(nic))
            self._carry(nic)
            self._qmp.call("device_add", **qemu.device_arguments(nic, self.model))

    def unplug(self, port: Port, timeout: float = 10) -> None:
        """Pull the NIC of a port; return when the guest has let go of it."""
        nic = self._nics[port]
        if self._qmp is not None:
            limit = timeout * self.patience
            self._qmp.forget_events()
            self._qmp.call("device_del", id=nic.device)
            if self._qmp.wait_for("DEVICE_DELETED", limit, lambda data: data.get("device") == nic.device) is None:
                raise self._trouble(f"the guest did not release the NIC {nic.mac} in {limit:.0f} s")
            self._drop(nic)
            self._qmp.call("netdev_del", id=nic.backend)
        del self._nics[port]
        wire.remove(self.cloud.namespace, nic)

    def carrier(self, port: Port, on: bool) -> None:
        """Pull the cable of a port's NIC, or put it in again."""
        self._qmp.call("set_link", name=self._nics[port].device, up=on)

    @property
    def disk(self) -> Path:
        """What the guest has written, a qcow2 file."""
        return self._dir / "disk.qcow2"

    @property
    def agent_socket(self) -> Path:
        """The host's end of the guest agent's channel, on which QEMU listens."""
        return self._dir / qemu.AGENT_SOCKET

    @property
    def plugged(self) -> list[Port]:
        """The ports whose NICs are plugged, in the order in which they were."""
        return list(self._nics)

    def nic(self, port: Port) -> str | None:
        """What the guest's kernel now calls the NIC with the port's MAC."""
        for link in json.loads(self.run("ip -json link").stdout):
            if port.mac.lower() in (link.get("permaddr"), link.get("address")) and "link" not in link:
                return str(link["ifname"])
        return None

    def rebuild_drive(self) -> None:
        """Make the config drive anew from what Nova knows now; a running guest sees it at its next boot()."""
        iso.write(self.server.drive_files(), self._drive)

    def take_drive(self) -> None:
        """Take the config drive away; a running guest misses it at its next boot()."""
        self._drive.unlink()

    @property
    def _drive(self) -> Path:
        return self._dir / "config-2.iso"

    # Looking inside

    def run(self, command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the guest."""
        try:
            with self._agent() as agent:
                done = agent.run(command, timeout * self.patience)
        except AgentAway as error:
            raise self._trouble(f"{command!r} could not be run: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise self._trouble(f"{command!r} took more than {error.timeout:.0f} s") from error
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {command!r} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        with self._agent() as agent:
            agent.put(data, path, mode)

    def console(self) -> str:
        """What the guest printed on its serial console since boot() or reboot() was last called."""
        log = self._dir / qemu.SERIAL_LOG
        return (
            log.read_bytes()[self._console_start :].decode(errors="replace").replace("\r", "") if log.exists() else ""
        )

    def _last_words(self) -> str:
        return (self.console().splitlines() or [""])[-1][:120]

    def cloud_init_errors(self) -> list[str]:
        """The errors that cloud-init noted at this boot."""
        result = self.run("cat /run/cloud-init/result.json", check=False).stdout
        return list(json.loads(result)["v1"]["errors"]) if result else ["cloud-init has not finished"]

    @property
    def is_on(self) -> bool:
        return self._alive()

    # Inner workings

    @property
    def first_disk(self) -> Path:
        """What the guest's disk was before its first boot, raw."""
        return self._image.disk

    def change_disk(self, disk: Path) -> None:
        """The next boot is from this raw image, which itself stays as it is; its writes are not noted."""
        (self._dir / "disk.qcow2").unlink()
        image.overlay(disk, self._dir / "disk.qcow2")
        self.writes = None

    def _agent(self, timeout: float = 5) -> Agent:
        return Agent(self._dir / qemu.AGENT_SOCKET, timeout * self.patience)

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self, snapshot: str = "") -> None:
        self._begin_console()
        machine = qemu.command(self._machine(), snapshot)
        words = ["setpriv", "--pdeathsig", "KILL", *netns.enter(self.cloud.namespace), *machine]
        with (self._dir / "qemu.log").open("wb") as log:
            self._process = self._run.spawn(words, cwd=self._dir, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._qmp = Qmp(self._dir / qemu.QMP_SOCKET, alive=self._alive, timeout=30 * self.patience)
        except QmpError as error:
            raise self._trouble("QEMU did not start") from error
        for nic in self._nics.values():
            self._carry(nic)

    def _hardware(self) -> tuple[str, ...]:
        """What a snapshot can be loaded into, beside the NICs."""
        words = (self.model, str(self.slots), self.append, qemu.version(), *self.accel.options, self.accel.kernel)
        # What a NIC offers hangs on these.
        return (*words, wire.kind(), *(["mtu_limit"] if self._mtu_limit else []))

    def _machine(self) -> qemu.Machine:
        return qemu.Machine(
            name=self.name,
            uuid=self.server.uuid,
            kernel=self._image.kernel.resolve(),
            initrd=self._image.initrd.resolve(),
            disk=self.disk.resolve(),
            drive=self._drive.resolve() if self._drive.exists() else None,
            nics=tuple(self._nics.values()),
            accel=self.accel,
            model=self.model,
            append=self.append,
            writes=self.writes,
            slots=self.slots,
        )

    def _wait_for_another_boot(self, timeout: float) -> None:
        """Until then commands would be run by the boot that is going down, or be lost with it."""
        deadline = time.monotonic() + timeout * self.patience
        while time.monotonic() < deadline:
            with contextlib.suppress(AgentError, subprocess.TimeoutExpired):
                with self._agent(2 / self.patience) as agent:
                    if agent.run("cat /proc/sys/kernel/random/boot_id").stdout.strip() != self._boot_id:
                        return
            time.sleep(0.5)
        raise self._trouble("the guest did not come up again")

    def _begin_console(self) -> None:
        log = self._dir / qemu.SERIAL_LOG
        self._console_start = log.stat().st_size if log.exists() else 0

    def _wait_for_nic(self, port: Port, timeout: float = 10) -> str:
        """The name of a NIC just plugged, once udev is through with it."""
        limit = timeout * self.patience
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.nic(port):
                self.run("udevadm settle --timeout=30", check=False)
                name = self.nic(port)
                if name:
                    return name
            time.sleep(0.1)
        raise self._trouble(f"no NIC with the MAC {port.mac} appeared in {limit:.0f} s")

    def _carry(self, nic: qemu.Nic) -> None:
        """See to it that frames get from QEMU to the host's side of a NIC and back."""
        carrier = wire.carry(self._run, self.cloud.namespace, nic, self._dir)
        if carrier:
            self._carriers[nic] = carrier

    def _drop(self, nic: qemu.Nic) -> None:
        carrier = self._carriers.pop(nic, None)
        if carrier:
            carrier.kill()
            carrier.wait()

    def _trouble(self, what: str) -> LabError:
        """An error that shows the ends of the serial console and of QEMU's own words."""
        log = self._dir / "qemu.log"
        said = log.read_text(errors="replace").strip()[-1000:] if log.exists() else ""
        tail = "\n".join(self.console().splitlines()[-TAIL_LINES:])
        return LabError(f"{self.name}: {what}\n--- QEMU:\n{said or '(silent)'}\n--- the console's last lines:\n{tail}")
