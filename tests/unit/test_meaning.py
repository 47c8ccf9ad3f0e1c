# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of parts, whoever wrote them and in whatever order; and which releases may have written one."""

import pytest

from cloudinit_osnetd.backends.eni import stanza_meaning
from cloudinit_osnetd.backends.netplan import yaml_meaning
from cloudinit_osnetd.backends.networkd import file_meaning
from cloudinit_osnetd.core import meaning

EXPECTED = {
    "address 10.0.0.5/24",
    "address fd00::5/64",
    "route 0.0.0.0/0 via 10.0.0.1",
    "route 10.1.0.0/16 via 10.0.0.9 metric 7",
    "route 192.0.2.1/32 via 10.0.0.9",
    "route ::/0 via fd00::1",
    "route 2001:db8::/32 via fd00::9",
    "mtu 1500",
}


def eni(stanzas):
    return stanza_meaning.of(stanzas, "ens3")


ENI = {
    "26": """
auto ens3
iface ens3 inet static
    address 10.0.0.5/24
    mtu 1500
    post-up ip route add default via 10.0.0.1 || true
    pre-down ip route del default via 10.0.0.1 || true
    post-up ip route add 10.1.0.0/16 via 10.0.0.9 metric 7 || true
    pre-down ip route del 10.1.0.0/16 via 10.0.0.9 metric 7 || true
    post-up ip route add 192.0.2.1/32 via 10.0.0.9 || true
    pre-down ip route del 192.0.2.1/32 via 10.0.0.9 || true
# control-alias ens3
iface ens3 inet6 static
    address fd00::5/64
    post-up ip -family inet6 route add default via fd00::1 || true
    pre-down ip -family inet6 route del default via fd00::1 || true
    post-up ip -family inet6 route add 2001:db8::/32 via fd00::9 || true
    pre-down ip -family inet6 route del 2001:db8::/32 via fd00::9 || true
""",
    "22": """
auto ens3
iface ens3 inet static
    address 10.0.0.5/24
    mtu 1500
    post-up route add -host 192.0.2.1/32 gw 10.0.0.9 || true
    pre-down route del -host 192.0.2.1/32 gw 10.0.0.9 || true
    post-up route add -net 10.1.0.0/16 gw 10.0.0.9 metric 7 || true
    pre-down route del -net 10.1.0.0/16 gw 10.0.0.9 metric 7 || true
    post-up route add default gw 10.0.0.1 || true
    pre-down route del default gw 10.0.0.1 || true
# control-alias ens3
iface ens3 inet6 static
    address fd00::5/64
    post-up route add -A inet6 2001:db8::/32 gw fd00::9 || true
    pre-down route del -A inet6 2001:db8::/32 gw fd00::9 || true
    post-up route add -A inet6 default gw fd00::1 || true
    pre-down route del -A inet6 default gw fd00::1 || true
""",
    "18": """
auto ens3
iface ens3 inet6 static
    address FD00:0::5
    netmask 64
    gateway fd00::1
    post-up route add -A inet6 2001:db8:0::/32 gw fd00::9 || true
iface ens3 inet static
    mtu 1500
    netmask 255.255.255.0
    address 10.0.0.5
    gateway 10.0.0.1
    up route add -net 10.1.0.0 netmask 255.255.0.0 gw 10.0.0.9 metric 7
    up route add -net 192.0.2.1 netmask 255.255.255.255 gw 10.0.0.9 dev ens3 || true
""",
}


@pytest.mark.parametrize("release", sorted(ENI))
def test_stanzas_of_any_release_and_of_people_mean_the_same(release):
    assert eni(ENI[release]) == EXPECTED | {"start at boot"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("post-up ip route add 10.0.0.0/8 dev ens9", "route 10.0.0.0/8 dev ens9"),
        ("post-up ip route add 10.0.0.0/8 via 10.0.0.1 dev ens3 onlink", "route 10.0.0.0/8 via 10.0.0.1 onlink"),
        ("up ip -6 ro add default via fe80::1", "route ::/0 via fe80::1"),
        ("post-up ip route add 10.0.0.0/8 via 10.0.0.1 src 10.0.0.5", "post-up ip route add 10.0.0.0/8 via 10.0.0.1 src 10.0.0.5"),
        ("post-up ip rule add from 10.0.0.5 table 7", "post-up ip rule add from 10.0.0.5 table 7"),
        ("post-up route add -net 10.0.0.0 gw 10.0.0.1", "post-up route add -net 10.0.0.0 gw 10.0.0.1"),
        ("pre-down ip route del 10.0.0.0/8 via 10.0.0.1", "pre-down ip route del 10.0.0.0/8 via 10.0.0.1"),
        ("post-up", "post-up"),
        ("post-up ip", "post-up ip"),
        ("bond_mode 4", "bond mode 802.3ad"),
        ("bond-miimon 100", "bond miimon 100"),
        ("bond_master bond0", "belongs to bond0"),
        ("vlan_id 100", "vlan id 100"),
        ("hwaddress ether FA:16:3E:00:00:01", "mac fa:16:3e:00:00:01"),
        ("accept_ra 1", "accept-ra yes"),
        ("dns-nameservers 10.0.0.3 10.0.0.2 10.0.0.3", "dns 10.0.0.3 10.0.0.2"),
        ("dns_search b.example a.example", "search b.example a.example"),
    ],
)
def test_what_an_option_says(line, says):
    assert eni("iface ens3 inet static\n    %s\n" % line) == {says}


def test_no_name_server_is_no_name_server():
    assert eni("iface ens3 inet6 dhcp\n    dns-nameservers \n") == {"dhcp6"}


NETWORKD = """
[Match]
Name=ens3
MACAddress=FA:16:3e:00:00:01
[Link]
MTUBytes=1500
[Network]
DHCP=no
"""


@pytest.mark.parametrize(
    "rest",
    [
        """
[Address]
Address=10.0.0.5/24
[Address]
Address=fd00::5/64
[Route]
Gateway=10.0.0.1
[Route]
Destination=10.1.0.0/16
Gateway=10.0.0.9
Metric=7
[Route]
Destination=192.0.2.1/32
Gateway=10.0.0.9
[Route]
Gateway=fd00::1
Destination=::/0
[Route]
Gateway=fd00::9
Destination=2001:db8::/32
""",
        """
# by hand
[Network]
Gateway=fd00::1
Address=fd00:0::5/64
Address=10.0.0.5/24
Gateway=10.0.0.1
[Route]
Destination=2001:DB8::/32
Gateway=fd00::9
[Route]
Metric=7
Gateway=10.0.0.9
Destination=10.1.0.0/16
[Route]
Destination=192.0.2.1
Gateway=10.0.0.9
""",
    ],
)
def test_sections_in_any_order_mean_the_same(rest):
    assert file_meaning.of(NETWORKD + rest) == EXPECTED | {"match name ens3", "match mac fa:16:3e:00:00:01"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[Network]\nDHCP=yes\n", {"dhcp4", "dhcp6"}),
        ("[Network]\nDHCP=ipv4\n[Network]\nIPv6AcceptRA=True\n", {"dhcp4", "accept-ra yes"}),
        ("[Network]\nDNS=10.0.0.2 10.0.0.1\nDNS=fd00:0::1\n", {"dns 10.0.0.2 10.0.0.1 fd00::1"}),
        ("[Network]\nDNS=10.0.0.2\nDNS=\nDNS=10.0.0.1\n", {"dns 10.0.0.1"}),
        ("[Route]\nGateway=10.0.0.1\nGatewayOnLink=yes\n", {"route 0.0.0.0/0 via 10.0.0.1 onlink"}),
        ("[Route]\nGateway=10.0.0.1\nTable=7\n", {"route 0.0.0.0/0 via 10.0.0.1 Table=7"}),
        ("[Network]\nLinkLocalAddressing=0\n", {"Network.LinkLocalAddressing no"}),
        ("[Link]\nRequiredForOnline=no\n", {"Link.RequiredForOnline no"}),
        ("[Network]\nVLAN=ens3.7\nBond=bond0\n", {"carries ens3.7", "belongs to bond0"}),
        ("; nothing\nnonsense\n", set()),
    ],
)
def test_what_a_section_says(text, says):
    assert file_meaning.of(text) == says


def test_the_one_route_section_of_old_releases_is_known_and_is_not_what_it_should_be():
    old = "[Address]\nAddress=10.0.0.5/24\nAddress=fd00::5/64\n[Route]\nDestination=10.1.0.0/16\nDestination=::/0\nGateway=10.0.0.9\nGateway=fd00::1\n"
    right = "[Address]\nAddress=10.0.0.5/24\n[Address]\nAddress=fd00::5/64\n[Route]\nDestination=10.1.0.0/16\nGateway=10.0.0.9\n[Route]\nDestination=::/0\nGateway=fd00::1\n"
    assert file_meaning.of(old) != file_meaning.of(right)
    assert file_meaning.as_older_releases(file_meaning.of(right)) == (file_meaning.of(old),)


@pytest.mark.parametrize(
    "body",
    [
        """
      addresses: [10.0.0.5/24, "fd00::5/64"]
      mtu: 1500
      routes:
      - {to: 0.0.0.0/0, via: 10.0.0.1}
      - {to: 10.1.0.0/16, via: 10.0.0.9, metric: 7}
      - {to: 192.0.2.1/32, via: 10.0.0.9}
      - {to: "::/0", via: "fd00::1"}
      - {to: "2001:db8::/32", via: "fd00::9"}
""",
        """
      dhcp4: no
      gateway4: 10.0.0.1
      gateway6: "fd00::1"
      mtu: "1500"
      addresses: ["fd00:0::5/64", "10.0.0.5/24"]
      nameservers: {addresses: [], search: []}
      routes:
      - {via: "fd00::9", to: "2001:DB8::/32"}
      - {to: 192.0.2.1, via: 10.0.0.9}
      - {to: 10.1.0.0/16, via: 10.0.0.9, metric: "7"}
""",
        """
      mtu: 1500
      addresses: ["fd00::5/64", "10.0.0.5/24"]
      routes:
      - {to: default, via: "fd00::1"}
      - {to: "2001:db8::/32", via: "fd00::9", on-link: false}
      - {to: default, via: 10.0.0.1}
      - {to: 192.0.2.1, via: 10.0.0.9}
      - {to: 10.1.0.0/16, via: 10.0.0.9, metric: 7}
""",
    ],
)
def test_definitions_in_the_older_words_and_the_newer_mean_the_same(body):
    assert yaml_meaning.of("ethernets:\n    ens3:" + body) == EXPECTED | {"kind ethernets"}


def test_a_bonds_parameters_are_a_set_and_a_number_is_its_word():
    words = "bonds: {bond0: {interfaces: [b, a], parameters: {mode: 802.3ad, mii-monitor-interval: 100}}}"
    numbers = 'bonds: {bond0: {parameters: {mii-monitor-interval: "100", mode: "4"}, interfaces: [a, b]}}'
    assert yaml_meaning.of(words) == yaml_meaning.of(numbers)


KNOWN = meaning.Known(
    dns=frozenset(["10.0.0.2", "10.9.9.9"]),
    macs=frozenset(["fa:16:3e:00:00:01"]),
    ipv6=True,
    advertised=0,
    routes=frozenset(["route ::/0 via fd00::1"]),
)
WANTED = frozenset(["address 10.0.0.5/24", "dns 10.0.0.2", "accept-ra no", "match mac fa:16:3e:00:00:01"])


@pytest.mark.parametrize(
    ("less", "more", "does"),
    [
        ([], [], True),
        (["dns 10.0.0.2"], [], True),
        (["dns 10.0.0.2"], ["dns 10.9.9.9 10.0.0.2"], True),
        ([], ["dns 192.0.2.66"], False),
        ([], ["dns ntp.example.com 10.9.9.9"], True),  # a service of another type, by its name
        ([], ["dns ntp.example.com 192.0.2.66"], False),
        ([], ["dns 192.0.2.66:53#dns.example.com"], False),
        (["accept-ra no"], [], True),
        (["accept-ra no"], ["accept-ra yes"], False),
        ([], ["mac fa:16:3e:00:00:01"], True),
        ([], ["mac fa:16:3e:00:00:09"], False),
        ([], ["search example.com"], False),
        (["address 10.0.0.5/24"], [], False),
        ([], ["address 10.0.0.6/24"], False),
        ([], ["route 10.0.0.0/8 via 10.0.0.1"], False),
        ([], ["post-up /root/by-hand"], False),
        ([], ["address fd00::7/64"], False),
        (["match mac fa:16:3e:00:00:01"], ["match mac fa:16:3e:00:00:09"], False),
    ],
)
def test_what_some_release_may_have_written_for_the_same(less, more, does):
    assert meaning.may_be_cloud_inits(WANTED - set(less) | set(more), WANTED, KNOWN) is does


@pytest.mark.parametrize(
    ("wanted", "found", "does"),
    [
        # A default route whose netmask is missing, or 0, has a subnet's prefix to cloud-init.
        (["route 0.0.0.0/0 via 10.0.0.1"], ["route 0.0.0.0/24 via 10.0.0.1"], True),
        (["route ::/0 via fd00::1"], ["route ::/64 via fd00::1"], True),
        (["route 0.0.0.0/0 via 10.0.0.1"], ["route default/24 via 10.0.0.1"], True),
        (["route 0.0.0.0/0 via 10.0.0.1"], ["route default/24 via 10.0.0.2"], False),
        (["route 0.0.0.0/0 via 10.0.0.1"], ["route 0.0.0.0/24 via 10.0.0.2"], False),
        (["route 0.0.0.0/0 via 10.0.0.1"], ["route 0.0.0.0/8 via 10.0.0.1"], False),
        # A number that is 0 is no option to its eni renderer.
        (["bond downdelay 0", "bond mode balance-rr", "bond lacp-rate slow"], [], True),
        (["bond downdelay 0"], ["bond downdelay 5"], False),
        (["bond downdelay 5"], [], False),
        (["bond mode 802.3ad"], [], False),
        # networkd ignores a number: the same document, but not the same meaning.
        (["bond Mode 802.3ad"], ["bond Mode 4"], True),
        (["bond Mode 802.3ad"], ["bond Mode 802.1ad"], True),
        (["bond Mode 802.3ad"], ["bond Mode 1"], False),
        (["bond TransmitHashPolicy layer3+4"], ["bond TransmitHashPolicy 1"], True),
        (["bond MIIMonitorSec 1"], ["bond MIIMonitorSec 4"], False),
        # An option of the document, which the installed release does not write.
        ([], ["bond xmit-hash-policy layer3+4"], True),
        ([], ["bond xmit-hash-policy layer2"], False),
        # Some releases and renderers say of some gateways that they are neighbours.
        (["route ::/0 via fd00::1"], ["route ::/0 via fd00::1 onlink"], True),
        (["route ::/0 via fd00::1 onlink"], ["route ::/0 via fd00::1"], True),
        (["route ::/0 via fd00::1 onlink"], ["route ::/0 via fd00::2 onlink"], False),
        # A route on the link that the document names is not in what we have rendered.
        ([], ["route 203.0.113.1/32"], True),
        ([], ["route 203.0.113.2/32"], False),
        # A NIC by its name.
        (["match mac fa:16:3e:00:00:01", "set-name ens3"], [], True),
        (["set-name ens3"], ["set-name lan0"], False),
    ],
)
def test_what_a_renderer_makes_of_a_document_otherwise(wanted, found, does):
    known = KNOWN._replace(
        routes=frozenset(["route 203.0.113.1/32"]), bond=frozenset(["bond xmit-hash-policy layer3+4"])
    )
    assert meaning.may_be_cloud_inits(WANTED | set(found), WANTED | set(wanted), known) is does


@pytest.mark.parametrize("via", ["0.0.0.0", "::", "0::0", ""])
def test_a_route_by_way_of_the_unspecified_address_is_one_on_the_link(via):
    assert meaning.route("198.51.100.0/24", via) == "route 198.51.100.0/24"
    assert meaning.route("198.51.100.0/24", "10.0.0.1") == "route 198.51.100.0/24 via 10.0.0.1"


def test_a_number_in_a_netdev_file_is_not_the_word():
    """networkd ignores it, so such a file is written anew at the next boot."""
    text = "[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode=%s\n"
    assert file_meaning.of(text % "4") != file_meaning.of(text % "802.3ad")


def test_netplans_own_misspelling_is_the_option():
    assert meaning.bond_option("gratuitious-arp", "3") == meaning.bond_option("gratuitous-arp", "3")


def test_a_bonds_mode_by_the_name_in_novas_spec():
    assert meaning.bond_option("mode", "802.1ad") == "bond mode 802.3ad"
    assert meaning.bond_option("xmit-hash-policy", "802.1ad") == "bond xmit-hash-policy 802.1ad"


@pytest.mark.parametrize(("value", "means"), [("on", "1"), ("True", "1"), ("1", "1"), ("off", "0"), ("2", "2")])
def test_a_bonds_flag_is_a_number_to_the_kernel(value, means):
    assert eni("iface bond0 inet manual\n    bond-use-carrier %s\n" % value) >= {"bond use-carrier " + means}


def test_beside_a_lease_ifupdown_takes_no_gateway():
    stanza = "iface ens3 inet %s\n    gateway 10.0.0.1\n"
    assert eni(stanza % "dhcp") == {"dhcp4"}
    assert eni(stanza % "static") == {"route 0.0.0.0/0 via 10.0.0.1"}


@pytest.mark.parametrize("body", ["mtu: 0", "mtu: ''", "mtu: null", "parameters: {transmit-hash-policy: ''}"])
def test_netplan_is_told_nothing_by_what_is_empty(body):
    assert yaml_meaning.of("bonds: {bond0: {%s}}" % body) == {"kind bonds"}


@pytest.mark.parametrize("network", ["198.51.100.0/24", "2001:db8:9::/48"])
def test_a_route_on_the_link_in_each_of_netplans_ways(network):
    """`scope: link` is netplan's word, "::" and 0.0.0.0 are cloud-init's."""
    for way in ("scope: link", "via: '::'", "via: 0.0.0.0"):
        assert yaml_meaning.of('ethernets: {ens3: {routes: [{to: "%s", %s}]}}' % (network, way)) == {
            "kind ethernets",
            "route " + network,
        }


@pytest.mark.parametrize("targets", ["[192.0.2.2, 192.0.2.1]", "'192.0.2.1,192.0.2.2'", "192.0.2.2 192.0.2.1"])
def test_the_targets_of_a_bond_are_a_set(targets):
    body = "bonds: {bond0: {parameters: {arp-ip-targets: %s}}}" % targets
    assert yaml_meaning.of(body) == {"kind bonds", "bond arp-ip-targets 192.0.2.1 192.0.2.2"}
    assert file_meaning.of("[Bond]\nARPIPTargets=192.0.2.2 192.0.2.1\n") == {"bond ARPIPTargets 192.0.2.1 192.0.2.2"}


def test_a_default_route_through_nobody_is_cloud_inits_only_where_the_document_has_one():
    there = WANTED | {"route 0.0.0.0/0"}
    assert not meaning.may_be_cloud_inits(there, WANTED, KNOWN)
    assert meaning.may_be_cloud_inits(there, WANTED, KNOWN._replace(nowhere=frozenset(["route 0.0.0.0/0"])))


@pytest.mark.parametrize(
    ("more", "does"),
    [
        (["address fd00::7/64", "route ::/0 via fd00::1"], True),
        (["dhcp6"], True),
        (["address fd00::7/64", "address fd00::8/64"], False),
        (["address 10.0.0.7/24"], False),
        (["address fd00::7/64", "route 2001:db8::/32 via fd00::1"], False),
    ],
)
def test_before_19_4_an_advertised_subnet_was_written_as_a_static_one(more, does):
    wanted = WANTED | {"slaac"}
    assert meaning.may_be_cloud_inits(WANTED | set(more), wanted, KNOWN._replace(advertised=1)) is does


def test_what_differs_is_shown_line_by_line_and_no_more_than_anybody_reads():
    assert meaning.differences(frozenset(["a", "c"]), frozenset(["a", "b"])) == ("+ b", "- c")
    told = meaning.differences(frozenset("x" * 400 + str(n) for n in range(30)), frozenset())
    assert len(told) == 13
    assert told[-1] == "and 18 more"
    assert max(map(len, told)) == 160


@pytest.mark.parametrize(
    "line",
    ["up ip addr add 10.99.0.9/24 dev ens4", "post-up /sbin/ip -4 address add 10.99.0.9/24 dev ens4 || true"],
)
def test_an_address_that_a_command_of_a_stanza_gives(line):
    text = "auto ens4\niface ens4 inet static\n    address 10.0.0.5/24\n    %s\n" % line
    assert {"address 10.0.0.5/24", "address 10.99.0.9/24"} <= stanza_meaning.of(text, "ens4")
    assert "address 10.99.0.9/24" not in stanza_meaning.of(text, "ens5")


@pytest.mark.parametrize(
    ("option", "means"),
    [
        ("broadcast 10.0.0.255", ""), ("broadcast +", ""), ("scope global", ""), ("network 10.0.0.0", ""), ("broadcast 10.0.0.127", "broadcast 10.0.0.127"),
        ("scope link", "scope link"), ("network 10.0.0.5", "network 10.0.0.5"), ("broadcast x", "broadcast x"),
    ],
)
@pytest.mark.parametrize("address", ["address 10.0.0.5/24", "address 10.0.0.5\n netmask 255.255.255.0"])
def test_what_ifupdown_does_anyway_means_nothing(address, option, means):  # fmt: skip
    assert eni(BODY.format(address, option)) - eni(BODY.format(address, "")) == ({means} if means else set())


BODY = "auto ens3\niface ens3 inet static\n {}\n {}\n"
