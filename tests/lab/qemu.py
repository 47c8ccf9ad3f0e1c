# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""QEMU's command line for one server of the cloud, as Nova's libvirt driver would shape it: values in, words out."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import initrd
from tests.lab.accel import Accel

SLOTS = 8  # NICs that fit, where no other number is asked for: one PCIe root port each on q35
MOST_SLOTS = 28  # what Nova may be told at most (libvirt.num_pcie_ports)
_FUNCTIONS = 8  # root ports that share a PCI device, as libvirt lays them out
FIRST_PC_SLOT = 3  # Nova's first NIC on the old "pc" machine is ens3
COMMAND_LINE = "root=/dev/vda rw console=ttyS0 net.ifnames=1 quiet"
QMP_SOCKET, AGENT_SOCKET, SERIAL_LOG = "qmp.sock", "agent.sock", "serial.log"


@functools.lru_cache(maxsize=None)
def version() -> str:
    return subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout


def has_dgram() -> bool:
    """Whether this QEMU has datagram sockets for a NIC: since 7.2."""
    found = re.search(r"version (\d+)\.(\d+)", version())
    return found is None or (int(found[1]), int(found[2])) >= (7, 2)


class Nic(NamedTuple):
    """A virtio NIC: its PCI place (kept for as long as it is plugged, like Nova keeps it), its device on the host, its MAC.

    wire: how QEMU reaches that device, `tap` or `dgram`; see wire.py. host_mtu: the MTU that it says is the most, 0 for none.
    """

    slot: int
    host: str
    mac: str
    wire: str = "tap"
    host_mtu: int = 0

    @property
    def device(self) -> str:
        return f"nic{self.slot}"

    @property
    def backend(self) -> str:
        return f"host{self.slot}"

    @property
    def qemu_socket(self) -> str:
        return f"{self.backend}.qemu"

    @property
    def host_socket(self) -> str:
        return f"{self.backend}.host"


class Machine(NamedTuple):
    """Everything that QEMU is told. Sockets and the serial log are made in its working directory."""

    name: str
    uuid: str
    kernel: Path
    initrd: Path
    disk: Path
    drive: Path | None
    nics: tuple[Nic, ...]
    accel: Accel
    model: str = "q35"
    append: str = ""
    slots: int = SLOTS
    memory_mb: int = 1024
    writes: Path | None = None  # where QEMU notes what the guest writes to its disk, and when it has it flushed


def command(machine: Machine, snapshot: str = "") -> list[str]:
    """The words to start QEMU with, from a snapshot on its disk if one is named."""
    words = ["qemu-system-x86_64", "-name", machine.name, "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-machine", machine.model, *machine.accel.options, "-smp", "2", "-m", str(machine.memory_mb)]
    words += ["-kernel", str(machine.kernel), "-initrd", str(machine.initrd)]
    words += ["-append", " ".join(filter(None, [COMMAND_LINE, machine.accel.kernel, machine.append]))]
    words += ["-smbios", f"type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,uuid={machine.uuid}"]
    words += ["-uuid", machine.uuid]
    words += ["-qmp", f"unix:{QMP_SOCKET},server=on,wait=off"]
    words += ["-chardev", f"file,id=serial,path={SERIAL_LOG},append=on", "-serial", "chardev:serial"]
    words += _pci_device("virtio-serial-pci", machine.model, 0)
    words += ["-chardev", f"socket,id=agent,path={AGENT_SOCKET},server=on,wait=off"]
    words += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    words += ["-object", "rng-random,id=random,filename=/dev/urandom"]
    words += _pci_device("virtio-rng-pci,rng=random", machine.model, 1)
    if machine.writes is None:
        words += ["-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,file={_escaped(machine.disk)}"]
    else:  # block/blklogwrites.c; the format is that of dm-log-writes
        disk, log = _escaped(machine.disk), _escaped(machine.writes)
        layers = f"driver=blklogwrites,file.driver=qcow2,file.file.driver=file,file.file.filename={disk}"
        words += ["-drive", f"if=none,id=disk,{layers},log.driver=file,log.filename={log},cache=writeback"]
    words += _pci_device(f"virtio-blk-pci,drive=disk,serial={initrd.ROOT}", machine.model, 2)
    if machine.drive is not None:
        words += ["-drive", f"if=none,id=config,format=raw,readonly=on,media=cdrom,file={_escaped(machine.drive)}"]
        words += _pci_device("virtio-blk-pci,drive=config", machine.model, 3)
    if machine.model == "q35":
        for slot in range(machine.slots):
            place = f"addr={hex(1 + slot // _FUNCTIONS)}.{slot % _FUNCTIONS},multifunction=on"
            words += ["-device", f"pcie-root-port,id=port{slot},chassis={slot + 1},slot={slot + 1},{place}"]
    for nic in machine.nics:
        words += ["-netdev", _joined(backend_arguments(nic))]
        words += ["-device", _joined(device_arguments(nic, machine.model))]
    return words + (["-loadvm", snapshot] if snapshot else [])


def backend_arguments(nic: Nic) -> dict[str, Any]:
    """The host side of a NIC, for -netdev or netdev_add."""
    if nic.wire == "tap":
        return {"type": "tap", "id": nic.backend, "ifname": nic.host, "script": "no", "downscript": "no"}
    ends = {"local": nic.qemu_socket, "remote": nic.host_socket}
    return {"type": "dgram", "id": nic.backend, **{end: {"type": "unix", "path": path} for end, path in ends.items()}}


def device_arguments(nic: Nic, model: str) -> dict[str, Any]:
    """The guest side of a NIC, for -device or device_add."""
    place = {"bus": f"port{nic.slot}"} if model == "q35" else {"bus": "pci.0", "addr": hex(FIRST_PC_SLOT + nic.slot)}
    limit = {"host_mtu": nic.host_mtu} if nic.host_mtu else {}
    words = {"driver": "virtio-net-pci", "id": nic.device, "netdev": nic.backend, "mac": nic.mac, "romfile": ""}
    return {**words, **limit, **place}


def _joined(arguments: dict[str, Any]) -> str:
    """Arguments as one word: what is nested has a dot in its key."""
    flat: list[str] = []
    for key, value in arguments.items():
        flat += (
            [f"{key}.{inner}={said}" for inner, said in value.items()]
            if isinstance(value, dict)
            else [f"{key}={value}"]
        )
    return ",".join(flat)


def _pci_device(device: str, model: str, number: int) -> list[str]:
    """A device out of the way of the NICs' places, so that these do not move when it comes or goes."""
    bus = "pcie.0" if model == "q35" else "pci.0"
    return ["-device", f"{device},bus={bus},addr={hex(0x10 + number)}"]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
