# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A guest in a container: a full systemd, udevd and cloud-init that boots in little more than a second.

What it cannot show stands in docs/lab.md: there is no PCI, no DMI, no firmware, and the kernel is the host's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from tests.lab import cgroups, deb, documents, netns, nspawn, roots, run
from tests.lab.call import LabError
from tests.lab.cloud import Cloud, Plugged
from tests.lab.limit import limit_mtu
from tests.lab.ports import Port
from tests.lab.recipe import NIC_GROUP
from tests.lab.server import Server
from tests.lab.waiting import wait_for

_SEED = "var/lib/cloud/seed/config_drive"
_NO_CLOUD = {
    "var/lib/cloud/seed/nocloud/meta-data": "instance-id: nocloud-1\nlocal-hostname: nocloud\n",
    "var/lib/cloud/seed/nocloud/user-data": "#cloud-config\n{}\n",
}


class Container:
    """A guest of a server of the cloud.

    package: install the package under test (True), a given .deb (a path), or nothing (False).
    trusted_cache: cloud-init keeps its cached datasource over reboots (`manual_cache_clean`), as it does on real servers
        by their DMI uuid; without it, it reads the config drive anew at each boot, which the field knows as well.
    files: more files for the guest's disk, path to content.
    datasource: "ConfigDrive", "OpenStack" (no drive, the guest's product name says where it runs), or "NoCloud": a seed on
        the guest's disk, in which `files` may put a network-config.
    without, also: packages of the usual root that this one has not, or has as well: a root of its own, bootstrapped when
        it is first asked for.
    mtu_limit: its NICs take no MTU above some 3500 (limit.py).
    The ports that the server has now are the guest's NICs at its first boot, and what its config drive lists.
    """

    def __init__(
        self,
        cloud: Cloud,
        server: Server,
        suite: str = "trixie",
        backend: str = "networkd",
        package: Union[bool, Path] = True,
        trusted_cache: bool = False,
        files: Optional[Mapping[str, str]] = None,
        datasource: str = "ConfigDrive",
        without: Sequence[str] = (),
        mtu_limit: bool = False,
        also: Sequence[str] = (),
    ) -> None:
        chosen = deb.under_test() if package is True else package or None
        tree = roots.tree(suite, backend, chosen, without=tuple(without), also=tuple(also))
        self.cloud, self.server, self.suite, self.backend = cloud, server, suite, backend
        self.boot_seconds = 0.0
        self.datasource = datasource
        self._mtu_limit = mtu_limit
        self.patience = 1.0  # how many times as long as on real hardware things may take here
        self._run = run.current()
        self.name = self._run.name("guest")
        self._dir = self._run.dir / self.name
        self.root = roots.mount_overlay(tree.lowerdir, self._dir)
        self._forget = self._run.at_exit(self.destroy)
        self._machine: Optional[nspawn.Nspawn] = None
        self._nics: Dict[Port, Tuple[str, str]] = {}  # port to (name of the veth's outer end, name at its birth)
        extra = dict(_NO_CLOUD if datasource == "NoCloud" else {}, **(files or {}))
        if trusted_cache:
            extra["etc/cloud/cloud.cfg.d/91_osnetd-lab-cache.cfg"] = "manual_cache_clean: true\n"
        documents.write({name: content.encode() for name, content in extra.items()}, self.root)
        if datasource == "ConfigDrive":
            self.rebuild_drive()
        for port in server.ports:
            self.plug(port)

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.destroy()

    # Power

    def boot(self, timeout: float = 90, wait: bool = True) -> None:
        """Switch on; return when cloud-init has run all of its stages, or at once with wait=False."""
        if self.is_on:
            raise LabError(f"{self.name} is running already")
        self._new_namespace()
        began = time.monotonic()
        # Where there is no DMI, ds-identify and cloud-init read the product's name from pid 1's environment.
        product = {"product_name": "OpenStack Nova"} if self.datasource == "OpenStack" else {}
        self._machine = nspawn.Nspawn(self.name, self.root, self.name, self._dir, product)
        if wait:
            self.wait_for_cloud_init(timeout)
            self.boot_seconds = time.monotonic() - began

    def wait_for_cloud_init(self, timeout: float = 90) -> None:
        """Wait for the last stage's result, whatever it is: see cloud_init_errors()."""
        machine = self._running()

        def over() -> bool:
            return not machine.alive or self._runtime_file("cloud-init/result.json") is not None

        if not wait_for(over, timeout):
            raise LabError(f"{self.name}: cloud-init did not finish in {timeout:.0f} s\n{self._evidence()}")
        if not machine.alive:
            raise LabError(f"{self.name} ended while it booted\n{self._evidence()}")

    def poweroff(self, hard: bool = False, timeout: float = 30) -> None:
        """Shut down in order, or cut the power."""
        machine = self._running()
        if not hard:
            self.run("systemctl poweroff --no-block", check=False)
        if hard or not machine.wait(timeout):
            machine.kill()
        self._machine = None

    def reboot(self, timeout: float = 90, wait: bool = True) -> None:
        """Reboot: the disk stays, the NICs are as new."""
        machine = self._running()
        self.run("systemctl reboot --no-block", check=False)
        if not machine.wait(30):
            raise LabError(f"{self.name} did not go down for its reboot\n{self._evidence()}")
        self._machine = None
        self.boot(timeout, wait)

    def destroy(self) -> None:
        """Remove the guest and everything of it."""
        if self._machine:
            self._machine.kill()
            self._machine = None
        for outside, _inside in self._nics.values():
            self._disconnect(outside)
        self._nics.clear()
        netns.delete(self.name)
        subprocess.run(["umount", "--lazy", str(self.root)], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self._dir, ignore_errors=True)
        self._forget()

    # Devices

    def plug(self, port: Port, name: Optional[str] = None) -> str:
        """Plug the NIC of a port, under a name of the kernel's; while the guest is off, it will be there at boot."""
        return self.plug_all([port], [name] if name else [])[0]

    def plug_all(self, ports: Sequence[Port], names: Sequence[str] = ()) -> List[str]:
        """Plug the NICs of ports, within a few milliseconds; their names."""
        new: Dict[Port, Tuple[str, str]] = {}
        for number, port in enumerate(ports):
            if self._machine and port in self._nics:
                raise LabError(f"{port} is plugged already, as {self._nics[port][1]}")
            outside = self._nics[port][0] if port in self._nics else self._run.name("v")
            name = names[number] if number < len(names) else self._free_name({name for _, name in new.values()})
            new[port] = (outside, name)
        if self._machine:
            self._connect(new)
        self._nics.update(new)
        return [name for _outside, name in new.values()]

    def unplug(self, port: Port) -> None:
        """Pull the NIC of a port."""
        outside, _name = self._nics.pop(port)
        if self._machine:
            self.cloud.disconnect(outside)

    @property
    def is_on(self) -> bool:
        return self._machine is not None and self._machine.alive

    @property
    def plugged(self) -> List[Port]:
        """The ports whose NICs are plugged, in the order in which they were."""
        return list(self._nics)

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        place = self.root / path.lstrip("/")
        place.write_bytes(data)
        place.chmod(mode)

    def nic(self, port: Port) -> Optional[str]:
        """What the guest's kernel now calls the NIC with the port's MAC."""
        for link in json.loads(netns.output(self.name, ["ip", "-json", "link"]) or "[]"):
            if port.mac.lower() in (link.get("permaddr"), link.get("address")):
                return str(link["ifname"])
        return None

    def rebuild_drive(self) -> None:
        """Make the config drive anew from what Nova knows now."""
        shutil.rmtree(self.root / _SEED, ignore_errors=True)
        documents.write(self.server.drive_files(), self.root / _SEED)

    def take_drive(self) -> None:
        """Take the config drive away."""
        shutil.rmtree(self.root / _SEED)

    # Looking inside

    def run(self, command: str, check: bool = True, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a shell command in the guest."""
        argv = self.entering(["/bin/bash", "-c", command])
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise LabError(f"{self.name}: {command!r} took more than {timeout} s\n{out}{err}") from None
        if check and process.returncode != 0:
            raise LabError(f"{self.name}: {command!r} ended with {process.returncode}\n{out}{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def carrier(self, port: Port, on: bool) -> None:
        """Pull the cable of a port's NIC, or put it in again."""
        outside, _name = self._nics[port]
        netns.ip(self.cloud.namespace, f"link set {outside} {'up' if on else 'down'}")

    def shell_argv(self) -> List[str]:
        """The command that opens an interactive shell in the guest."""
        return self.entering(["/bin/bash", "-l"])

    def entering(self, argv: List[str]) -> List[str]:
        """The command that runs `argv` in the guest, for who has to start it by himself."""
        return nspawn.enter(self._leader(), argv)

    @property
    def running_root(self) -> Path:
        """The running guest's files as it sees them itself, /run included."""
        return Path(f"/proc/{self._leader()}/root")

    def console(self) -> str:
        """Everything the guest printed on its console, at all of its boots."""
        return (self._dir / "console").read_text(errors="replace") if (self._dir / "console").exists() else ""

    def cloud_init_errors(self) -> List[str]:
        """The errors that cloud-init noted at this boot."""
        result = self._runtime_file("cloud-init/result.json")
        return list(json.loads(result)["v1"]["errors"]) if result else ["cloud-init has not finished"]

    # Inner workings

    def _running(self) -> nspawn.Nspawn:
        if self._machine is None or not self._machine.alive:
            raise LabError(f"{self.name} is not running\n{self._evidence()}")
        return self._machine

    def _leader(self) -> int:
        machine = self._running()
        if not wait_for(lambda: machine.leader is not None, 10):
            raise LabError(f"{self.name} has no init\n{self._evidence()}")
        assert machine.leader is not None
        return machine.leader

    def _runtime_file(self, name: str) -> Optional[str]:
        """A file below the running guest's /run: a file system of its own, so not below `root`."""
        leader = self._machine.leader if self._machine else None
        try:
            return Path(f"/proc/{leader}/root/run/{name}").read_text() if leader else None
        except OSError:
            return None

    def _new_namespace(self) -> None:
        """A network namespace for one boot: NICs, addresses, interface numbers and sysctls begin as on real hardware."""
        cgroups.remove_all(self.name)
        for outside, _name in self._nics.values():
            self._disconnect(outside)
        netns.delete(self.name)
        netns.add(self.name)
        self._connect(self._nics)

    def _connect(self, nics: Mapping[Port, Tuple[str, str]]) -> None:
        plugged = [Plugged(port.network.bridge, outside, name, port.mac) for port, (outside, name) in nics.items()]
        self.cloud.connect(plugged, self.name, NIC_GROUP)
        for nic in plugged if self._mtu_limit else []:
            limit_mtu(self.cloud.namespace, nic.outside)

    def _disconnect(self, outside: str) -> None:
        try:
            self.cloud.disconnect(outside)
        except LabError:
            pass  # not there: the guest was never on, or is gone already

    def _free_name(self, others: Set[str]) -> str:
        taken = others | {name for _outside, name in self._nics.values()}
        return next(name for name in (f"ens{slot}" for slot in range(3, 1000)) if name not in taken)

    def _evidence(self) -> str:
        tail = "\n".join(self.console().splitlines()[-40:])
        log = self.root / "var/log/cloud-init.log"
        lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
        return f"--- the console's last lines:\n{tail}\n--- cloud-init's last lines:\n" + "\n".join(lines)
