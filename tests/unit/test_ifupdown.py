# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: foreign files, completed stanzas, and how a NIC is taken down and brought up."""

import pytest

from cloudinit_osnetd.backends import ifup_command
from cloudinit_osnetd.backends.eni import interfaces_file, sourced_files
from cloudinit_osnetd.backends.eni.backend import Ifupdown
from cloudinit_osnetd.backends.ifupdown import activator, start_order
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.kernel import alternative_names
from cloudinit_osnetd.system import command, files, paths

from .build import A, dhcp, entry, static
from .programs import programs

BACKEND = Ifupdown()
CLOUD = "auto lo\niface lo inet loopback\n\nauto ens3\niface ens3 inet dhcp\n\nauto ens4\niface ens4 inet dhcp\n"

@pytest.mark.parametrize(
    ("there", "reads", "written"),
    [
        (["50-cloud-init.cfg"], "source interfaces.d/*", "50-cloud-init.cfg"),
        (["50-cloud-init.cfg"], "source-directory interfaces.d", "50-cloud-init"),  # reads no name with a dot
        (["50-cloud-init.cfg", "50-cloud-init"], "source interfaces.d/*", "50-cloud-init"),
        ([], "source interfaces.d/*", "50-cloud-init"),
        (["60-mine.cfg"], "source interfaces.d/*", "50-cloud-init"),
    ],
)
def test_a_server_that_had_an_older_release_keeps_the_name_of_its_file(tmp_path, monkeypatch, there, reads, written):
    """Up to 19.2 it was called 50-cloud-init.cfg. In two files, each address would be set twice."""
    etc, tree = tmp_path / "etc", tmp_path / "staged"
    monkeypatch.setattr(sourced_files, "DIRECTORY", str(etc))
    files.replace(str(etc / "interfaces"), reads + "\n")
    for name in there:
        files.replace(str(etc / "interfaces.d" / name), CLOUD)
    files.replace("%s%s/interfaces.d/50-cloud-init" % (tree, etc), CLOUD)
    assert {part.path for part in BACKEND.staged(str(tree))} == {str(etc / "interfaces.d" / written)}


# -- other people's files --------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path, monkeypatch):
    """/etc/network below tmp_path, with cloud-init's file."""
    monkeypatch.setattr(sourced_files, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(paths, "INTERFACES_FRAGMENTS", str(tmp_path / "fragments"))
    files.replace(str(tmp_path / "interfaces"), "source-directory interfaces.d\nsource %s/more/*.cfg\n" % tmp_path)
    files.replace(str(tmp_path / "interfaces.d/50-cloud-init"), CLOUD)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "text", "theirs"),
    [
        ("interfaces.d/ens9", "auto ens9\niface ens9 inet static\n    address 10.9.0.5/24\n", True),
        ("interfaces.d/ens9", "iface ens9 inet manual\n", True),
        ("more/x.cfg", "allow-hotplug ens9\niface ens9 inet6 auto\n", True),
        ("interfaces.d/deeper", "source deeper/*\n", False),
        ("interfaces.d/ens9", "auto ens9\n", False),
        ("interfaces.d/ens9", "# iface ens9 inet static\n", False),
        ("interfaces.d/br0", "iface br0 inet static\n    bridge_ports ens9\n", False),
        # ens3 stands in cloud-init's own file too: that one stays ours.
        ("interfaces.d/ens3", "iface ens3 inet6 auto\n", False),
        # What the cloud image's helper wrote gives way, see dhcp_helper.py.
        ("fragments/ens9", "iface ens9 inet dhcp\n", False),
        ("elsewhere/ens9", "iface ens9 inet dhcp\n", False),
        ("interfaces.d/ens9.bak", "iface ens9 inet dhcp\n", False),
        ("interfaces.d/ens9~", "iface ens9 inet dhcp\n", False),
        ("interfaces", "source-directory interfaces.d\nallow-hotplug ens9\niface ens9 inet dhcp\n", True),
        ("interfaces", "source-directory interfaces.d\niface ens9 inet dhcp\n    hostname x\n", True),
        ("interfaces", "source-directory interfaces.d\niface ens9 inet static\n    address 10.9.0.5/24\n", True),
    ],
)
def test_a_nic_that_somebody_has_a_stanza_for_is_left_to_it(network, path, text, theirs):
    files.replace(str(network / path), text)
    items = [Item(name, entry(static()), name, ()) for name in ("ens3", "ens9")]
    assert BACKEND.claimed(items) == ({"ens9": str(network / path)} if theirs else {})


@pytest.mark.parametrize(("stanza", "theirs"), [("enp0s9", True), ("enp0s8", False), ("enp0s3", False)])
def test_a_stanza_by_another_name_counts(network, monkeypatch, stanza, theirs):
    """`ifup enp0s9` configures ens9; ens3 is ours by its own name."""
    others = {"ens9": ("enp0s9", "enxfa163e000001"), "ens8": ("enp0s8",), "ens3": ("enp0s3",)}
    monkeypatch.setattr(alternative_names, "of_links", lambda: others)
    files.replace(str(network / "interfaces.d/x"), "auto %s\niface %s inet dhcp\n" % (stanza, stanza))
    items = [Item(name, entry(static()), name, ()) for name in ("ens3", "ens9")]
    assert BACKEND.claimed(items) == ({"ens9": str(network / "interfaces.d/x")} if theirs else {})


def test_files_that_source_each_other_are_read_once(network):
    files.replace(
        str(network / "more/a.cfg"),
        "source %s/more/*.cfg\nsource %s/fragments/*\niface ens9 inet dhcp\n" % (network, network),
    )
    files.replace(str(network / "fragments/ens8"), "iface ens8 inet dhcp\n")
    items = [Item(name, entry(static()), name, ()) for name in ("ens8", "ens9")]
    assert BACKEND.claimed(items) == {"ens9": str(network / "more/a.cfg")}


def test_where_cloud_init_writes_to_a_file_of_everybodys_nothing_is_reported(network):
    files.remove(str(network / "interfaces.d/50-cloud-init"))
    files.replace(str(network / "interfaces"), CLOUD)
    assert BACKEND.claimed([Item("k", entry(static()), "ens3", ())]) == {}


# -- staged -----------------------------------------------------------------------------------------------


def test_what_was_staged_is_told_by_nic_without_the_loopback(tmp_path):
    files.replace(str(tmp_path / "etc/network/interfaces.d/50-cloud-init"), CLOUD)
    parts = BACKEND.staged(str(tmp_path))
    assert [(part.path, part.section, part.name) for part in parts] == [
        ("/etc/network/interfaces.d/50-cloud-init", "ens3", "ens3"),
        ("/etc/network/interfaces.d/50-cloud-init", "ens4", "ens4"),
    ]


# -- up and down ------------------------------------------------------------------------------------------

FAKES = {
    "ifup": 'echo "$1=$1" >> "$IFSTATE"; [ "$1" != broken ] || { echo "no lease" >&2; exit 1; }',
    "ifdown": '[ "$2" != gone ] && sed -i "/^$2=/d" "$IFSTATE"; [ "$2" != gone ]',
}


@pytest.fixture
def host(tmp_path, monkeypatch):
    state = tmp_path / "ifstate"
    monkeypatch.setattr(paths, "IFSTATE", str(state))
    monkeypatch.setattr(paths, "KERNEL_NICS", str(tmp_path / "devices"))
    monkeypatch.setattr(paths, "DHCLIENT_PID", str(tmp_path / "%s.pid"))
    monkeypatch.setattr(paths, "PROC", str(tmp_path / "proc"))
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(sourced_files, "DIRECTORY", str(tmp_path / "network"))
    monkeypatch.setattr(paths, "SYSTEMD", str(tmp_path / "no-systemd"))
    fakes = {name: script.replace("$IFSTATE", str(state)) for name, script in FAKES.items()}
    found = programs(tmp_path, monkeypatch, fakes)
    found.state = state
    return found


def touch(action, name):
    return Touch(action, A, name, "")


def test_a_nic_that_is_up_is_taken_down_with_its_old_stanza(host):
    host.state.write_text("lo=lo\nens3=ens3\n")
    BACKEND.before([touch("reconfigure", "ens3"), touch("down", "ens4")])
    assert host.ran() == ["ifdown --force ens3"]
    assert host.state.read_text() == "lo=lo\n"


def test_a_nic_that_is_gone_leaves_ifstate_also_when_ifdown_fails(host):
    host.state.write_text("lo=lo\ngone=gone\n")
    BACKEND.before([touch("down", "gone")])
    assert host.state.read_text() == "lo=lo\n"


def test_each_touched_nic_is_brought_up_and_no_other(host):
    host.state.write_text("lo=lo\n")
    assert BACKEND.after([touch("up", "ens3"), touch("down", "ens4"), touch("kick", "ens5")], True) == {}
    assert sorted(host.ran()) == ["ifup ens3", "ifup ens5"]


def test_a_nic_that_ifupdown_believes_to_be_up_is_taken_down_first(host):
    host.state.write_text("ens3=ens3\n")
    BACKEND.after([touch("kick", "ens3")], False)
    assert host.ran() == ["ifdown --force ens3", "ifup ens3"]


def test_a_nic_that_only_its_own_state_file_knows_is_taken_down_first_and_forgotten(host):
    """An `ifup` that was killed between the two: the next says nothing, and does nothing."""
    host.state.write_text("lo=lo\n")
    own = host.state.with_name("ifstate.gone")
    own.write_text("gone\n")
    BACKEND.before([touch("reconfigure", "gone")])
    assert host.ran() == ["ifdown --force gone"]
    assert (own.read_text(), host.state.read_text()) == ("", "lo=lo\n")


def test_what_an_ifdown_that_was_killed_has_left_is_taken_down_once_more(host, tmp_path):
    host.state.write_text("lo=lo\n")
    for name, flags in (("ens3", "0x1003"), ("ens4", "0x1002"), ("ens5", "0x1002")):
        files.replace(str(tmp_path / "devices" / name / "flags"), flags + "\n")
    (tmp_path / "ens5.pid").write_text("4711\n")
    BACKEND.before([touch("reconfigure", name) for name in ("ens3", "ens4", "ens5", "ens6")])
    assert host.ran() == ["ifdown --force ens3", "ifdown --force ens5"]


def test_a_failure_is_named_and_costs_no_other_nic(host):
    host.state.write_text("")
    said = BACKEND.after([touch("up", "broken"), touch("up", "ens3")], True)
    assert said == {"broken": "ifup broken: exit 1: no lease"}
    assert "ens3=ens3" in host.state.read_text()


def test_the_commands_are_on_the_record(host):
    host.state.write_text("ens3=ens3\n")
    BACKEND.after([touch("kick", "ens3")], False)
    assert command.ran == ["ifdown --force ens3", "ifup ens3"]


# -- routes ----------------------------------------------------------------------------------------------------

ITEM = Item("k", entry(), "ens4", ())


@pytest.mark.parametrize(
    ("route", "by_ip"),
    [
        ("post-up route add default gw 10.0.0.1 || true", "post-up ip route add default via 10.0.0.1 dev ens4 || true"),
        (
            "pre-down route del default gw 10.0.0.1 metric 2100 || true",
            "pre-down ip route del default via 10.0.0.1 metric 2100 dev ens4 || true",
        ),
        (
            "post-up route add -A inet6 default gw 2001:db8::1 || true",
            "post-up ip -family inet6 route add default via 2001:db8::1 metric 1023 dev ens4 || true",
        ),
        (
            "post-up route add -net 10.8.0.0/16 gw 10.0.0.9 metric 7 || true",
            "post-up ip route add 10.8.0.0/16 via 10.0.0.9 metric 7 dev ens4 || true",
        ),
        (
            "post-up route add -net 10.8.0.0 netmask 255.255.0.0 gw 10.0.0.9",
            "post-up ip route add 10.8.0.0/16 via 10.0.0.9 dev ens4 || true",
        ),
        (
            "post-up route add -host 169.254.169.254/32 gw 10.0.0.2 || true",
            "post-up ip route add 169.254.169.254/32 via 10.0.0.2 dev ens4 || true",
        ),
        (
            "pre-down route del -A inet6 2001:db8:8::/48 gw 2001:db8::9 || true",
            "pre-down ip -family inet6 route del 2001:db8:8::/48 via 2001:db8::9 dev ens4 || true",
        ),
        (
            "post-up ip -family inet6 route add default via fd00::1 metric 9 || true",
            "post-up ip -family inet6 route add default via fd00::1 metric 9 dev ens4 || true",
        ),
        (
            "pre-down ip -family inet6 route del default via fe80::1",
            "pre-down ip -family inet6 route del default via fe80::1 metric 1023 dev ens4 || true",
        ),
        ("pre-down ip route del default via 10.0.0.1 dev ens4", "pre-down ip route del default via 10.0.0.1 dev ens4"),
        ("post-up route add something else", "post-up route add something else dev ens4 || true"),
    ],
)
def test_routes_go_by_ip_and_name_their_nic(route, by_ip):
    text = "auto ens4\niface ens4 inet static\n    address 10.0.0.5/24\n    %s\n    hwaddress x\n"
    assert BACKEND.finish(text % route, ITEM) == text % by_ip


@pytest.mark.parametrize(
    ("route", "by_ip"),
    [
        (
            "post-up route add default gw 10.77.0.1 || true",
            "post-up ip route add default via 10.77.0.1 dev ens4 onlink || true",
        ),
        (
            "pre-down route del default gw 10.77.0.1 || true",
            "pre-down ip route del default via 10.77.0.1 dev ens4 || true",
        ),
        ("post-up route add default gw 10.0.0.1 || true", "post-up ip route add default via 10.0.0.1 dev ens4 || true"),
    ],
)
def test_a_gateway_outside_the_subnet_is_a_neighbour(route, by_ip):
    text = "auto ens4\niface ens4 inet static\n    address 10.0.0.5/24\n    %s\n"
    one = entry(static(gateway="10.77.0.1", routes=[{"network": "10.9.0.0/16", "gateway": "10.0.0.1"}]))
    assert BACKEND.finish(text % route, Item(one.key, one, "ens4", (), 0)) == text % by_ip


# -- DNS -------------------------------------------------------------------------------------------------------


def test_dns_servers_in_use_are_those_that_resolvconf_knows_of_the_nic(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESOLVCONF_RECORDS", str(tmp_path))
    monkeypatch.setattr(paths, "RESOLVCONF_PROGRAMS", ("/bin/sh",))
    (tmp_path / "ens4.inet").write_text("domain x\nnameserver 10.0.0.2\n")
    (tmp_path / "ens4.inet6").write_text("nameserver 2001:db8::2\nnameserver\n")
    (tmp_path / "ens41.inet").write_text("nameserver 10.9.9.9\n")
    assert BACKEND.dns("ens4", 2) == (frozenset(["10.0.0.2", "2001:db8::2"]), "", frozenset(["x"]))
    monkeypatch.setattr(paths, "RESOLVCONF_PROGRAMS", ("/no/such/program",))
    assert BACKEND.dns("ens4", 2) == (frozenset(), "resolvconf is not installed", frozenset())


# -- what cloud-init does not say -------------------------------------------------------------------------

AUTOCONF = "/proc/sys/net/ipv6/conf/ens3/autoconf"
SIX = "auto ens3\niface ens3 inet6 static\n    address fd00::5/64\n"
SIX_BY_COMMANDS = (
    "auto ens3\niface ens3 inet6 manual\n    address fd00::5/64\n"
    "    pre-up test ! -w %s || echo 0 >%s || true\n"
    % (AUTOCONF, AUTOCONF)
    + "    up ip -6 address add fd00::5/64 dev ens3 || true\n"
    "%s    up IF_ADDRESS=fd00::5 IF_NETMASK=64 /lib/ifupdown/settle-dad.sh || true\n"
)


def finish(text, kind="phy", **fields):
    one = entry(static(), **fields)._replace(kind=kind)
    return BACKEND.finish(text, Item(one.key, one, "ens3", (), 0))


@pytest.mark.parametrize(("kind", "when"), [("phy", "pre-up"), ("bond", "up")])
@pytest.mark.parametrize("method", ["inet static", "inet manual", "inet dhcp", "inet6 auto"])
def test_an_mtu_that_is_refused_does_not_end_ifup(method, kind, when):
    """`inet static` would set it in one command with the link's state; DHCP would not set it at all."""
    text = "auto ens3\niface ens3 %s\n    x y\n" % method
    assert finish(text + "    mtu 8950\n", kind) == text + "    %s ip link set dev ens3 mtu 8950 || true\n" % when


def test_an_ipv6_address_that_is_refused_does_not_end_ifup():
    """Nor does a carrier that is late; the routes come after the address, and the wait for its proof after them."""
    route = "    post-up ip -family inet6 route add fd01::/64 via fd00::9 dev ens3 || true\n"
    assert finish(SIX + route) == SIX_BY_COMMANDS % route


def test_of_several_ipv6_addresses_the_proof_of_the_last_is_waited_for():
    other = "\n# control-alias ens3\niface ens3 inet6 static\n    address fd00::6/64\n"
    said = finish(SIX + other)
    assert said.count("settle-dad") == 1 and "IF_ADDRESS=fd00::6" in said
    assert said.replace("manual", "static").count("\n\n# control-alias ens3\n") == 1
    assert "up ip -6 address add fd00::5/64" in said and "up ip -6 address add fd00::6/64" in said


def test_what_inet6_static_sets_beside_its_address_is_set():
    said = finish(SIX + "    accept_ra 1\n    autoconf 1\n    netmask 64\n")
    for key in ("accept_ra", "autoconf"):
        path = "/proc/sys/net/ipv6/conf/ens3/" + key
        assert "    pre-up test ! -w %s || echo 1 >%s || true\n" % (path, path) in said


def test_a_stanza_that_is_there_for_its_ipv6_routes_has_no_address_to_add():
    """cloud-init writes one where a port has IPv6 routes and no IPv6 subnet; ifupdown wants an address of it."""
    route = "    post-up ip -family inet6 route add fd01::/64 via fd00::9 dev ens3 || true\n"
    said = finish("iface ens3 inet6 static\n" + route)
    assert said.startswith("iface ens3 inet6 manual\n") and said.endswith(route)
    assert "address" not in said and "settle" not in said


@pytest.mark.parametrize(
    ("family", "gateway", "route"),
    [
        ("inet", "10.0.0.1", "ip route %s default via 10.0.0.1 dev ens3 || true"),
        ("inet6", "fd00::1", "ip -family inet6 route %s default via fd00::1 metric 1023 dev ens3 || true"),
    ],
)
def test_a_gateway_that_is_refused_does_not_end_ifup(family, gateway, route):
    said = finish("iface ens3 %s static\n    gateway %s\n" % (family, gateway))
    assert "    post-up %s\n    pre-down %s\n" % (route % "add", route % "del") in said
    assert "gateway" not in said
    if family == "inet6":
        assert "echo 0 >/proc/sys/net/ipv6/conf/ens3/accept_ra" in said  # as ifupdown takes a gateway


SETTING = "/proc/sys/net/ipv6/conf/ens3/ra_defrtr_metric"


@pytest.mark.parametrize(("kind", "when"), [("phy", "pre-up"), ("vlan", "up")])
def test_a_router_that_advertises_itself_to_a_second_nic_comes_after_its_routes(kind, when):
    """Said before the link is up, in the first stanza; a VLAN is not there before."""
    one = entry(static())._replace(kind=kind)
    four, six = "auto ens3\niface ens3 inet static\n", "    address 10.0.0.5/24\n\niface ens3 inet6 auto\n"
    line = "    %s test ! -w %s || echo 2101 >%s || true\n" % (when, SETTING, SETTING)
    assert BACKEND.finish(four + six, Item(one.key, one, "ens3", (), 2100)) == four + line + six
    assert BACKEND.finish(four + six, Item(one.key, one, "ens3", (), 0)) == four + six


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ens3", "eth0.100", "enp0s31f6", "_lan", "lan-a", "br@x", "a+b", "wlp2s0", "0x"])
def test_a_name_that_ifupdown_takes_as_it_stands(name):
    assert BACKEND.unnameable(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "w[1]",
        "p=q",
        "-dash",
        "a*b",
        "$x",
        "$(id)",
        "`id`",
        "a;b",
        "a|b",
        "a&b",
        "a'b",
        'a"b',
        "a\\b",
        "a>b",
        "~",
        "a%b",
        "#",
        "!a",
        "a?",
        "{a}",
        "a\n",
    ],
)
def test_a_name_that_ifupdown_takes_for_something_else_is_refused_and_reported(name):
    assert repr(name) in BACKEND.unnameable(name)


# -- what leans on what ------------------------------------------------------------------------------------

BONDED = """\
auto ens4
iface ens4 inet manual
    bond-master bond0

auto bond0
iface bond0 inet static
    address 10.94.0.5/24
    bond-mode active-backup
    bond-slaves none

auto bond0.7
iface bond0.7 inet static
    address 10.95.0.5/24
    vlan-raw-device bond0
    vlan_id 7

auto ens3
iface ens3 inet dhcp
    metric 2100
"""


def test_a_bond_comes_before_its_members_and_a_vlan_after_all():
    groups = list(start_order.in_order(["bond0.7", "ens4", "ens3", "bond0"], BONDED))
    assert groups == [["bond0"], ["ens4", "ens3"], ["bond0.7"]]
    assert [start_order.depends_on(BONDED, name) for name in ("ens4", "bond0.7", "bond0", "ens3")] == [
        "bond0",
        "bond0",
        "",
        "",
    ]


BY_CLOUD_INIT = """\
auto ens3
iface ens3 inet manual
    bond-master bond0
    bond_miimon 100
    bond_mode 802.3ad

auto ens4
iface ens4 inet manual
    bond-master bond0
    bond_miimon 100
    bond_mode 802.3ad

auto bond0
iface bond0 inet dhcp
    bond-slaves none
    bond_miimon 100
    bond_mode 802.3ad
"""


def test_a_member_that_has_its_bonds_options_is_no_bond():
    """Else it comes with the bond, side by side, and waits for a lease that the bond cannot get without it."""
    assert [start_order.is_bond(BY_CLOUD_INIT, name) for name in ("bond0", "ens3", "ens4")] == [True, False, False]
    assert list(start_order.in_order(["ens3", "bond0", "ens4"], BY_CLOUD_INIT)) == [["bond0"], ["ens3", "ens4"]]
    assert start_order.depends_on(BY_CLOUD_INIT, "ens4") == "bond0"


@pytest.mark.parametrize("option", ["bond-slaves none", "bond-slaves ens3 ens4", "slaves none", "bond_mode 4"])
def test_a_bond_by_any_of_its_options(option):
    assert start_order.is_bond("iface bond0 inet manual\n    %s\n" % option, "bond0")


def test_what_went_down_with_another_comes_up_with_it(host, monkeypatch):
    """`ifdown bond0` takes its members and VLANs along."""
    files.replace(str(host.state.parent / "network/interfaces"), BONDED)
    host.state.write_text("ens3=ens3\nbond0=bond0\nens4=ens4\nbond0.7=bond0.7\ngone=gone\n")
    along = 'sed -i -e "/^bond0/d" -e "/^ens4=/d" -e "/^gone=/d" ' + str(host.state)
    (host.state.parent / "bin/ifdown").write_text("#!/bin/sh\n%s\n" % along)
    BACKEND.before([touch("reconfigure", "bond0")])
    BACKEND.after([touch("reconfigure", "bond0")], True)
    ran = host.ran()  # the member and the VLAN at once, whichever is first
    assert ran[0] == "ifup bond0" and sorted(ran[1:]) == ["ifup bond0.7", "ifup ens4"]
    BACKEND.after([touch("up", "ens9")], True)
    assert host.ran()[3:] == ["ifup ens9"]


# -- the metric of a lease ---------------------------------------------------------------------------------


def test_the_hook_is_told_the_metric_before_ifup_and_nothing_of_a_nic_that_goes(host, tmp_path, monkeypatch):
    monkeypatch.setattr(activator.lease_metric.paths, "DHCP", str(tmp_path / "dhcp"))
    files.replace(str(tmp_path / "network/interfaces"), BONDED)
    (tmp_path / "bin/ifup").write_text("#!/bin/sh\ncat %s/dhcp/$1 >> %s/told\n" % (tmp_path, tmp_path))
    host.state.write_text("")
    BACKEND.after([touch("up", "ens3")], True)
    assert (tmp_path / "told").read_text() == "2100\n"
    BACKEND.after([touch("down", "ens3")], True)
    assert not (tmp_path / "dhcp/ens3").exists()


def test_at_a_boot_the_hook_gets_every_leased_nic_that_is_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(activator.lease_metric.paths, "DHCP", str(tmp_path))
    monkeypatch.setattr(activator.dhcp_helper, "_CONFIGURATION", ())
    items = [
        Item("k", entry(dhcp()), name, (), metric) for name, metric in (("ens3", 0), ("ens4", 2100), ("ens5", 2200))
    ]
    BACKEND.boot([*items, Item("k", entry(static()), "ens6", (), 2300)], frozenset(["ens5"]))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"ens4": "2100\n"}


def test_at_a_boot_udevs_start_of_a_nic_is_cancelled_where_its_stanza_went(tmp_path, monkeypatch, host):
    devices = tmp_path / "devices"
    for name in ("ens3", "ens4", "ens5", "ens6"):
        (devices / name).mkdir(parents=True)
    monkeypatch.setattr(activator.dhcp_helper, "_CONFIGURATION", ())
    (tmp_path / "made").mkdir()
    ran = programs(tmp_path / "made", monkeypatch, {"systemctl": ""})
    files.replace(str(tmp_path / "network/interfaces"), "auto ens3\niface ens3 inet manual\nallow-hotplug ens4\niface ens4 inet dhcp\n")
    BACKEND.boot([], changed=frozenset(["ens3", "ens4", "ens6", "ens77"]))  # ens77 has gone, ens5 is as it was
    assert ran.ran() == ["systemctl --no-block stop ifup@%s.service" % name for name in ("ens3", "ens6")]


@pytest.mark.parametrize(
    ("text", "yes"),
    [("auto ens4\n", False), ("allow-hotplug ens3 ens4\n", True), ("allow-hotplug ens41\n", False), ("allow-hotplug /ens*\n", True)],
)
def test_what_udev_starts(text, yes):
    assert interfaces_file.is_hotplugged(text, "ens4") is yes


def test_two_scopes_have_two_names(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "SYSTEMD", str(tmp_path))
    assert len({ifup_command.ifup(name)[5] for name in ("ens3", "ens3", "a.b", "a-b", "a_b")}) == 5
