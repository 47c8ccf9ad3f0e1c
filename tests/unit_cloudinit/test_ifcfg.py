# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifcfg files: what this root's renderer sysconfig writes, finished for NetworkManager and for the network-scripts.

cloud-init takes that renderer on Enterprise Linux only, so it is given the configuration of that distribution's class.
"""

from pathlib import Path

import pytest

from cloudinit_osnetd.backends.ifcfg import backend as ifcfg_backend
from cloudinit_osnetd.backends.ifcfg import ifcfg_file
from cloudinit_osnetd.core import meaning, network_data, truth
from cloudinit_osnetd.core.desired import desired
from cloudinit_osnetd.core.network_data import DHCP4, DHCP6, SLAAC
from cloudinit_osnetd.core.records import Renderer
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.system import paths
from tests.unit.build import A, B, bond, dhcp, dns, document, link, nic, nics, static, vlan

# cloud-init imports what Python 3.11 and later call deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DIRECTORY = Path(__file__).parent.parent / "documents"
NAMES = {"ens3": "00:00:5e:00:53:01", "ens4": "00:00:5e:00:53:02", "ens5": "00:00:5e:00:53:03"}
STATEFUL = {"id": "n", "link": "tap1", "type": "ipv6_dhcpv6-stateful"}
DEFAULT = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}
DEFAULT6 = {"network": "::", "netmask": "::", "gateway": "2001:db8::1"}


@pytest.fixture(params=["Ifcfg", "NetworkScripts"])
def on(request):
    return getattr(ifcfg_backend, request.param)()


@pytest.fixture
def using():
    from cloudinit.distros import rhel

    return Renderer("sysconfig", rhel.Distro.renderer_configs["sysconfig"])


@pytest.fixture
def rendering(on, using, tmp_path, monkeypatch):
    """Renders a document; returns the parts by file name, the items by NIC, and the wants."""
    monkeypatch.setattr(paths, "STAGING", str(tmp_path / "staging"))

    def render_(read, here):
        known = truth.observe(truth.EMPTY, "drive", read, 0.0)
        wants = desired(known, here)
        done = render.render(wants, on, using)
        assert done.failures == ()
        parts = {part.path[len(ifcfg_file.DIRECTORY) + 1 :]: part for part in done.parts}
        return parts, {item.name: item for want in wants for item in want.items}, wants

    return render_


def from_file(path):
    here = nics(*(nic(name, mac, index) for index, (name, mac) in enumerate(NAMES.items(), 2)))
    return network_data.parse_bytes(path.read_bytes(), lambda: NAMES), here


def made(*networks, links=None):
    links = links or [link(mtu=1450), link(B, "tap2")]
    here = nics(nic("ens3", A), nic("ens4", B, 3))
    return network_data.parse(document(links, networks)), here


def facts(on, parts, name):
    texts = [part.text for part in parts.values() if part.name == name]
    return frozenset().union(*(on.meaning(text, name) for text in texts))


def without_metric(lines):
    return {line.partition(" metric ")[0].replace(" onlink", "") if line.startswith("route ") else line for line in lines}


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.name.partition("-")[0])
def test_every_document_is_in_the_files(on, rendering, path):
    """All addresses, routes and methods, and none besides."""
    parts, items, _wants = rendering(*from_file(path))
    assert items
    for name, item in items.items():
        found = without_metric(facts(on, parts, name))
        networks = item.entry.networks
        dynamic = DHCP4 | DHCP6 | SLAAC
        addresses = {"address " + meaning.address(net.address) for net in networks if net.address and net.type not in dynamic}
        routes = {
            meaning.route(route.network, route.gateway)
            for net in networks
            for route in net.routes
            if route.gateway not in item.own
        }
        types = {net.type for net in networks}
        assert {line for line in found if line.startswith("address ")} == addresses
        assert {line for line in found if line.startswith("route ")} == routes
        assert ("dhcp4" in found) == bool(types & DHCP4)
        assert ("slaac" in found) == bool(types & (DHCP6 | SLAAC))
        assert "match name " + name in found


def test_the_files_of_a_nic(on, rendering):
    routes = [DEFAULT, {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"}]
    parts, _items, _wants = rendering(*made(static(routes=routes), static("2001:db8::5", "64", routes=[DEFAULT6])))
    names = {"ifcfg-ens3", "ifcfg-ens4", "route-ens3"}
    # The scripts take the IPv6 default route from a file. cloud-init up to 24 writes an empty one as well.
    names |= {"route6-ens3"} if on.name == "network-scripts" else set()
    assert names <= set(parts) <= names | {"route6-ens3"}
    assert parts["ifcfg-ens3"].alone and parts["ifcfg-ens3"].bare != parts["ifcfg-ens3"].text


def test_a_stateful_network_follows_the_advertisement(on, rendering):
    parts, _items, _wants = rendering(*made(STATEFUL))
    values = ifcfg_file.parsed(parts["ifcfg-ens3"].text)
    assert (values["IPV6INIT"], values["IPV6_AUTOCONF"], values["DHCPV6C"]) == ("yes", "yes", "yes")


def test_the_dns_of_both_families(on, rendering):
    networks = static(services=dns("10.0.0.2")), static("2001:db8::5", "64", services=dns("2001:db8::53"))
    parts, _items, _wants = rendering(*made(*networks))
    assert ifcfg_file.numbered(ifcfg_file.parsed(parts["ifcfg-ens3"].text), "DNS") == ["10.0.0.2", "2001:db8::53"]


def test_a_bond_and_a_vlan_on_it(on, rendering):
    links = [link(), link(B, "tap2"), bond(mtu=1400), vlan("fa:16:3e:00:00:09", parent="bond1", mtu=1380)]
    networks = dict(dhcp(), link="bond1"), dict(static("10.5.0.5"), link="vlan1")
    parts, items, _wants = rendering(*made(*networks, links=links))
    above = next(item for item in items.values() if item.entry.kind == "bond")
    values = ifcfg_file.parsed(parts["ifcfg-" + above.name].text)
    assert (values["MACADDR"], values["MTU"]) == (above.entry.mac, "1400")
    assert "mode=802.3ad" in values["BONDING_OPTS"].split()
    for name, mac in (("ens3", A), ("ens4", B)):
        member = ifcfg_file.parsed(parts["ifcfg-" + name].text)
        assert (member["MASTER"], member["HWADDR"]) == (above.name, mac)
    values = ifcfg_file.parsed(parts["ifcfg-%s.100" % above.name].text)
    assert (values["MACADDR"], values["MTU"], values["PHYSDEV"]) == ("fa:16:3e:00:00:09", "1380", above.name)


def test_networkmanager_is_let_in_or_kept_out(on, rendering):
    parts, _items, _wants = rendering(*made(static()))
    values = ifcfg_file.parsed(parts["ifcfg-ens3"].text)
    assert values.get("NM_CONTROLLED") == {"ifcfg": None, "network-scripts": "no"}[on.name]


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.name.partition("-")[0])
def test_what_cloud_init_writes_alone_is_known_as_its_own(on, using, rendering, path):
    """What it writes without the override, for what it writes with it: else a server would be left alone."""
    parts, _items, wants = rendering(*from_file(path))
    alone = render.meanings_alone(wants, (), on, using)
    known = meaning.Known(
        dns=frozenset(one for want in wants for item in want.items for one in item.all_dns),
        search=frozenset(one for want in wants for item in want.items for one in item.all_search),
        macs=frozenset(item.entry.mac for want in wants for item in want.items),
        ipv6=True,
        routes=frozenset(
            meaning.route(route.network, route.gateway)
            for want in wants
            for item in want.items
            for net in item.entry.networks
            for route in net.routes
        ),
    )
    compared = 0
    for part in parts.values():
        if part.bare and part.place in alone:
            bare = on.meaning(part.bare, part.name)
            assert meaning.may_be_cloud_inits(alone[part.place], bare, known), meaning.differences(alone[part.place], bare)
            compared += 1
    assert compared or not alone
