# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netsh: its command lines, pure, and how one is run.

netsh, because what IP Helper's own setters do is lost at a reboot, SetInterfaceDnsSettings is not in Windows Server
2012 R2 to 2019, and PowerShell's cmdlets take seconds to start. By the NIC's index, so that no name is quoted and no
language matters, and with `store=persistent`.
"""

import ipaddress
import os
import subprocess
from typing import NamedTuple, Sequence, Tuple, Union

from .registry import Value

_TIMEOUT = 60.0  # seconds
_LEAST_MTU = {"ipv4": 576, "ipv6": 1280}


class Netsh(NamedTuple):
    args: Tuple[str, ...]

    @property
    def line(self) -> str:
        return subprocess.list2cmdline(("netsh",) + self.args)


Step = Union[Netsh, Value]


def family(address: str) -> str:
    return "ipv6" if ":" in address else "ipv4"


def _ip(fam: str, *words: str, store: bool = True) -> Netsh:
    return Netsh(("interface", fam) + words + (("store=persistent",) if store else ()))


def takes_mtu(fam: str, mtu: int) -> bool:
    return mtu >= _LEAST_MTU[fam]


def set_mtu(index: int, fam: str, mtu: int) -> Netsh:
    return _ip(fam, "set", "subinterface", "interface=%d" % index, "mtu=%d" % mtu)


def dhcp_on(index: int) -> Netsh:
    return _ip("ipv4", "set", "address", "name=%d" % index, "source=dhcp")


def first_address(index: int, cidr: str) -> Netsh:
    """Switches DHCP off, and replaces all IPv4 addresses."""
    own = ipaddress.IPv4Interface(cidr)
    words = ("name=%d" % index, "source=static", "address=%s" % own.ip, "mask=%s" % own.netmask)
    return _ip("ipv4", "set", "address", *words)


def add_address(index: int, cidr: str) -> Netsh:
    if ":" in cidr:
        return _ip("ipv6", "add", "address", "interface=%d" % index, "address=%s" % cidr)
    own = ipaddress.IPv4Interface(cidr)
    return _ip("ipv4", "add", "address", "name=%d" % index, "address=%s" % own.ip, "mask=%s" % own.netmask)


def delete_address(index: int, cidr: str) -> Netsh:
    name = "interface" if ":" in cidr else "name"
    return _ip(family(cidr), "delete", "address", "%s=%d" % (name, index), "address=%s" % cidr.partition("/")[0])


def route(verb: str, index: int, network: str, gateway: str, metric: int = 0) -> Netsh:
    """`verb`: add, set or delete; `gateway` empty for a route on the link; `metric` 0 to leave it to Windows."""
    words = ["prefix=%s" % network, "interface=%d" % index]
    words += ["nexthop=%s" % gateway] if gateway else []
    words += ["metric=%d" % metric] if metric else []
    return _ip(family(network), verb, "route", *words)


def dns_servers(index: int, fam: str, servers: Sequence[str]) -> Tuple[Netsh, ...]:
    """The static list as a whole, or none: then those of a lease. Not validated: netsh would wait for each of them."""
    if not servers:
        return (_ip(fam, "set", "dnsservers", "name=%d" % index, "source=dhcp", store=False),)
    words = ("name=%d" % index, "source=static", "address=%s" % servers[0], "validate=no")
    more = [
        _ip(fam, "add", "dnsservers", "name=%d" % index, "address=%s" % one, "index=%d" % n, "validate=no", store=False)
        for n, one in enumerate(servers[1:], 2)
    ]
    return (_ip(fam, "set", "dnsservers", *words, store=False),) + tuple(more)


def router_discovery_on(index: int) -> Netsh:
    return _ip("ipv6", "set", "interface", "interface=%d" % index, "routerdiscovery=enabled")


def rename(old: str, new: str) -> Netsh:
    return Netsh(("interface", "set", "interface", "name=%s" % old, "newname=%s" % new))


def run(step: Netsh) -> str:
    """Runs netsh and returns what it says against it, empty if it says that it did it. Neither is to be relied on."""
    program = os.path.join(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32", "netsh.exe")
    try:
        done = subprocess.run(
            [program] + list(step.args),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    if done.returncode == 0:
        return ""
    # In the console's code page, which nothing here knows: its words are for people.
    said = " ".join(done.stdout.decode("utf-8", "backslashreplace").split())
    return "exit status %d: %s" % (done.returncode, said or "no message")
