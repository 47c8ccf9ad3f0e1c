# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is right for each document of tests/documents: by hand, from what its author means and cloud-init makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from tests.lab import Cloud, Network, Subnet
from tests.scenarios.seen import PROFILES, Guest, ip

DIRECTORY = Path(__file__).parents[1] / "documents"
ONE, TWO, THREE = (f"00:00:5e:00:53:0{number}" for number in (1, 2, 3))  # the MACs in the documents
DEFAULT4, DEFAULT6 = ("default", "192.0.2.1"), ("default", "2001:db8::1")


METADATA = "169.254.169.254"


class Device(NamedTuple):
    """A NIC, bond or VLAN as it has to be in the kernel, and its DNS as the backend has it. Routes are those that are told."""

    addresses: Tuple[str, ...] = ()
    routes: Tuple[Tuple[str, str], ...] = ()  # (destination, gateway; "" where it is on the link)
    dns: Tuple[str, ...] = ()
    search: Tuple[str, ...] = ()
    mtu: Optional[int] = None
    master: str = ""  # the bond that it is a member of: its name
    options: Tuple[Tuple[str, str], ...] = ()  # of a bond, as in `ip -details`
    mac: str = ""  # that it has now; not looked at where the document leaves it to the kernel
    vlan_id: Optional[int] = None
    parent: str = ""  # of a VLAN: its name


class Case(NamedTuple):
    """`devices` by MAC, a bond or a VLAN by its name with "{one}" for the name of the NIC with the MAC ONE.

    `bond_names`: what its bond is called by cloud-init before 25.4, and from then on. `mtu`: of the network that it is told on.
    """

    file: str
    devices: Dict[str, Device]
    dhcp: bool = False
    bond_names: Tuple[str, str] = ("bond0", "bond0")
    mtu: int = 1500

    @property
    def name(self) -> str:
        return self.file[: self.file.index("-")] if self.file[:1].isdigit() else self.file

    @property
    def leads_metadata_elsewhere(self) -> bool:
        """To a router that the lab does not have: live, that is rolled back."""
        return any(destination == METADATA for device in self.devices.values() for destination, _gateway in device.routes)

    @property
    def document(self) -> Any:
        return json.loads((DIRECTORY / f"{self.file}.json").read_text())

    @property
    def needs_modules(self) -> bool:
        """Bonds and VLANs are modules, which a container's kernel, the host's, may not have."""
        return any(link.get("type") in ("bond", "vlan") for link in self.document["links"] if isinstance(link, dict))


_PLAIN = Device(("192.0.2.10/24",), (DEFAULT4,), ("192.0.2.53",))

_OPTIONS = (("mode", "active-backup"), ("miimon", "100"))
_BOND = _PLAIN._replace(options=_OPTIONS)
_MEMBER = Device(master="{bond}")
_BONDED = {"{bond}": _BOND, ONE: _MEMBER, TWO: _MEMBER}
_DNS = ("192.0.2.53",)

_VLAN = _PLAIN._replace(mac=ONE, vlan_id=100, parent="{one}")
_BESIDE = Device(("198.51.100.10/24",), dns=_DNS)

CASES = [
    Case("01-bond-without-mac", {**_BONDED, THREE: _BESIDE}),
    Case("02-vlan-mac-null", {"{one}.100": _VLAN, ONE: _BESIDE._replace(mac=ONE)}),
    Case("03-refused-link-costs-others", {**_BONDED, "bond0.100": _BESIDE._replace(vlan_id=100, parent="{bond}")}),
    Case("04-bond-option-empty", _BONDED),
    Case("05-dns-nameservers", {ONE: _PLAIN._replace(dns=("192.0.2.53", "192.0.2.54"), search=("example.com",))}),
    Case("06-dns-nameservers-and-global", {ONE: _PLAIN}),
    Case("07-services-search", {ONE: _PLAIN._replace(search=("example.com",))}),
    Case("09-bond-name", {**_BONDED, "{bond}": _BOND._replace(mac=THREE)}, bond_names=("bond0", "bond-wan")),
    Case("10-networkd-netdev", {"{one}.100": _VLAN, ONE: _BESIDE._replace(mac=ONE)}),
    Case("11-gateway-null", {ONE: _PLAIN, TWO: Device(("198.51.100.10/24",), (), _DNS)}),
    Case("12-route-onlink", {ONE: _PLAIN._replace(routes=(DEFAULT4, ("198.51.100.0/24", "")))}),
    Case("13-netmask-missing", {ONE: _PLAIN._replace(addresses=("192.0.2.10/24", "2001:db8::10/64"), routes=(DEFAULT4, DEFAULT6))}),
    Case("20-bond-mode-number", {**_BONDED, "{bond}": _PLAIN._replace(options=(("mode", "802.3ad"),))}),
    Case("23-services-other-type", {ONE: _PLAIN._replace(dns=("192.0.2.53", "192.0.2.54"), search=("example.com",))}),
    Case(
        "14-dhcp4-dns",
        {ONE: Device(("192.0.2.100/26",), (("default", "192.0.2.65"), ("198.51.100.0/24", "192.0.2.65")), ("192.0.2.66", "192.0.2.67"))},
        dhcp=True,
    ),
    Case("15-adopt-routes-order", {ONE: _PLAIN._replace(mtu=1500, routes=(DEFAULT4, ("198.51.100.0/24", "192.0.2.2"), ("10.0.0.0/8", "192.0.2.2")))}),
    Case("16-adopt-networks-order", {ONE: _PLAIN._replace(mtu=1500, addresses=("2001:db8::10/64", "192.0.2.10/24"), routes=(DEFAULT4, DEFAULT6))}),
    Case("17-adopt-mtu-string", {ONE: _PLAIN._replace(mtu=1500)}),
    Case("19-adopt-top-level-gateway", {ONE: _PLAIN}),
    Case(
        "33-gateway-outside",
        {
            ONE: _PLAIN._replace(
                addresses=("192.0.2.10/32", "2001:db8::10/128"),
                routes=(("203.0.113.1", ""), ("default", "203.0.113.1"), ("default", "2001:db8:ffff::1")),
                mtu=1500,
            )
        },
    ),
    Case("42-route-destination", {ONE: _PLAIN._replace(routes=(DEFAULT4, ("198.51.100.0/24", "192.0.2.2"), ("203.0.113.0/25", "192.0.2.2")))}),
    Case(
        "48-one-route-on-two-nics",
        {
            ONE: _PLAIN._replace(routes=(DEFAULT4, (METADATA, "192.0.2.2"))),
            TWO: Device(("198.51.100.10/24",), ((METADATA, "198.51.100.2"),), _DNS),
        },
    ),
    Case("73-names-exchanged", {ONE: _PLAIN._replace(mtu=1500), TWO: Device(("198.51.100.10/24",), dns=_DNS, mtu=1400)}),
    Case("77-broadcast-and-scope", {ONE: _PLAIN}),
    Case(
        "82-stateful-on-a-vlan-without-routes",
        {
            "{bond}": Device(
                options=(("mode", "802.3ad"), ("miimon", "100"), ("xmit_hash_policy", "layer3+4"), ("ad_lacp_rate", "fast")), mac=ONE, mtu=1500
            ),
            ONE: _MEMBER,
            TWO: _MEMBER,
            "bond0.11": _PLAIN._replace(addresses=("192.0.2.10/24", "2001:db8::10/64"), mac=ONE, vlan_id=11, parent="{bond}"),
            "bond0.12": Device(mac=ONE, vlan_id=12, parent="{bond}"),  # nobody leases it an address
        },
    ),
    Case(
        "92-route-to-the-own-subnet",
        {ONE: Device(("192.0.2.10/26",), (DEFAULT4, ("192.0.2.0/26", "192.0.2.1")), ("192.0.2.1",), mtu=1500)},
    ),
    Case(
        "93-route-to-net-zero",
        {
            ONE: Device(
                ("192.0.2.10/24", "2001:db8::10/48"),
                (DEFAULT4, ("0.0.0.0/24", "192.0.2.2"), DEFAULT6, ("::/48", "2001:db8::2")),
                ("192.0.2.53", "192.0.2.54"),
                mtu=1500,
            )
        },
    ),
    Case(
        "94-bond-with-another-mac",
        {"{bond}": _BOND._replace(mac="00:00:5e:00:53:ab", mtu=8888), ONE: _MEMBER._replace(mtu=8888), TWO: _MEMBER._replace(mtu=8888)},
        mtu=9000,
    ),
    Case(
        "95-networks-without-id",
        {
            ONE: Device(("192.0.2.10/24",), (DEFAULT4,)),
            "{bond}": Device(("198.51.100.10/24",), options=_OPTIONS, mac=TWO),
            TWO: _MEMBER,
            THREE: _MEMBER,
        },
    ),
    Case(
        "97-vlan-with-the-id-bond0",
        {ONE: Device(mtu=1500), "{one}.2222": _PLAIN._replace(mac="00:00:5e:00:53:ac", vlan_id=2222, parent="{one}", mtu=1500)},
    ),
    Case("106-empty-object-for-a-list", {ONE: Device(("192.0.2.10/24",), (DEFAULT4,)), TWO: Device(("198.51.100.10/24",))}),
    Case(
        "112-a-route-twice",
        {ONE: _PLAIN._replace(addresses=("192.0.2.10/24", "192.0.2.11/24"), routes=(("198.51.100.7", "192.0.2.2"), DEFAULT4))},
    ),
    Case("115-destination-beside-an-empty-network", {ONE: _PLAIN._replace(routes=(DEFAULT4, ("198.51.100.0/24", "192.0.2.2")))}),
    Case("24-networkd-one-route-section", {ONE: _PLAIN._replace(addresses=("192.0.2.10/24", "2001:db8::10/64"), routes=(DEFAULT4, DEFAULT6))}),
]  # fmt: skip


def segment(cloud: Cloud, case: Case) -> Network:
    """A network that has the gateways of the documents; all NICs of one are plugged into it."""
    if case.dhcp:
        served = Subnet("192.0.2.64/26", "192.0.2.65", dhcp=True, dns=("192.0.2.67",))
        return cloud.network("segment", mtu=1500, subnets=[served])
    subnets = [Subnet("192.0.2.0/24", "192.0.2.1"), Subnet("198.51.100.0/24"), Subnet("2001:db8::/64", "2001:db8::1")]
    return cloud.network("segment", mtu=case.mtu, subnets=subnets)


def wrong(guest: Guest, case: Case) -> List[str]:
    """In what the guest is not as the document says; empty where it is right."""
    links = [link for link in ip(guest, "-details link") if not _is_made(link)]
    names = {link.get("permaddr", link["address"]): link["ifname"] for link in links}
    words = {"one": names.get(ONE), "two": names.get(TWO), "three": names.get(THREE), "bond": _bond_name(guest, case)}
    found = []
    for word, device in case.devices.items():
        name = names.get(word) or word.format(**words)
        device = device._replace(master=device.master.format(**words), parent=device.parent.format(**words))
        found += [f"{name}: {text}" for text in wrong_with(guest, name, device)]
    return found


def _bond_name(guest: Guest, case: Case) -> str:
    before, since = case.bond_names
    if before == since:
        return before
    return since if guest.run("dpkg --compare-versions $(dpkg-query -W -f '${Version}' cloud-init) ge 25.4", check=False).returncode == 0 else before


def _is_made(link: Dict[str, Any]) -> bool:
    return link.get("linkinfo", {}).get("info_kind") in ("bond", "vlan")


def wrong_with(guest: Guest, name: str, device: Device) -> List[str]:
    there = [link for link in ip(guest, "-details addr") if link["ifname"] == name]
    if not there:
        return ["no such device"]
    (link,) = there
    found = [] if "UP" in link["flags"] else ["not up"]
    if device.mac and link["address"] != device.mac:
        found.append(f"MAC {link['address']}")
    if device.vlan_id is not None and link["linkinfo"]["info_data"].get("id") != device.vlan_id:
        found.append(f"VLAN {link['linkinfo']['info_data'].get('id')}")
    if device.parent and link.get("link") != device.parent:
        found.append(f"on {link.get('link')}")
    addresses = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}
    found += _differ("address", set(device.addresses), addresses)
    if device.mtu and link["mtu"] != device.mtu:
        found.append(f"MTU {link['mtu']}")
    found += _differ("master", {device.master} - {""}, {link["master"]} if "master" in link else set())
    routes = set()
    for version in (4, 6):
        shown = ip(guest, f"-{version} route show dev {name}")
        # Not what the kernel makes of an address by itself, nor networkd's ways to a lease's own gateway and DNS servers.
        told = [r for r in shown if r.get("protocol") not in ("kernel", "ra")]
        told = [r for r in told if r.get("protocol") != "dhcp" or r.get("gateway")]
        routes |= {(r["dst"], r.get("gateway", "")) for r in told if not r["dst"].startswith(("169.254.0.0", "fe80:"))}
    # Neutron's DHCP leads to the metadata service as well, whatever the document says.
    if METADATA not in [destination for destination, _gateway in device.routes]:
        routes = {(destination, gateway) for destination, gateway in routes if destination != METADATA}
    if guest.backend in PROFILES:
        # To a gateway that no subnet reaches NetworkManager adds a route on the link by itself.
        routes -= {(gateway, "") for _destination, gateway in device.routes} - set(device.routes)
    found += _differ("route", set(device.routes), routes)
    said = link.get("linkinfo", {}).get("info_data", {})
    found += [f"{option} is {said.get(option)!r}" for option, value in device.options if str(said.get(option)) != value]
    servers, domains = dns_of(guest, name)
    if servers is not None:
        found += _differ("DNS server", set(device.dns), servers) + _differ("search domain", set(device.search), set(domains or ()))
    return found


def _differ(what: str, wanted: Any, there: Any) -> List[str]:
    lacking = [f"no {what} {one}" for one in sorted(wanted - there)]
    return lacking + [f"{what} of nobody {one}" for one in sorted(there - wanted)]


def dns_of(guest: Guest, name: str) -> Tuple[Optional[FrozenSet[str]], Optional[FrozenSet[str]]]:
    """A device's DNS servers and search domains, as the backend's resolver has them; None where nobody can tell."""
    if guest.backend in PROFILES:
        words = ("IP4.DNS,IP6.DNS", "IP4.SEARCHES,IP6.SEARCHES")
        servers, domains = (guest.run(f"nmcli -g {word} device show '{name}'", check=False).stdout for word in words)
        return frozenset(re.findall(r"[^\s|]+", servers.replace("\\", ""))), frozenset(re.findall(r"[^\s|]+", domains))
    if guest.backend != "ifupdown":
        servers = guest.run(f"resolvectl dns {name}", check=False).stdout.partition("):")[2].split()
        return frozenset(servers), frozenset(guest.run(f"resolvectl domain {name}", check=False).stdout.partition("):")[2].split())
    if guest.run("command -v resolvconf", check=False).returncode:
        return None, None
    # Not those of its VLANs, which are called NAME.100.inet.
    lines = [line.split() for line in guest.run(f"cat /run/resolvconf/interface/{name}.[a-z]*", check=False).stdout.splitlines()]
    said: Dict[str, List[str]] = {"nameserver": [], "search": []}
    for words in lines:
        said.setdefault(words[0] if words else "", []).extend(words[1:])
    return frozenset(said["nameserver"]), frozenset(said["search"])
