# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One Windows of a test run: Wine in a namespace of its own, whose NICs its IP Helper shows, and a netsh that changes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path, PureWindowsPath
from typing import Any, Dict, List, Optional, Sequence

from tests.lab import netns, roots, run
from tests.lab.call import LabError
from tests.lab.waiting import wait_for
from tests.windows import place
from tests.windows.netsh import Netsh

TOP = Path(__file__).resolve().parent.parent.parent
PYTHON = "Z:\\win\\python\\python.exe"
_START = (
    f"{place.MOUNTS} && mkdir -p \"$1/src\" && mount --bind \"$2\" \"$1/src\" && mount -o remount,bind,ro \"$1/src\" && "
    'exec chroot "$1" sleep infinity'
)


class Done:
    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.status = done.returncode
        self.out = (done.stdout or b"").decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        self.err = (done.stderr or b"").decode("utf-8", "backslashreplace").replace("\r\n", "\n")

    def __repr__(self) -> str:
        return f"exit status {self.status}\n{self.out}{self.err}"


class Windows:
    """Ends with the run of the lab."""

    def __init__(self) -> None:
        here = run.current()
        self.namespace = here.name("win")
        netns.add(self.namespace)
        # Or Linux takes the other addresses of a subnet with the first.
        for name in ("all", "default"):
            netns.output(self.namespace, ["sysctl", "-qw", f"net.ipv4.conf.{name}.promote_secondaries=1"])
        base = place.root()
        self.directory = here.dir / self.namespace
        self.root = roots.mount_overlay(str(base), self.directory)
        words = [*netns.enter(self.namespace), "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        self._holder = here.spawn([*words, "sh", "-c", _START, "sh", str(self.root), str(TOP)])
        if not wait_for(self._started, 10):
            raise LabError("Wine's namespace could not be made")
        self._peers = 0
        self.first = self.second = ""  # names of NICs
        self.netsh = Netsh(self.namespace)
        self._write_netsh()
        # A server that stays, so that no command of ours waits for one to start.
        # A config drive, which Wine looks for when it starts. A test writes its files.
        self.config_drive = self.root / "drive"
        self.config_drive.mkdir()
        (self.config_drive / ".windows-label").write_text("config-2\n")
        (self.root / "win/prefix/dosdevices/e:").symlink_to("/drive")
        # Standard files of its own, or who reads those of the first command would wait for its end; and pipes, because
        # services inherit them, and a Python under Wine does not start with others.
        boot = f"{place.WINESERVER} -p; {{ : | {place.WINE} wineboot 2>&1; touch /win/booted; }} | cat &"
        self.inside(["sh", "-c", boot], quiet=True)
        if not wait_for((self.root / "win" / "booted").exists, 120, 0.1):
            raise LabError("Wine did not start")

    def _started(self) -> bool:
        """Once the shell has become the command that holds the namespace."""
        for child in Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split():
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):
                self._pid = int(child)
                return True
        return False

    def close(self) -> None:
        self.netsh.close()
        self.inside([place.WINESERVER, "-k"])
        self._holder.kill()
        self._holder.wait()

    # Commands

    def inside(self, argv: Sequence[str], text: bytes = b"", more: Optional[Dict[str, str]] = None, timeout: float = 120, quiet: bool = False) -> Done:
        """A command of the root that has Wine; `quiet`: what it says is not read."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--net", f"--root=/proc/{self._pid}/root", "--wdns=/win"]
        environment = [*place.environment(), *(f"{name}={value}" for name, value in (more or {}).items())]
        words = [*enter, *environment, *argv]
        # Pipes, because a Python under Wine does not start on a file.
        to = subprocess.DEVNULL if quiet else subprocess.PIPE
        return Done(subprocess.run(words, input=text, stdout=to, stderr=to, timeout=timeout))

    def python(self, *words: str, text: bytes = b"", more: Optional[Dict[str, str]] = None, timeout: float = 120) -> Done:
        # The checkout cannot be written to, and would be compiled by each.
        return self.inside([place.WINE, PYTHON, "-X", "pycache_prefix=C:\\pycache", *words], text, more, timeout)

    def osnetd(self, *words: str, text: bytes = b"", more: Optional[Dict[str, str]] = None) -> Done:
        return self.python("-m", "cloudinit_osnetd.windows", *words, text=text, more=more)

    def apply(self, document: Any, *words: str, more: Optional[Dict[str, str]] = None) -> Done:
        return self.osnetd("apply", "--stdin", *words, text=json.dumps(document, ensure_ascii=False).encode(), more=more)

    def drive(self, path: str) -> Path:
        r"""Where a file of C: lies: drive("C:\\x")."""
        return self.root / "win" / "prefix" / "drive_c" / Path(*PureWindowsPath(path).parts[1:])

    def forget(self) -> None:
        """What it remembers. What the registry has of a NIC is of that NIC's index, and no two have had the same."""
        shutil.rmtree(self.drive("C:\\ProgramData\\cloudinit-osnetd"), ignore_errors=True)
        self.netsh.forget()

    # NICs

    def plug(self, name: str, mac: str, *addresses: str) -> None:
        self._peers += 1
        peer = f"peer{self._peers}"
        netns.ip(
            self.namespace,
            f"link add name {name} address {mac} type veth peer name {peer} address 02:00:00:00:01:{mac[-2:]}",
            f"link set {peer} up",
            f"link set {name} up",
            *(f"address add {address} dev {name}" for address in addresses),
        )

    def unplug(self, name: str) -> None:
        netns.ip(self.namespace, f"link del {name}")

    def ip(self, *commands: str) -> None:
        netns.ip(self.namespace, *commands)

    def json(self, *words: str) -> Any:
        return json.loads(netns.output(self.namespace, ["ip", "-json", *words]) or "[]")

    def addresses(self, name: str) -> List[str]:
        """All but the link-local ones."""
        (link,) = self.json("address", "show", "dev", name)
        return sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if not a["local"].startswith("fe80"))

    def routes(self, name: str) -> List[str]:
        found = []
        for family in ("-4", "-6"):
            for route in self.json(family, "route", "show", "dev", name):
                if route.get("protocol") != "kernel":
                    via = f" via {route['gateway']}" if "gateway" in route else ""
                    found.append(f"{route['dst']}{via}")
        return sorted(found)

    def mtu(self, name: str) -> int:
        return int(self.json("link", "show", "dev", name)[0]["mtu"])

    # netsh

    def _write_netsh(self) -> None:
        """netsh.exe is a Python, which finds beside it where its modules are and imports a sitecustomize that does the work.

        (A launcher with a script behind it would start two programs for each command.)
        """
        system = self.drive("C:\\windows\\system32")
        home = self.root / "win" / "python"
        for name in ("python311.dll", "vcruntime140.dll"):
            shutil.copy(home / name, system / name)
        (system / "netsh.exe").unlink()
        shutil.copy(home / "python.exe", system / "netsh.exe")
        paths = ["Z:\\win\\python\\python311.zip", "Z:\\win\\python", "Z:\\src\\tests\\windows\\inside", "Z:\\src", "import site"]
        (system / "netsh._pth").write_text("\r\n".join(paths))
