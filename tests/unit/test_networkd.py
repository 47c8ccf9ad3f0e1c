# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd: one file per NIC, one reload, and only reapplied NICs are named."""

import pytest

from cloudinit_osnetd.backends.networkd import activator, links, match_section
from cloudinit_osnetd.backends.networkd import format as networkd_format
from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.network_data import Network
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.kernel import alternative_names
from cloudinit_osnetd.system import files, paths

from .build import A, B, dhcp, entry, nic, snapshot, static
from .programs import programs

BACKEND = Networkd()
TEXT = "[Match]\nName=ens3\n\n[Network]\nDHCP=no\n\n[Address]\nAddress=10.0.0.5/24\n"


def touch(action, name="ens3"):
    return Touch(action, A, name, "")


def test_each_file_is_a_part_and_other_peoples_files_are_none(tmp_path):
    for name in (
        "10-cloud-init-ens3.network",
        "10-cloud-init-ens3.link",
        "10-cloud-init-bond0.100.network",
        "20-theirs.network",
    ):
        files.replace(str(tmp_path / "etc/systemd/network" / name), TEXT)
    assert [(part.path, part.section, part.name, part.text) for part in BACKEND.staged(str(tmp_path))] == [
        ("/etc/systemd/network/10-cloud-init-bond0.100.network", "", "bond0.100", TEXT),
        ("/etc/systemd/network/10-cloud-init-ens3.network", "", "ens3", TEXT),
    ]


def test_the_whole_file_is_the_section():
    assert BACKEND.split(TEXT) == {"": TEXT}
    assert BACKEND.join("old", None, {"": TEXT}) == TEXT
    assert BACKEND.join("old", None, {"": None}) is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("# note\n; note\n" + TEXT.replace("\n", "\n\n"), True),
        ("  " + TEXT, True),
        (TEXT.replace("/24", "/25"), False),
        (TEXT.replace("DHCP=no\n", ""), False),
        (TEXT + "[Route]\nGateway=10.0.0.1\n", False),
        (TEXT.replace("DHCP=no", "#DHCP=no"), False),
    ],
)
def test_two_files_mean_the_same_but_for_blanks_and_comments(other, same):
    assert (BACKEND.normal(TEXT) == BACKEND.normal(other)) == same


@pytest.mark.parametrize(
    ("touches", "files_changed", "ran"),
    [
        ([touch("up"), touch("reconfigure", "ens4"), touch("down", "ens5")], True, ["networkctl reload"]),
        ([touch("kick")], False, ["networkctl reload", "networkctl reconfigure -- ens3"]),
        ([touch("kick"), touch("up", "ens4")], True, ["networkctl reload", "networkctl reconfigure -- ens3"]),
        ([], False, []),
    ],
)
def test_one_reload_takes_the_files_and_only_reapplying_names_a_nic(tmp_path, monkeypatch, touches, files_changed, ran):
    host = programs(tmp_path, monkeypatch, {"networkctl": ""})
    BACKEND.before(touches)
    assert BACKEND.after(touches, files_changed) == {}
    assert host.ran() == ran


def test_a_reload_that_fails_is_every_touched_nics_problem(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, {"networkctl": "echo no such >&2; exit 1"})
    said = BACKEND.after([touch("up"), touch("up", "ens4")], True)
    assert sorted(said) == ["ens3", "ens4"]
    assert "no such" in said["ens3"]


def test_reapplying_that_fails_is_that_nics_problem(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, {"networkctl": '[ "$3" != ens3 ]'})
    assert sorted(BACKEND.after([touch("kick"), touch("kick", "ens4")], False)) == ["ens3"]


# -- what cloud-init's renderer cannot say --------------------------------------------------------------------


def finished(metric, *networks, **link_fields):
    one = entry(*networks, **link_fields)
    return BACKEND.finish(TEXT, Item(one.key, one, "ens3", (), metric))


@pytest.mark.parametrize(
    ("metric", "networks", "mtu", "added"),
    [
        (0, [static()], None, ""),
        (0, [dhcp()], 1450, ""),
        (0, [static()], 1280, ""),
        (0, [static()], 1279, "\n[Network]\nLinkLocalAddressing=no\n"),  # or networkd sets 1280
        (0, [dhcp()], None, "\n[DHCPv4]\nUseMTU=yes\n"),
        (
            2100,
            [static()],
            None,
            "\n[DHCPv4]\nRouteMetric=2100\n\n[IPv6AcceptRA]\nRouteMetric=2100\n",
        ),
    ],
)
def test_a_part_is_finished_with_sections_of_our_own(metric, networks, mtu, added):
    assert finished(metric, *networks, mtu=mtu) == TEXT + added


def test_a_gateway_outside_the_subnet_is_a_neighbour():
    one = entry(static(gateway="10.77.0.1", routes=[{"network": "10.9.0.0/16", "gateway": "10.0.0.1"}]))
    text = TEXT + "\n[Route]\nGateway=10.77.0.1\nMetric=5\n\n[Route]\nDestination=10.9.0.0/16\nGateway=10.0.0.1\n"
    finished = BACKEND.finish(text, Item(one.key, one, "ens3", (), 0))
    assert finished == text.replace("Gateway=10.77.0.1\n", "Gateway=10.77.0.1\nGatewayOnLink=yes\n")


def test_a_boot_waits_for_the_best_way_out_alone(guest, monkeypatch):
    monkeypatch.setattr(paths, "NETWORKD_RUNTIME_FILES", str(guest / "run"))

    def item(name, metric, *networks):
        return Item(name, entry(*networks), name, (), metric)

    way_out = static(routes=[{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}])
    BACKEND.boot([item("ens3", 0, static()), item("ens4", 2200, way_out), item("ens5", 2100, way_out), item("ens6", 2300)])
    told = sorted(path.parent.name for path in (guest / "run").glob("*/*"))
    assert told == ["10-cloud-init-%s.network.d" % name for name in ("ens3", "ens4", "ens6")]
    BACKEND.boot([])


def test_a_boot_says_nothing_of_a_nic_that_is_left_as_somebody_else_has_it(guest, monkeypatch):
    """He may want it waited for."""
    monkeypatch.setattr(paths, "NETWORKD_RUNTIME_FILES", str(guest / "run"))
    BACKEND.boot([Item(n, entry(static()), n, (), m) for n, m in (("ens3", 0), ("ens4", 2100), ("ens5", 2200))], frozenset(["ens4"]))
    assert [path.parent.name for path in (guest / "run").glob("*/*")] == ["10-cloud-init-ens5.network.d"]


def test_a_vlan_is_not_taken_for_the_nic_whose_mac_it_has(guest, monkeypatch):
    for module in activator, networkd_format:
        monkeypatch.setattr(module, "DIRECTORY", str(guest))
    monkeypatch.setattr(match_section, "DIRECTORIES", (str(guest),))
    files.replace(str(guest / "20-san.network"), "[Match]\nMACAddress=%s\n" % A)
    one = entry(static())._replace(kind="vlan", vlan_id=5)
    assert BACKEND.claimed([Item("k", one, "ens3.5", ())]) == {}


@pytest.mark.parametrize(
    ("name", "match", "theirs", "beside_ours"),
    [
        ("20-san", "Name=ens3", True, False),
        ("20-san", "Name=ens9 ens3", True, False),
        ("20-san", "MACAddress=FA:16:3E:00:00:01", True, False),
        ("20-san", "PermanentMACAddress=fa:16:3e:00:00:01\nName=en*", True, False),
        # networkd takes the first that matches: this one even where ours is there.
        ("05-san", "Name=ens3", True, True),
        ("05-all", "Name=*", True, True),
        # An image's default, which comes after ours.
        ("80-dhcp", "Name=en*", False, False),
        ("20-san", "Name=ens4", False, False),
        ("05-san", "Name=!ens9 ens3", False, False),
        ("05-san", "Name=!ens9", True, True),
        ("20-san", "Name=!ens9", False, False),
        ("20-san", "Name=ens3\nMACAddress=fa:16:3e:00:00:02", False, False),
        ("05-san", "Name=ens3\nHost=elsewhere", False, False),  # networkd says so, below
        ("05-san", "Type=ether", True, True),
        ("05-san", "Type=!loopback !wlan", True, True),
        ("05-san", "Type=wlan wwan", False, False),
        ("05-san", "Type=ether\nName=ens4", False, False),
        ("20-san", "Type=ether", False, False),
        ("05-san", "Name=e[mn]s3", True, True),
        ("05-san", "Name=ens\\\\3", True, True),
        ("05-san", "Name=ens3\nName=", False, False),
        ("05-san", "", False, False),
    ],
)
def test_a_nic_for_which_networkd_takes_a_foreign_file_is_left_to_it(guest, monkeypatch, name, match, theirs, beside_ours):
    etc = guest / "etc"
    for module in activator, networkd_format:
        monkeypatch.setattr(module, "DIRECTORY", str(etc))
    monkeypatch.setattr(match_section, "DIRECTORIES", (str(guest / "lib"), str(etc)))
    one = entry(static())
    items = [Item(one.key, one, "ens3", ())]
    text = "# [Match]\n[Match]\n%s\n[Network]\nName=ens3\n" % match
    files.replace(str(guest / "lib" / (name + ".network")), text)
    path = str(guest / "lib" / (name + ".network"))
    assert BACKEND.claimed(items) == ({"ens3": path} if theirs else {})
    files.replace(str(etc / "10-cloud-init-ens3.network"), "[Match]\nName=ens3\n")
    assert BACKEND.claimed(items) == ({"ens3": path} if beside_ours else {})
    files.replace(str(etc / (name + ".network")), "[Match]\nName=ens7\n")
    assert BACKEND.claimed(items) == {}, "hidden by its namesake"


@pytest.mark.parametrize(
    ("name", "match", "theirs", "beside_ours"),
    [
        ("05-san", "Name=enp0s3", True, True),
        ("05-san", "Name=enp*", True, True),
        ("20-san", "Name=enp0s3", True, False),
        ("20-san", "Name=enp*", False, False),
        ("05-san", "Name=!ens3", True, True),  # the other name is not excluded
        ("05-san", "Name=!ens3 enp0s3", False, False),
        ("05-san", "Name=enp0s3\nType=wlan", False, False),
        ("05-san", "Name=enp0s4", False, False),
    ],
)
def test_each_name_of_a_nic_counts(guest, monkeypatch, name, match, theirs, beside_ours):
    etc = guest / "etc"
    for module in activator, networkd_format:
        monkeypatch.setattr(module, "DIRECTORY", str(etc))
    monkeypatch.setattr(match_section, "DIRECTORIES", (str(etc),))
    monkeypatch.setattr(alternative_names, "of_links", lambda: {"ens3": ("enp0s3",), "ens4": ("enp0s4",)})
    one = entry(static())
    items, path = [Item(one.key, one, "ens3", ())], str(etc / (name + ".network"))
    files.replace(path, "[Match]\n%s\n" % match)
    assert BACKEND.claimed(items) == ({"ens3": path} if theirs else {})
    files.replace(str(etc / "10-cloud-init-ens3.network"), "[Match]\nName=ens3\n")
    assert BACKEND.claimed(items) == ({"ens3": path} if beside_ours else {})


@pytest.fixture
def asked(guest, monkeypatch):
    """A guest whose networkd notes of ens3 what the test has it say; the NIC's item."""
    for module in activator, networkd_format:
        monkeypatch.setattr(module, "DIRECTORY", str(guest / "etc"))
    monkeypatch.setattr(match_section, "DIRECTORIES", (str(guest / "lib"), str(guest / "etc")))
    monkeypatch.setattr(paths, "KERNEL_NICS", str(guest / "sys/class/net"))
    monkeypatch.setattr(match_section, "_MATCH_SECONDS", 0.1)
    monkeypatch.setattr(paths, "NETWORKD_LINKS", str(guest / "links"))
    monkeypatch.setattr(paths, "NETWORKD_STATE", str(guest / "state"))
    files.replace(str(guest / "state"), "")
    files.replace(str(guest / "sys/class/net/ens3/ifindex"), "7\n")
    one = entry(static())
    return guest, Item(one.key, one, "ens3", ())


@pytest.mark.parametrize("match", ["Driver=virtio_net", "Path=pci-*", "Property=A=b\nType=ether", "KernelVersion=>5", "Host=web\nName=en*"])
@pytest.mark.parametrize(
    ("said", "theirs"),
    [
        ("ADMIN_STATE=configured\nNETWORK_FILE=/usr/lib/systemd/network/05-x.network\n", True),
        ("ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-cloud-init-ens3.network\n", False),
        ("ADMIN_STATE=unmanaged\n", False),
        ("ADMIN_STATE=pending\n", False),  # it does not say in time
    ],
)
def test_what_a_match_asks_beyond_a_name_networkd_is_asked(asked, match, said, theirs):
    guest, item = asked
    path = str(guest / "lib/05-x.network")
    files.replace(path, "[Match]\n%s\n" % match)
    files.replace(str(guest / "links/7"), said)
    assert BACKEND.claimed([item]) == ({"ens3": path} if theirs else {})


def test_networkd_is_not_asked_of_a_file_that_cannot_match(asked, monkeypatch):
    guest, item = asked
    files.replace(str(guest / "lib/05-x.network"), "[Match]\nDriver=virtio_net\nName=wl*\n")
    files.replace(str(guest / "lib/95-x.network"), "[Match]\nDriver=virtio_net\n")
    monkeypatch.setattr(links, "note", None)
    assert BACKEND.claimed([item]) == {}


def test_nobody_is_waited_for_before_networkd_runs(asked, monkeypatch):
    guest, item = asked
    (guest / "state").unlink()
    files.replace(str(guest / "lib/05-x.network"), "[Match]\nDriver=virtio_net\n")
    monkeypatch.setattr(match_section.time, "sleep", None)
    assert BACKEND.claimed([item]) == {}


@pytest.mark.parametrize(
    ("drop_in", "text", "theirs"),
    [
        ("10-cloud-init-ens3.network.d/90-x.conf", "[Link]\nMTUBytes=1280\n", True),
        ("10-cloud-init-ens3.network.d/90-x.conf", "[Network]\nAddress=10.7.7.7/24\n", True),
        ("10-cloud-init-ens3.network.d/90-x.conf", "[Route]\nGateway=10.0.0.9\n", True),
        ("10-cloud-init-ens3.network.d/90-x.conf", "[Match]\nName=ens9\n", True),
        ("10-cloud-init-ens3.network.d/90-x.conf", "[Network]\nLLDP=yes\nDNSSEC=no\n", False),
        ("10-cloud-init-ens3.network.d/cloudinit-osnetd.conf", "[Link]\nMTUBytes=1280\n", False),
        ("10-cloud-init-ens4.network.d/90-x.conf", "[Link]\nMTUBytes=1280\n", False),
    ],
)
def test_a_drop_in_that_says_what_a_port_has_is_somebodys_say(asked, drop_in, text, theirs):
    guest, item = asked
    files.replace(str(guest / "etc/10-cloud-init-ens3.network"), "[Match]\nName=ens3\n")
    files.replace(str(guest / "etc" / drop_in), text)
    assert BACKEND.claimed([item]) == ({"ens3": str(guest / "etc" / drop_in)} if theirs else {})


def test_a_match_in_a_drop_in_counts(asked):
    guest, item = asked
    files.replace(str(guest / "lib/05-x.network"), "[Match]\nName=ens9\n")
    files.replace(str(guest / "etc/05-x.network.d/a.conf"), "[Match]\nName=ens3\n")
    assert BACKEND.claimed([item]) == {"ens3": str(guest / "lib/05-x.network")}


def test_a_directory_that_is_called_like_a_file_is_none(asked):
    guest, item = asked
    for name in ("05-x.network", "10-cloud-init-ens3.network.d/90-x.conf", "05-x.netdev"):
        (guest / "etc" / name).mkdir(parents=True)
    assert BACKEND.claimed([item]) == {}
    assert BACKEND.completed([], [item]) == []


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("ens3", "ens3"), ("w[1]", r"w\\[1]"), ("a*b?", r"a\\*b\\?"), ("!x", r"\\!x"), ("a!b", "a!b"), ("p=q", "p=q"), ("-dash", "-dash"), ("a\\b", r"a\\\\b")],
)  # fmt: skip
def test_a_name_is_matched_literally(name, pattern):
    one = entry(static())
    text = BACKEND.finish("[Match]\nMACAddress=%s\nName=%s\n" % (A, name), Item(one.key, one, name, (), 0))
    assert text == "[Match]\nMACAddress=%s\nName=%s\n" % (A, pattern)


@pytest.mark.parametrize(
    ("networks", "added"),
    [
        (["ipv6_slaac"], "\n[Network]\nDNS=2001:db8::53\n"),
        (["ipv6_dhcpv6-stateless"], "\n[Network]\nDNS=2001:db8::53\n"),
        (["ipv6_dhcpv6-stateful"], "\n[Network]\nDHCP=ipv6\nDNS=2001:db8::53\n"),
        (["ipv4_dhcp", "ipv6_dhcpv6-stateful"], "\n[Network]\nDHCP=yes\nDNS=2001:db8::53\n"),
    ],
)
def test_a_port_that_autoconfigures_ipv6_has_its_dns_and_its_client(networks, added):
    said = tuple(Network(kind, "", (), ("2001:db8::53",) if "6" in kind else ()) for kind in networks)
    one = entry(static(), mtu=1450)._replace(networks=said)
    assert BACKEND.finish(TEXT, Item(one.key, one, "ens3", (), 0)) == TEXT + added


# -- links that a reload leaves as they are --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "commands"),
    [
        (nic("ens9", A), ["ip link set dev ens9 down", "ip address flush dev ens9"]),
        (nic("ens9", B), []),  # another NIC has the name now
        (nic("ens4", A), []),
        (nic("ens9", A)._replace(virtual=True, kind="vlan"), ["ip link delete dev ens9"]),
        (nic("ens9", B)._replace(virtual=True, kind="bond"), ["ip link delete dev ens9"]),
        (nic("ens9", B)._replace(virtual=True, kind="vlan"), []),
        (nic("ens9", A)._replace(virtual=True, kind="veth"), ["ip link set dev ens9 down", "ip address flush dev ens9"]),
    ],
)
def test_a_nic_that_is_still_here_and_has_no_file_any_more_is_taken_down(tmp_path, monkeypatch, there, commands):
    ran = programs(tmp_path, monkeypatch, {"ip": "", "networkctl": ""})
    deleted = "ip link delete dev ens9"
    monkeypatch.setattr(links.netlink, "snapshot", lambda: snapshot(*([] if deleted in ran.ran() else [there])))
    assert BACKEND.after([Touch("down", A, "ens9", "")], changed=frozenset("x")) == {}
    first = commands if deleted in commands else []
    assert ran.ran() == [*first, "networkctl reload", *[command for command in commands if command != deleted]]


def test_dns_servers_are_those_that_networkd_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NETWORKD_LINKS", str(tmp_path))
    (tmp_path / "7").write_text("ADMIN_STATE=configured\nDNS=10.0.0.2 2001:db8::2\nNTP=\n")
    assert BACKEND.dns("ens9", 7).servers == {"10.0.0.2", "2001:db8::2"}
    assert BACKEND.dns("ens9", 8).servers == frozenset()
