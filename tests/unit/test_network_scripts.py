# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The network-scripts: which NICs ifup and ifdown are called for, in which order. Both are stand-ins."""

import pytest

from cloudinit_osnetd.backends.ifcfg import backend as ifcfg_backend
from cloudinit_osnetd.backends.ifcfg import finish_ifcfg, ifcfg_file
from cloudinit_osnetd.backends.network_scripts import activator
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.system import files, paths

from . import ifcfg_texts
from .build import A, B, data, dhcp, document, entry, link, nic, snapshot, static, vlan
from .programs import programs

BACKEND = ifcfg_backend.NetworkScripts()
STATIC = "BOOTPROTO=none\nDEVICE=%s\nHWADDR=fa:16:3e:00:00:01\nIPADDR=10.0.0.5\nNETMASK=255.255.255.0\nTYPE=Ethernet\n"
# The address with which each is called: ifdown must read the old file, ifup the new one.
SAYS = """\
echo "${0##*/} $(sed -n s/^IPADDR=//p %s/ifcfg-$1 2>/dev/null)" >> %s/read
[ "$1" != broken ] || { echo no carrier >&2; exit 1; }
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(ifcfg_file, "DIRECTORY", str(tmp_path / "ifcfg"))
    monkeypatch.setattr(activator, "FILE", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(paths, "SYSTEMD", str(tmp_path / "nowhere"))
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic(), nic("ens4", B, 3)))
    script = SAYS % (ifcfg_file.DIRECTORY, tmp_path)
    found = programs(tmp_path, monkeypatch, {"ifup": script, "ifdown": script, "systemd-run": ""})
    write("ens3")
    return found


def write(name, text=STATIC, **values):
    files.replace(ifcfg_file.path_of(name), ifcfg_file.with_values(text.replace("%s", name), values))


def touch(action, name="ens3"):
    return Touch(action, A, name, "")


def test_an_edit_takes_the_nic_down_by_its_old_file_and_up_by_the_new_one(host, tmp_path):
    BACKEND.before([touch("reconfigure")])
    write("ens3", IPADDR="10.0.0.6")
    assert BACKEND.after([touch("reconfigure")], frozenset()) == {}
    assert host.ran() == ["ifdown ens3", "ifup ens3"]
    assert (tmp_path / "read").read_text() == "ifdown 10.0.0.5\nifup 10.0.0.6\n"


def test_a_new_nic_comes_up_and_no_other_is_touched(host):
    write("ens4")
    assert BACKEND.after([touch("up", "ens4")], frozenset()) == {}
    assert host.ran() == ["ifup ens4"]


def test_a_nic_that_is_gone_ends_its_client(host, monkeypatch):
    monkeypatch.setattr(netlink, "snapshot", snapshot)
    BACKEND.before([touch("down")])
    files.remove(ifcfg_file.path_of("ens3"))
    assert BACKEND.after([touch("down")], frozenset()) == {}
    assert host.ran() == ["ifdown ens3"]


def test_bonds_bring_their_members_and_vlans_come_last(host):
    write("bond0", "DEVICE=%s\nTYPE=Bond\nBONDING_MASTER=yes\n")
    write("ens4", MASTER="bond0", SLAVE="yes")
    write("bond0.100", "DEVICE=%s\nVLAN=yes\nPHYSDEV=bond0\n")
    names = ["bond0.100", "ens4", "ens3", "bond0"]
    assert BACKEND.after([touch("up", name) for name in names], frozenset()) == {}
    assert host.ran() == ["ifup ens3", "ifup bond0", "ifup bond0.100"]
    BACKEND.before([touch("down", name) for name in names])
    assert host.ran()[3:] == ["ifdown bond0.100", "ifdown bond0", "ifdown ens4", "ifdown ens3"]


def test_a_member_that_comes_to_a_bond_that_is_up(host):
    write("ens4", MASTER="bond0", SLAVE="yes")
    assert BACKEND.after([touch("up", "ens4")], frozenset()) == {}
    assert host.ran() == ["ifup ens4"]


@pytest.mark.parametrize(("proto", "ran"), [("none", ["ifup ens3"]), ("dhcp", ["ifdown ens3", "ifup ens3"])])
def test_a_reapply_starts_no_second_client(host, proto, ran):
    write("ens3", BOOTPROTO=proto)
    assert BACKEND.after([touch("kick")], frozenset()) == {}
    assert host.ran() == ran


def test_one_that_fails_costs_itself(host):
    write("broken")
    problems = BACKEND.after([touch("up", "broken"), touch("up")], frozenset())
    assert list(problems) == ["broken"] and "no carrier" in problems["broken"]
    assert sorted(host.ran()) == ["ifup broken", "ifup ens3"]


def test_a_client_outlives_our_service(host, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "SYSTEMD", str(tmp_path))
    BACKEND.after([touch("up")], frozenset())
    (line,) = host.ran()
    assert line.startswith("systemd-run --quiet --scope --collect --unit osnetd-ifup-ens3-") and line.endswith(" ifup ens3")


def test_dns_is_what_ifup_wrote(host):
    assert BACKEND.dns("ens3", 2) is None
    files.replace(activator.FILE, "search a\nnameserver 10.0.0.2\n")
    found = BACKEND.dns("ens3", 2)
    assert (found.servers, found.search) == ({"10.0.0.2"}, {"a"})


# -- what the scripts are told, besides what NetworkManager is --------------------------------------


def finished(*networks, metric=0):
    one = Item(A + "/phy", entry(*networks), "ens3", (), metric)
    return ifcfg_file.parsed(BACKEND.finish(STATIC % "ens3" + "IPV4_ROUTE_METRIC=2100\n", one))


def test_metrics_are_in_the_words_of_the_scripts():
    values = finished(static(), metric=2100)
    assert values["METRIC"] == "2100" and "IPV4_ROUTE_METRIC" not in values
    assert "METRIC" not in finished(static())
    told = [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1", "metric": 7}]
    assert finished(static(routes=told), metric=2100)["METRIC"] == "7"


def test_no_route_takes_the_metadata_service_from_the_others():
    """ifup adds one to 169.254.0.0/16, unless it is told not to."""
    assert finished(static())["NOZEROCONF"] == finished()["NOZEROCONF"] == "yes"


def test_a_vlan_whose_name_is_not_that_of_its_parent():
    """Of a long name the end is cut off: ifup would take what is before the dot for the parent."""
    found = data(document([link(), vlan(vlan_id=100)])).entries
    (one,) = [Item(key, entry_, "enp0s1f0d1a.100", ()) for key, entry_ in found.items() if entry_.kind == "vlan"]
    values = ifcfg_file.parsed(BACKEND.finish("DEVICE=enp0s1f0d1a.100\nVLAN=yes\nPHYSDEV=enp0s31f6d1p2\n", one))
    assert (values["VID"], values["PHYSDEV"]) == ("100", "enp0s31f6d1p2")


def test_a_lease_is_asked_for_until_it_comes_and_a_static_address_is_not_probed():
    assert finished(dhcp())["PERSISTENT_DHCLIENT"] == "yes" and "ARPCHECK" not in finished(dhcp())
    assert finished(static())["ARPCHECK"] == "no" and "PERSISTENT_DHCLIENT" not in finished(static())
    several = ifcfg_file.parsed(BACKEND.finish(STATIC % "ens3" + "IPADDR1=10.0.0.6\nNETMASK1=255.255.255.0\n", ifcfg_texts.item(static(), static("10.0.0.6"))))
    assert several["ARPCHECK"] == several["ARPCHECK1"] == "no"  # ifup looks at each of them by itself


def test_a_gateway_in_another_subnet_than_the_first():
    """ifup compares GATEWAY with the network of the first address alone, and says nothing if it is another one."""
    one = ifcfg_texts.item(static("10.7.0.5"), static(routes=[ifcfg_texts.DEFAULT]))
    assert "GATEWAY" not in ifcfg_file.parsed(BACKEND.finish(ifcfg_texts.STATIC, one))
    assert finish_ifcfg.in_files(one, 4, scripts=True) == [ifcfg_file.Line("0.0.0.0/0", "10.0.0.1")]
    assert finished(static(routes=[ifcfg_texts.DEFAULT]))["GATEWAY"] == "10.0.0.1"


# -- whose NIC it is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"DEVICE": "ens3"}, True),
        ({"HWADDR": A.upper()}, True),
        ({"DEVICE": "ens3", "HWADDR": A}, True),
        ({"DEVICE": "eth0", "HWADDR": A}, False),
        ({"DEVICE": "ens3", "HWADDR": B}, False),
        ({"DEVICE": "ens3", "ONBOOT": "no"}, False),
        ({"DEVICE": "ens4"}, False),
    ],
)
def test_another_file_that_names_the_nic(host, values, theirs):
    write("eth0", "TYPE=Ethernet\n", **values)
    one = Item(A + "/phy", entry(static()), "ens3", ())
    assert BACKEND.claimed([one]) == ({"ens3": ifcfg_file.path_of("eth0")} if theirs else {})
