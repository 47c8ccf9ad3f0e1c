# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: a NIC's section of a shared interfaces(5) file, taken out and put in, all else byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd import command, files
from cloudinit_osnetd.backends import Touch, ifupdown
from cloudinit_osnetd.backends.ifupdown import Ifupdown
from cloudinit_osnetd.desired import Item

from .build import A, entry, static
from .programs import programs

BACKEND = Ifupdown()
CLOUD = """\
# This file is generated from information provided by the datasource.

auto lo
iface lo inet loopback

auto ens3
iface ens3 inet static
    address 10.0.0.5/24

# control-alias ens3
iface ens3 inet6 static
    address fd00::5/64

auto ens4
iface ens4 inet dhcp
"""
ENS4 = "auto ens4\niface ens4 inet dhcp\n"
ENS9 = "auto ens9\niface ens9 inet manual\n    mtu 1450\n"

# -- other people's files --------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path, monkeypatch):
    """/etc/network below tmp_path, with cloud-init's file."""
    monkeypatch.setattr(ifupdown, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(ifupdown.fallback, "FRAGMENTS", str(tmp_path / "fragments"))
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
        # What the cloud image's helper wrote gives way, see fallback.py.
        ("fragments/ens9", "iface ens9 inet dhcp\n", False),
        ("elsewhere/ens9", "iface ens9 inet dhcp\n", False),
        ("interfaces.d/ens9.bak", "iface ens9 inet dhcp\n", False),
        ("interfaces.d/ens9~", "iface ens9 inet dhcp\n", False),
        ("interfaces", "source-directory interfaces.d\nallow-hotplug ens9\niface ens9 inet dhcp\n", False),
        ("interfaces", "source-directory interfaces.d\niface ens9 inet dhcp\n    hostname x\n", True),
        ("interfaces", "source-directory interfaces.d\niface ens9 inet static\n    address 10.9.0.5/24\n", True),
    ],
)
def test_a_nic_that_somebody_has_a_stanza_for_is_left_to_it(network, path, text, theirs):
    files.replace(str(network / path), text)
    items = [Item(name, entry(static()), name, ()) for name in ("ens3", "ens9")]
    assert BACKEND.claimed(items) == ({"ens9": str(network / path)} if theirs else {})


def test_files_that_source_each_other_are_read_once(network):
    files.replace(str(network / "more/a.cfg"), "source %s/more/*.cfg\nsource %s/fragments/*\niface ens9 inet dhcp\n" % (network, network))
    files.replace(str(network / "fragments/ens8"), "iface ens8 inet dhcp\n")
    items = [Item(name, entry(static()), name, ()) for name in ("ens8", "ens9")]
    assert BACKEND.claimed(items) == {"ens9": str(network / "more/a.cfg")}


def test_where_cloud_init_writes_to_a_file_of_everybodys_nothing_is_told(network):
    files.remove(str(network / "interfaces.d/50-cloud-init"))
    files.replace(str(network / "interfaces"), CLOUD)
    assert BACKEND.claimed([Item("k", entry(static()), "ens3", ())]) == {}


# -- sections -------------------------------------------------------------------------------------------


def test_a_section_is_all_stanzas_of_a_nic():
    sections = BACKEND.split(CLOUD)
    assert sorted(sections) == ["ens3", "ens4", "lo"]
    assert sections["ens4"] == ENS4
    assert "10.0.0.5/24" in sections["ens3"]
    assert "fd00::5/64" in sections["ens3"]


@pytest.mark.parametrize(
    ("text", "owners"),
    [
        ("", []),
        ("auto ens3 ens4\n", []),
        ("auto ens3 \\\n  ens4\n", []),
        ("auto \\\n ens3\n", ["ens3"]),
        ("au\\\nto ens3\n", ["ens3"]),
        ("allow-hotplug ens3\n", ["ens3"]),
        ("source /etc/network/interfaces.d/*\n", []),
        ("mapping ens3\n  script x\n", []),
        ("iface ens3 inet manual\nsource x\n  up y\n", ["ens3"]),
        ("  iface  ens3   inet manual\n", ["ens3"]),
        ("# note \\\nauto ens3\n", ["ens3"]),
        ("iface ens3 inet manual\n up x \\\nauto ens4\n", ["ens3"]),
        ("iface ens3 inet manual\n up x \\\n# y \\\nauto ens4\n", ["ens3"]),
        (" \\\niface ens3 inet manual\n", ["ens3"]),
        ("up x\x0cauto ens3\n", []),
        ("# note\u2028auto ens3\n", []),
        ("iface\n", []),
    ],
)
def test_stanzas_are_told_as_ifupdown_tells_them(text, owners):
    """Each of these was put to ifquery (Debian 11 and 12)."""
    assert sorted(BACKEND.split(text)) == owners


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (ENS9, "auto  ens9\n\n# note\niface ens9 inet   manual\n\tmtu 1450", True),
        (ENS9, ENS9.replace("auto ens9", "auto \\\n ens9"), True),
        (ENS9, ENS9.replace("1450", "1400"), False),
        (ENS9, ENS9.replace("    mtu", "    #mtu"), False),
        (ENS9, ENS9 + "    up x\n", False),
    ],
)
def test_two_sections_mean_the_same_but_for_blanks_and_comments(one, other, same):
    assert (BACKEND.normal(one) == BACKEND.normal(other)) == same


# -- put in and taken out ---------------------------------------------------------------------------------


def test_a_section_is_replaced_where_it_stands():
    assert BACKEND.join(CLOUD, None, {"ens3": "auto ens3\niface ens3 inet dhcp\n"}) == (
        "# This file is generated from information provided by the datasource.\n"
        "\n"
        "auto lo\n"
        "iface lo inet loopback\n"
        "\n"
        "auto ens3\n"
        "iface ens3 inet dhcp\n"
        "\n"
        "auto ens4\n"
        "iface ens4 inet dhcp\n"
    )


def test_a_new_section_goes_to_the_end():
    assert BACKEND.join(CLOUD, None, {"ens9": ENS9}) == CLOUD + "\n" + ENS9


def test_attached_and_detached_the_file_is_as_it_was():
    assert BACKEND.join(BACKEND.join(CLOUD, None, {"ens9": ENS9}), None, {"ens9": None}) == CLOUD


def test_a_new_file_takes_the_header_and_the_loopback_of_the_template():
    out = BACKEND.join(None, CLOUD, {"ens9": ENS9})
    assert out.startswith(CLOUD[: CLOUD.index("auto ens3")])
    assert sorted(BACKEND.split(out)) == ["ens9", "lo"]


def test_removing_what_is_not_there_changes_nothing():
    assert BACKEND.join(CLOUD, None, {"ens9": None}) == CLOUD


names = st.sampled_from(["ens3", "ens4", "eth0:1", "br-x"])
words = st.text(st.sampled_from("abz019.:/-#\\'\"\t \x0c\x1c\x85\u2028\xe9\udce9\r"), max_size=10)
option = st.builds(lambda w: "    up " + w.rstrip("\\") + "\n", words)
continued = st.builds(lambda w, x: "    up " + w + " \\\n" + x.rstrip("\\") + "\n", words, words)
comment = st.builds(lambda w: "# " + w + "\n", words)
blank = st.sampled_from(["\n", "  \n", "\t\n"])
start = st.one_of(
    st.builds("auto {}\n".format, names),
    st.builds("auto \\\n {}\n".format, names),
    st.builds("allow-hotplug {}\n".format, names),
    st.builds("auto {} {}\n".format, names, names),
    st.builds("iface {} inet manual\n".format, names),
    st.builds("   iface {} inet6 auto\n".format, names),
    st.sampled_from(["source /etc/network/interfaces.d/*\n", "mapping eth*\n", "no-scripts x\n"]),
)
stanza = st.builds(
    lambda head, body: head + "".join(body),
    start,
    st.lists(st.one_of(option, continued, option, comment, blank), max_size=4),
)
interfaces = st.builds(
    lambda parts, tail: "".join(parts) + tail,
    st.lists(st.one_of(stanza, stanza, comment, blank), max_size=8),
    st.sampled_from(["", "auto ens3"]),
)


def logical_lines(text):
    """Lines as get_line() of ifupdown's config.c reads them; blank ones and comments as None."""
    physical = text.split("\n")
    while physical:
        line = physical.pop(0)
        if line.lstrip().startswith("#"):
            continue
        while line.endswith("\\") and physical:
            line = line[:-1] + physical.pop(0)
        if line.split():
            yield line


def meaning(text):
    """(NIC, its lines) for each stanza, in order, by an independent reading of interfaces(5)."""
    found = [("", [])]
    for line in logical_lines(text):
        first, *rest = line.split()
        if first in (
            "iface",
            "auto",
            "mapping",
            "source",
            "source-directory",
            "rename",
            "no-scripts",
            "no-auto-down",
        ) or first.startswith("allow-"):
            mine = first == "iface" or (first.startswith(("auto", "allow-")) and len(rest) == 1)
            found.append((rest[0] if mine and rest else "", []))
        found[-1][1].append(line)
    return [stanza for stanza in found if stanza[1]]


def without(name, stanzas):
    return [stanza for stanza in stanzas if stanza[0] != name]


@given(interfaces)
def test_the_blocks_of_a_file_are_the_file(text):
    joined = "".join(block.text for block in ifupdown._blocks(text))
    assert joined == (text if not text or text.endswith("\n") else text + "\n")


@given(interfaces, st.sampled_from(["ens3", "ens4", "new0"]))
def test_removing_a_section_leaves_every_other_line_as_it_was(text, name):
    out = BACKEND.join(text, None, {name: None})
    assert meaning(out) == without(name, meaning(text))
    assert name not in BACKEND.split(out)
    others = {n: s for n, s in BACKEND.split(text).items() if n != name}
    assert BACKEND.split(out) == others
    assert BACKEND.join(out, None, {name: None}) == out


@given(interfaces, st.sampled_from(["ens3", "ens4", "new0"]))
def test_writing_a_section_leaves_every_other_line_as_it_was(text, name):
    new = "auto %s\niface %s inet manual\n    mtu 1450\n" % (name, name)
    out = BACKEND.join(text, None, {name: new})
    assert without(name, meaning(out)) == without(name, meaning(text))
    assert BACKEND.normal(BACKEND.split(out)[name]) == BACKEND.normal(new)
    assert [stanza for stanza in meaning(out) if stanza[0] == name] == meaning(new)
    others = {n: s for n, s in BACKEND.split(text).items() if n != name}
    assert {n: s for n, s in BACKEND.split(out).items() if n != name} == others
    assert BACKEND.join(out, None, {name: new}) == out


@given(interfaces, st.sampled_from(["ens3", "ens4", "new0"]))
def test_comments_between_stanzas_are_nobodys_and_stay(text, name):
    marked = text.rstrip("\n\\") + "\n# the first\nauto %s\n# the last\n" % name
    out = BACKEND.join(marked, None, {name: None})
    assert "# the first\n" in out
    assert "# the last\n" in out


@given(interfaces)
def test_the_loopback_and_other_peoples_stanzas_do_not_change_with_several_changes_at_once(text):
    changes = {"ens3": None, "ens4": "auto ens4\niface ens4 inet dhcp\n", "new0": ENS9.replace("ens9", "new0")}
    out = BACKEND.join(text, None, changes)
    kept = [stanza for stanza in meaning(text) if stanza[0] not in changes]
    assert [stanza for stanza in meaning(out) if stanza[0] not in changes] == kept
    assert set(changes) - {"ens3"} <= set(BACKEND.split(out))


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
    monkeypatch.setattr(ifupdown, "STATE", str(state))
    monkeypatch.setattr(ifupdown, "DEVICES", str(tmp_path / "devices"))
    monkeypatch.setattr(ifupdown, "DHCLIENT_PID", str(tmp_path / "%s.pid"))
    monkeypatch.setattr(ifupdown.os.path, "isdir", lambda path: path != "/run/systemd/system")
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
            "post-up ip -family inet6 route add default via 2001:db8::1 dev ens4 || true",
        ),
        (
            "post-up route add -net 10.8.0.0/16 gw 10.0.0.9 metric 7 || true",
            "post-up ip route add 10.8.0.0/16 via 10.0.0.9 metric 7 dev ens4 || true",
        ),
        (
            "post-up route add -net 10.8.0.0 netmask 255.255.0.0 gw 10.0.0.9",
            "post-up ip route add 10.8.0.0/16 via 10.0.0.9 dev ens4",
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
        ("pre-down ip route del default via 10.0.0.1 dev ens4", "pre-down ip route del default via 10.0.0.1 dev ens4"),
        ("post-up route add something else", "post-up route add something else dev ens4"),
    ],
)
def test_routes_go_by_ip_and_name_their_nic(route, by_ip):
    text = "auto ens4\niface ens4 inet static\n    address 10.0.0.5/24\n    %s\n    mtu 1400\n"
    assert BACKEND.finish(text % route, ITEM) == text % by_ip


# -- DNS -------------------------------------------------------------------------------------------------------


def test_dns_servers_in_use_are_those_that_resolvconf_knows_of_the_nic(tmp_path, monkeypatch):
    monkeypatch.setattr(ifupdown, "RESOLVCONF", str(tmp_path))
    monkeypatch.setattr(ifupdown, "_RESOLVCONF_PROGRAMS", ("/bin/sh",))
    (tmp_path / "ens4.inet").write_text("domain x\nnameserver 10.0.0.2\n")
    (tmp_path / "ens4.inet6").write_text("nameserver 2001:db8::2\nnameserver\n")
    (tmp_path / "ens41.inet").write_text("nameserver 10.9.9.9\n")
    assert BACKEND.dns("ens4", 2) == (frozenset(["10.0.0.2", "2001:db8::2"]), "")
    monkeypatch.setattr(ifupdown, "_RESOLVCONF_PROGRAMS", ("/no/such/program",))
    assert BACKEND.dns("ens4", 2) == (frozenset(), "resolvconf is not installed")


# -- what cloud-init does not say -------------------------------------------------------------------------

SIX = "auto ens3\niface ens3 inet6 static\n    address fd00::5/64\n    mtu 1400\n"


@pytest.mark.parametrize(
    ("text", "mtu", "added"),
    [
        (SIX, 1400, "    pre-up ip link set dev ens3 mtu 1400\n"),
        (SIX.replace("    mtu 1400\n", ""), None, ""),
        (SIX + "\niface ens3 inet static\n    address 10.0.0.5/24\n    mtu 1400\n", 1400, ""),
    ],
    ids=["IPv6 alone", "none", "both"],
)
def test_static_ipv6_alone_gives_its_mtu_to_the_link(text, mtu, added):
    one = entry(static(), mtu=mtu)
    assert BACKEND.finish(text, Item(one.key, one, "ens3", (), 0)) == text + added


SETTING = "/proc/sys/net/ipv6/conf/ens3/ra_defrtr_metric"


@pytest.mark.parametrize(("kind", "when"), [("phy", "pre-up"), ("vlan", "up")])
def test_a_router_that_advertises_itself_to_a_second_nic_comes_after_its_routes(kind, when):
    """Said before the link is up, in the first stanza; a VLAN is not there before."""
    one = entry(static())._replace(kind=kind)
    four, six = "auto ens3\niface ens3 inet static\n", "    address 10.0.0.5/24\n\niface ens3 inet6 auto\n"
    line = "    %s test ! -w %s || echo 2101 >%s\n" % (when, SETTING, SETTING)
    assert BACKEND.finish(four + six, Item(one.key, one, "ens3", (), 2100)) == four + line + six
    assert BACKEND.finish(four + six, Item(one.key, one, "ens3", (), 0)) == four + six
