# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The first boot: what the override makes cloud-init write is, part by part, what we render later.

So the first look adopts it, and no NIC is touched.
"""

import os
import re

import pytest
from cloudinit import stages
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd import backends
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.core import desired, network_data, plan, truth
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.sources import ladder
from cloudinit_osnetd.state import store
from tests.unit.build import A, B, C, bond, dhcp, dns, document, link, static, vlan

RENDERERS = ("eni", "networkd")
NICS = {A: "ens3", B: "ens4", C: "ens5"}
DEFAULT4 = [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}]
DEFAULT6 = [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]
V6MASK = "ffff:ffff:ffff:ffff::"


def v6(kind="ipv6", link="tap1", **fields):
    return dict(static("fd00::5", V6MASK, link=link), type=kind, **fields)


CASES = {
    "one static": document([link(mtu=1450)], [static(routes=DEFAULT4, services=dns("10.0.0.2"))], dns("10.0.0.2")),
    "mtu null": document([link()], [static()]),
    "no network": document([link(mtu=1450), link(B, "tap2")], [static()]),
    "dhcp": document([link()], [dhcp()]),
    "routes": document(
        [link()],
        [
            static(
                routes=DEFAULT4
                + [
                    {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"},
                    {"network": "10.8.0.0/16", "gateway": "10.0.0.8", "metric": 7},
                    {"network": "192.0.2.1", "netmask": "255.255.255.255", "gateway": "10.0.0.9"},
                ]
            )
        ],
    ),
    "gateway field": document([link()], [static(gateway="10.0.0.1"), v6(gateway="fd00::1")]),
    "dns per network": document([link()], [static(services=dns("10.0.0.2", "10.0.0.3")), v6(services=dns("fd00::2"))]),
    "global dns": document([link(), link(B, "tap2")], [static(), static("10.1.0.5", link="tap2")], dns("10.9.9.9", "10.9.9.8")),
    "dual stack": document([link(mtu=1400)], [static(routes=DEFAULT4), v6(routes=DEFAULT6)]),
    "only ipv6": document([link()], [v6(routes=DEFAULT6)]),
    "slaac": document([link()], [v6("ipv6_slaac", routes=DEFAULT6)]),
    "slaac and static": document([link()], [static(), v6("ipv6_slaac")]),
    "static and slaac": document([link()], [v6(routes=DEFAULT6), dict(v6("ipv6_slaac"), ip_address="fd01::5")]),
    "stateful": document([link()], [v6("ipv6_dhcpv6-stateful")]),
    "stateless": document([link()], [v6("ipv6_dhcpv6-stateless")]),
    "ipv6_dhcp": document([link()], [{"id": "n", "link": "tap1", "type": "ipv6_dhcp"}]),
    "dhcp and stateful": document([link()], [dhcp(), v6("ipv6_dhcpv6-stateful")]),
    "two addresses": document([link()], [static(), static("10.0.0.6"), v6(), dict(v6(), ip_address="fd00::6")]),
    "three nics": document(
        [link(mtu=1450), link(B, "tap2"), link(C, "tap3", mtu=9000)],
        [static(routes=DEFAULT4, services=dns("10.0.0.2")), dhcp("tap2"), static("10.3.0.5", link="tap3", services=dns("10.3.0.2"))],
        dns("10.0.0.2", "10.3.0.2"),
    ),
    "three gateways": document(
        [link(), link(B, "tap2"), link(C, "tap3")],
        [static(link=tap, address="10.%d.0.5" % i, gateway="10.%d.0.1" % i) for i, tap in enumerate(("tap1", "tap2", "tap3"))],
    ),
    "vlan": document([link(mtu=1500), vlan(mtu=1450)], [static("10.7.0.5", link="vlan1", routes=DEFAULT4)]),
    "vlan beside its parent": document([link(), vlan(), vlan(id="vlan2", vlan_id=101)], [static(), static("10.7.0.5", link="vlan1"), dhcp("vlan2")]),
    "bond": document([link(), link(B, "tap2"), bond(bond_miimon=100)], [static(link="bond1", routes=DEFAULT4)]),
    "vlan on a bond": document(
        [link(), link(B, "tap2"), bond(), vlan(C, parent="bond1"), link("fa:16:3e:00:00:04", "tap4")],
        [static(link="vlan1", routes=DEFAULT4)],
    ),
}  # fmt: skip


def give_to_cloud_init(guest, doc):
    """What the override gives, written as cloud-init's local stage writes it."""
    config, level, problems = ladder.choose("drive", doc, True, "i", pytest.fail)
    assert (level, problems) == ("drive", [])
    init = stages.Init(ds_deps=[])
    init.read_cfg()
    ladder.never_rename(init.distro)
    init.distro.apply_network_config(config, bring_up=False)


def look(doc, renderer):
    """The parts we render for the same document, and what of them is on disk."""
    backend = backends.of_renderer(renderer)
    known = truth.observe(truth.EMPTY, "drive", network_data.parse(doc), 0.0)
    nics = netlink.snapshot().by_mac(early=True)
    metrics = desired.assign_metrics(known, desired.configurable(known, nics), {}, frozenset())
    wants = desired.desired(known, nics, given=metrics)
    rendering = render.render(wants, backend, context.load().renders_with)
    assert rendering.failures == ()
    disk = render.disk_parts(backend, [part.place for part in rendering.parts])
    return backend, wants, rendering.parts, disk


def check_adopted(guest, doc, renderer):
    guest.renderer(renderer)
    give_to_cloud_init(guest, doc)
    backend, wants, parts, disk = look(doc, renderer)
    assert {part.key for part in parts} == {key for want in wants for key in want.keys}
    # networkd's device files, which cloud-init writes from 25.2 on: a boot makes them before the network starts.
    added = [part for part in parts if part.path.endswith(".netdev") and part.place not in disk]
    assert set(disk) - {(path, "lo") for path, _section in disk} == {part.place for part in parts if part not in added}
    for part in (part for part in parts if part not in added):
        assert disk[part.place] in part.alone, "%s is not what was rendered for it:\n%s" % (part.name, part.text)
    now = netlink.snapshot()
    here = now._replace(nics=tuple(nic._replace(up=True) for nic in now.nics))
    made = plan.make(wants, parts, disk, (), here, backend.name)
    assert {change.action for change in made.changes} == {"adopt"}
    assert made.drifted == ()
    assert {touch.action for touch in made.touches} <= {"kick"}
    assert not os.path.exists("/etc/udev/rules.d/70-persistent-net.rules")
    return parts


@pytest.fixture
def three_nics(guest):
    for mac, name in NICS.items():
        guest.nic(name, mac)
    guest.nic("ens6", "fa:16:3e:00:00:04")
    return guest


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("case", sorted(CASES))
def test_what_cloud_init_writes_at_first_boot_is_adopted(three_nics, case, renderer):
    check_adopted(three_nics, CASES[case], renderer)


@pytest.mark.parametrize(
    ("case", "renderer", "name", "lines"),
    [
        ("one static", "eni", "ens3", ["address 10.0.0.5/24", "pre-up ip link set dev ens3 mtu 1450 || true", "dns-nameservers 10.0.0.2"]),
        (
            "one static",
            "networkd",
            "ens3",
            ["Address=10.0.0.5/24", "MTUBytes=1450", "DNS=10.0.0.2", "Gateway=10.0.0.1"],
        ),
        ("three nics", "eni", "ens4", ["iface ens4 inet dhcp"]),
        ("three nics", "eni", "ens5", ["address 10.3.0.5/24", "pre-up ip link set dev ens5 mtu 9000 || true", "dns-nameservers 10.3.0.2"]),
        ("three nics", "networkd", "ens5", ["Address=10.3.0.5/24", "MTUBytes=9000", "DNS=10.3.0.2"]),
        ("global dns", "eni", "ens4", ["dns-nameservers 10.9.9.9 10.9.9.8"]),
        ("dual stack", "eni", "ens3", ["iface ens3 inet static", "iface ens3 inet6 manual", "up ip -6 address add fd00::5/64 dev ens3 || true"]),
        ("slaac", "eni", "ens3", ["post-up ip -family inet6 route add default via fd00::1 metric 1023 dev ens3 || true"]),
        ("vlan", "eni", "ens3.100", ["vlan-id 100", "vlan-raw-device ens3", "address 10.7.0.5/24"]),
        ("bond", "eni", "bond0", ["bond-mode 802.3ad", "address 10.0.0.5/24"]),
        ("bond", "eni", "ens4", ["bond-master bond0"]),
    ],
)
def test_a_nics_part_says_what_its_port_has(three_nics, case, renderer, name, lines):
    text = text_of(three_nics, case, renderer, name)
    said = [line.strip().replace("bond_", "bond-").replace("vlan_", "vlan-") for line in text.splitlines()]  # the same to ifupdown
    assert [line for line in lines if line not in said] == [], text


def text_of(guest, case, renderer, name):
    (text,) = [part.text for part in check_adopted(guest, CASES[case], renderer) if part.name == name]
    return text


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_static_address_does_not_shut_out_what_another_subnet_advertises(three_nics, renderer):
    """cloud-init has a port with a static IPv6 address hear no router, whatever else the port has."""
    text = text_of(three_nics, "static and slaac", renderer, "ens3").lower()
    assert re.search(r"accept.?ra\W+(0|no|false)", text) is None, text



@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_link_without_a_nic_costs_the_others_nothing(guest, renderer):
    guest.nic("ens4", B)
    parts = check_adopted(guest, CASES["three nics"], renderer)
    assert [part.name for part in parts] == ["ens4"]


addresses = st.sampled_from(["10.0.0.5", "10.1.0.5", "10.2.0.5", "fd00::5", "fd01::5"])
routes = st.lists(st.sampled_from(DEFAULT4 + DEFAULT6 + CASES["routes"]["networks"][0]["routes"]), max_size=3)
servers = st.builds(lambda some: dns(*some), st.lists(st.sampled_from(["10.0.0.2", "10.0.0.3", "fd00::2"]), max_size=2))


@st.composite
def networks_of(draw, tap):
    kind = draw(
        st.sampled_from(
            ["static", "static", "ipv4_dhcp", "ipv6_slaac", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless"]
        )
    )
    if kind != "static":
        return dict(v6(kind, link=tap)) if kind.startswith("ipv6") else dhcp(tap)
    address = draw(addresses)
    family = ":" if ":" in address else "."
    mine = [r for r in draw(routes) if family in r["gateway"]]
    return static(address, V6MASK if family == ":" else "255.255.255.0", link=tap, routes=mine, services=draw(servers))


@st.composite
def documents(draw):
    taps = draw(st.lists(st.sampled_from([(A, "tap1"), (B, "tap2"), (C, "tap3")]), min_size=1, max_size=3, unique=True))
    links = [link(mac, tap, mtu=draw(st.sampled_from([None, 1400, 1500]))) for mac, tap in taps]
    networks = [draw(networks_of(tap)) for _mac, tap in taps for _ in range(draw(st.integers(0, 2)))]
    return document(links, networks, draw(servers))


@pytest.mark.parametrize("renderer", RENDERERS)
@given(doc=documents())
def test_whatever_a_server_has_its_first_boot_is_adopted(three_nics, renderer, doc):
    from .conftest import wipe

    wipe()
    check_adopted(three_nics, doc, renderer)


def test_the_store_was_not_asked(guest):
    assert not os.path.exists(store.paths.STORE)
