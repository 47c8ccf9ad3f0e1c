# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a guest shows of its ports: the kernel's words, the backend's, and our own record of what was done."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple, Union

import yaml

from tests.lab import VM, Container, LabError, Port

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


def findings_of(guest: Guest, port: Port) -> List[str]:
    """What status says may still come by itself."""
    return [text for row in status(guest)["nics"] if row["mac"] == port.mac for text in row["findings"]]


def timers(guest: Guest) -> List[str]:
    """Our timers that are set; one that has replaced another goes by the first one's name."""
    command = "systemctl list-units --no-legend --plain --type=timer 'cloudinit-osnetd*'"
    return [re.sub(r"-look-\d+[.]", "-look.", line.split()[0]) for line in guest.run(command).stdout.splitlines()]


def reconcile(guest: Guest, *options: str) -> Dict[str, Any]:
    """Reconcile by hand; the record. A NIC that failed fails the test."""
    done = guest.run("cloudinit-osnetd reconcile --json " + " ".join(options), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def reconcile_anyway(guest: Guest, *options: str) -> Dict[str, Any]:
    """Reconcile by hand; the record, also where a NIC failed."""
    done = guest.run("cloudinit-osnetd reconcile --json " + " ".join(options), check=False, timeout=200)
    return dict(json.loads(done.stdout))


def assert_nothing_to_do(guest: Guest) -> None:
    """A second run changes nothing on disk outside /run, and runs no command."""
    # A NIC may be up while the run that brought it up has yet to keep its record.
    wait_until(lambda: _service(guest) in ("inactive", "failed"), 15 * guest.patience, "the service at rest")
    before, store = files(guest), store_of(guest)
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["commands"]) == ([], [], []), record
    assert store_of(guest) == store
    assert files(guest) == before


def _service(guest: Guest) -> str:
    """The state of the service, and what is queued: one word where nothing is."""
    return guest.run("systemctl is-active cloudinit-osnetd.service; ls /run/cloudinit-osnetd/queue", check=False).stdout.strip()


def store_of(guest: Guest) -> Any:
    return json.loads(guest.run("cat /var/lib/cloudinit-osnetd/store.json").stdout)


_LIST_FILES = """
import hashlib, os
for top in ["/etc", "/var/lib/cloudinit-osnetd", "/var/lib/cloud", "/usr/lib/systemd/network", "/lib/systemd/network"]:
    for directory, inside, names in os.walk(top):
        for path in [os.path.join(directory, name) for name in names]:
            # A DHCP client is nobody of ours: where no resolvconf stands between, it writes resolv.conf itself.
            if ".dhclient" in path or "resolvconf/run" in path or path == "/etc/resolv.conf" or os.path.islink(path):
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
        return guest.run(f"cat '/etc/systemd/network/10-cloud-init-{name}.network'", check=False).stdout
    if guest.backend == "nm":
        return guest.run(f"cat '{KEYFILES}/cloud-init-{name}.nmconnection'", check=False).stdout
    if guest.backend == "ifcfg":
        return guest.run(f"cd {IFCFG} && tail -n +1 'ifcfg-{name}' 'route-{name}' 'route6-{name}'", check=False).stdout
    if guest.backend in ("netplan", "netplan_nm"):
        return _definition(guest.run(f"cat {NETPLAN}").stdout, str(name))
    return _stanzas(guest.run("cat /etc/network/interfaces.d/50-cloud-init").stdout, str(name))


def _stanzas(text: str, name: str) -> str:
    """The stanzas of one NIC: from its first line to the next blank line, each."""
    parts = [part.rstrip("\n") for part in text.split("\n\n")]
    return "\n\n".join(part for part in parts if f"auto {name}\n" in part or f"iface {name} " in part)


IFCFG = "/etc/sysconfig/network-scripts"
KEYFILES = "/etc/NetworkManager/system-connections"
PROFILES = {"nm": "cloud-init ", "ifcfg": "System ", "netplan_nm": "netplan-"}  # NetworkManager's names of them, without the NIC's
# As on Enterprise Linux servers. Without it NetworkManager asks for a lease on a NIC that nobody configures, and where
# no DHCP server is a boot waits a minute for that.
NO_WIRED_CONNECTION = {"etc/NetworkManager/conf.d/50-lab.conf": "[main]\nno-auto-default=*\n"}
NETPLAN = "/etc/netplan/50-cloud-init.yaml"


def profile_path(guest: Guest, port: Union[Port, str]) -> str:
    """The file of a NIC's NetworkManager profile."""
    name = port if isinstance(port, str) else guest.nic(port)
    if guest.backend == "netplan_nm":
        return f"/run/NetworkManager/system-connections/netplan-{name}.nmconnection"
    return f"{KEYFILES}/cloud-init-{name}.nmconnection" if guest.backend == "nm" else f"{IFCFG}/ifcfg-{name}"


def file_of(guest: Guest, port: Port) -> str:
    """The file in which a NIC's configuration stands, alone or with others."""
    if guest.backend == "networkd":
        return f"/etc/systemd/network/10-cloud-init-{guest.nic(port)}.network"
    if guest.backend == "ifupdown":
        return "/etc/network/interfaces.d/50-cloud-init"
    return profile_path(guest, port) if guest.backend in ("nm", "ifcfg") else NETPLAN


def netplan_names(text: str) -> List[str]:
    """The ids of all definitions in a netplan file."""
    network = yaml.safe_load(text)["network"]
    return sorted(name for kind in network.values() if isinstance(kind, dict) for name in kind)


def _definition(text: str, name: str) -> str:
    """The lines of one NIC's definition: its key, and what is indented more."""
    found = re.search(rf"^( +){re.escape(name)}:.*\n(?:\1 .*\n)*", text, re.MULTILINE)
    return found[0] if found else ""


def configured_names(guest: Guest) -> List[str]:
    """The NICs that have a configuration on disk."""
    if guest.backend == "networkd":
        found = guest.run("ls /etc/systemd/network").stdout.split()
        return sorted(name[len("10-cloud-init-") : -len(".network")] for name in found if re.match("10-cloud-init-.*[.]network$", name))
    if guest.backend == "nm":
        found = guest.run(f"ls {KEYFILES}").stdout.splitlines()
        return sorted(name[len("cloud-init-") : -len(".nmconnection")] for name in found if re.match("cloud-init-.*[.]nmconnection$", name))
    if guest.backend == "ifcfg":
        found = guest.run(f"ls {IFCFG}").stdout.splitlines()  # a file of routes must go with its NIC too
        return sorted({name.partition("-")[2] for name in found if re.match("(ifcfg|route|route6)-", name)})
    if guest.backend in ("netplan", "netplan_nm"):
        return netplan_names(guest.run(f"cat {NETPLAN}").stdout)
    text = guest.run("cat /etc/network/interfaces.d/50-cloud-init").stdout
    return sorted({line.split()[1] for line in text.splitlines() if line.startswith("iface ")} - {"lo"})


def lacks(guest: Guest, port: Port) -> List[str]:
    """In what the guest does not follow the port: empty where the kernel and the backend show just what it has."""
    name = guest.nic(port)
    if name is None:
        return ["no NIC"]
    try:
        (link,) = ip(guest, f"addr show dev '{name}'")
    except LabError as error:
        if "does not exist" not in str(error):
            raise
        return [f"{name} is gone, or udev has just given it another name"]
    wrong = [] if "UP" in link["flags"] else ["not up"]
    told = not any(s.dhcp or s.ipv6_mode for s, _ in port.subnets())  # else Nova leaves it to the lease
    if told and port.mtu and link["mtu"] != port.mtu:
        wrong.append(f"MTU {link['mtu']}, not {port.mtu}")
    wrong += _wrong_addresses(port, {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"})
    for version, any_network in ((4, "0.0.0.0/0"), (6, "::/0")):
        shown = ip(guest, f"-{version} route show dev '{name}'")
        there = {(r["dst"].replace("default", any_network), r.get("gateway", "")) for r in shown}
        wrong += _wrong_routes(port, version, {route for route in there if route[1]})
    return wrong + _wrong_in_backend(guest, port, name)


def _wrong_addresses(port: Port, there: Set[str]) -> List[str]:
    # Nova tells the first fixed IP of a subnet only (virt/netutils.py); by DHCP the guest gets that one too.
    ours = {(ips[0], 128 if s.ipv6_mode == "dhcpv6-stateful" else s.network.prefixlen) for s, ips in port.subnets()}
    wanted = {f"{address}/{length}" for address, length in ours}
    # A host that is told by DHCPv6 may make itself an address of the advertised prefix as well; Neutron's say no to that.
    return [f"no address {cidr}" for cidr in wanted - there] + [f"address of nobody {cidr}" for cidr in there - wanted]


def _wrong_routes(port: Port, version: int, there: Set[Tuple[str, str]]) -> List[str]:
    """What is wrong with the routes by way of a gateway."""
    wanted: Set[Tuple[str, str]] = set()
    may_be: Set[Tuple[str, str]] = set()
    advertised = {route for route in there if route[0] == "::/0" and route[1].startswith("fe80:")}
    for subnet, _addresses in port.subnets():
        if subnet.network.version != version:
            continue
        default = {("0.0.0.0/0" if version == 4 else "::/0", subnet.gateway)} if subnet.gateway else set()
        if subnet.ipv6_mode:
            # The router advertises its link-local address, Nova tells the subnet's gateway: the same router.
            may_be |= default | advertised
            if not default & there and not advertised:
                return ["no default route, told or advertised"]
        else:
            wanted |= default
        wanted |= set(subnet.routes)
        if subnet.dhcp:
            may_be.add(("169.254.169.254", subnet.host_address))
    strangers = there - wanted - may_be
    return [f"no route {route}" for route in wanted - there] + [f"route of nobody {route}" for route in strangers]


def _wrong_in_backend(guest: Guest, port: Port, name: str) -> List[str]:
    servers = {dns for subnet, _ in port.subnets() for dns in subnet.dns}
    if guest.backend in PROFILES:
        profile = PROFILES[guest.backend] + name
        shown = guest.run(f"nmcli -t -f DEVICE,STATE,CONNECTION device | grep -F -e '{name}:'", check=False).stdout.splitlines()
        wrong = [] if f"{name}:connected:{profile}" in shown else [f"NetworkManager says {shown}"]
        told = set(guest.run(f"nmcli -g IP4.DNS,IP6.DNS device show '{name}'", check=False).stdout.replace("|", " ").replace("\\", "").split())
        if guest.backend == "ifcfg":  # NetworkManager leaves it alone there
            asked = guest.run("cat /etc/resolv.conf").stdout.split()
            leased = {dns for subnet, _ in port.subnets() if subnet.dhcp or subnet.ipv6_mode for dns in subnet.dns}
            # With `dns = none` nobody writes what a lease brings: cloud-init's choice, not ours.
            wrong += [f"{server} is not in resolv.conf" for server in servers - leased if server not in asked]
    elif guest.backend != "ifupdown":
        index = ip(guest, f"link show dev '{name}'")[0]["ifindex"]  # a name is a pattern to networkctl
        shown = json.loads(guest.run(f"networkctl --json=short status {index}", check=False).stdout or "{}")
        # Up to 252 a link stays "configuring" for as long as a router might advertise itself (12 s), whatever it has.
        good = ["configured", "configuring"] if guest.suite in ("bullseye", "bookworm") else ["configured"]
        said = shown.get("AdministrativeState")
        wrong = [] if said in good else [f"networkd says {said}"]
        told = set(guest.run(f"resolvectl dns {index}", check=False).stdout.partition(":")[2].split())
    else:
        up = guest.run("ifquery --state", check=False).stdout.split()
        wrong = [] if f"{name}={name}" in up else [f"ifupdown has {up}"]
        if guest.run("command -v resolvconf", check=False).returncode:
            return wrong  # nobody takes DNS servers from ifupdown here (Debian 13 and later come without it)
        # Not /etc/resolv.conf: resolv.conf(5) takes three servers, of whatever number of NICs.
        lines = guest.run(f"cat /run/resolvconf/interface/{name}.[a-z]*", check=False).stdout.splitlines()
        told = {line.split()[1] for line in lines if line.startswith("nameserver ")}
    wrong += [f"DNS server {server} not in use" for server in servers - told]
    # A port whose subnets name none is served by the global ones, of which the guest may have those of a moment ago.
    return wrong + [f"DNS server {server} of nobody" for server in told - servers if servers]


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
    if guest.backend in PROFILES:
        loaded, profile = "nmcli -g NAME connection", PROFILES[guest.backend] + name
        wait_until(lambda: profile not in guest.run(loaded).stdout.splitlines(), seconds, f"{name}'s profile unloaded")
    if guest.backend == "ifupdown":
        wait_until(lambda: f"{name}=" not in guest.run("ifquery --state", check=False).stdout, seconds, f"{name} out of ifstate")
        assert f"dhclient.{name}" not in guest.run("ps axww").stdout
        assert guest.run(f"ls /run/resolvconf/interface | grep '^{name}[.]'", check=False).stdout == ""


def log_of(guest: Guest) -> str:
    return guest.run("journalctl -b --no-pager -o cat -u cloudinit-osnetd.service").stdout


def starts(guest: Guest) -> int:
    """How often the service was started in this boot."""
    # Before a restart systemd 252 and earlier also say that it was stopped.
    return len(re.findall("^Started .*Let the server follow its OpenStack ports", log_of(guest), re.MULTILINE))


def settled(guest: Guest, seconds: float = 10, fails: bool = False) -> None:
    """The service has ended and nothing is queued; `fails`: it had to say that a NIC failed."""
    word = "failed" if fails else "inactive"
    wait_until(lambda: _service(guest) == word, seconds * guest.patience, f"the service {word}")


def proved_unique(guest: Guest) -> None:
    """Duplicate address detection is over (RFC 4862, a second or two). Until then there is no IPv6 to ask by.

    Who knows a port whose fixed IP was edited is the metadata service's IPv6 address alone.
    """
    wait_until(lambda: "tentative" not in guest.run("ip -6 addr").stdout, 5 * guest.patience, "the addresses proved unique")


def assert_boot(guest: Guest, level: str, rules: Sequence[str] = ()) -> None:
    """The boot went as it should, from the fallback level that it should. `rules`: somebody's files that name NICs."""
    settled(guest)
    boot = status(guest)["boot"]
    assert boot["level"] == level, boot
    assert "error" not in boot.get("early", {"error": "the early unit did not run"}), boot
    assert guest.cloud_init_errors() == []
    assert guest.run("cloud-init status", check=False).stdout.split()[-1] == "done"
    failed = guest.run("systemctl --failed --no-legend --plain").stdout
    assert failed == "", failed
    log = guest.run("cat /var/log/cloud-init.log").stdout
    assert "Failed to rename" not in log and "osnetd" not in _warnings(log), _warnings(log)
    naming = "ls -d /etc/udev/rules.d/* /etc/systemd/network/* | grep -e persistent-net -e '[.]link$'"
    assert guest.run(naming, check=False).stdout.split() == list(rules)


def _warnings(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if "[WARNING]" in line or "[ERROR]" in line)
