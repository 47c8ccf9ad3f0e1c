# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Files as images, installers, cloud-init's releases and people write them: what they give eth0 is read, the rest is kept."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Dict, List, Set

import pytest
import yaml

from .conftest import MACS
from .test_files import KINDS

# name -> (file, addresses and routes that it gives eth0, lines that must be in force afterwards)
INTERFACES: Dict[str, List[object]] = {
    "Ubuntu 14.04 image": ["auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*.cfg\n", [], ["source /etc/network/interfaces.d/*.cfg"]],
    "Nova's injected template": [
        ("# Injected by Nova on instance boot\nauto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n    hwaddress ether fa:16:3e:00:00:00\n"
        "    address 10.0.0.5\n    netmask 255.255.255.0\n    broadcast 10.0.0.255\n    gateway 10.0.0.1\n    dns-nameservers 10.0.0.2\n"),
        ["10.0.0.5/24", "0.0.0.0/0 10.0.0.1"],
        ["auto lo"],
    ],
    "cloud-init 0.7.9": [
        ("auto lo\niface lo inet loopback\n    dns-nameservers 10.0.0.2\n\nauto eth0\niface eth0 inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n    mtu 1450\n"
        "    post-up route add -net 10.8.0.0 netmask 255.255.0.0 gw 10.0.0.9 || true\n    pre-down route del -net 10.8.0.0 netmask 255.255.0.0 gw 10.0.0.9 || true\n"),
        ["10.0.0.5/24", "0.0.0.0/0 10.0.0.1", "10.8.0.0/16 10.0.0.9"],
        ["    dns-nameservers 10.0.0.2"],
    ],
    "cloud-init 19.4, IPv6": [
        ("auto eth0\niface eth0 inet6 static\n    address 2001:db8::5/64\n    post-up route add -A inet6 default gw 2001:db8::1 || true\n"
        "    pre-down route del -A inet6 default gw 2001:db8::1 || true\n"),
        ["2001:db8::5/64", "::/0 2001:db8::1"],
        [],
    ],
    "two stanzas and an alias": [
        ("auto eth0 eth0:1\nallow-hotplug eth0\niface eth0 inet static\n\taddress 10.0.0.5\n\tnetmask 24\niface eth0 inet static\n  address 10.0.0.6/25\n"
        "iface eth0:1 inet static\n  address 192.0.2.7\n  netmask 255.255.255.255\n"),
        ["10.0.0.5/24", "10.0.0.6/25"],
        ["auto eth0:1", "iface eth0:1 inet static", "  address 192.0.2.7"],
    ],
    "bridges and VLANs of an operator": [
        "auto br0\niface br0 inet static\n  address 10.1.0.1/24\n  bridge_ports eth1\nauto eth0.7\niface eth0.7 inet manual\n  vlan-raw-device eth0\n",
        [],
        ["iface br0 inet static", "  bridge_ports eth1", "iface eth0.7 inet manual"],
    ],
    "mapping, comments, continued lines, no last newline": [
        ("# eth0 is the uplink\nmapping hotplug\n    script grep\n    map eth9\n\nauto \\\n  eth0 \\\n  eth5\niface eth0 inet static\n    # the old one\n    # address 10.0.0.4\n"
        "    address 10.0.0.5\n    netmask \\\n      255.255.255.0\n    up ip route add 10.9.0.0/16 via 10.0.0.7 dev eth0 || true\nno-scripts eth5\niface eth5 inet dhcp"),
        ["10.0.0.5/24", "10.9.0.0/16 10.0.0.7"],
        ["mapping hotplug", "    map eth9", "auto eth5", "iface eth5 inet dhcp", "# eth0 is the uplink"],
    ],
    "what nobody understands": ["auto eth0\niface eth0 inet static\n    address here\n    netmask there\n    gateway\n    up route add x gw y\nfrob nitz\n", [], []],
    "ifconfig and other tools": [
        "auto eth0\niface eth0 inet manual\n    up ifconfig eth0 10.0.0.5 netmask 255.255.255.0 up\n    up ethtool -K eth0 tso off\n    up ip rule add from 10.0.0.5 table 7\n    down /bin/true\n",
        [],
        ["    up ethtool -K eth0 tso off", "    up ip rule add from 10.0.0.5 table 7", "    down /bin/true"],
    ],
    "empty": ["", [], []],
}


def words(ours: object) -> Set[str]:
    addresses, routes = ours  # type: ignore[misc]
    return set(addresses) | {f"{route.network} {route.gateway}" for route in routes}


@pytest.mark.parametrize("name", INTERFACES)
def test_interfaces(legacy: ModuleType, tmp_path: Path, name: str) -> None:
    text, given, kept = INTERFACES[name]
    place = tmp_path / "etc/network/interfaces"
    place.parent.mkdir(parents=True)
    place.write_text(text)  # type: ignore[arg-type]
    backend = legacy.backend_of(legacy.Places(str(tmp_path)))
    assert words(backend.said("eth0", MACS[0])) == set(given)  # type: ignore[call-overload]
    (wanted,) = legacy.parse_document(KINDS["dual"]).links.values()
    config = legacy.config_of(wanted, "eth0", 0)
    made = backend.files([config], ["eth0", "eth1", "eth5"])["/etc/network/interfaces"]
    lines = made.splitlines()
    for line in kept:  # type: ignore[attr-defined]
        assert line in lines
    assert [line for line in lines if line.startswith("iface eth0 ")] == ["iface eth0 inet static", "iface eth0 inet6 manual"]
    assert lines.count("auto eth0") == 1
    # All of it comes back, and a second time makes no difference.
    assert legacy.eni_plain(made).rstrip("\n") == text.rstrip("\n")  # type: ignore[attr-defined]
    place.write_text(made)
    assert backend.files([config], ["eth0", "eth1", "eth5"])["/etc/network/interfaces"] == made
    assert "osnetd" not in legacy.unmarked(made)


IFCFG: Dict[str, List[object]] = {
    "CentOS 6 image": ['DEVICE="eth0"\nBOOTPROTO="dhcp"\nONBOOT="yes"\nTYPE="Ethernet"\nUSERCTL="yes"\nPEERDNS="yes"\nIPV6INIT="no"\nPERSISTENT_DHCLIENT="1"\n', [], ["USERCTL", "PERSISTENT_DHCLIENT"]],
    "cloud-init 0.7.5": ["DEVICE=eth0\nBOOTPROTO=static\nIPADDR=10.0.0.5\nNETMASK=255.255.255.0\nBROADCAST=10.0.0.255\nGATEWAY=10.0.0.1\nONBOOT=yes\n", ["10.0.0.5/24", "0.0.0.0/0 10.0.0.1"], []],
    "cloud-init 18.5": [
        ("# Created by cloud-init on instance boot automatically, do not edit.\n#\nBOOTPROTO=none\nDEFROUTE=yes\nDEVICE=eth0\nGATEWAY=10.0.0.1\nHWADDR=fa:16:3e:00:00:00\n"
        "IPADDR=10.0.0.5\nIPADDR1=10.0.0.6\nIPV6ADDR=2001:db8::5/64\nIPV6ADDR_SECONDARIES=\"2001:db8::6/64 2001:db8::7/64\"\nIPV6INIT=yes\nIPV6_DEFAULTGW=2001:db8::1\nMTU=1450\n"
        "NETMASK=255.255.255.0\nNETMASK1=255.255.255.0\nONBOOT=yes\nSTARTMODE=auto\nTYPE=Ethernet\nUSERCTL=no\n"),
        ["10.0.0.5/24", "10.0.0.6/24", "2001:db8::5/64", "2001:db8::6/64", "2001:db8::7/64", "0.0.0.0/0 10.0.0.1", "::/0 2001:db8::1"],
        ["USERCTL"],
    ],
    "NetworkManager": [
        "TYPE=Ethernet\nPROXY_METHOD=none\nBOOTPROTO=none\nIPV4_FAILURE_FATAL=no\nNAME='System eth0'\nUUID=5fb06bd0-0bb0-7ffb-45f1-d6edd65f3e03\nDEVICE=eth0\nONBOOT=yes\nIPADDR=10.0.0.5\nPREFIX=24\nGATEWAY=10.0.0.1\nDNS1=8.8.8.8\n",
        ["10.0.0.5/24", "0.0.0.0/0 10.0.0.1"],
        ["NAME", "UUID", "PROXY_METHOD"],
    ],
    "what nobody understands": ["DEVICE=eth0\nIPADDR=$(dig +short me)\nGATEWAY=gw\nPREFIX=x\n!\n", [], []],
}


@pytest.mark.parametrize("name", IFCFG)
def test_ifcfg(legacy: ModuleType, tmp_path: Path, name: str) -> None:
    text, given, kept = IFCFG[name]
    place = tmp_path / "etc/sysconfig/network-scripts/ifcfg-eth0"
    place.parent.mkdir(parents=True)
    place.write_text(text)  # type: ignore[arg-type]
    backend = legacy.backend_of(legacy.Places(str(tmp_path)))
    assert words(backend.said("eth0", MACS[0])) == set(given)  # type: ignore[call-overload]
    (wanted,) = legacy.parse_document(KINDS["dual"]).links.values()
    made = backend.files([legacy.config_of(wanted, "eth0", 0)], ["eth0"])["/etc/sysconfig/network-scripts/ifcfg-eth0"]
    keys = [line.partition("=")[0] for line in made.splitlines() if "=" in line]
    assert len(keys) == len(set(keys)), "a shell would take the last"
    assert set(kept) <= set(keys)  # type: ignore[call-overload]
    assert "10.0.0.6" not in made and "8.8.8.8" not in made and "2001:db8::7" not in made


NETPLAN = {
    "cloud-init 18.3": 'network:\n    version: 2\n    ethernets:\n        eth0:\n            addresses:\n            - 10.0.0.9/24\n            gateway4: 10.0.0.1\n            set-name: eth0\n        eth5: {dhcp4: true}\n',
    "an installer": "# This file is generated\nnetwork:\n  ethernets:\n    eth0:\n      addresses: [10.0.0.9/24]\n      nameservers:\n        addresses: [10.0.0.2,\n          10.0.0.3]\n    eth5:\n      dhcp4: true\n  version: 2\n",
    "quoted names, comments between, the end first": 'network:\n  version: 2\n  bridges:\n    br0: {interfaces: [eth5]}\n  ethernets:\n    # one\n    "eth5":\n      dhcp4: true\n    # two\n    "eth0":\n      dhcp4: true\n      # inside\n\n',
    "no ethernets": "network:\n  version: 2\n  renderer: networkd\n",
    "only the version": "network:\n  version: 2",
    "empty": "",
}


@pytest.mark.parametrize("name", NETPLAN)
def test_netplan(legacy: ModuleType, tmp_path: Path, name: str) -> None:
    place = tmp_path / "etc/netplan/50-cloud-init.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(NETPLAN[name])
    backend = legacy.backend_of(legacy.Places(str(tmp_path)))
    (wanted,) = legacy.parse_document(KINDS["dual"]).links.values()
    config = legacy.config_of(wanted, "eth0", 0)
    made = backend.files([config], ["eth0"])["/etc/netplan/50-cloud-init.yaml"]
    said = yaml.safe_load(made)["network"]
    before = (yaml.safe_load(NETPLAN[name]) or {}).get("network", {})
    assert said.pop("ethernets")["eth0"]["addresses"] == ["10.0.0.5/24", "2001:db8::5/64", "2001:db8::6/64"]
    assert {key: said[key] for key in before if key != "ethernets"} == {key: before[key] for key in before if key != "ethernets"}
    if "eth5" in before.get("ethernets", {}):
        assert yaml.safe_load(made)["network"]["ethernets"]["eth5"] == before["ethernets"]["eth5"]
    place.write_text(made)
    assert backend.files([config], ["eth0"])["/etc/netplan/50-cloud-init.yaml"] == made
