# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is written for the next boot: read back by the package's own readers, by a shell, by `ip`, by netplan itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, Set, Tuple

import pytest
import yaml

from cloudinit_osnetd.backends.eni import stanza_meaning
from cloudinit_osnetd.backends.netplan import yaml_meaning
from cloudinit_osnetd.core import network_data
from tests.lab import netns

from .conftest import BACKENDS, MACS, Place, document, link, static
from .test_document import DOCUMENTS

KINDS: Dict[str, Dict[str, Any]] = {
    "static": document(link(0), static(0, "10.0.0.5/24", "10.0.0.1"), dns=["10.0.0.53"]),
    "several": document(
        link(0),
        static(0, "10.0.0.5/24", "10.0.0.1", [("10.8.0.0/16", "10.0.0.2")]),
        static(0, "10.0.0.6/24"),
        static(0, "10.3.0.6/25"),
        dns=["10.0.0.53", "10.0.0.54"],
    ),
    "dual": document(link(0), static(0, "10.0.0.5/24", "10.0.0.1"), static(0, "2001:db8::5/64", "2001:db8::1"), static(0, "2001:db8::6/64")),
    "ipv6 alone": document(link(0), static(0, "2001:db8::5/64", "fe80::1"), dns=["2001:db8::53"]),
    "off-subnet": document(link(0), static(0, "10.0.0.5/32", "10.9.9.1"), static(0, "2001:db8::5/128", "2001:db8:9::1")),
    "dhcp": document(link(0), {"link": "tap0", "type": "ipv4_dhcp"}),
    "dhcp and static": document(link(0), {"link": "tap0", "type": "ipv4_dhcp"}, static(0, "2001:db8::5/64", "2001:db8::1")),
    "slaac": document(link(0, mtu=None), {"link": "tap0", "type": "ipv6_slaac"}),
    "dhcp6": document(link(0), {"link": "tap0", "type": "ipv6_dhcpv6-stateful"}),
    "nothing": document(link(0)),
}


def made(legacy: ModuleType, tmp_path: Path, backend: str, said: Dict[str, Any], metric: int = 0) -> Tuple[Any, Dict[str, str]]:
    """What a backend makes of a document, for its one NIC as eth0: (its Config, the files)."""
    for path, text in BACKENDS[backend].items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (wanted,) = legacy.parse_document(said).links.values()
    config = legacy.config_of(wanted, "eth0", metric)
    chosen = legacy.backend_of(legacy.Places(str(tmp_path)))
    return config, chosen.files([config], ["lo", "eth0"])


def entry_lines(said: Dict[str, Any], usual6: str = "") -> Set[str]:
    """What the package wants of the document's NIC, in the words of its readers (cloudinit_osnetd.core.meaning)."""
    (entry,) = network_data.parse(said).entries.values()
    lines = {f"address {net.address}" for net in entry.networks if net.address}
    for net in entry.networks:
        lines |= {{"ipv4_dhcp": "dhcp4", "ipv6_slaac": "slaac", "ipv6_dhcpv6-stateful": "dhcp6"}.get(net.type, "")} - {""}
        lines |= {f"route {route.text.replace(' on the link', '')}" for route in net.routes}
    lines |= {f"mtu {entry.mtu}"} if entry.mtu else set()
    servers = [service["address"] for service in said["services"]]
    return lines | ({"dns " + " ".join(servers)} if servers else set())


def route_line(route: network_data.Route) -> str:
    metric = f" metric {route.metric}" if route.metric else ""
    return f"route {route.text.replace(' on the link', '')}{metric}"


# -- ifupdown ------------------------------------------------------------------------------------------------------


def commands_as_options(lines: Set[str]) -> Set[str]:
    """An MTU or a link's state by a command that may fail is one."""
    found = set()
    for line in lines:
        words = line.split()
        if words[:6] == ["pre-up", "ip", "link", "set", "dev", "eth0"]:
            found |= {f"mtu {words[7]}"} if words[6] == "mtu" else set()
        elif line not in ("inet manual", "inet6 manual", "start at boot"):
            found.add(line)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_ifupdown_reads_what_the_package_would_write(legacy: ModuleType, tmp_path: Path, kind: str) -> None:
    said = KINDS[kind]
    config, files = made(legacy, tmp_path, "interfaces", said)
    text = files["/etc/network/interfaces"]
    section = text[text.index(legacy._BEGIN) :]
    ways = {f"route {gateway}/{128 if ':' in gateway else 32}" for gateway in config.onlink}
    assert commands_as_options(set(stanza_meaning.of(section, "eth0"))) - ways == entry_lines(said)
    # Its own reading of what it wrote.
    ours, hooks = legacy.eni_said(text, "eth0")
    assert ours.addresses == set(config.addresses)
    assert {route[:2] for route in ours.routes} == {route[:2] for route in legacy.all_routes(config)}
    assert hooks == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_ifupdown_of_documents_of_others(legacy: ModuleType, path: Path) -> None:
    """Each physical link of each document, by the package's reader."""
    raw = path.read_bytes()
    theirs = network_data.parse_bytes(raw)
    for mac, wanted in legacy.parse_bytes(raw).links.items():
        config = legacy.config_of(wanted, "eth0", 0)
        lines = stanza_meaning.of(legacy.eni_section([config], {}, False), "eth0")
        entry = theirs.entries[mac + "/phy"]
        routes = {route for net in entry.networks for route in net.routes}
        assert {line for line in lines if line.startswith("address ")} == {f"address {net.address}" for net in entry.networks if net.address}
        expected = {route_line(route) for route in routes}
        ways = {f"route {gateway}/{128 if ':' in gateway else 32}" for gateway in config.onlink}
        assert {line for line in lines if line.startswith("route ")} == expected | ways


IMAGE = """\
# This file describes the network interfaces
auto lo eth0
iface lo inet loopback

# the image's own
allow-hotplug eth1 eth2
iface eth0 inet dhcp
    up /usr/local/sbin/firewall \\
        --up
    post-up ip route add 10.7.0.0/16 via 10.0.0.9 || true
iface eth1 inet dhcp
iface eth2 inet dhcp
iface eth0:1 inet static
    address 192.0.2.1/32
"""


def test_the_rest_of_a_file_is_kept_and_what_is_replaced_can_be_taken_back(legacy: ModuleType, tmp_path: Path) -> None:
    config, _files = made(legacy, tmp_path, "interfaces", KINDS["static"])
    (tmp_path / "etc/network/interfaces").write_text(IMAGE)
    backend = legacy.backend_of(legacy.Places(str(tmp_path)))
    text = backend.files([config], ["lo", "eth0", "eth1"])["/etc/network/interfaces"]
    assert legacy.eni_plain(text).rstrip("\n") == IMAGE.rstrip("\n")
    live = [line for line in text.splitlines() if line and not line.startswith("#")]
    # eth1 is here and nobody's business of ours; eth2 is not: udev would give it a client for two minutes when it comes.
    assert "auto lo" in live and "allow-hotplug eth1" in live and "iface eth1 inet dhcp" in live
    assert "iface eth2 inet dhcp" not in live and "iface eth0 inet dhcp" not in live
    assert "iface eth0:1 inet static" in live
    # Somebody's command stays with the NIC; the route, which cloud-init wrote, does not.
    section = text[text.index(legacy._BEGIN) :]
    assert "    up /usr/local/sbin/firewall --up\n" in section
    assert "10.7.0.0" not in section
    # Twice the same.
    (tmp_path / "etc/network/interfaces").write_text(text)
    assert backend.files([config], ["lo", "eth0", "eth1"])["/etc/network/interfaces"] == text
    # No NIC of ours is left: the file is what it was.
    assert backend.files([], ["lo"])["/etc/network/interfaces"].rstrip("\n") == IMAGE.rstrip("\n")


def test_files_that_ifup_does_not_read_are_none_of_ours(legacy: ModuleType, tmp_path: Path) -> None:
    for path, text in {
        "etc/network/interfaces": "source-directory interfaces.d\nsource /etc/network/more/*\n",
        "etc/network/interfaces.d/50-cloud-init.cfg": "auto eth0\niface eth0 inet dhcp\n",  # its name has a dot
        "etc/network/interfaces.d/eth0": "auto eth0\niface eth0 inet dhcp\n",
        "etc/network/more/x": "source /etc/network/interfaces\n",  # a circle
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    backend = legacy.backend_of(legacy.Places(str(tmp_path)))
    assert backend.sources() == ["/etc/network/interfaces", "/etc/network/interfaces.d/eth0", "/etc/network/more/x"]
    assert backend.home() == "/etc/network/interfaces"


def test_a_second_nic_has_metrics_and_no_boot_waits_for_its_lease(legacy: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "lib/udev").mkdir(parents=True)
    (tmp_path / "lib/udev/ifupdown-hotplug").touch()
    _config, files = made(legacy, tmp_path, "interfaces", KINDS["dhcp"], metric=2100)
    text = files["/etc/network/interfaces"]
    section = text[text.index(legacy._BEGIN) :]
    assert "allow-hotplug eth0\n" in section and "auto eth0" not in section
    assert "    metric 2100\n" in section


# -- ifcfg: a shell reads these, and the initscripts hand each line of a route file to `ip route add` ---------------------


def sourced(text: str) -> Dict[str, str]:
    done = subprocess.run(["bash", "-c", "set -a; env -i true; . /dev/stdin; env"], input=text, stdout=subprocess.PIPE, text=True, check=True, env={})
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.split("=", 1)[0] not in ("PWD", "SHLVL", "_", "PATH"))


def initscripts(place: Place, name: str) -> None:
    """What ifup-eth, ifup-ipv6 and ifup-routes of Enterprise Linux 6 do with the files of a NIC."""
    directory = place.root / "etc/sysconfig/network-scripts"
    said = sourced((directory / f"ifcfg-{name}").read_text())
    assert said["DEVICE"] == name and said["ONBOOT"] == "yes"
    commands = [f"link set dev {name} up"] + ([f"link set dev {name} mtu {said['MTU']}"] if "MTU" in said else [])
    numbers = [number for number in ["", *map(str, range(10))] if f"IPADDR{number}" in said]
    commands += [f"addr add {said[f'IPADDR{number}']}/{said[f'PREFIX{number}']} brd + dev {name}" for number in numbers]
    commands += [f"-6 addr add {cidr} dev {name}" for cidr in [said.get("IPV6ADDR", ""), *said.get("IPV6ADDR_SECONDARIES", "").split()] if cidr]
    if "GATEWAY" in said:
        commands.append(f"route replace default via {said['GATEWAY']}")
    if "IPV6_DEFAULTGW" in said:
        gateway, _percent, device = said["IPV6_DEFAULTGW"].partition("%")
        commands.append(f"-6 route add default via {gateway}" + (f" dev {device}" if device else ""))
    for kind, words in (("route", "route add"), ("route6", "-6 route add")):
        path = directory / f"{kind}-{name}"
        lines = path.read_text().splitlines() if path.exists() else []
        commands += [f"{words} {line}" for line in lines if line and not line.startswith("#")]
    for command in commands:
        netns.output(place.namespace, ["ip", *command.split()])


@pytest.mark.parametrize("backend", ["ifcfg"])
@pytest.mark.parametrize("kind", ["static", "several", "dual", "ipv6 alone", "off-subnet"])
def test_after_a_boot_by_initscripts_a_nic_has_what_it_had_live(place: Place, backend: str, kind: str) -> None:
    """Live by `apply`; then the NIC is emptied and filled from the files."""
    assert place.apply(KINDS[kind]).status == 0
    live = (place.addresses("eth0"), place.routes("eth0"), place.mtu("eth0"))
    place.ip("addr flush dev eth0", "link set eth0 down", "link set eth0 mtu 1500")
    initscripts(place, "eth0")
    assert (place.addresses("eth0"), place.routes("eth0"), place.mtu("eth0")) == live
    assert place.apply(KINDS[kind]).commands() == [], "and a run after the boot has nothing to do"


def test_ifcfg_says_what_the_package_wants(legacy: ModuleType, tmp_path: Path) -> None:
    _config, files = made(legacy, tmp_path, "ifcfg", KINDS["several"])
    assert sourced(files["/etc/sysconfig/network-scripts/ifcfg-eth0"]) == {
        "DEVICE": "eth0", "HWADDR": MACS[0], "TYPE": "Ethernet", "ONBOOT": "yes", "BOOTPROTO": "none", "MTU": "1450",
        "IPADDR": "10.0.0.5", "PREFIX": "24", "IPADDR1": "10.0.0.6", "PREFIX1": "24", "IPADDR2": "10.3.0.6", "PREFIX2": "25",
        "GATEWAY": "10.0.0.1", "DNS1": "10.0.0.53", "DNS2": "10.0.0.54",
    }  # fmt: skip
    assert files["/etc/sysconfig/network-scripts/route-eth0"].splitlines()[1:] == ["10.8.0.0/16 via 10.0.0.2 dev eth0"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("dhcp", {"BOOTPROTO": "dhcp"}),
        ("slaac", {"BOOTPROTO": "none", "IPV6INIT": "yes", "IPV6_AUTOCONF": "yes"}),
        ("dhcp6", {"BOOTPROTO": "none", "IPV6INIT": "yes", "IPV6_AUTOCONF": "yes", "DHCPV6C": "yes"}),
        ("dhcp and static", {"BOOTPROTO": "dhcp", "IPV6INIT": "yes", "IPV6_AUTOCONF": "no", "IPV6ADDR": "2001:db8::5/64"}),
    ],
)
def test_ifcfg_of_leases_and_advertisements(legacy: ModuleType, tmp_path: Path, kind: str, said: Dict[str, str]) -> None:
    _config, files = made(legacy, tmp_path, "ifcfg", KINDS[kind])
    found = sourced(files["/etc/sysconfig/network-scripts/ifcfg-eth0"])
    assert {key: found.get(key) for key in said} == said


def test_other_peoples_lines_of_an_ifcfg_file_stay_and_a_nic_of_another_name_leaves_one_file(place_ifcfg: Place) -> None:
    place, directory = place_ifcfg, "etc/sysconfig/network-scripts"
    place.write(f"{directory}/ifcfg-eth5", f'DEVICE="eth5"\nHWADDR="{MACS[0].upper()}"\nBOOTPROTO="dhcp"\nZONE=internal\nNM_CONTROLLED=no\nDNS1=1.2.3.4\n')
    place.write(f"{directory}/ifcfg-br0", "DEVICE=br0\nTYPE=Bridge\n")
    assert place.apply(KINDS["static"]).status == 0
    found = sourced(place.read(f"{directory}/ifcfg-eth0"))
    assert (found["ZONE"], found["NM_CONTROLLED"], found["DNS1"], found["BOOTPROTO"]) == ("internal", "no", "10.0.0.53", "none")
    names = sorted(path.name for path in (place.root / directory).iterdir())
    assert names == ["ifcfg-br0", "ifcfg-eth0", "ifcfg-lo"]


@pytest.fixture
def place_ifcfg(place: Place) -> Place:
    (place.root / "etc/network/interfaces").unlink()
    place.write("etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\n")
    return place


# -- netplan -------------------------------------------------------------------------------------------------------

OTHERS = """\
# written by cloud-init
network:
    version: 2
    ethernets:
        eth0:
            addresses:
            - 10.0.0.9/24
            gateway4: 10.0.0.1
            match:
                macaddress: fa:16:3e:00:00:00
            set-name: eth0
        # the operator's
        eth7:
            dhcp4: true
    vlans:
        vlan7: {id: 7, link: eth7}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_netplan_reads_what_the_package_would_write(legacy: ModuleType, tmp_path: Path, kind: str) -> None:
    config, files = made(legacy, tmp_path, "netplan", KINDS[kind])
    text = files["/etc/netplan/50-cloud-init.yaml"]
    nic = yaml.safe_load(text)["network"]["ethernets"]["eth0"]
    assert nic["match"] == {"macaddress": MACS[0]}
    assert "set-name" not in nic
    lines = {line for line in yaml_meaning.of(yaml.safe_dump({"ethernets": {"eth0": nic}})) if not line.startswith("match")} - {"accept-ra yes", "kind ethernets"}
    expected = entry_lines(KINDS[kind])
    expected = {line + (" onlink" if line.startswith("route") and line.split()[3] in config.onlink else "") for line in expected}
    assert lines - {"slaac"} == expected - {"slaac"}


def test_other_blocks_of_a_netplan_file_stay_to_the_letter(legacy: ModuleType, tmp_path: Path) -> None:
    config, _files = made(legacy, tmp_path, "netplan", KINDS["static"])
    (tmp_path / "etc/netplan/50-cloud-init.yaml").write_text(OTHERS)
    (tmp_path / "etc/netplan/01-netcfg.yaml").write_text("network:\n  ethernets:\n    eth0:\n      dhcp4: yes\n")
    backend = legacy.backend_of(legacy.Places(str(tmp_path)))
    files = backend.files([config], ["eth0"])
    text = files["/etc/netplan/50-cloud-init.yaml"]
    said = yaml.safe_load(text)["network"]
    assert said["ethernets"]["eth7"] == {"dhcp4": True}
    assert said["vlans"] == {"vlan7": {"id": 7, "link": "eth7"}}
    assert said["ethernets"]["eth0"]["addresses"] == ["10.0.0.5/24"]
    assert "        # the operator's\n        eth7:\n            dhcp4: true\n    vlans:\n" in text
    assert yaml.safe_load(files["/etc/netplan/01-netcfg.yaml"]) == {"network": {"ethernets": {}}}
    for path, content in files.items():
        (tmp_path / path.lstrip("/")).write_text(content)
    assert backend.files([config], ["eth0"]) == files
    assert yaml.safe_load(backend.files([], [])["/etc/netplan/50-cloud-init.yaml"])["network"]["ethernets"] == {"eth7": {"dhcp4": True}}


@pytest.mark.parametrize("text", ["{network: {version: 2}}\n", "network: {ethernets: {eth0: {dhcp4: true}}}\n", "network:\n\tethernets:\n", "network:\n  ethernets: {eth0: {}}\n"])
@pytest.mark.parametrize("backend", ["netplan"])
def test_a_netplan_file_that_is_written_otherwise_stays_and_is_named(place: Place, backend: str, text: str) -> None:
    place.write("etc/netplan/50-cloud-init.yaml", text)
    done = place.apply(KINDS["static"])
    assert done.status == 1
    assert "/etc/netplan/50-cloud-init.yaml" in done.out
    assert place.read("etc/netplan/50-cloud-init.yaml") == text


@pytest.fixture(scope="module")
def netplan_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root in which netplan is: of the lab, where it has one already. None is bootstrapped for this."""
    from tests.lab import roots, run

    trees = sorted(path for path in (run.lab_dir() / "trees").glob("*-netplan-vm-*") if (path / "usr/sbin/netplan").exists())
    if os.geteuid() != 0 or not trees:
        pytest.skip("the lab has made no root with netplan yet (a scenario on trixie-netplan does), or this is not root")
    with roots.overlay(str(trees[-1]), tmp_path_factory.mktemp("netplan")) as root:
        yield root


@pytest.mark.parametrize("kind", KINDS)
def test_netplan_itself_takes_it(legacy: ModuleType, tmp_path: Path, netplan_root: Path, kind: str) -> None:
    config, files = made(legacy, tmp_path, "netplan", KINDS[kind])
    tree = netplan_root / "root" / "tree"
    for path in (tree / "etc/netplan", tree / "run"):
        path.mkdir(parents=True, exist_ok=True)
    (tree / "etc/netplan/50-cloud-init.yaml").write_text(files["/etc/netplan/50-cloud-init.yaml"])
    done = subprocess.run(["chroot", str(netplan_root), "netplan", "generate", "--root-dir", "/root/tree"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    generated = (tree / "run/systemd/network/10-netplan-eth0.network").read_text()
    for address in config.addresses:
        assert f"Address={address}\n" in generated
    for gateway in config.onlink:
        assert "GatewayOnLink=true\n" in generated and f"Gateway={gateway}\n" in generated


# -- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_backup_and_restored_to_the_letter(place: Place, backend: str) -> None:
    before = place.files()
    assert place.apply(KINDS["dual"]).status == 0
    assert place.apply(KINDS["off-subnet"]).status == 0
    backups = [path for path in place.files() if "/backup/" in path]
    assert len(backups) == len(set(backups)) > 0 or backend == "ifcfg"
    assert not [path for path in place.files() if path.rpartition("/")[2].startswith(".")], "half-written files"
    assert place.run("uninstall", "--restore").status == 0
    assert place.files() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_uninstall_the_network_stays_and_nothing_of_ours_is_left(place: Place, backend: str) -> None:
    assert place.apply(KINDS["several"]).status == 0
    addresses = place.addresses("eth0")
    assert place.run("uninstall").status == 0
    assert place.addresses("eth0") == addresses
    for path, content in place.files().items():
        assert b"osnetd" not in content and "osnetd" not in path
    assert any(b"10.3.0.6" in content for content in place.files().values()), "the files still have it"
    assert not (place.root / "run/osnetd-legacy").exists()


def test_symbolic_links_modes_and_odd_bytes_survive(place: Place) -> None:
    real = place.root / "etc/network/real"
    real.write_bytes(b"# caf\xe9\nauto lo\niface lo inet loopback\n")
    real.chmod(0o640)
    link_ = place.root / "etc/network/interfaces"
    link_.unlink()
    link_.symlink_to("real")
    assert place.apply(KINDS["static"]).status == 0
    assert link_.is_symlink()
    assert real.read_bytes().startswith(b"# caf\xe9\nauto lo\n")
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_or_one_that_is_read_only_leaves_the_old_file(place: Place) -> None:
    """/etc/network cannot be written: the live network is as wanted, the status tells, the file is the old one."""
    before = place.read("etc/network/interfaces")
    script = 'mount --bind "$1/etc/network" "$1/etc/network"; mount -o remount,bind,ro "$1/etc/network"; shift; exec "$@"'
    words = ["ip", "netns", "exec", place.namespace, "unshare", "--mount", "sh", "-c", script, "sh", str(place.root)]
    argv = [place.python, "-B", str(Path(__file__).parent.parent.parent / "legacy/osnetd_legacy.py"), "--root", str(place.root), "apply", "-"]
    done = subprocess.run([*words, *argv], input=json.dumps(KINDS["static"]).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 70
    assert b"Read-only file system" in done.stderr
    assert place.read("etc/network/interfaces") == before

