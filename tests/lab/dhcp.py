# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""DHCP, and router advertisements, for one network: a dnsmasq that is told what Neutron's agent would tell it."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from tests.lab import metadata, netns, run
from tests.lab.call import LabError
from tests.lab.ports import Network, Port, Subnet
from tests.lab.waiting import wait_for


class Dhcp:
    """Serves the DHCP subnets of a network, each port its fixed IPs and no one else anything."""

    def __init__(self, namespace: str, network: Network) -> None:
        self._namespace = namespace
        self._network = network
        self._dir: Path = run.current().dir / f"{namespace}-{network.bridge}"
        self._dir.mkdir()
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._files: Dict[str, str] = {}  # what it reads, by name
        self._told: Dict[str, str] = {}  # MAC to the IPv4 address reserved for it

    def tell(self, ports: Sequence[Port]) -> None:
        """Serve these ports from now on."""
        hosts, options, reserved = [], [], {}
        for number, port in enumerate(ports):
            tag = f"port{number}"
            addresses: List[str] = []
            for subnet, fixed_ips in port.subnets():
                if subnet.dhcp and subnet.network.version == 4:
                    reserved[port.mac] = fixed_ips[0]
                    addresses.append(fixed_ips[0])
                    options += [f"tag:{tag},{option}" for option in _options(subnet, port.mtu)]
                elif subnet.ipv6_mode == "dhcpv6-stateful":
                    addresses.append(f"[{fixed_ips[0]}]")
                if subnet.ipv6_mode and subnet.dns:
                    options.append(f"tag:{tag},option6:dns-server,{','.join(f'[{one}]' for one in subnet.dns)}")
            hosts.append(",".join([port.mac, f"set:{tag}", *addresses]))
        files = {"hosts": "".join(f"{line}\n" for line in hosts), "options": "".join(f"{line}\n" for line in options)}
        changed = files != self._files
        self._files = files
        for name, content in files.items():
            (self._dir / name).write_text(content)
        taken_back = {mac for mac, address in self._told.items() if reserved.get(mac) != address}
        self._told = reserved
        if changed:
            # Anew, not by SIGHUP: once it has given a lease, 2.90 crashes over that more often than not.
            self.close()
        if taken_back:
            self._release(taken_back)
        if self._process is None or self._process.poll() is not None:
            self._start()

    def leases(self) -> List[Tuple[str, str]]:
        """(MAC, IPv4 address) of the leases given out."""
        path = self._dir / "leases"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(line[1], line[2]) for line in lines if len(line) >= 4 and ":" in line[1]]

    def log(self) -> str:
        path = self._dir / "log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        argv = netns.enter(self._namespace) + ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]
        argv += ["--user=root", "--pid-file", "--no-ping", "--dhcp-authoritative", "--log-dhcp"]
        argv += ["--bind-interfaces", "--except-interface=lo", f"--interface={self._network.bridge}"]
        argv += [f"--dhcp-hostsfile={self._dir}/hosts", f"--dhcp-optsfile={self._dir}/options"]
        argv += [f"--dhcp-leasefile={self._dir}/leases", f"--log-facility={self._dir}/log"]
        for number, subnet in enumerate(self._network.subnets):
            argv += _range(subnet, f"subnet{number}")
        if any(subnet.ipv6_mode or subnet.advertised for subnet in self._network.subnets):
            mtu = f"mtu:{self._network.mtu}," if self._network.mtu else ""
            argv += ["--enable-ra", f"--ra-param={self._network.bridge},{mtu}high,30,1800"]
        known = len(self.log())
        with open(self._dir / "errors", "wb") as errors:
            process = run.current().spawn(argv, stdout=subprocess.DEVNULL, stderr=errors)
        if (
            not wait_for(lambda: "started" in self.log()[known:] or process.poll() is not None, 10)
            or process.returncode
        ):
            process.kill()
            process.wait()
            raise LabError(f"dnsmasq does not start: {(self._dir / 'errors').read_text()}")
        self._process = process

    def _release(self, macs: Set[str]) -> None:
        """Forget leases, as Neutron does with dhcp_release: their addresses may go to others."""
        path = self._dir / "leases"
        with contextlib.suppress(FileNotFoundError):
            kept = [line for line in path.read_text().splitlines() if not set(line.split()) & macs]
            path.write_text("".join(f"{line}\n" for line in kept))


def _range(subnet: Subnet, tag: str) -> List[str]:
    first, prefix = subnet.network.network_address, subnet.network.prefixlen
    if subnet.network.version == 4:
        return (
            [f"--dhcp-range=set:{tag},{first},static,{subnet.network.netmask},{subnet.lease_time}"]
            if subnet.dhcp
            else []
        )
    mode = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless", "dhcpv6-stateful": "static"}.get(
        subnet.ipv6_mode or ("slaac" if subnet.advertised else "")
    )
    lease_time = f",{subnet.lease_time}" if mode == "static" else ""
    return [f"--dhcp-range=set:{tag},{first},{mode},{prefix}{lease_time}"] if mode else []


def _options(subnet: Subnet, mtu: Optional[int]) -> List[str]:
    """Option 121 replaces option 3 in a client that knows it (RFC 3442), so the default route is in both."""
    options = [f"option:mtu,{mtu}"] if mtu else []
    options += [f"option:dns-server,{','.join(subnet.dns)}"] if subnet.dns else []
    routes = [f"{destination},{gateway}" for destination, gateway in subnet.routes]
    if subnet.metadata_route:
        routes.append(f"{metadata.IPV4}/32,{subnet.host_address}")
    if subnet.gateway:
        options.append(f"option:router,{subnet.gateway}")
        routes += [f"0.0.0.0/0,{subnet.gateway}"] if routes else []
    else:
        options.append("option:router")  # none: dnsmasq would offer itself
    if routes:
        options += [f"option:classless-static-route,{','.join(routes)}", f"249,{','.join(routes)}"]
    return options


def is_served(network: Network) -> bool:
    """Whether a network has anything for dnsmasq to do."""
    return any(subnet.dhcp or subnet.ipv6_mode or subnet.advertised for subnet in network.subnets)
