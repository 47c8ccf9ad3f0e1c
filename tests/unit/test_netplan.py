# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan: how a definition is completed, and which changes are applied."""

import os
import stat
import sys

import pytest
import yaml

from cloudinit_osnetd.backends.netplan import activator, generator, loaded_files, other_files, yaml_file
from cloudinit_osnetd.backends.netplan.backend import Netplan
from cloudinit_osnetd.backends.networkd import match_section, netdevs
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Part, Touch
from cloudinit_osnetd.system import files, paths

from .build import A, B, dhcp, entry, static
from .programs import programs

BACKEND = Netplan()
# A stand-in for netplan's generator: a .network file for each definition, and one file for all, both made anew.
GENERATOR = """\
[ "$1" = --root-dir ] || exit 7
@PYTHON@ - "$2" <<'END'
import glob, os, sys, yaml
root = sys.argv[1]
for place in ("/run/systemd/network", "/run/udev/rules.d"):
    os.makedirs(root + place, exist_ok=True)
found = {}
for path in sorted(glob.glob(root + "/*/netplan/*.yaml")):
    said = yaml.safe_load(open(path))
    if "bad" in str(said):
        sys.exit(path + ": netplan does not like it")
    for group in ("ethernets", "vlans"):
        found.update(said["network"].get(group) or {})
for name, body in found.items():
    links = [other for other, said in found.items() if said.get("link") == name]
    with open("%s/run/systemd/network/10-netplan-%s.network" % (root, name), "w") as file:
        file.write("%s %s\\n" % (sorted(body.items()), links))
with open(root + "/run/udev/rules.d/90-netplan.rules", "w") as file:
    file.write("%s\\n" % sorted(found))
END
""".replace("@PYTHON@", sys.executable)  # the one that has PyYAML


def item(*networks, name="ens3", mac=A, metric=0, dns=(), **fields):
    return Item(mac + "/phy", entry(*networks, mac=mac, **fields), name, dns, metric)


def finished(item, **body):
    return yaml_file.only(BACKEND.finish(yaml_file.part("ethernets", item.name, body), item))[2]


# -- what is said of a NIC ------------------------------------------------------------------------------------------


def test_an_mtu_that_is_too_small_for_ipv6_is_set_without_it():
    assert finished(item(static(), mtu=1279), mtu=1279)["link-local"] == []
    assert "link-local" not in finished(item(static(), mtu=1280), mtu=1280)


def test_nothing_renames_and_a_nic_is_known_by_its_mac_and_its_name():
    cloud_init = {"match": {"macaddress": A}, "set-name": "ens3", "addresses": ["10.0.0.5/24"]}
    assert finished(item(static()), **cloud_init) == {
        "match": {"macaddress": A, "name": "ens3"},
        "addresses": ["10.0.0.5/24"],
    }


def test_a_gateway_outside_the_subnet_is_a_neighbour():
    off, near = {"to": "0.0.0.0/0", "via": "10.77.0.1"}, {"to": "10.9.0.0/16", "via": "10.0.0.1"}
    one = item(static(gateway="10.77.0.1", routes=[{"network": "10.9.0.0/16", "gateway": "10.0.0.1"}]))
    assert finished(one, routes=[off, near])["routes"] == [dict(off, **{"on-link": True}), near]


@pytest.mark.parametrize(
    ("networks", "body", "added"),
    [
        ([dhcp()], {"dhcp4": True}, {"dhcp4-overrides": {"route-metric": 2100}}),
        (
            [dhcp(), {"type": "ipv6_slaac", "link": "tap1", "id": "n"}],
            {"dhcp4": True, "dhcp6": True},
            {"dhcp4-overrides": {"route-metric": 2100}, "dhcp6-overrides": {"route-metric": 2100}},
        ),
        ([static()], {"addresses": ["10.0.0.5/24"]}, {"dhcp6-overrides": {"route-metric": 2100}}),
    ],
)
def test_a_secondary_has_its_metric_and_no_boot_waits_for_it(networks, body, added):
    match = {"match": {"macaddress": A, "name": "ens3"}}
    assert finished(item(*networks), **body) == dict(body, **match)
    assert finished(item(*networks, metric=2100), **body) == dict(body, **match, **added, optional=True)


def test_dns_that_the_renderer_leaves_out_is_added():
    slaac = {"type": "ipv6_slaac", "link": "tap1", "id": "n", "services": [{"type": "dns", "address": "fd00::53"}]}
    assert finished(item(slaac), dhcp6=True)["nameservers"] == {"addresses": ["fd00::53"]}
    assert finished(item(dhcp(), dns=("10.0.0.2",)), dhcp4=True)["nameservers"] == {"addresses": ["10.0.0.2"]}
    mixed = finished(item(static(), slaac), nameservers={"addresses": ["10.0.0.1"]})
    assert mixed["nameservers"] == {"addresses": ["10.0.0.1", "fd00::53"]}


def test_a_global_ipv6_gateway_is_said_to_be_a_neighbour():
    """As on networkd by itself, which is what netplan writes for."""
    six = static("2001:db8::5", "ffff:ffff:ffff:ffff::", routes=[{"network": "::", "netmask": "::", "gateway": "2001:db8::1"}])
    text = yaml_file.part("ethernets", "ens3", {"routes": [{"to": "::/0", "via": "2001:db8::1"}, {"to": "0.0.0.0/0", "via": "10.0.0.1"}]})
    _group, _name, body = yaml_file.only(BACKEND.finish(text, item(six)))
    assert [route.get("on-link") for route in body["routes"]] == [True, None]


@pytest.mark.parametrize(("name", "pattern"), [("w[1]", "w[[]1]"), ("a*b", "a[*]b"), ("p=q", "p=q"), ("-dash", "-dash"), ("!x", None), ("a\\b", None)])
def test_a_name_is_matched_literally_or_the_nic_is_refused(name, pattern):
    text = yaml_file.part("ethernets", name, {"mtu": 1500})
    if pattern is None:
        with pytest.raises(ValueError, match="netplan cannot match a NIC of this name"):
            BACKEND.finish(text, item(static(), name=name))
        return
    assert yaml_file.only(BACKEND.finish(text, item(static(), name=name)))[2]["match"]["name"] == pattern


def test_a_nic_that_an_operators_own_file_has_is_left_to_it(machine, monkeypatch):
    """networkd reads more than what netplan writes: its first file that matches, and drop-ins by any name."""
    etc = str(machine / "etc/systemd/network")
    monkeypatch.setattr(match_section, "DIRECTORIES", (etc,))
    files.replace(etc + "/05-x.network", "[Match]\nType=ether\nName=ens4\n")
    files.replace(etc + "/10-netplan-ens3.network.d/x.conf", "[Link]\nMTUBytes=1280\n")
    said = {"ens3": etc + "/10-netplan-ens3.network.d/x.conf", "ens4": etc + "/05-x.network"}
    assert BACKEND.claimed([item(static()), item(static(), name="ens4"), item(static(), name="ens5")]) == said


def test_what_cloud_init_rendered_is_taken_apart(tmp_path):
    files.replace(str(tmp_path) + other_files.FILE, "network: {version: 2, ethernets: {ens3: {dhcp4: true}}}\n")
    assert BACKEND.staged(str(tmp_path)) == [Part(other_files.FILE, "ens3", "ens3", "ethernets:\n  ens3:\n    dhcp4: true\n")]


def test_a_file_that_cannot_be_read_has_no_parts_and_is_not_written_over():
    assert BACKEND.split("network: [") == {}
    with pytest.raises(OSError, match="not a netplan file"):
        BACKEND.join("network: [", None, {"ens3": "ethernets: {ens3: {}}"})


# -- what is put in force -------------------------------------------------------------------------------------------


@pytest.fixture
def machine(guest, monkeypatch):
    """netplan's directories below tmp_path, its generator, networkctl."""
    monkeypatch.setattr(other_files, "TOP", str(guest))
    for name in ("OLD", "NEW"):
        monkeypatch.setattr(generator, name, str(guest) + getattr(generator, name))
    monkeypatch.setattr(activator, "_FILES", netdevs.Files(paths.NETWORKD_RUNTIME_FILES, "10-netplan-"))
    return guest


class Netplanned:
    """A machine with two NICs in force."""

    def __init__(self, machine, monkeypatch, **scripts):
        self.top = machine
        bin_ = programs(machine, monkeypatch, dict({"generate": GENERATOR, "networkctl": "", "systemctl": ""}, **scripts))
        monkeypatch.setattr(paths, "NETPLAN_GENERATORS", ("/nowhere", str(machine / "bin/generate")))
        self.programs = bin_
        self.write("network: {version: 2, ethernets: {ens3: {mtu: 1500}, ens4: {mtu: 1500}}}\n")
        BACKEND.boot([])
        self.log = bin_.log
        self.log.unlink()

    def write(self, text, name="50-cloud-init.yaml"):
        files.replace(str(self.top / "etc/netplan" / name), text)

    def change(self, touches, text):
        """A commit: what happens before it, the file, what happens after."""
        BACKEND.before(touches)
        self.write(text)
        return BACKEND.after(touches, changed=frozenset("x"))

    def ran(self):
        """Without the generator, which has its own tests."""
        return [line for line in self.programs.ran() if not line.startswith("generate")]

    def in_force(self):
        """Content and identity of each of networkd's files."""
        found = {}
        for path in sorted((self.top / "run/systemd/network").glob("*.network")):
            name = path.name[len("10-netplan-") : -len(".network")]
            found[name] = (os.stat(str(path)).st_ino, loaded_files.content(str(path)).decode())
        return found


@pytest.fixture
def two(machine, monkeypatch):
    return Netplanned(machine, monkeypatch)


def test_a_boot_puts_in_place_what_differs_and_reloads_nothing_of_the_network(two):
    assert sorted(two.in_force()) == ["ens3", "ens4"]
    before = two.in_force()
    BACKEND.boot([])
    assert two.in_force() == before
    two.write("network: {version: 2, ethernets: {ens3: {mtu: 1500}}}\n")
    BACKEND.boot([])
    assert two.in_force() == {"ens3": before["ens3"]}
    assert two.ran() == []
    assert not os.path.exists(str(two.top / "run/cloudinit-osnetd/netplan"))


def test_a_boot_waits_for_another_nic_where_the_first_has_left(two):
    BACKEND.boot([item(static(), metric=2200, name="ens4"), item(dhcp(), metric=2100)])
    drop_in = two.top / "run/systemd/network/10-netplan-ens3.network.d/cloudinit-osnetd.conf"
    assert drop_in.read_text() == "[Link]\nRequiredForOnline=yes\n"
    assert two.ran() == []


@pytest.mark.parametrize("where", ["system", "generator.late"])
def test_a_netplan_that_names_whom_to_wait_for_is_overruled(two, where):
    theirs, ours = "10-netplan.conf", "20-cloudinit-osnetd.conf"
    unit = two.top / "run/systemd"
    files.replace(str(unit / where / "systemd-networkd-wait-online.service.d" / theirs), "[Unit]\n")
    BACKEND.boot([item(dhcp(), name="ens4"), item(dhcp(), metric=2100)])
    assert two.ran() == []
    BACKEND.boot([item(dhcp(), metric=2100)])
    said = (unit / "system/systemd-networkd-wait-online.service.d" / ours).read_text()
    assert "-i ens3:degraded" in said and "ConditionPathIsSymbolicLink=\n" in said
    assert two.ran() == ["systemctl daemon-reload", "systemctl start --no-block systemd-networkd-wait-online.service"]


STATIC_SECOND = "network: {version: 2, ethernets: {ens3: {mtu: 1500}, ens4: {mtu: 1500, dhcp6-overrides: {route-metric: 2100}}}}\n"


def advertised(two, name="ens4"):
    path = two.top / ("run/systemd/network/10-netplan-%s.network.d/cloudinit-osnetd-advertised.conf" % name)
    return path.read_text() if path.exists() else None


def test_a_router_that_advertises_itself_to_a_static_second_nic_comes_after_its_routes(two):
    """netplan has networkd give the metric beside a DHCP client only, and a static NIC hears routers too."""
    two.change([Touch("up", B, "ens4", "")], STATIC_SECOND)
    assert advertised(two) == "[IPv6AcceptRA]\nRouteMetric=2101\n"
    assert advertised(two, "ens3") is None
    two.change([Touch("reconfigure", B, "ens4", "")], STATIC_SECOND.replace("mtu: 1500, dhcp6-", "dhcp6: true, dhcp6-"))
    assert advertised(two) is None


def test_a_boot_gives_that_metric_again_to_what_is_ours(two):
    two.write(STATIC_SECOND)
    ens4 = item(static(), name="ens4", mac=B, metric=2100)
    BACKEND.boot([item(static()), ens4], frozenset(["ens4"]))
    assert advertised(two) is None
    BACKEND.boot([item(static()), ens4])
    assert advertised(two) == "[IPv6AcceptRA]\nRouteMetric=2101\n"
    two.change([Touch("down", B, "ens4", "")], "network: {version: 2, ethernets: {ens3: {mtu: 1500}}}\n")
    assert not (two.top / "run/systemd/network/10-netplan-ens4.network.d").exists()


def test_only_the_nic_that_changed_is_put_in_force(two):
    before = two.in_force()
    assert two.change(
        [Touch("up", B, "ens5", "")],
        "network: {version: 2, ethernets: {ens3: {mtu: 1500}, ens4: {mtu: 1500}, ens5: {mtu: 1400}}}\n",
    ) == {}  # fmt: skip
    after = two.in_force()
    assert "1400" in after.pop("ens5")[1]
    assert after == before
    assert two.ran() == ["networkctl reload"]
    assert (two.top / "run/udev/rules.d/90-netplan.rules").read_text() == "['ens3', 'ens4', 'ens5']\n"


def test_a_nic_that_departs_leaves_nothing(two):
    before = two.in_force()
    files.replace(str(two.top / "run/systemd/network/10-netplan-ens4.network.d/cloudinit-osnetd.conf"), "")
    two.change([Touch("down", B, "ens4", "")], "network: {version: 2, ethernets: {ens3: {mtu: 1500}}}\n")
    assert two.in_force() == {"ens3": before["ens3"]}
    assert os.listdir(str(two.top / "run/systemd/network")) == ["10-netplan-ens3.network"]
    assert two.ran() == ["networkctl reload"]


def test_a_parent_is_put_in_force_with_its_vlan(two):
    before = two.in_force()
    touch = [Touch("up", A, "ens3.5", "")]
    both = "ethernets: {ens3: {mtu: 1500}, ens4: {mtu: 1500}}"
    two.change(touch, "network: {version: 2, %s, vlans: {ens3.5: {link: ens3}}}\n" % both)
    after = two.in_force()
    assert "ens3.5" in after["ens3"][1]
    assert after["ens4"] == before["ens4"]
    two.change([Touch("down", A, "ens3.5", "")], "network: {version: 2, %s}\n" % both)
    assert "ens3.5" not in two.in_force()
    assert two.in_force()["ens3"][1] == before["ens3"][1]


def test_an_edit_that_nobody_put_in_force_is_not_put_in_force_with_ours(two):
    before = two.in_force()
    two.write("network: {version: 2, ethernets: {ens4: {mtu: 1280}}}\n", name="60-admin.yaml")
    two.change([Touch("reconfigure", A, "ens3", "")], "network: {version: 2, ethernets: {ens3: {mtu: 1400}}}\n")
    after = two.in_force()
    assert "1400" in after["ens3"][1]
    assert after["ens4"] == before["ens4"]


def test_a_daemon_reload_in_between_costs_no_other_nic_anything(two):
    for path in (two.top / "run/systemd/network").iterdir():
        os.utime(str(path), (2_000_000_000, os.stat(str(path)).st_mtime))  # networkd has read it
    before = two.in_force()
    for path in (two.top / "run/systemd/network").iterdir():
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    assert two.in_force() != before
    two.change([Touch("reconfigure", A, "ens3", "")], "network: {version: 2, ethernets: {ens3: {mtu: 1400}, ens4: {mtu: 1500}}}\n")
    assert two.in_force()["ens4"] == before["ens4"]


def test_a_commit_that_was_cut_short_is_put_in_force_by_the_kick(two):
    touches = [Touch("up", B, "ens5", "")]
    BACKEND.before(touches)
    two.write("network: {version: 2, ethernets: {ens3: {mtu: 1500}, ens4: {mtu: 1500}, ens5: {mtu: 1400}}}\n")
    # Power comes back, or another process: nothing else is known.
    assert BACKEND.after([touches[0]._replace(action="kick")], changed=frozenset()) == {}
    assert "ens5" in two.in_force()
    assert two.ran() == ["networkctl reload", "networkctl reconfigure -- ens5"]


def test_a_kick_alone_names_its_nic(two):
    before = two.in_force()
    assert BACKEND.after([Touch("kick", A, "ens3", "")], changed=frozenset()) == {}
    assert two.in_force() == before
    assert two.ran() == ["networkctl reload", "networkctl reconfigure -- ens3"]


def test_what_netplan_says_of_a_failure_is_reported_for_each_nic(two):
    before = two.in_force()
    problems = two.change([Touch("reconfigure", A, "ens3", "")], "network: {version: 2, ethernets: {bad: {}}}\n")
    assert "netplan does not like it" in problems["ens3"]
    assert two.in_force() == before


def test_a_configuration_that_is_broken_already_keeps_no_nic_from_leaving(two):
    two.write("network: {version: 2, ethernets: {bad: {}}}\n", name="60-admin.yaml")
    assert "ens4" in two.change([Touch("down", B, "ens4", "")], "network: {version: 2}\n")
    (two.top / "etc/netplan/60-admin.yaml").unlink()


def test_a_reload_that_fails_is_reported_for_each_nic(machine, monkeypatch):
    two = Netplanned(machine, monkeypatch, networkctl="echo no bus >&2; exit 1")
    problems = two.change([Touch("reconfigure", A, "ens3", "")], "network: {version: 2, ethernets: {ens3: {mtu: 1400}}}\n")
    assert problems == {"ens3": "networkctl reload: exit 1: no bus"}


def test_a_part_that_netplan_refuses_is_never_written(two):
    good = Part(other_files.FILE, "ens3", "ens3", "ethernets: {ens3: {}}")
    BACKEND.check([good], str(two.top / "tree"))
    with pytest.raises(ValueError, match=r"netplan refuses it: .*does not like it"):
        BACKEND.check([good._replace(name="bad", text="ethernets: {bad: {}}")], str(two.top / "tree"))


def test_a_new_file_is_roots_alone(guest):
    files.replace(str(guest) + "/x", "", mode=BACKEND.mode)
    assert stat.S_IMODE(os.stat(str(guest) + "/x").st_mode) == 0o600
    assert yaml.safe_load(BACKEND.join(None, None, {"ens3": "ethernets: {ens3: {}}"})) == {
        "network": {"version": 2, "ethernets": {"ens3": {}}}
    }
