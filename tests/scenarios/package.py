# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The package's life on a running guest: installed, upgraded, removed, and what must not happen meanwhile."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Union

from tests.lab import VM, Container, Port, deb
from tests.scenarios.seen import lacks, settled, wait_until

NAME = "cloudinit-osnetd"
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0"


def install(guest: Union[Container, VM], package: Path | None = None) -> str:
    """Install the package under test, or another .deb, as an administrator would; what apt said."""
    source = package or deb.under_test()
    guest.put(source.read_bytes(), f"/root/{source.name}")
    # A lower version than the one that is there is what taking an upgrade back means.
    words = "install --allow-downgrades --no-install-recommends"
    done = guest.run(f"{_APT} {words} /root/{source.name} 2>&1", timeout=120)
    guest.run(f"rm /root/{source.name}")
    return _clean(done.stdout)


def remove(guest: Container, purge: bool = False) -> str:
    return _clean(guest.run(f"{_APT} {'purge' if purge else 'remove'} {NAME} 2>&1", timeout=120).stdout)


def _clean(said: str) -> str:
    for word in ("error:", "Error", "arning", "Traceback", "cannot", "not found"):
        lines = [line for line in said.splitlines() if word in line and "debconf" not in line and "downgrading" not in line]
        assert not lines, said
    return said


def newer(scratch: Path) -> Path:
    """The package under test with a higher version and another content, as its next release."""
    tree = scratch / "tree"
    subprocess.run(["dpkg-deb", "-R", str(deb.under_test()), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9:"))
    module = tree / "usr/lib/python3/dist-packages/cloudinit_osnetd/__init__.py"
    module.write_text(module.read_text() + '\nNEWER = "yes"\n')
    out = scratch / f"{NAME}_9_all.deb"
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", str(tree), str(out)], check=True, stdout=subprocess.DEVNULL)
    return out


def identity(guest: Container) -> Dict[str, str]:
    """What makes a server the one that it is."""
    return {
        "instance": guest.run("cat /var/lib/cloud/data/instance-id").stdout.strip(),
        "host keys": guest.run("cat /etc/ssh/ssh_host_*_key.pub").stdout,
        "per-instance modules": guest.run("stat -c '%n %Y' /var/lib/cloud/instance/sem/*").stdout,
    }


def assert_network(guest: Container, *ports: Port, seconds: float = 15) -> None:
    """Every port's addresses and routes are there, whoever configured them.

    Not its DNS servers: cloud-init alone puts them on `lo`, where ifupdown's guests are concerned.
    """

    def lacking() -> List[str]:
        return [f"{port.mac}: {fault}" for port in ports for fault in lacks(guest, port) if "DNS server" not in fault]

    last: List[str] = []

    def there() -> bool:
        last[:] = lacking()
        return not last

    try:
        wait_until(there, seconds, "the network")
    except AssertionError:
        raise AssertionError(f"not configured: {last}") from None


@contextlib.contextmanager
def untouched(guest: Container) -> Iterator[None]:
    """The kernel hears of no change of a link, an address or a route during the block, and no configuration is rewritten."""
    wait_until(lambda: "tentative" not in guest.run("ip -6 address").stdout, 15, "duplicate address detection is over")
    before, config = _network(guest), _configuration(guest)
    watch = "systemd-run --quiet --unit=lab-watch -p StandardOutput=file:/run/lab-watch ip monitor link address route"
    guest.run(f"rm -f /run/lab-watch; {watch}")
    try:
        yield
    finally:
        guest.run("systemctl stop lab-watch")
    seen = [line for line in guest.run("cat /run/lab-watch").stdout.splitlines() if line and " lladdr " not in line]
    assert seen == [], seen
    assert _network(guest) == before
    assert _configuration(guest) == config


def _network(guest: Container) -> List[Any]:
    shown = [guest.run(f"ip -json {words}").stdout or "[]" for words in ("link", "addr", "route", "-6 route")]
    text = json.dumps([json.loads(part) for part in shown])
    # Leases and router advertisements count down.
    return [line for line in text.replace("}", "}\n").splitlines() if "life_time" not in line]


def _configuration(guest: Container) -> List[str]:
    where = "/etc/network /etc/systemd/network /etc/netplan /etc/NetworkManager /etc/sysconfig"
    script = f"find {where} -type f -printf '%i %T@ %s %m ' -exec sha256sum {{}} + 2> /dev/null"
    return sorted(guest.run(script, check=False).stdout.splitlines())


def assert_network_boot(guest: Container, before: Dict[str, str], log_from: int = 0) -> None:
    """A boot with or without the package: cloud-init is done, the server is who it was, no unit failed."""
    if guest.run(f"dpkg-query -W -f '${{db:Status-Status}}' {NAME}", check=False).stdout == "installed":
        settled(guest)
    assert guest.cloud_init_errors() == []
    assert guest.run("cloud-init status", check=False).stdout.split()[-1] == "done"
    assert identity(guest) == before
    failed = guest.run("systemctl --failed --no-legend --plain").stdout
    assert failed == "", failed
    warnings = warnings_since(guest, log_from)
    assert warnings == [], warnings


def log_length(guest: Container) -> int:
    return int(guest.run("stat -c %s /var/log/cloud-init.log").stdout)


def warnings_since(guest: Container, offset: int = 0) -> List[str]:
    search = r"grep -a -e '\[WARNING\]' -e '\[ERROR\]' -e Traceback"
    lines = guest.run(f"tail -c +{offset + 1} /var/log/cloud-init.log | {search}", check=False).stdout.splitlines()
    return [
        line for line in lines if "schema.py[" not in line
    ]  # the lab's drop-in names activators, which 22.4 does not know
