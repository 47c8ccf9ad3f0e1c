# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A real libvirtd in the cloud's network namespace, and guests that are its domains.

It has mounts and process ids of its own: the host's libvirt, if there is one, does not see it, and all of it ends with the
lab. Debian's packages libvirt-daemon (with its QEMU driver), libvirt-clients and python3-libvirt; root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tests.lab import initrd, netns, qemu, run
from tests.lab.agent import Agent, AgentAway, AgentError
from tests.lab.call import LabError
from tests.lab.cloud import Cloud
from tests.lab.vm import VM

DRIVER = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
PYTHON = "/usr/bin/python3"  # the distribution's, for which python3-libvirt is

# No limits, labels, users or helper daemons: what the domains get of the host is decided by the namespaces that they are in.
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""

_CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"

# A tmpfs for all that libvirtd has: sockets, logs, channels. Without the host's D-Bus it asks nobody for a cgroup.
_START = """\
mount --make-rprivate /
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null
mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
for place in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do mount -t tmpfs none "$place" || exit 1; done
mount --bind "$1" /etc/libvirt || exit 1
# The user that libvirt-daemon-system would make: libvirtd looks it up before it reads qemu.conf.
for file in passwd group; do
    cp "/etc/$file" "$1/$file" && mount --bind "$1/$file" "/etc/$file" || exit 1
done
echo "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin" >> /etc/passwd
echo "libvirt-qemu:x:64055:" >> /etc/group
exec libvirtd
"""


def missing() -> str:
    """What is not installed here, "" where all is."""
    if not DRIVER.exists() or not shutil.which("libvirtd") or not shutil.which("virsh"):
        return "no libvirt-daemon and libvirt-clients here"
    if subprocess.run([PYTHON, "-c", "import libvirt, libvirt_qemu"], stderr=subprocess.DEVNULL).returncode != 0:
        return "no python3-libvirt here"
    return "" if os.geteuid() == 0 else "libvirtd for a domain with taps needs root"


class Libvirt:
    """A libvirtd of its own. `uri` is what a client connects to."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._run = run.current()
        self._dir = self._run.dir / self._run.name("libvirt")
        (self._dir / "etc").mkdir(parents=True)
        socket = (self._dir / "libvirt-sock").resolve()
        self.uri = f"qemu+unix:///system?socket={socket}"
        (self._dir / "etc" / "qemu.conf").write_text(_QEMU_CONF)
        (self._dir / "etc" / "libvirtd.conf").write_text(f'unix_sock_dir = "{socket.parent}"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n')
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        words = ["setpriv", "--pdeathsig", "KILL", *netns.enter(cloud.namespace), *apart, "sh", "-c", _START, "sh"]
        with (self._dir / "log").open("wb") as log:
            self._process = self._run.spawn([*words, str(self._dir.resolve() / "etc")], stdout=log, stderr=subprocess.STDOUT)
        self._forget = self._run.at_exit(self.close)
        deadline = time.monotonic() + 60
        while not socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"libvirtd did not start:\n{self.log()}")
            time.sleep(0.1)

    def __enter__(self) -> Libvirt:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """End libvirtd, its domains and all processes of it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._dir, ignore_errors=True)
        self._forget()

    def log(self) -> str:
        return (self._dir / "log").read_text(errors="replace")[-3000:]

    def idle(self, name: str, mac: str, channel: bool) -> None:
        """Start a domain with a NIC and nothing to boot: no agent ever answers in it."""
        described = self._dir / f"{name}.xml"
        described.write_text(
            f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>"
            f"<devices><interface type='user'><mac address='{mac}'/><model type='virtio'/><rom enabled='no'/></interface>"
            f"{_CHANNEL if channel else ''}</devices></domain>"
        )
        self.virsh("create", str(described))

    def virsh(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode != 0:
            raise LabError(f"virsh {' '.join(words)}: {done.stdout.strip()}\n{self.log()}")
        return done.stdout.strip()


class _DomainAgent(Agent):
    """The guest agent of a domain, through libvirt, which holds its socket."""

    def __init__(self, libvirt: Libvirt, name: str, timeout: float) -> None:
        self._libvirt, self._name, self._seconds = libvirt, name, max(1, int(timeout))
        self.call("guest-ping")

    def close(self) -> None:
        pass

    def call(self, command: str, **arguments: Any) -> Any:
        request = {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}
        try:
            said = self._libvirt.virsh("qemu-agent-command", self._name, "--timeout", str(self._seconds), json.dumps(request))
        except LabError as error:
            away = "not connected" in str(error) or "not responding" in str(error) or "not available" in str(error)
            raise (AgentAway if away else AgentError)(str(error)) from error
        return json.loads(said)["return"]


class Domain(VM):
    """A virtual machine that libvirt runs. NICs are plugged before it boots, and stay."""

    def __init__(self, libvirt: Libvirt, *words: Any, **options: Any) -> None:
        self._libvirt = libvirt
        super().__init__(libvirt.cloud, *words, **options)

    def poweroff(self, hard: bool = True, timeout: float = 30) -> None:
        self._libvirt.virsh("destroy", self.name)

    def destroy(self) -> None:
        with contextlib.suppress(LabError):
            self.poweroff()
        super().destroy()

    def _alive(self) -> bool:
        return self._libvirt.virsh("domstate", self.name, check=False) == "running"

    def _start(self, snapshot: str = "") -> None:
        self._begin_console()
        described = self._dir / "domain.xml"
        described.write_text(_xml(self._machine(), self._dir.resolve() / qemu.SERIAL_LOG))
        self._libvirt.virsh("create", str(described))

    def _agent(self, timeout: float = 5) -> Agent:
        return _DomainAgent(self._libvirt, self.name, timeout * self.patience)


def _xml(machine: qemu.Machine, console: Path) -> str:
    """The domain, as Nova's libvirt driver would shape it, with the kernel outside of the disk."""
    kvm = machine.accel.name == "kvm"
    cpu = "<cpu mode='host-passthrough'/>" if kvm else "<cpu mode='maximum'><feature policy='disable' name='la57'/></cpu>"
    append = " ".join(filter(None, [qemu.COMMAND_LINE, machine.accel.kernel, machine.append]))
    disk = "<disk type='file' device='disk'><driver name='qemu' type={}{}/><source file={}/><target dev={} bus='virtio'/>{}</disk>"
    disks = disk.format("'qcow2'", " cache='unsafe'", quoteattr(str(machine.disk)), "'vda'", f"<serial>{initrd.ROOT}</serial>")
    if machine.drive is not None:
        disks += disk.format("'raw'", "", quoteattr(str(machine.drive)), "'vdb'", "<readonly/>")
    nics = "".join(
        f"<interface type='ethernet'><mac address='{nic.mac}'/><target dev='{nic.host}' managed='no'/><model type='virtio'/></interface>"
        for nic in machine.nics
    )
    return f"""\
<domain type='{"kvm" if kvm else "qemu"}'>
  <name>{machine.name}</name>
  <uuid>{machine.uuid}</uuid>
  <memory unit='MiB'>{machine.memory_mb}</memory>
  <vcpu>2</vcpu>
  <sysinfo type='smbios'><system>
    <entry name='manufacturer'>OpenStack Foundation</entry><entry name='product'>OpenStack Nova</entry>
    <entry name='uuid'>{machine.uuid}</entry>
  </system></sysinfo>
  <os>
    <type arch='x86_64' machine='{machine.model}'>hvm</type>
    <kernel>{escape(str(machine.kernel))}</kernel><initrd>{escape(str(machine.initrd))}</initrd>
    <cmdline>{escape(append)}</cmdline>
    <smbios mode='sysinfo'/>
  </os>
  <features><acpi/></features>
  {cpu}
  <devices>
    {disks}
    {nics}
    {_CHANNEL}
    <serial type='file'><source path={quoteattr(str(console))}/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
</domain>
"""
