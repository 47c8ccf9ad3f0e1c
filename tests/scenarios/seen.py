# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a guest shows of its ports: the kernel's words, the backend's, and our own record of what was done."""

from __future__ import annotations

import ipaddress
import json
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from tests.lab import VM, Container, Port

Guest = Union[Container, VM]


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> float:
    """Wait for it; the seconds that it took. Fails with `what`, and the last value, if it does not come true."""
    began = time.monotonic()
    while True:
        value = true()
        if value:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what} ({value!r})")
        time.sleep(0.02)


def ip(guest: Guest, words: str) -> List[Dict[str, Any]]:
    return list(json.loads(guest.run(f"ip -json {words}").stdout or "[]"))


def status(guest: Guest) -> Dict[str, Any]:
    return dict(json.loads(guest.run("cloudinit-osnetd status --json", check=False).stdout))


def state_of(guest: Guest, port: Port) -> str:
    """What status says of the port's NIC."""
    rows = [row for row in status(guest)["nics"] if row["mac"] == port.mac]
    return str(rows[0]["state"]) if rows else "unknown"


def reason_of(guest: Guest, port: Port) -> str:
    """Why status says that."""
    (row,) = [row for row in status(guest)["nics"] if row["mac"] == port.mac]
    return str(row["reason"])


def timers(guest: Guest) -> List[str]:
    """Our timers that are set."""
    command = "systemctl list-units --no-legend --plain --type=timer 'cloudinit-osnetd*'"
    return [line.split()[0] for line in guest.run(command).stdout.splitlines()]


def reconcile(guest: Guest, *options: str) -> Dict[str, Any]:
    """Reconcile by hand; the record. A NIC that failed fails the test."""
    done = guest.run("cloudinit-osnetd reconcile --json " + " ".join(options), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def assert_nothing_to_do(guest: Guest) -> None:
    """A second run changes nothing on disk outside /run, and runs no command."""
    before = files(guest)
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["commands"]) == ([], [], []), record
    assert files(guest) == before


_LIST_FILES = """
import hashlib, os
for top in ["/etc", "/var/lib/cloudinit-osnetd", "/var/lib/cloud", "/usr/lib/systemd/network", "/lib/systemd/network"]:
    for directory, inside, names in os.walk(top):
        for path in [os.path.join(directory, name) for name in names]:
            if ".dhclient" in path or "resolvconf/run" in path or os.path.islink(path):
                continue
            about, content = os.stat(path), open(path, "rb").read()
            print(about.st_mtime_ns, about.st_uid, about.st_gid, oct(about.st_mode), hashlib.sha256(content).hexdigest(), path)
"""


def files(guest: Guest) -> Dict[str, str]:
    """Everything that a run could write outside /run: path to time, owner, mode and the content's hash."""
    listed = guest.run(f"python3 -c '{_LIST_FILES}'").stdout
    return {path: about for about, _, path in (line.rpartition(" ") for line in listed.splitlines())}


def configuration(guest: Guest, port: Port) -> str:
    """The port's own configuration on disk, byte for byte."""
    name = guest.nic(port)
    if guest.backend == "networkd":
        return guest.run(f"cat /etc/systemd/network/10-cloud-init-{name}.network", check=False).stdout
    return _stanzas(guest.run("cat /etc/network/interfaces.d/50-cloud-init").stdout, str(name))


def _stanzas(text: str, name: str) -> str:
    """The stanzas of one NIC: from its first line to the next blank line, each."""
    return "\n\n".join(part for part in text.split("\n\n") if f"auto {name}\n" in part or f"iface {name} " in part)


def configured_names(guest: Guest) -> List[str]:
    """The NICs that have a configuration on disk."""
    if guest.backend == "networkd":
        found = guest.run("ls /etc/systemd/network").stdout.split()
        return sorted(name[len("10-cloud-init-") : -len(".network")] for name in found if name.startswith("10-cloud-init-"))
    text = guest.run("cat /etc/network/interfaces.d/50-cloud-init").stdout
    return sorted({line.split()[1] for line in text.splitlines() if line.startswith("iface ")} - {"lo"})


def _routes(port: Port) -> List[Tuple[str, Optional[str]]]:
    """(network, gateway) of the routes that a port brings, as `ip route` writes them."""
    routes = []
    for subnet, _addresses in port.subnets():
        if subnet.gateway:
            routes.append(("default", subnet.gateway))
        routes += [(network, gateway) for network, gateway in subnet.routes]
    return routes


def lacks(guest: Guest, port: Port) -> List[str]:
    """In what the guest does not follow the port: empty where the kernel and the backend show all of it."""
    name = guest.nic(port)
    if name is None:
        return ["no NIC"]
    (link,) = ip(guest, f"addr show dev {name}")
    wrong = [] if "UP" in link["flags"] else ["not up"]
    there = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
    for subnet, addresses in port.subnets():
        # Nova tells the first fixed IP of a subnet only (virt/netutils.py); by DHCP the guest gets that one too.
        cidr = f"{addresses[0]}/{subnet.network.prefixlen}"
        if cidr not in there:
            wrong.append(f"no address {cidr}")
    ours = {f"{ip}/{s.network.prefixlen}" for s, ips in port.subnets() for ip in ips}
    strangers = [a for a in there if a not in ours and ipaddress.ip_interface(a).version == 4]
    if strangers:
        wrong.append(f"addresses of nobody: {strangers}")
    if port.mtu and link["mtu"] != port.mtu and not any(s.dhcp for s, _ in port.subnets()):
        wrong.append(f"MTU {link['mtu']}, not {port.mtu}")
    version = "-6 " if any(":" in (gateway or "") for _, gateway in _routes(port)) else ""
    routes = {(r["dst"], r.get("gateway")) for r in ip(guest, f"{version}route show dev {name}")}
    wrong += [f"no route {route}" for route in _routes(port) if route not in routes]
    return wrong + _lacks_in_backend(guest, port, name)


def _lacks_in_backend(guest: Guest, port: Port, name: str) -> List[str]:
    servers = [dns for subnet, _ in port.subnets() for dns in subnet.dns]
    if guest.backend == "networkd":
        shown = json.loads(guest.run(f"networkctl --json=short status {name}", check=False).stdout or "{}")
        wrong = [] if shown.get("AdministrativeState") == "configured" else [f"networkd says {shown.get('AdministrativeState')}"]
        told = guest.run(f"resolvectl dns {name}", check=False).stdout.split()
    else:
        up = guest.run("ifquery --state", check=False).stdout.split()
        wrong = [] if f"{name}={name}" in up else [f"ifupdown has {up}"]
        # Not /etc/resolv.conf: resolv.conf(5) takes three servers, of whatever number of NICs.
        told = guest.run(f"cat /run/resolvconf/interface/{name}.*", check=False).stdout.split()
    return wrong + [f"DNS server {server} not in use" for server in servers if server not in told]


def assert_follows(guest: Guest, *ports: Port, seconds: float = 15) -> float:
    """Every port is followed within so many seconds; the seconds that the last one took."""
    began = time.monotonic()
    for port in ports:
        left = max(0.0, seconds * guest.patience - (time.monotonic() - began))
        last: List[str] = []

        def followed(port: Port = port) -> bool:
            last[:] = lacks(guest, port)
            return not last

        try:
            wait_until(followed, left, str(port))
        except AssertionError:
            raise AssertionError(f"{port} is not followed: {last}") from None
    return time.monotonic() - began


def assert_gone(guest: Guest, name: str, seconds: float = 6) -> None:
    """Nothing of a departed NIC is left: no configuration, no state of the backend's, no DHCP client."""
    seconds *= guest.patience
    wait_until(lambda: name not in configured_names(guest), seconds, f"configuration of {name} removed")
    if guest.backend == "ifupdown":
        wait_until(lambda: f"{name}=" not in guest.run("ifquery --state", check=False).stdout, seconds, f"{name} out of ifstate")
        assert f"dhclient.{name}" not in guest.run("ps axww").stdout


def log_of(guest: Guest) -> str:
    return guest.run("journalctl -b --no-pager -o cat -u cloudinit-osnetd.service").stdout


def starts(guest: Guest) -> int:
    """How often the service was started in this boot."""
    return log_of(guest).count("Let the server follow its OpenStack ports.")


def settled(guest: Guest, seconds: float = 10) -> None:
    """The service has ended and nothing is queued."""
    script = "systemctl is-active cloudinit-osnetd.service; ls /run/cloudinit-osnetd/queue"
    wait_until(lambda: guest.run(script, check=False).stdout.strip() == "inactive", seconds * guest.patience, "the service ended")


def assert_boot(guest: Guest, rung: str) -> None:
    """The boot went as it should, by the rung that it should."""
    settled(guest)
    boot = status(guest)["boot"]
    assert boot["rung"] == rung, boot
    assert "error" not in boot.get("early", {"error": "the early unit did not run"}), boot
    assert guest.cloud_init_errors() == []
    assert guest.run("cloud-init status", check=False).stdout.split()[-1] == "done"
    failed = guest.run("systemctl --failed --no-legend --plain").stdout
    assert failed == "", failed
    log = guest.run("cat /var/log/cloud-init.log").stdout
    assert "Failed to rename" not in log and "osnetd" not in _warnings(log), _warnings(log)
    assert guest.run("ls /etc/udev/rules.d /etc/systemd/network | grep -e persistent-net -e '[.]link$'", check=False).stdout == ""


def _warnings(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if "[WARNING]" in line or "[ERROR]" in line)
