# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A VM as it was at a moment: memory, disk, NICs, and what the cloud had of its server. Going back takes a second or two.

A snapshot lies in the guest's own disk and dies with it. A *saved* guest outlives its process: one that has booted once
lies beside its image, and any later guest of the same identity starts from it instead of booting.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import qemu, wire
from tests.lab.agent import Agent, AgentError
from tests.lab.call import LabError
from tests.lab.cloud import Cloud
from tests.lab.ports import Port
from tests.lab.progress import step
from tests.lab.server import Server

_BOOTED = "booted"
_KEPT = 8  # saved guests for each image, some hundred megabytes each: one for each server that is the same in any cloud
# The clock stood still, and the neighbours are others where the cloud is a new one.
_WAKE = "date -s @{now:.3f} >/dev/null; ip neigh flush all; cat /proc/sys/kernel/random/boot_id"


class Snapshot(NamedTuple):
    nics: dict[Port, qemu.Nic]
    server: Any


class Snapshots:
    """What VM inherits."""

    cloud: Cloud
    server: Server
    patience: float
    _dir: Path
    _nics: dict[Port, qemu.Nic]
    _qmp: Any
    _boot_id: str
    _process: subprocess.Popen[bytes] | None

    def snapshot(self, name: str = "snapshot") -> None:
        """Remember this moment of a running guest."""
        with step(f"taking a snapshot of {self._dir.name}"):
            self._monitor(f"savevm {name}")
        self._snapshots()[name] = Snapshot(dict(self._nics), self.server.state())

    def restore(self, name: str = "snapshot", cloud: bool = True) -> None:
        """Go back to that moment, whatever became of the guest since. The time of day is now, the uptime is then.

        With cloud=False the server's ports stay as the cloud has them now, as for one that was suspended: the NICs alone
        are those of that moment.
        """
        kept = self._snapshots()[name]
        if self._process is not None:
            self.poweroff(hard=True)
        for port in set(self._nics) - set(kept.nics):
            wire.remove(self.cloud.namespace, self._nics.pop(port))
        for port in set(kept.nics) - set(self._nics):
            wire.add(self.cloud.namespace, kept.nics[port], port.network.bridge)
        self._nics.clear()
        self._nics.update(kept.nics)
        if cloud:
            self.server.restore(kept.server)
        with step(f"restoring {self._dir.name}"):
            self._resume(name)

    def _snapshots(self) -> dict[str, Snapshot]:
        return self.__dict__.setdefault("_kept", {})

    # Saved guests

    def _start_saved(self, folder: Path) -> bool:
        """Start from the saved guest of this identity; False where there is none."""
        saved = folder / f"booted-{self._identity()}"
        if not saved.is_dir():
            return False
        for name in ("disk.qcow2", "config-2.iso"):
            shutil.copyfile(saved / name, self._dir / name)
        with step(f"starting {self._dir.name} from a saved boot"):
            self._resume(_BOOTED)
        return True

    def _save(self, folder: Path) -> None:
        """Keep this guest, which has just booted, for later ones of its identity."""
        unfinished = self._dir / "saved"
        unfinished.mkdir()
        with step(f"saving {self._dir.name} for later"):
            self._monitor(f"savevm {_BOOTED}")
            self._qmp.call("stop")
            for name in ("disk.qcow2", "config-2.iso"):
                shutil.copyfile(self._dir / name, unfinished / name)
            self._qmp.call("cont")
        try:
            unfinished.rename(folder / f"booted-{self._identity()}")
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
        saved = sorted(folder.glob("booted-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in saved[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _identity(self) -> str:
        """What makes two guests of one image the same: all but the ids that a cloud makes up anew."""
        ports = [
            (nic.slot, port.mac, port.fixed_ips, port.network.name, port.mtu, port.network.subnets)
            for port, nic in self._nics.items()
        ]
        identity = repr((self.server.uuid, self.server.name, self.server.user_data, ports, self._hardware()))
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    # Inner workings

    def _resume(self, name: str) -> None:
        self._start(snapshot=name)
        deadline = time.monotonic() + 20 * self.patience
        while True:
            try:
                with Agent(self._dir / qemu.AGENT_SOCKET, timeout=2) as agent:
                    self._boot_id = agent.run(_WAKE.format(now=time.time())).stdout.strip()
                return
            except (AgentError, subprocess.TimeoutExpired) as error:
                if time.monotonic() > deadline or not self._alive():
                    raise self._trouble(f"it did not go on from the snapshot {name}: {error}") from error

    def _monitor(self, command: str) -> None:
        """A command of the human monitor: it says nothing where it succeeds."""
        said = self._qmp.call("human-monitor-command", command_line=command).strip()
        if said:
            raise LabError(f"{self._dir.name}: {command}: {said}")
