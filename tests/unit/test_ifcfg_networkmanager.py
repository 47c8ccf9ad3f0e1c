# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifcfg files with NetworkManager: whose a NIC is, by which commands it follows its files, and what reads them."""

import pytest

from cloudinit_osnetd.backends.ifcfg import backend as ifcfg_backend
from cloudinit_osnetd.backends.ifcfg import ifcfg_file, profile, resolv_conf
from cloudinit_osnetd.backends.networkmanager import other_profiles, reapply
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.system import files

from .build import A, B, nic, snapshot, static
from .ifcfg_texts import DEFAULT, ETH0, HEAD, LEASED, STATIC, completed, item
from .programs import programs


@pytest.fixture
def backend():
    return ifcfg_backend.Ifcfg()


# -- the server ------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """One NIC, ens3, with NetworkManager's and the scripts' directories below tmp_path."""
    monkeypatch.setattr(other_profiles, "_DIRECTORIES", (str(tmp_path / "keyfiles"),))
    for module in (other_profiles, reapply):
        monkeypatch.setattr(module, "_DEVICES", str(tmp_path / "devices"))
    monkeypatch.setattr(other_profiles, "_UDEV", str(tmp_path / "udev"))
    monkeypatch.setattr(ifcfg_file, "DIRECTORY", str(tmp_path / "ifcfg"))
    monkeypatch.setattr(resolv_conf, "FILE", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(resolv_conf, "_CONFIGURATION", (str(tmp_path / "conf/*.conf"),))
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic()))
    files.replace(ifcfg_file.path_of("ens3"), STATIC)
    return tmp_path


def active(server, uuid, managed="true"):
    files.replace(str(server / "devices/2"), "[device]\nmanaged=%s\nconnection-uuid=%s\n" % (managed, uuid))


def other(server, name="eth0", **values):
    path = ifcfg_file.path_of(name)
    files.replace(path, ifcfg_file.with_values("TYPE=Ethernet\n", values))
    return path


def test_the_uuid_of_a_file_without_one():
    path = "/etc/sysconfig/network-scripts/ifcfg-eth0"
    assert profile.uuid_of(path, {}) == ETH0
    assert profile.uuid_of(path, {"UUID": "u"}) == "u"


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"HWADDR": A.upper(), "AUTOCONNECT_PRIORITY": "200"}, True),
        ({"DEVICE": "ens3", "AUTOCONNECT_PRIORITY": "200"}, True),
        ({"HWADDR": A}, False),
        ({"HWADDR": B, "AUTOCONNECT_PRIORITY": "200"}, False),
        ({"HWADDR": A, "AUTOCONNECT_PRIORITY": "200", "ONBOOT": "no"}, False),
    ],
)
def test_another_ifcfg_file_that_networkmanager_prefers(backend, server, values, theirs):
    path = other(server, **values)
    assert backend.claimed([item(static())]) == ({"ens3": path} if theirs else {})


def test_another_ifcfg_file_that_is_active(backend, server):
    path = other(server, HWADDR=A)
    active(server, profile.uuid_of(path, {}))
    assert backend.claimed([item(static())]) == {"ens3": path}
    active(server, profile.uuid_of(ifcfg_file.path_of("ens3"), {}))
    assert backend.claimed([item(static())]) == {}


def test_routes_of_somebody_are_a_part_of_the_nic(backend, server):
    """NetworkManager reads them with the NIC's ifcfg file: an operator's edit, or what another tool left behind."""
    one = item(static(routes=[DEFAULT]))
    path = ifcfg_file.path_of("ens3", "route-")
    assert completed(backend, one) == {}
    files.replace(path, "10.1.0.0/16 via 192.0.2.9 dev ens3\n")
    assert completed(backend, one) == {"route-ens3": HEAD}
    assert backend.meaning(HEAD, "ens3") == frozenset()


def test_a_keyfile_that_another_renderer_left(backend, server):
    path = str(server / "keyfiles/cloud-init-ens3.nmconnection")
    files.replace(path, "[connection]\ntype=ethernet\nuuid=u\n[ethernet]\nmac-address=%s\n" % A)
    assert backend.claimed([item(static())]) == {}
    active(server, "u")
    assert backend.claimed([item(static())]) == {"ens3": path}


@pytest.mark.parametrize("left", ["ifcfg-eth0.bak", "ifcfg-eth0~", "ifcfg-eth0.rpmsave", "ifcfg-lo"])
def test_what_nobody_reads_claims_nothing(backend, server, left):
    files.replace(str(server / "ifcfg" / left), "DEVICE=ens3\nAUTOCONNECT_PRIORITY=200\n")
    assert backend.claimed([item(static())]) == {}


def test_a_device_that_is_unmanaged_by_an_operator_or_by_our_own_file(backend, server):
    active(server, "", managed="false")
    assert "does not manage it" in backend.claimed([item(static())])["ens3"]
    files.replace(ifcfg_file.path_of("ens3"), STATIC + "NM_CONTROLLED=no\n")
    assert backend.claimed([item(static())]) == {}, "cloud-init wrote that up to 24.1"


# -- the commands ----------------------------------------------------------------------------------


def touch(action, name="ens3"):
    return Touch(action, A, name, "")


def uuid():
    return profile.uuid_of(ifcfg_file.path_of("ens3"), {})


@pytest.fixture
def host(server, monkeypatch):
    monkeypatch.setattr(reapply, "_DETECTION", str(server / "accept_dad-%s"))
    monkeypatch.setattr(reapply, "_NOTE", str(server / "note"))
    monkeypatch.setattr(reapply, "_SETTLES", 0.0)
    files.replace(str(server / "accept_dad-ens3"), "1\n")
    return programs(server, monkeypatch, {"nmcli": 'case "$*" in *FILENAME*) ls %s/ifcfg/ifcfg-*;; esac' % server})


def edited(backend, new, routes=None):
    """Applies a changed file, as the commit does."""
    backend.before([touch("reconfigure")])
    files.replace(ifcfg_file.path_of("ens3"), new)
    if routes is not None:
        files.replace(ifcfg_file.path_of("ens3", "route-"), routes)
    return backend.after([touch("reconfigure")], frozenset())


def test_a_new_nics_file_is_loaded_and_its_profile_brought_up(backend, host):
    assert backend.after([touch("up")], frozenset()) == {}
    assert host.ran() == [
        "nmcli connection load " + ifcfg_file.path_of("ens3"),
        "nmcli -t -f FILENAME connection show",
        "nmcli --wait 0 connection up uuid %s ifname ens3" % uuid(),
    ]


@pytest.mark.parametrize(
    ("change", "by_reapply"),
    [
        (("10.0.0.5", "10.0.0.6"), True),
        (("DNS1=10.0.0.2", "DNS1=10.0.0.3"), True),
        (("MTU=1450", "MTU=1400"), True),
        (("HWADDR=fa:16:3e:00:00:01", "HWADDR=fa:16:3e:00:00:02"), False),
        (("MTU=1450", "MTU=1450\nMACADDR=fa:16:3e:00:00:02"), False),
        (("MTU=1450", "MTU=1450\nMASTER=bond0"), False),
        (("MTU=1450", 'MTU=1450\nETHTOOL_OPTS="wol g"'), False),
    ],
)
def test_what_a_reapply_can_change(backend, server, host, change, by_reapply):
    active(server, uuid())
    assert edited(backend, STATIC.replace(*change)) == {}
    ends = "nmcli device reapply ens3" if by_reapply else "nmcli --wait 0 connection up uuid %s ifname ens3" % uuid()
    assert host.ran()[-1] == ends
    assert files.read(str(server / "accept_dad-ens3")).strip() == "1"


def test_a_change_of_routes_alone_is_reapplied(backend, server, host):
    active(server, uuid())
    assert edited(backend, STATIC, "10.9.0.0/16 via 10.0.0.9 dev ens3\n") == {}
    assert host.ran()[-1] == "nmcli device reapply ens3"


def test_the_addresses_are_told_in_order(server):
    """NetworkManager never sets one that comes ahead of others of its subnet: reapply.make_way takes those away before."""
    other(server, "ens3", IPADDR="10.0.0.5", PREFIX="24")
    then = profile.of_nic("ens3")
    other(server, "ens3", IPADDR="10.0.0.7", PREFIX="24", IPADDR1="10.0.0.5", PREFIX1="24")
    assert reapply.out_of_order(then, profile.of_nic("ens3")) == ["10.0.0.5/24"]


def test_a_first_file_of_routes_is_reapplied(backend, server, host):
    active(server, uuid())
    backend.before([touch("reconfigure")])
    files.replace(ifcfg_file.path_of("ens3", "route-"), "10.9.0.0/16 via 10.0.0.9 dev ens3\n")
    assert backend.after([touch("reconfigure")], frozenset()) == {}
    assert host.ran()[-1] == "nmcli device reapply ens3"


def test_a_bond_stays_up_when_a_member_comes(backend, server, host):
    """The bond's file lists it, which NetworkManager does not read."""
    text = STATIC.replace("TYPE=Ethernet", "TYPE=Bond\nBONDING_MASTER=yes\nBONDING_OPTS=mode=4\nBONDING_SLAVE0=ens4")
    files.replace(ifcfg_file.path_of("ens3"), text)
    active(server, uuid())
    assert edited(backend, text + "BONDING_SLAVE1=ens5\n") == {}
    assert host.ran()[-1] == "nmcli device reapply ens3"
    edited(backend, text.replace("mode=4", "mode=1"))
    assert host.ran()[-1].startswith("nmcli --wait 0 connection up")


def test_another_profile_is_active(backend, server, host):
    active(server, "another")
    edited(backend, STATIC.replace("10.0.0.5", "10.0.0.6"))
    assert host.ran()[-1].startswith("nmcli --wait 0 connection up")


def test_a_change_that_would_cost_the_lease_waits(backend, server, host, monkeypatch):
    files.replace(ifcfg_file.path_of("ens3"), LEASED)
    text = "[device]\nmanaged=true\nconnection-uuid=%s\n[dhcp4]\ndhcp4.ip_address=10.0.0.5\n" % uuid()
    files.replace(str(server / "devices/2"), text)
    monkeypatch.setattr(reapply.dhcp_probe, "server_answers", lambda *_: False)
    problems = edited(backend, LEASED + "DNS1=10.0.0.2\n")
    assert "no DHCP server answers" in problems["ens3"]
    assert not any("reapply" in line or " up " in line for line in host.ran())
    monkeypatch.setattr(reapply.dhcp_probe, "server_answers", lambda *_: True)
    assert edited(backend, LEASED + "DNS1=10.0.0.3\n") == {}
    assert host.ran()[-1] == "nmcli device reapply ens3"


def test_a_nic_that_is_gone_is_unloaded(backend, host, monkeypatch):
    monkeypatch.setattr(netlink, "snapshot", snapshot)
    assert backend.after([touch("down", "ens9")], frozenset()) == {}
    assert host.ran() == ["nmcli connection load " + ifcfg_file.path_of("ens9")]


# -- resolv.conf -----------------------------------------------------------------------------------

RESOLV = "; cloud-init\nsearch a b\nnameserver 10.0.0.2\noptions rotate\n"
Words = resolv_conf.Words


@pytest.mark.parametrize(
    ("gone", "coming", "text"),
    [
        (Words(), Words(), RESOLV),
        (Words(), Words(("10.0.0.3",)), RESOLV + "nameserver 10.0.0.3\n"),
        (Words(("10.0.0.2",)), Words(("10.0.0.2",)), RESOLV),
        (Words(("10.0.0.2",)), Words(("10.0.0.3",)), "; cloud-init\nsearch a b\noptions rotate\nnameserver 10.0.0.3\n"),
        (Words((), ("a", "b")), Words(), "; cloud-init\nnameserver 10.0.0.2\noptions rotate\n"),
        (Words((), ("a",)), Words((), ("c",)), RESOLV.replace("a b", "b c")),
    ],
)
def test_resolv_conf_is_changed_by_words(gone, coming, text):
    assert resolv_conf.updated(RESOLV, gone, coming) == text


def test_an_empty_resolv_conf():
    assert resolv_conf.updated("", Words(), Words(("10.0.0.3",), ("x",))) == "search x\nnameserver 10.0.0.3\n"


@pytest.fixture
def dns_none(server):
    files.replace(str(server / "conf/99-cloud-init.conf"), "# Created by cloud-init\n[main]\ndns = none\n")
    files.replace(resolv_conf.FILE, RESOLV)


def test_a_later_nics_name_servers_arrive_and_go(backend, server, host, dns_none):
    other(server, "ens4", DEVICE="ens4", DNS1="10.4.0.2", DNS2="10.0.0.2", DOMAIN="four")
    assert backend.after([touch("up", "ens4")], frozenset()) == {}
    assert files.read(resolv_conf.FILE) == RESOLV.replace("a b", "a b four") + "nameserver 10.4.0.2\n"
    assert backend.dns("ens4", 3).servers == {"10.0.0.2", "10.4.0.2"}
    backend.before([touch("down", "ens4")])
    files.remove(ifcfg_file.path_of("ens4"))
    assert backend.after([touch("down", "ens4")], frozenset()) == {}
    assert files.read(resolv_conf.FILE) == RESOLV, "ens3 has 10.0.0.2 as well"


def test_networkmanagers_own_resolv_conf_is_left(backend, server, host, dns_none):
    files.replace(str(server / "conf/999.conf"), "[main]\ndns=default\n")
    other(server, "ens4", DEVICE="ens4", DNS1="10.4.0.2")
    backend.after([touch("up", "ens4")], frozenset())
    assert files.read(resolv_conf.FILE) == RESOLV


def test_a_boot_adds_what_is_missing(backend, server, dns_none):
    files.replace(resolv_conf.FILE, "nameserver 10.9.9.9\n")
    backend.boot([item(static())])
    assert files.read(resolv_conf.FILE) == "nameserver 10.9.9.9\nnameserver 10.0.0.2\n"
    files.replace(resolv_conf.FILE, "nameserver 10.9.9.9\n")
    backend.boot([item(static())], left=frozenset(["ens3"]))
    assert files.read(resolv_conf.FILE) == "nameserver 10.9.9.9\n"


# -- which of the two --------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A server's directories below tmp_path; the result adds a file to it."""
    for name in ("_UNITS", "_RUNS", "_SCRIPTS"):
        monkeypatch.setattr(ifcfg_backend, name, str(tmp_path) + getattr(ifcfg_backend, name))
    for name in ("_PLUGINS", "_IFUP"):
        monkeypatch.setattr(ifcfg_backend, name, tuple(str(tmp_path) + path for path in getattr(ifcfg_backend, name)))
    return lambda *paths: [files.replace(str(tmp_path) + path, "") for path in paths]


PLUGIN = "/usr/lib64/NetworkManager/1.42.2-1.el9/libnm-settings-plugin-ifcfg-rh.so"
WANTED = "/etc/systemd/system/multi-user.target.wants/NetworkManager.service"
BOTH = ("/etc/sysconfig/network-scripts/network-functions", "/usr/sbin/ifup")


@pytest.mark.parametrize(
    ("has", "name"),
    [
        ((PLUGIN, WANTED), "ifcfg"),
        ((PLUGIN, WANTED, *BOTH), "ifcfg"),
        ((PLUGIN, "/run/NetworkManager/devices/1"), "ifcfg"),
        ((PLUGIN.replace("lib64", "lib/x86_64-linux-gnu"), WANTED), "ifcfg"),
        (BOTH, "network-scripts"),
        ((PLUGIN, *BOTH), "network-scripts"),
        ((WANTED, *BOTH), "network-scripts"),
        ((PLUGIN,), ""),
        ((WANTED,), ""),
        ((), ""),
        (BOTH[:1], ""),
    ],
)
def test_the_program_that_reads_ifcfg_files(machine, has, name):
    machine(*has)
    found = ifcfg_backend.chosen()
    assert (found.name if not found.unfit() else "") == name


def test_a_networkmanager_that_is_masked(machine, tmp_path):
    machine(PLUGIN, WANTED, *BOTH)
    (tmp_path / "etc/systemd/system/NetworkManager.service").symlink_to("/dev/null")
    assert ifcfg_backend.chosen().name == "network-scripts"
