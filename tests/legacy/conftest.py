# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""legacy/osnetd_legacy.py is run as a program, by the Pythons that pyenv keeps, in network namespaces with real NICs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Sequence

import pytest

from tests.lab import netns

TOP = Path(__file__).resolve().parent.parent.parent
PROGRAM = TOP / "legacy" / "osnetd_legacy.py"
VERSIONS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
# What most tests run on: the oldest there is, and the newest.
ENDS = ("2.7", "3.13")
MACS = tuple(f"fa:16:3e:00:00:0{n}" for n in range(8))


def interpreter(version: str) -> str:
    """The path of a Python; the test is skipped where there is none."""
    found = shutil.which(f"python{version}")
    candidates = [found] if found and "shims" not in found else []
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        candidates += [str(path) for path in Path(root).glob(f"versions/{version}.*/bin/python{version}")]
    for candidate in candidates:
        if subprocess.run([candidate, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return candidate
    pytest.skip(f"no Python {version} here (neither on the PATH nor kept by pyenv)")


@pytest.fixture(scope="session")
def legacy() -> ModuleType:
    """The program as a module, for what is pure in it."""
    spec = importlib.util.spec_from_file_location("osnetd_legacy", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = written
    return module


class Done:
    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.status = done.returncode
        self.out = done.stdout.decode("utf-8")
        self.err = done.stderr.decode("utf-8")

    def commands(self) -> List[str]:
        """What it ran (-v)."""
        return [line[2:] for line in self.err.splitlines() if line.startswith("+ ")]

    def __repr__(self) -> str:
        return f"exit status {self.status}\n{self.out}{self.err}"


class Place:
    """A server of a kind: a tree of files, and NICs in a namespace of their own."""

    def __init__(self, root: Path, namespace: str, python: str) -> None:
        self.root, self.namespace, self.python = root, namespace, python
        self.names: Dict[str, str] = {}
        (root / "run").mkdir()

    # NICs

    def plug(self, name: str, mac: str, up: bool = False) -> None:
        peer = f"peer-{mac[-2:]}"
        netns.ip(
            self.namespace,
            f"link add {name} address {mac} type veth peer name {peer} address 02:00:00:00:01:{mac[-2:]}",
            f"link set {peer} up",
            *([f"link set {name} up"] if up else []),
        )
        self.names[mac] = name

    def unplug(self, name: str) -> None:
        netns.ip(self.namespace, f"link del {name}")

    def ip(self, *commands: str) -> None:
        netns.ip(self.namespace, *commands)

    def addresses(self, name: str) -> List[str]:
        """All but what the kernel gives by itself."""
        (link,) = json.loads(netns.output(self.namespace, ["ip", "-json", "address", "show", "dev", name]))
        return sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if not a["local"].startswith("fe80"))

    def routes(self, name: str) -> List[str]:
        """`network via gateway metric N`, those of the kernel left out; metric only where it is not the usual one."""
        found = []
        for family, usual in (("-4", 0), ("-6", 1024)):
            words = ["ip", family, "-json", "route", "show", "dev", name]
            for route in json.loads(netns.output(self.namespace, words) or "[]"):
                if route.get("protocol") != "kernel":
                    via = f" via {route['gateway']}" if "gateway" in route else ""
                    metric = route.get("metric", usual)
                    found.append(f"{family[1:]}: {route['dst']}{via}" + (f" metric {metric}" if metric != usual else ""))
        return sorted(found)

    def mtu(self, name: str) -> int:
        return int(json.loads(netns.output(self.namespace, ["ip", "-json", "link", "show", "dev", name]))[0]["mtu"])

    def run_sysctl(self, setting: str) -> None:
        netns.output(self.namespace, ["sysctl", "-qw", setting])

    # Files

    def write(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode("utf-8"))

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_bytes().decode("utf-8")

    def files(self) -> Dict[str, bytes]:
        """All files but those of a boot."""
        paths = [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths if path.relative_to(self.root).parts[0] != "run"}

    # The program

    def run(self, *words: str, text: bytes = b"", env: Optional[Dict[str, str]] = None, timeout: float = 0, kill: float = 0) -> Done:
        """`timeout`: it is ended after so many seconds, where it would go on looking; `kill`: killed then."""
        limit = ["timeout", f"{timeout}"] if timeout else ["timeout", "-s", "KILL", f"{kill}"] if kill else []
        argv = ["ip", "netns", "exec", self.namespace, *limit, self.python, "-B", str(PROGRAM), "--root", str(self.root), *words]
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", **(env or {})}
        return Done(subprocess.run(argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, timeout=120))

    def apply(self, document: Any, *words: str) -> Done:
        return self.run("-v", "apply", *words, "-", text=json.dumps(document, ensure_ascii=False).encode())


    def apply_with_busybox(self, document: Any) -> Done:
        """As apply(), where /sbin/ip and /bin/ip are busybox's. What is mounted goes with the process."""
        script = 'for at in /bin/ip /sbin/ip /usr/bin/ip /usr/sbin/ip; do [ -e $at ] && mount --bind "$(command -v busybox)" "$(readlink -f $at)"; done; shift; exec "$@"'
        argv = [self.python, "-B", str(PROGRAM), "--root", str(self.root), "-v", "apply", "-"]
        words = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "sh", "-c", script, "sh", "-", *argv]
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        raw = json.dumps(document).encode()
        return Done(subprocess.run(words, input=raw, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, timeout=120))


DEBIAN8 = """\
# what the image came with
auto lo
iface lo inet loopback

allow-hotplug eth0
iface eth0 inet dhcp
"""
BACKENDS = {
    "interfaces": {"etc/network/interfaces": DEBIAN8},
    "interfaces.d": {
        "etc/network/interfaces": "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*.cfg\n",
        "etc/network/interfaces.d/50-cloud-init.cfg": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
    },
    "ifcfg": {"etc/sysconfig/network-scripts/ifcfg-lo": "DEVICE=lo\nONBOOT=yes\n"},
    "netplan": {
        "etc/netplan/50-cloud-init.yaml": "network:\n    version: 2\n    ethernets:\n        eth0:\n            dhcp4: true\n"
    },
}


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """With eth0 and eth1. Parameters: version, a Python's; backend, one of BACKENDS."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    asked = getattr(request.node, "callspec", None)
    params = asked.params if asked else {}
    python = interpreter(params.get("version", "2.7"))
    namespace = f"osn-legacy-{os.getpid()}"
    netns.add(namespace)
    made = Place(tmp_path, namespace, python)
    for path, text in BACKENDS[params.get("backend", "interfaces")].items():
        made.write(path, text)
    made.plug("eth0", MACS[0])
    made.plug("eth1", MACS[1])
    yield made
    netns.delete(namespace)


def link(n: int, **more: Any) -> Dict[str, Any]:
    return {"id": f"tap{n}", "ethernet_mac_address": MACS[n], "type": "ovs", "mtu": 1450, **more}


def static(n: int, cidr: str, gateway: str = "", routes: Sequence[Any] = (), **more: Any) -> Dict[str, Any]:
    address, _slash, length = cidr.partition("/")
    six = ":" in cidr
    all_of_it = "::/0" if six else "0.0.0.0/0"
    said: List[Any] = [{"network": all_of_it, "gateway": gateway}] if gateway else []
    said += [{"network": network, "gateway": via} for network, via in routes]
    kind = "ipv6" if six else "ipv4"
    return {"id": f"net{n}", "link": f"tap{n}", "type": kind, "ip_address": address, "netmask": length, "routes": said, **more}


def document(*items: Dict[str, Any], dns: Sequence[str] = ()) -> Dict[str, Any]:
    return {
        "links": [item for item in items if "link" not in item],
        "networks": [item for item in items if "link" in item],
        "services": [{"type": "dns", "address": server} for server in dns],
    }
