# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifcfg files: what they mean, and how they are finished for NetworkManager and for the network-scripts."""

import pytest

from cloudinit_osnetd.backends.ifcfg import backend as ifcfg_backend
from cloudinit_osnetd.backends.ifcfg import ifcfg_file, profile
from cloudinit_osnetd.backends.networkmanager import other_profiles
from cloudinit_osnetd.cloud_init import network_config
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.records import Part
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.system import files

from .build import A, B, bond, data, dhcp, dns, document, link, nic, snapshot, static, vlan
from .ifcfg_texts import DEFAULT, ETH0, HEAD, LEASED, SIX, SLAAC, STATIC, completed, item


@pytest.fixture
def backend():
    return ifcfg_backend.Ifcfg()


@pytest.fixture
def scripts():
    return ifcfg_backend.NetworkScripts()


def finished(backend, text, *networks, **fields):
    return ifcfg_file.parsed(backend.finish(text, item(*networks, **fields)))


# -- the text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ('A="b c"', "b c"),
        ("A='b \"c'", 'b "c'),
        ('A="b \\"c"', 'b "c'),
        ("A=b # comment", "b"),
        ("  export A=b", "b"),
        ("A=", ""),
        ('A=""', ""),
        ("A=b\\ c", "b c"),
        ("A=$(id)", "$(id)"),
        ('A="never ends', '"never ends'),
        ("A=b\nA=c", "c"),
    ],
)
def test_words_as_a_shell_reads_them(line, value):
    assert ifcfg_file.parsed("# A=no\n" + line + "\n") == {"A": value}


def test_a_value_is_set_and_no_other_line_changes():
    text = "# kept\nA=1\n\nB='2'\n# C=3\n"
    assert ifcfg_file.with_values(text, {"A": "4", "B": "2", "D": "5 6"}) == "# kept\nA=4\n\nB='2'\n# C=3\nD=\"5 6\"\n"
    assert ifcfg_file.with_values(text, {"A": None, "Z": None}) == "# kept\n\nB='2'\n# C=3\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ADDRESS0=10.8.0.0\nNETMASK0=255.255.0.0\nGATEWAY0=10.0.0.9\n", ("10.8.0.0/16", "10.0.0.9", "", "")),
        ("ADDRESS0=10.8.0.0\nPREFIX0=16\nGATEWAY0=10.0.0.9\nMETRIC0=7\n", ("10.8.0.0/16", "10.0.0.9", "7", "")),
        ("ADDRESS3=10.8.0.0\nNETMASK3=255.255.0.0\n", ("10.8.0.0/16", "", "", "")),
        ("10.8.0.0/16 via 10.0.0.9 dev ens3\n", ("10.8.0.0/16", "10.0.0.9", "", "")),
        ("default via 10.0.0.9 dev ens3 metric 7\n", ("default", "10.0.0.9", "7", "")),
        ("2001:db8:9::/48 via fe80::1  dev ens3\n", ("2001:db8:9::/48", "fe80::1", "", "")),
        ("to 10.8.0.0/16 dev ens3 onlink mtu 1400 # why\n", ("10.8.0.0/16", "", "", "onlink mtu 1400")),
    ],
)
def test_routes_are_read_in_both_forms(text, line):
    (found,) = ifcfg_file.routes(HEAD + text)
    assert found == line
    (again,) = ifcfg_file.routes(HEAD + ifcfg_file.words_of(found, "ens3"))
    assert again == found


def test_many_numbered_routes_are_in_the_order_of_their_numbers():
    text = "".join("ADDRESS%d=10.%d.0.0\nNETMASK%d=255.255.0.0\nGATEWAY%d=10.0.0.9\n" % (n, n, n, n) for n in (10, 2, 1))
    assert [line.to for line in ifcfg_file.routes(text)] == ["10.1.0.0/16", "10.2.0.0/16", "10.10.0.0/16"]


def test_each_file_is_a_part(backend, tmp_path):
    texts = {"ifcfg-ens3": STATIC, "route-ens3": HEAD, "route6-ens3": HEAD, "ifcfg-ens3.100": STATIC}
    for name, text in texts.items():
        files.replace(str(tmp_path / "etc/sysconfig/network-scripts" / name), text)
    files.replace(str(tmp_path / "etc/sysconfig/network"), "NETWORKING=yes\n")
    files.replace(str(tmp_path / "etc/resolv.conf"), "nameserver 10.0.0.2\n")
    found = backend.staged(str(tmp_path))
    assert {(part.path.rpartition("/")[2], part.name) for part in found} == {
        ("ifcfg-ens3", "ens3"),
        ("route-ens3", "ens3"),
        ("route6-ens3", "ens3"),
        ("ifcfg-ens3.100", "ens3.100"),
    }
    assert all(part.path.startswith(ifcfg_file.DIRECTORY) and part.section == "" for part in found)


def test_comments_and_blank_lines_are_no_change(backend):
    assert backend.normal("# x\n\n" + STATIC + " \n") == backend.normal(STATIC)
    assert backend.normal(STATIC) != backend.normal(STATIC.replace("10.0.0.5", "10.0.0.6"))


# -- finish ----------------------------------------------------------------------------------------


def test_metrics_are_fixed_and_ipv6_of_an_ipv4_port_takes_no_advertisement(backend):
    values = finished(backend, STATIC, static(routes=[DEFAULT], services=dns("10.0.0.2")))
    assert values["IPV4_ROUTE_METRIC"] == "100" and "IPV6_ROUTE_METRIC" not in values
    assert (values["IPV6INIT"], values["IPV6_AUTOCONF"]) == ("yes", "no")
    assert (values["ARPING_WAIT"], values["IPV4_FAILURE_FATAL"]) == ("0", "yes")
    assert finished(backend, STATIC, static(), metric=2100)["IPV4_ROUTE_METRIC"] == "2100"


def test_the_metric_of_the_document_s_default_route(backend):
    values = finished(backend, STATIC, static(routes=[dict(DEFAULT, metric=7)]))
    assert values["IPV4_ROUTE_METRIC"] == "7"


@pytest.mark.parametrize("kind", ["ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless", "ipv6_slaac"])
def test_dhcpv6_follows_the_advertisement(backend, kind):
    text = LEASED.replace("dhcp", "none") + "DHCPV6C=yes\nIPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6_FAILURE_FATAL=yes\n"
    values = finished(backend, text, {"id": "n", "link": "tap1", "type": kind})
    assert values["IPV6_AUTOCONF"] == "yes"
    assert values["IPV6_ROUTE_METRIC"] == "100"
    assert ("DHCPV6C" in values) == (kind != "ipv6_slaac")


def test_a_static_address_beside_an_advertised_one(backend):
    text = STATIC + "IPV6ADDR=2001:db8::5/64\nIPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6_FORCE_ACCEPT_RA=no\n"
    values = finished(backend, text, SIX, SLAAC)
    assert (values["IPV6_AUTOCONF"], values["IPV6ADDR"]) == ("yes", "2001:db8::5/64")
    assert "IPV6_FORCE_ACCEPT_RA" not in values
    text += "IPV6_DEFAULTGW=2001:db8::1\n"
    assert "IPV6_DEFAULTGW" not in finished(backend, text, SIX, SLAAC), "with the same metric both are one route"
    assert finished(backend, text, SIX)["IPV6_DEFAULTGW"] == "2001:db8::1"
    assert completed(backend, item(SIX, SLAAC)) == {"route6-ens3": HEAD + "::/0 via 2001:db8::1 dev ens3 metric 101\n"}


@pytest.mark.parametrize("which", ["backend", "scripts"])
def test_a_told_default_route_beside_a_lease(request, which):
    """GATEWAY is ignored there."""
    on, network = request.getfixturevalue(which), dhcp(routes=[DEFAULT])
    assert "GATEWAY" not in finished(on, LEASED + "GATEWAY=10.0.0.1\n", network)
    assert completed(on, item(network)) == {"route-ens3": HEAD + "0.0.0.0/0 via 10.0.0.1 dev ens3\n"}


def test_static_ipv6_that_the_kernel_refuses_does_not_take_ipv4_down(backend):
    values = finished(backend, STATIC + "IPV6ADDR=2001:db8::5/64\nIPV6_FAILURE_FATAL=yes\n", static(), SIX)
    assert (values["IPV4_FAILURE_FATAL"], values.get("IPV6_FAILURE_FATAL")) == ("yes", None)
    assert finished(backend, STATIC, SIX)["IPV6_FAILURE_FATAL"] == "yes"


def test_a_silent_dhcp_server_does_not_take_the_static_family_down(backend):
    values = finished(backend, LEASED + "IPV6ADDR=2001:db8::5/64\n", dhcp(), SIX)
    assert (values.get("IPV4_FAILURE_FATAL"), values.get("IPV6_FAILURE_FATAL"), values["IPV6_REQUIRED_TIMEOUT"]) == (None, None, "5000")
    assert finished(backend, LEASED, dhcp())["IPV4_FAILURE_FATAL"] == "yes"


def test_no_boot_waits_for_the_lease_of_a_later_nic(backend):
    assert "IPV4_FAILURE_FATAL" not in finished(backend, LEASED + "IPV4_FAILURE_FATAL=yes\n", dhcp(), metric=2100)
    assert finished(backend, STATIC, static(), metric=2100)["IPV4_FAILURE_FATAL"] == "yes"
    assert finished(backend, STATIC, SIX, metric=2100)["IPV6_FAILURE_FATAL"] == "yes"


def test_the_dns_of_all_subnets_and_of_no_other_family(backend):
    networks = static(services=dns("10.0.0.2", "2001:db8::53")), dict(SIX, services=dns("2001:db8::54"))
    values = finished(backend, STATIC.replace("DNS1=10.0.0.2", "DNS1=2001:db8::54\nDNS2=x"), *networks)
    assert ifcfg_file.numbered(values, "DNS") == ["10.0.0.2", "2001:db8::53", "2001:db8::54"]
    values = finished(backend, STATIC, networks[0])
    assert ifcfg_file.numbered(values, "DNS") == ["10.0.0.2"], "NetworkManager refuses DNS where a family has nothing else"


def test_the_search_domains_of_a_nic_of_ipv6_alone(backend, scripts):
    """NetworkManager reads DOMAIN for IPv4 only."""
    one = item(SIX)._replace(search=("a", "b"))
    values = ifcfg_file.parsed(backend.finish(STATIC, one))
    assert (values.get("DOMAIN"), values["IPV6_DOMAIN"]) == (None, "a b")
    assert "search a b" in backend.meaning(backend.finish(STATIC, one), "ens3")
    assert ifcfg_file.parsed(scripts.finish(STATIC, one))["DOMAIN"] == "a b"
    values = ifcfg_file.parsed(backend.finish(STATIC, item(static())._replace(search=("a", "b"))))
    assert (values["DOMAIN"], values.get("IPV6_DOMAIN")) == ("a b", None)


def test_networkmanager_takes_the_profile_of_an_old_cloud_init(backend, scripts):
    text = STATIC + "NM_CONTROLLED=no\n"
    assert "NM_CONTROLLED" not in finished(backend, text, static())
    assert finished(scripts, STATIC, static())["NM_CONTROLLED"] == "no"


def test_a_bond_its_members_and_a_vlan(backend):
    """22.4 writes no mode, no MAC, no MTU, and gives the second member the MAC of the first."""
    links = [link(), link(B, "tap2"), bond(mtu=1400, bond_miimon=100), vlan("fa:16:3e:00:00:09", parent="bond1", mtu=1380)]
    found = data(document(links)).entries
    by_kind = {one.kind + one.mac: Item(key, one, "x", ()) for key, one in found.items()}
    member = by_kind["phy" + B]
    text = STATIC.split("BOOTPROTO")[0] + "DEVICE=ens4\nHWADDR=%s\nMASTER=bond0\nSLAVE=yes\nTYPE=Ethernet\n" % A
    values = ifcfg_file.parsed(backend.finish(text, member))
    assert values["HWADDR"] == B
    assert "IPV6INIT" not in values and "BOOTPROTO" not in values
    (above,) = [one for kind, one in by_kind.items() if kind.startswith("bond")]
    values = ifcfg_file.parsed(backend.finish("BONDING_OPTS=miimon=100\nDEVICE=bond0\nTYPE=Bond\n", above))
    assert set(values["BONDING_OPTS"].split()) == {"miimon=100", "mode=802.3ad"}
    assert (values["MACADDR"], values["MTU"]) == (above.entry.mac, "1400")
    (on_top,) = [one for kind, one in by_kind.items() if kind.startswith("vlan")]
    values = ifcfg_file.parsed(backend.finish("DEVICE=bond0.100\nVLAN=yes\nPHYSDEV=bond0\n", on_top))
    assert (values["MACADDR"], values["MTU"]) == ("fa:16:3e:00:00:09", "1380")


@pytest.mark.parametrize("which", ["backend", "scripts"])
@pytest.mark.parametrize("networks", [(static(routes=[DEFAULT]), SIX), (dhcp(), SLAAC), ()])
def test_finished_twice_is_finished_once(request, which, networks):
    on, one = request.getfixturevalue(which), item(*networks)
    assert on.finish(on.finish(STATIC, one), one) == on.finish(STATIC, one)


def test_a_file_of_routes_is_not_an_interface(backend):
    text = HEAD + "ADDRESS0=10.8.0.0\nGATEWAY0=10.0.0.9\nNETMASK0=255.255.0.0\n"
    assert backend.finish(text, item(static())) == text
    assert backend.finish(HEAD, item(static())) == HEAD


# -- routes ----------------------------------------------------------------------------------------

NINE = {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9", "metric": 7}
EIGHT = {"network": "10.8.0.0", "netmask": "255.255.0.0"}


def test_a_file_that_has_its_routes_is_kept(backend):
    text = HEAD + "ADDRESS0=10.9.0.0\nGATEWAY0=10.0.0.9\nMETRIC0=7\nNETMASK0=255.255.0.0\n"
    there = Part(ifcfg_file.path_of("ens3", "route-"), "", "ens3", text)
    assert completed(backend, item(static(routes=[DEFAULT, NINE])), there) == {"route-ens3": text}


def test_a_route_without_a_gateway_makes_a_file(backend):
    assert completed(backend, item(static(routes=[DEFAULT, EIGHT]))) == {"route-ens3": HEAD + "10.8.0.0/16 dev ens3\n"}
    assert completed(backend, item(static(routes=[DEFAULT]))) == {}


def test_the_scripts_read_metrics_in_words_only(scripts):
    text = HEAD + "ADDRESS0=10.9.0.0\nGATEWAY0=10.0.0.9\nMETRIC0=7\nNETMASK0=255.255.0.0\n"
    there = Part(ifcfg_file.path_of("ens3", "route-"), "", "ens3", text)
    found = completed(scripts, item(static(routes=[DEFAULT, NINE])), there)
    assert found == {"route-ens3": HEAD + "10.9.0.0/16 via 10.0.0.9 dev ens3 metric 7\n"}


def test_the_scripts_take_a_metric_of_the_ipv6_default_route_in_words_only(scripts):
    one = item(SIX, metric=2100)
    assert completed(scripts, one) == {"route6-ens3": HEAD + "::/0 via 2001:db8::1 dev ens3 metric 2100\n"}
    assert "IPV6_DEFAULTGW" not in ifcfg_file.parsed(scripts.finish(STATIC + "IPV6_DEFAULTGW=2001:db8::1\n", one))


def test_a_gateway_outside_of_the_subnets(backend, scripts):
    """NetworkManager adds the route to it; ifup has no word for it but those of ip-route(8)."""
    one = item(static(routes=[dict(DEFAULT, gateway="192.0.2.1")]), metric=2100)
    text = STATIC.replace("GATEWAY=10.0.0.1", "GATEWAY=192.0.2.1")
    found = completed(scripts, one)
    assert found == {"route-ens3": HEAD + "0.0.0.0/0 via 192.0.2.1 dev ens3 metric 2100 onlink\n"}
    assert "GATEWAY" not in ifcfg_file.parsed(scripts.finish(text, one))
    assert completed(backend, one) == {}
    assert ifcfg_file.parsed(backend.finish(text, one))["GATEWAY"] == "192.0.2.1"


def test_a_second_default_route(backend, scripts):
    """cloud-init's renderer refuses it, and all other NICs with it: it gets the first one."""
    second = dict(DEFAULT, gateway="10.0.0.254")
    one = item(static(routes=[DEFAULT, second]))
    want = Want((one,), "d")
    (given,) = network_config.for_renderer([want], lambda: "sysconfig")
    assert [route.gateway for net in given.items[0].entry.networks for route in net.routes] == ["10.0.0.1"]
    assert network_config.for_renderer([want], lambda: "eni") == [want]
    for on in (backend, scripts):
        assert completed(on, one) == {"route-ens3": HEAD + "0.0.0.0/0 via 10.0.0.254 dev ens3\n"}
        assert ifcfg_file.parsed(on.finish(STATIC, one))["GATEWAY"] == "10.0.0.1"


def test_a_default_route_of_each_family_is_no_second_one():
    want = Want((item(static(routes=[DEFAULT]), SIX),), "d")

    def asked():
        raise AssertionError("the renderer does not matter")

    assert network_config.for_renderer([want], asked) == [want]


def test_a_told_default_route_is_not_made_one_with_the_advertised_one(backend):
    network = dict(SLAAC, routes=SIX["routes"])
    assert completed(backend, item(network))["route6-ens3"].endswith("::/0 via 2001:db8::1 dev ens3 metric 101\n")
    assert completed(backend, item(network, metric=2100))["route6-ens3"].endswith("metric 2101\n")
    assert completed(backend, item(SIX)) == {}


# -- meaning ---------------------------------------------------------------------------------------


def test_what_an_ifcfg_file_means(backend):
    text = STATIC + 'IPV6ADDR=2001:DB8::5/64\nIPV6ADDR_SECONDARIES="2001:db8::6/64 2001:db8::7/64"\nIPV6INIT=yes\n'
    text += 'IPV6_AUTOCONF=no\nIPV6_DEFAULTGW=2001:db8::1%ens3\nIPADDR1=10.1.0.5\nPREFIX1=16\nDOMAIN="a b"\nDNS2=10.0.0.3\n'
    assert backend.meaning(text, "ens3") == {
        "match name ens3",
        "match mac fa:16:3e:00:00:01",
        "mtu 1450",
        "address 10.0.0.5/24",
        "address 10.1.0.5/16",
        "address 2001:db8::5/64",
        "address 2001:db8::6/64",
        "address 2001:db8::7/64",
        "route 0.0.0.0/0 via 10.0.0.1",
        "route ::/0 via 2001:db8::1",
        "dns 10.0.0.2 10.0.0.3",
        "search a b",
    }
    assert "dhcp4" in backend.meaning(LEASED, "ens3")


def test_an_empty_file_of_routes_is_not_made_and_one_that_is_there_stays(backend, tmp_path, monkeypatch):
    """NetworkManager removes it when it writes the profile anew, which is no edit."""
    monkeypatch.setattr(ifcfg_file, "DIRECTORY", str(tmp_path))
    path = ifcfg_file.path_of("ens3", "route6-")
    empty = Part(path, "", "ens3", HEAD)
    own = Part(ifcfg_file.path_of("ens3"), "", "ens3", STATIC)
    assert backend.completed([own, empty], [item(static())]) == [own]
    files.replace(path, HEAD)
    assert backend.completed([own, empty], [item(static())]) == [own, empty]


def test_as_networkmanager_writes_it_anew_it_means_the_same(backend):
    """After a roll-back of a checkpoint, or an edit with nmcli that was taken back: without comments, in its order."""
    other = (
        "TYPE=Ethernet\nHWADDR=FA:16:3E:00:00:01\nMTU=1450\nPROXY_METHOD=none\nBROWSER_ONLY=no\nBOOTPROTO=none\n"
        "IPADDR=10.0.0.5\nPREFIX=24\nGATEWAY=10.0.0.1\nDNS1=10.0.0.2\nDEFROUTE=yes\nIPV4_FAILURE_FATAL=no\n"
        'IPV6_DISABLED=no\nNAME="System ens3"\nUUID=%s\nDEVICE=ens3\nONBOOT=yes\n' % ETH0
    )
    assert backend.meaning(other, "ens3") == backend.meaning(STATIC, "ens3")
    ours = backend.finish(STATIC, item(static(routes=[DEFAULT])))
    added = "PROXY_METHOD=none\nBROWSER_ONLY=no\nPREFIX=24\nACD_TIMEOUT=0\nIPV6_DEFROUTE=yes\nIPV6_FAILURE_FATAL=no\n"
    assert "ARPING_WAIT=0\n" in ours
    assert backend.meaning(ours + added, "ens3") == backend.meaning(ours, "ens3")
    assert backend.meaning(ours + added.replace("T=0", "T=200"), "ens3") != backend.meaning(ours, "ens3")


@pytest.mark.parametrize(
    ("lines", "means"),
    [
        ("IPV6INIT=yes\n", {"slaac"}),
        ("IPV6INIT=yes\nIPV6_AUTOCONF=yes\nDHCPV6C=yes\n", {"slaac", "dhcp6"}),
        ("IPV6INIT=yes\nIPV6_AUTOCONF=no\nDHCPV6C=yes\n", {"dhcp6"}),
        ("IPV6INIT=yes\nIPV6_AUTOCONF=no\n", {"ipv6 link-local"}),
        ("IPV6INIT=no\n", set()),
        ("NM_CONTROLLED=no\n", {"NM_CONTROLLED no"}),
        ("ONBOOT=no\n", {"ONBOOT no"}),
        ("MASTER=bond0\nSLAVE=yes\n", {"belongs to bond0"}),
        ('BONDING_OPTS="mode=4 miimon=100"\n', {"bond mode 802.3ad", "bond miimon 100"}),
        ("ETHTOOL_OPTS=\"-K ens3 gro off\"\n", {"ETHTOOL_OPTS -K ens3 gro off"}),
        ("IPV4_ROUTE_METRIC=7\n", {"ipv4.route-metric 7"}),
        ("MTU=0\n", set()),
        ('BONDING_OPTS="mode=4 xmit_hash_policy="\n', {"bond mode 802.3ad"}),
    ],
)
def test_what_a_key_means(backend, lines, means):
    base = "DEVICE=ens3\nTYPE=Ethernet\n"
    assert backend.meaning(base + lines, "ens3") == {"match name ens3"} | means


def test_routes_mean_the_same_in_both_forms(backend):
    numbered = "ADDRESS0=10.9.0.0\nGATEWAY0=10.0.0.9\nMETRIC0=7\nNETMASK0=255.255.0.0\n"
    words = "10.9.0.0/16 via 10.0.0.9 dev ens3 metric 7\n"
    assert backend.meaning(numbered, "ens3") == backend.meaning(words, "ens3") == {"route 10.9.0.0/16 via 10.0.0.9 metric 7"}
    assert backend.meaning(HEAD, "ens3") == frozenset()


def test_what_older_releases_wrote_is_recognised(backend):
    plain = backend.meaning(STATIC, "ens3")
    assert backend.meaning(STATIC + "NM_CONTROLLED=no\n", "ens3") in backend.as_older_releases(plain)
    assert plain in backend.as_older_releases(backend.meaning(STATIC + "NM_CONTROLLED=no\n", "ens3"))
    stateful = LEASED + "DHCPV6C=yes\nIPV6INIT=yes\nIPV6_AUTOCONF=no\n"
    newer = backend.meaning(stateful + "IPV6_FAILURE_FATAL=yes\n", "ens3")
    assert backend.meaning(stateful + "NM_CONTROLLED=no\n", "ens3") in backend.as_older_releases(newer)
    # From 21.1 to 22.4 a stateful network alone was told to ask for a lease of IPv4 too.
    alone = stateful.replace("BOOTPROTO=dhcp", "BOOTPROTO=none")
    newer = backend.meaning(alone + "IPV6_FAILURE_FATAL=yes\n", "ens3")
    assert backend.meaning(stateful + "NM_CONTROLLED=no\n", "ens3") in backend.as_older_releases(newer)
    assert backend.meaning(LEASED, "ens3") not in backend.as_older_releases(plain)
    # And before that to follow the advertisements.
    oldest = backend.meaning(alone.replace("IPV6_AUTOCONF=no\n", ""), "ens3")
    assert oldest in backend.as_older_releases(backend.meaning(stateful, "ens3"))


def test_an_option_of_a_bond_that_stands_there_several_times(backend):
    text = HEAD + "DEVICE=bond0\nTYPE=Bond\nBONDING_OPTS=\"mode=1 arp_ip_target=192.0.2.2 arp_ip_target=192.0.2.1\"\n"
    assert backend.meaning(text, "bond0") >= {"bond arp-ip-target 192.0.2.1 192.0.2.2", "bond mode active-backup"}


# -- whose NIC it is -------------------------------------------------------------------------------


def test_the_file_of_a_nic_that_was_renamed_is_not_foreign(backend, tmp_path, monkeypatch):
    """NetworkManager keeps using the profile, whose DEVICE is the former name. An operator's file is his."""
    monkeypatch.setattr(ifcfg_file, "DIRECTORY", str(tmp_path / "scripts"))
    monkeypatch.setattr(other_profiles, "_DIRECTORIES", ())
    monkeypatch.setattr(other_profiles, "_DEVICES", str(tmp_path / "devices"))
    monkeypatch.setattr(other_profiles, "_UDEV", str(tmp_path / "udev"))
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic(name="lan0")))
    ours = "# Created by cloud-init automatically, do not edit.\n#\nDEVICE=ens3\nHWADDR=%s\nTYPE=Ethernet\n" % A

    def claimed(path, text):
        files.replace(path, text)
        note = "[device]\nmanaged=true\nconnection-uuid=%s\n" % profile.uuid_of(path, ifcfg_file.parsed(text))
        files.replace(str(tmp_path / "devices/2"), note)
        found = backend.claimed([item(static())._replace(name="lan0")])
        files.remove(path)
        return found

    former = ifcfg_file.path_of("ens3")
    assert claimed(former, ours) == {}
    assert claimed(former, ours.split("#\n")[1]) == {"lan0": former}
    mine = ifcfg_file.path_of("mine")
    assert claimed(mine, ours) == {"lan0": mine}


# -- what others add -------------------------------------------------------------------------------

ANEW = (  # nmcli connection modify
    "TYPE=Ethernet\nHWADDR=FA:16:3E:00:00:01\nMTU=1450\nPROXY_METHOD=none\nBROWSER_ONLY=no\nBOOTPROTO=none\nIPADDR=10.0.0.5\n"
    "PREFIX=24\nGATEWAY=10.0.0.1\nDNS1=10.0.0.2\nDEFROUTE=yes\nIPV4_FAILURE_FATAL=yes\nIPV4_ROUTE_METRIC=100\nARPING_WAIT=0\n"
    "ACD_TIMEOUT=0\nIPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6_DEFROUTE=yes\nIPV6_FAILURE_FATAL=no\nIPV6_DISABLED=no\n"
    'NAME="System ens3"\nUUID=%s\nDEVICE=ens3\nONBOOT=yes\nAUTOCONNECT_PRIORITY=120\n' % ETH0
)


@pytest.fixture
def carried(backend):
    ours = backend.finish(STATIC, item(static(routes=[DEFAULT], services=dns("10.0.0.2"))))
    edited = ours.replace("10.0.0.5", "10.0.0.6")

    def over(lines=""):
        text = backend.carried_over(ours, ANEW + lines, edited, "ens3")
        if text is None:
            return None
        before, after = (ifcfg_file.parsed(one) for one in (edited, text))
        assert before.items() - after.items() <= {("AUTOCONNECT_PRIORITY", "120")}
        return dict(after.items() - before.items())

    return over


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ("", {}),
        ("ZONE=public\n", {"ZONE": "public"}),
        ("NAME=front\n", {"NAME": "front"}),
        ("AUTOCONNECT_PRIORITY=50\n", {"AUTOCONNECT_PRIORITY": "50"}),
        ("IPV4_DNS_PRIORITY=-50\n", {"IPV4_DNS_PRIORITY": "-50"}),
        ('ETHTOOL_OPTS="-K ens3 gro off"\n', {"ETHTOOL_OPTS": "-K ens3 gro off"}),
        ("IPADDR1=10.7.0.5\nPREFIX1=16\n", {"IPADDR1": "10.7.0.5", "PREFIX1": "16"}),
        ("IPADDR1=10.0.0.6\nPREFIX1=24\n", {}),  # the port has it now
        ("DNS2=10.0.0.9\n", None),
        ("GATEWAY1=10.0.0.9\n", None),
        ("DEFROUTE=no\n", None),
        ("MTU=1400\n", None),
        ("MACADDR=fa:16:3e:00:00:09\n", None),
        ("ONBOOT=no\n", None),
        ("BOOTPROTO=dhcp\n", None),
        ("IPADDR=10.0.0.7\n", None),
        ("IPV6_AUTOCONF=yes\n", None),
        ("IPV6ADDR=2001:db8::5/64\n", None),
        ("BRIDGE=br0\n", None),
        ("NM_CONTROLLED=no\n", None),
    ],
)
def test_what_others_added_is_kept_and_what_they_changed_is_not(carried, lines, kept):
    assert carried(lines) == kept


def test_addresses_of_others_beside_those_of_ipv6(backend):
    ours = backend.finish(STATIC, item(static(), SIX)) + "IPV6ADDR=2001:db8::5/64\n"
    theirs = ours + "IPV6ADDR_SECONDARIES=2001:db8:7::5/64\n"
    text = backend.carried_over(ours, theirs, ours.replace("2001:db8::5", "2001:db8::6"), "ens3")
    assert ifcfg_file.addresses6(ifcfg_file.parsed(text)) == ["2001:db8::6/64", "2001:db8:7::5/64"]


def test_routes_of_others_are_kept(backend):
    ours = HEAD + "10.9.0.0/16 via 10.0.0.9 dev ens3\n"
    theirs = "ADDRESS0=10.9.0.0\nNETMASK0=255.255.0.0\nGATEWAY0=10.0.0.9\nADDRESS1=10.8.0.0\nNETMASK1=255.255.0.0\nGATEWAY1=10.0.0.8\n"
    edited = HEAD + "10.9.0.0/16 via 10.0.0.7 dev ens3\n"
    more = "10.8.0.0/16 via 10.0.0.8 dev ens3\n"
    assert backend.carried_over(ours, theirs, edited, "ens3") == edited + more
    assert backend.carried_over("", theirs, HEAD, "ens3") == HEAD + "10.9.0.0/16 via 10.0.0.9 dev ens3\n" + more  # a file of theirs
    assert backend.carried_over(ours, theirs.replace("10.0.0.9", "10.0.0.5"), edited, "ens3") is None
    assert backend.carried_over(ours, ours + "default via 10.0.0.8\n", edited, "ens3") is None
    assert backend.carried_over(ours, ours + "\n", edited, "ens3") == edited
    assert backend.carried_over("", STATIC, STATIC, "ens3") is None  # nobody knows what was written
