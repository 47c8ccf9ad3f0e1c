# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A guest that is a virtual machine: PCI NICs that udev names, a DMI uuid, the config drive as an ISO volume.

Same use as a Container. Its NICs are taps on the bridges of the cloud; commands go through the guest agent, so they need no network in the guest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import accel, image, iso, qemu, roots, run
from tests.lab.agent import Agent, AgentAway, AgentError
from tests.lab.progress import step
from tests.lab.qmp import Qmp, QmpError
from tests.lab.roots import LabError

if TYPE_CHECKING:
    from tests.lab.cloud import Cloud, Port, Server

BOOT_SECONDS = 60.0  # under KVM; more by Accel.patience
TAIL_LINES = 40
DEADLY = ("Kernel panic", "initrd: no disk", "You are in emergency mode", "Give root password for maintenance")
# Prints the boot id, and "done" once cloud-init has written its result (or decided not to run).
CLOUD_INIT_DONE = "cat /proc/sys/kernel/random/boot_id; ls /run/cloud-init/result.json /run/cloud-init/disabled 2>/dev/null | head -n1"


class VM:
    """One server of the cloud as a VM. `deb` is installed into its image before its first boot."""

    def __init__(
        self, cloud: Cloud, server: Server, suite: str = "trixie", backend: str = "networkd", deb: Path | None = None, model: str = "q35"
    ) -> None:
        self.cloud, self.server, self.model = cloud, server, model
        self._run = run.current()
        self.name = self._run.name("vm")
        self.dir = self._run.dir / self.name
        self.dir.mkdir()
        self._forget = self._run.at_exit(self.destroy)
        self._image = image.build(roots.tree(suite, backend, deb, vm=True))
        image.overlay(self._image, self.dir / "disk.qcow2")
        self._accel = accel.choose(self._image.kernel)
        self._nics: dict[str, qemu.Nic] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._boot_id = ""
        self._serial_start = 0
        self.append = ""
        self.rebuild_drive()
        for port in server.ports:
            self.plug(port)

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy()

    # -- its life ------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Starts the server and returns when cloud-init is done."""
        self._begin_console()
        machine = qemu.Machine(
            name=self.name,
            uuid=self.server.uuid,
            kernel=self._image.kernel.resolve(),
            initrd=self._image.initrd.resolve(),
            disk=(self.dir / "disk.qcow2").resolve(),
            drive=(self.dir / "config-2.iso").resolve(),
            nics=tuple(self._nics.values()),
            accel=self._accel,
            model=self.model,
            append=self.append,
        )
        words = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.cloud.netns, *qemu.command(machine)]
        with (self.dir / "qemu.log").open("wb") as log:
            self._process = self._run.spawn(words, cwd=self.dir, stdout=log, stderr=subprocess.STDOUT)
        with step(f"booting {self.name} ({self._accel.name}: {self._accel.why})"):
            try:
                self._qmp = Qmp(self.dir / qemu.QMP_SOCKET)
            except QmpError as error:
                raise self._trouble("QEMU did not start") from error
            self._await_cloud_init()

    def reboot(self) -> None:
        """Reboots from inside; QEMU stays, so the NICs do."""
        self._begin_console()
        with step(f"rebooting {self.name}"):
            self.run("systemctl --no-block reboot")
            self._await_cloud_init()

    def poweroff(self) -> None:
        """Shuts down from inside. NICs plugged or unplugged before the next boot() are there or gone without an event."""
        if self._process is None:
            return
        with step(f"powering {self.name} off"):
            with contextlib.suppress(AgentError):
                self.run("systemctl --no-block poweroff")
            try:
                self._process.wait(BOOT_SECONDS * self._accel.patience)
            except subprocess.TimeoutExpired as error:
                raise self._trouble("the guest does not power off") from error
            self._gone()

    def kill(self) -> None:
        """Power loss: QEMU ends at once, the disk keeps what the guest had written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._gone()

    def destroy(self) -> None:
        """Ends the VM and removes everything it had on the host."""
        self.kill()
        for nic in self._nics.values():
            self._remove_tap(nic)
        self._nics.clear()
        shutil.rmtree(self.dir, ignore_errors=True)
        self._forget()

    def rebuild_drive(self) -> None:
        """Writes the config drive anew from what the server has now, as Nova does only when it builds or moves a server."""
        iso.write(self.server.drive_files(), self.dir / "config-2.iso")

    # -- its NICs ------------------------------------------------------------------------------------------------------

    def plug(self, port: Port, name: str | None = None) -> str:
        """Gives the server a NIC; returns the name that the guest gave it ("" while it is off). `name` is for containers only."""
        used = {nic.slot for nic in self._nics.values()}
        slot = next((slot for slot in range(qemu.SLOTS) if slot not in used), None)
        if slot is None:
            raise LabError(f"{self.name} has {qemu.SLOTS} NICs already: no PCI slot is left")
        nic = qemu.Nic(slot, port.devname, port.mac)
        self._ip("tuntap", "add", nic.tap, "mode", "tap")
        self._nics[port.mac] = nic
        self._ip("link", "set", nic.tap, "master", port.network.bridge, "up")
        if self._qmp is None:
            return ""
        self._qmp.call("netdev_add", **qemu.backend_arguments(nic))
        self._qmp.call("device_add", **qemu.device_arguments(nic, self.model))
        return self._await_nic(port)

    def unplug(self, port: Port) -> None:
        """Takes the NIC away; returns when the guest has let go of it."""
        nic = self._nics[port.mac]
        if self._qmp is not None:
            self._qmp.forget_events()
            self._qmp.call("device_del", id=nic.device)
            limit = 20 * self._accel.patience
            if self._qmp.wait_for("DEVICE_DELETED", limit, lambda data: data.get("device") == nic.device) is None:
                raise self._trouble(f"the guest did not release the NIC {nic.mac} within {limit:.0f} s")
            self._qmp.call("netdev_del", id=nic.backend)
        self._remove_tap(self._nics.pop(port.mac))

    def nic(self, port: Port) -> str | None:
        """The name that the guest's kernel gives the port's NIC, None when it has none with that MAC."""
        for link in json.loads(self.run("ip -json link").stdout):
            if link.get("address") == port.mac and "link" not in link:
                return str(link["ifname"])
        return None

    # -- inside --------------------------------------------------------------------------------------------------------

    def run(self, command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a shell command as root in the guest. Raises LabError with its output when it fails and `check` is set."""
        try:
            with Agent(self.dir / qemu.AGENT_SOCKET, timeout=10 * self._accel.patience) as agent:
                done = agent.run(command, timeout * self._accel.patience)
        except AgentAway as error:
            raise self._trouble(f"`{command}` could not be run: {error}") from error
        if check and done.returncode:
            raise LabError(f"{self.name}: `{command}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Writes a file in the guest."""
        with Agent(self.dir / qemu.AGENT_SOCKET, timeout=10 * self._accel.patience) as agent:
            agent.put(data, path, mode)

    def console(self) -> str:
        """All that the serial console showed since the last boot() or reboot() began."""
        try:
            with (self.dir / qemu.SERIAL_LOG).open("rb") as log:
                log.seek(self._serial_start)
                return log.read().decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    # -- how -----------------------------------------------------------------------------------------------------------

    def _begin_console(self) -> None:
        log = self.dir / qemu.SERIAL_LOG
        self._serial_start = log.stat().st_size if log.exists() else 0

    def _await_cloud_init(self) -> None:
        """Returns when a boot other than the last one has finished cloud-init."""
        limit = BOOT_SECONDS * self._accel.patience
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise self._trouble("QEMU ended during the boot")
            for word in DEADLY:
                if word in self.console():
                    raise self._trouble(f"the guest is dead: {word}")
            with contextlib.suppress(AgentError, subprocess.TimeoutExpired):
                with Agent(self.dir / qemu.AGENT_SOCKET, timeout=2) as agent:
                    boot_id, *done = agent.run(CLOUD_INIT_DONE).stdout.split()
                if done and boot_id != self._boot_id:
                    self._boot_id = boot_id
                    return
            time.sleep(0.5)
        raise self._trouble(f"cloud-init was not done within {limit:.0f} s")

    def _await_nic(self, port: Port) -> str:
        """The name of a NIC just plugged, once udev is through with it."""
        limit = 15 * self._accel.patience
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if self.nic(port) is not None:
                self.run("udevadm settle --timeout=30", check=False)
                name = self.nic(port)
                if name is not None:
                    return name
            time.sleep(0.1)
        raise self._trouble(f"no NIC with the MAC {port.mac} appeared within {limit:.0f} s")

    def _gone(self) -> None:
        if self._qmp is not None:
            self._qmp.close()
        self._qmp = self._process = None

    def _ip(self, *words: str) -> None:
        done = subprocess.run(["ip", "-n", self.cloud.netns, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise LabError(f"ip {' '.join(words)} in {self.cloud.netns}: {done.stdout.strip()}")

    def _remove_tap(self, nic: qemu.Nic) -> None:
        with contextlib.suppress(LabError):  # gone already, with the cloud's namespace
            self._ip("link", "del", nic.tap)

    def _trouble(self, what: str) -> LabError:
        """An error that shows the ends of the serial console and of QEMU's own words."""
        said = (self.dir / "qemu.log").read_text(errors="replace").strip()[-1000:] if (self.dir / "qemu.log").exists() else ""
        tail = "\n".join(self.console().splitlines()[-TAIL_LINES:])
        return LabError(f"{self.name}: {what}\n--- QEMU\n{said or '(silent)'}\n--- serial console, last {TAIL_LINES} lines\n{tail}")
