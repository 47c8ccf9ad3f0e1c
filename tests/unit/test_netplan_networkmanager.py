# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan on NetworkManager: what a definition passes to it, and which profiles are loaded and activated."""

import os
import sys

import pytest

from cloudinit_osnetd.backends.netplan import backend, generator, other_files, yaml_file
from cloudinit_osnetd.backends.netplan.backend_on_networkmanager import NetplanOnNetworkManager
from cloudinit_osnetd.backends.networkmanager import other_profiles, reapply
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Part, Touch
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.system import files, paths

from .build import A, bond, data, dhcp, document, entry, link, nic, snapshot, static, vlan
from .programs import programs

SIX = static("2001:db8::5", "64")
FILE = "etc/netplan/50-cloud-init.yaml"
# A stand-in for netplan's generator, which names and fills the keyfiles as netplan 1.1.2 does.
GENERATOR = """\
[ "$1" = --root-dir ] || exit 7
@PYTHON@ - "$2" <<'END'
import glob, os, sys, yaml
root = sys.argv[1]
place = root + "/run/NetworkManager/system-connections"
os.makedirs(place, exist_ok=True)
for path in sorted(glob.glob(root + "/*/netplan/*.yaml")):
    said = yaml.safe_load(open(path))
    if "bad" in str(said):
        sys.exit(path + ": netplan does not like it")
    for name, body in (said["network"].get("ethernets") or {}).items():
        values = {"connection": {"id": "netplan-" + name, "type": "ethernet", "interface-name": name}}
        values["ipv4"] = {"address%d" % n: one for n, one in enumerate(body.get("addresses", []), 1)}
        for key, word in body.get("networkmanager", {}).get("passthrough", {}).items():
            section, _, key = key.partition(".")
            values.setdefault(section, {})[key] = word
        fd = os.open("%s/netplan-%s.nmconnection" % (place, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            for section, keys in values.items():
                file.write("[%s]\\n%s\\n" % (section, "\\n".join("%s=%s" % one for one in keys.items())))
END
""".replace("@PYTHON@", sys.executable)  # the one that has PyYAML


@pytest.fixture
def on():
    return NetplanOnNetworkManager()


def item(*networks, name="ens3", metric=0, **fields):
    return Item(A + "/phy", entry(*networks, **fields), name, (), metric)


def finished(on, one, group="ethernets", **body):
    return yaml_file.only(on.finish(yaml_file.part(group, one.name, body), one))[2]


def passed(on, one, **body):
    return finished(on, one, **body)["networkmanager"]["passthrough"]


# -- what is said of a NIC -------------------------------------------------------------------------


def test_an_ipv4_port_takes_no_advertisement_and_its_metric_is_fixed(on):
    body = finished(on, item(static()), addresses=["10.0.0.5/24"])
    found = body["networkmanager"]["passthrough"]
    assert (found["ipv4.method"], found["ipv6.method"]) == ("manual", "link-local")
    assert (found["ipv4.dad-timeout"], found["ipv4.may-fail"]) == ("0", "false")
    assert body["dhcp4-overrides"] == body["dhcp6-overrides"] == {"route-metric": 100}
    assert "optional" not in finished(on, item(static(), metric=2100))
    assert finished(on, item(static(), metric=2100))["dhcp4-overrides"] == {"route-metric": 2100}


def test_a_nic_of_ipv6_alone_has_no_address_of_169_254(on):
    assert passed(on, item(SIX))["ipv4.method"] == "disabled"
    assert passed(on, item())["ipv4.method"] == "disabled"


@pytest.mark.parametrize(
    ("networks", "left"),
    [
        ((SIX,), {"addresses": ["2001:db8::53"], "search": ["example.org"]}),
        ((static(),), {"addresses": ["192.0.2.53"], "search": ["example.org"]}),
        ((static(), SIX), {"addresses": ["192.0.2.53", "2001:db8::53"], "search": ["example.org"]}),
        ((), None),
    ],
)
def test_name_servers_of_a_family_that_the_nic_has_not_are_left_out(on, networks, left):
    """NetworkManager refuses the profile: "ipv4.dns: this property is not allowed for 'method=disabled'"."""
    told = {"addresses": ["192.0.2.53", "2001:db8::53"], "search": ["example.org"]}
    assert finished(on, item(*networks), nameservers=told).get("nameservers") == left


@pytest.mark.parametrize("kind", ["ipv6_dhcpv6-stateful", "ipv6_slaac"])
def test_the_advertisement_is_followed(on, kind):
    found = passed(on, item({"id": "n", "link": "tap1", "type": kind}, dhcp()))
    assert (found["ipv4.method"], found["ipv6.method"]) == ("auto", "auto")
    assert (found["ipv4.may-fail"], found["ipv6.may-fail"], found["ipv6.addr-gen-mode"]) == ("true", "true", "eui64")


def test_no_boot_waits_for_the_lease_of_a_later_nic(on):
    assert passed(on, item(dhcp()))["ipv4.may-fail"] == "false"
    assert passed(on, item(dhcp(), metric=2100))["ipv4.may-fail"] == "true"
    assert passed(on, item(static(), metric=2100))["ipv4.may-fail"] == "false"


def test_static_ipv6_that_the_kernel_refuses_does_not_take_ipv4_down(on):
    found = passed(on, item(static(), SIX))
    assert (found["ipv4.may-fail"], found["ipv6.may-fail"], found["ipv6.required-timeout"]) == ("false", "true", "5000")


def test_a_uuid_is_the_same_each_time_and_differs_by_nic(on):
    uuids = [passed(on, item(static(), name=name))["connection.uuid"] for name in ("ens3", "ens3", "ens4")]
    assert uuids[0] == uuids[1] != uuids[2]


def test_a_vlan_names_its_parent(on):
    """The generator writes the parent's UUID there, a new one each time."""
    found = data(document([link(), vlan()])).entries
    (entry_,) = [one for one in found.values() if one.kind == "vlan"]
    one = Item(A + "/vlan/100", entry_, "ens3.100", ())
    assert passed_of_vlan(on, one)["vlan.parent"] == "ens3"


def passed_of_vlan(on, one):
    return finished(on, one, "vlans", id=100, link="ens3")["networkmanager"]["passthrough"]


def test_no_route_is_on_link_and_a_bond_keeps_its_options(on):
    routes = [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"}]
    body = finished(on, item(static(routes=routes)), routes=[{"to": "default", "via": "192.0.2.1"}])
    assert body["routes"] == [{"to": "default", "via": "192.0.2.1"}]
    found = data(document([link(), link("fa:16:3e:00:00:02", "tap2"), bond()])).entries
    (above,) = [Item(key, one, "bond0", ()) for key, one in found.items() if one.kind == "bond"]
    assert finished(on, above, "bonds", interfaces=["ens3"])["parameters"]["mode"] == "802.3ad"


def test_finished_twice_is_finished_once(on):
    one = item(static(), SIX)
    text = yaml_file.part("ethernets", "ens3", {"addresses": ["10.0.0.5/24"]})
    assert on.finish(on.finish(text, one), one) == on.finish(text, one)


# -- which renderer --------------------------------------------------------------------------------


@pytest.fixture
def machine(guest, monkeypatch):
    """netplan's and NetworkManager's directories below tmp_path, and one NIC."""
    monkeypatch.setattr(other_files, "TOP", str(guest))
    for name in ("OLD", "NEW"):
        monkeypatch.setattr(generator, name, str(guest) + getattr(generator, name))
    monkeypatch.setattr(other_profiles, "_DIRECTORIES", (str(guest / "keyfiles"),))
    for module in (other_profiles, reapply):
        monkeypatch.setattr(module, "_DEVICES", str(guest / "devices"))
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic()))
    return guest


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("network: {version: 2, renderer: NetworkManager}\n", "netplan-networkmanager"),
        ("network: {version: 2, renderer: networkd}\n", "netplan"),
        ("network: {version: 2}\n", "netplan"),
    ],
)
def test_the_renderer_of_netplans_files(machine, text, name):
    files.replace(str(machine / "etc/netplan/01-x.yaml"), text)
    found = backend.chosen()
    assert (found.name, found.unfit()) == (name, "")


def test_another_renderer_is_none_of_ours(machine):
    files.replace(str(machine / "etc/netplan/01-x.yaml"), "network: {renderer: sriov}\n")
    assert "netplan's renderer is sriov" in backend.chosen().unfit()


# -- what is put in force --------------------------------------------------------------------------


def touch(action, name="ens3"):
    return Touch(action, A, name, "")


class Netplanned:
    def __init__(self, machine, monkeypatch, on):
        self.top, self.on = machine, on
        profiles = "%s/run/NetworkManager/system-connections" % machine
        self.profiles = profiles
        nmcli = 'case "$*" in *FILENAME*) ls -d %s/* 2>/dev/null;; esac; true' % profiles
        self.programs = programs(machine, monkeypatch, {"generate": GENERATOR, "nmcli": nmcli})
        monkeypatch.setattr(paths, "NETPLAN_GENERATORS", (str(machine / "bin/generate"),))
        self.write(ens3={"address": "10.0.0.5/24"}, ens4={"address": "10.4.0.5/24"})
        on.boot([])
        self.programs.log.unlink()

    def write(self, **nics):
        text = "".join(
            "    %s: {addresses: [%s], networkmanager: {passthrough: {connection.uuid: uuid-%s%s}}}\n"
            % (name, values["address"], name, values.get("more", ""))
            for name, values in nics.items()
        )
        head = "network:\n  version: 2\n  renderer: NetworkManager\n"
        files.replace(str(self.top / FILE), head + ("  ethernets:\n" + text if text else ""))

    def change(self, touches, **nics):
        self.on.before(touches)
        self.write(**nics)
        return self.on.after(touches, frozenset([FILE]))

    def ran(self):
        return [line for line in self.programs.ran() if line.startswith("nmcli")]

    def kept(self, name):
        return os.stat("%s/netplan-%s.nmconnection" % (self.profiles, name)).st_ino

    def active(self, uuid):
        files.replace(str(self.top / "devices/2"), "[device]\nmanaged=true\nconnection-uuid=%s\n" % uuid)


@pytest.fixture
def two(machine, monkeypatch, on):
    return Netplanned(machine, monkeypatch, on)


TWO = {"ens3": {"address": "10.0.0.5/24"}, "ens4": {"address": "10.4.0.5/24"}}


def test_a_boot_puts_in_place_what_differs_and_asks_nobody(two, on):
    before = two.kept("ens3"), two.kept("ens4")
    on.boot([])
    assert (two.kept("ens3"), two.kept("ens4")) == before
    assert two.ran() == []
    assert not os.path.exists(str(two.top / "run/cloudinit-osnetd/netplan"))


def test_a_new_nic_is_loaded_and_the_others_are_left(two):
    before = two.kept("ens3"), two.kept("ens4")
    assert two.change([touch("up", "ens5")], ens5={"address": "10.5.0.5/24"}, **TWO) == {}
    path = two.profiles + "/netplan-ens5.nmconnection"
    assert two.ran() == [
        "nmcli connection load " + path,
        "nmcli -t -f FILENAME connection show",
        "nmcli --wait 0 connection up uuid uuid-ens5 ifname ens5",
    ]
    assert (two.kept("ens3"), two.kept("ens4")) == before
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_an_edit_is_reapplied(two):
    two.active("uuid-ens3")
    assert two.change([touch("reconfigure")], **dict(TWO, ens3={"address": "10.0.0.6/24"})) == {}
    assert two.ran()[-1] == "nmcli device reapply ens3"


def test_an_edit_that_no_reapply_can_make(two):
    two.active("uuid-ens3")
    more = ", ethernet.cloned-mac-address: x"
    assert two.change([touch("reconfigure")], **dict(TWO, ens3={"address": "10.0.0.5/24", "more": more})) == {}
    assert two.ran()[-1] == "nmcli --wait 0 connection up uuid uuid-ens3 ifname ens3"


def test_a_nic_that_left_is_unloaded(two):
    del_ = {"ens3": TWO["ens3"]}
    assert two.change([touch("down", "ens4")], **del_) == {}
    path = two.profiles + "/netplan-ens4.nmconnection"
    assert two.ran() == ["nmcli connection load " + path] and not os.path.exists(path)


def test_what_netplan_refuses_is_reported_and_nothing_is_loaded(two):
    problems = two.change([touch("reconfigure")], **dict(TWO, ens3={"address": "bad"}))
    assert "netplan does not like it" in problems["ens3"]
    assert two.ran() == []
    assert "10.0.0.5/24" in files.read(two.profiles + "/netplan-ens3.nmconnection")


def test_a_part_is_checked_with_the_renderer_that_gets_it(machine, two, on, tmp_path):
    part = Part("/" + FILE, "ens3", "ens3", on.finish(yaml_file.part("ethernets", "ens3", {}), item(static())))
    on.check([part], str(tmp_path / "tree"))
    text = files.read(str(tmp_path / "tree/check" / FILE))
    assert "renderer: NetworkManager" in text and "passthrough" in text
    with pytest.raises(ValueError, match="netplan does not like it"):
        on.check([part._replace(text=yaml_file.part("ethernets", "ens3", {"addresses": ["bad"]}))], str(tmp_path / "tree"))


def test_a_definition_that_makes_no_profile_is_reported(two):
    problems = two.change([touch("up", "ens9")], **TWO)
    assert "netplan makes no profile" in problems["ens9"]


# -- whose NIC it is -------------------------------------------------------------------------------


def test_a_keyfile_of_somebody_has_the_nic(machine, on):
    text = "[connection]\ntype=ethernet\nuuid=u\ninterface-name=ens3\n"
    files.replace(str(machine / "keyfiles/mine.nmconnection"), text)
    assert on.claimed([item(static())]) == {"ens3": str(machine / "keyfiles/mine.nmconnection")}
    files.replace(on.file_of("ens3"), "[connection]\n")
    assert on.claimed([item(static())]) == {}
    files.replace(str(machine / "devices/2"), "[device]\nmanaged=true\nconnection-uuid=u\n")
    assert on.claimed([item(static())]) == {"ens3": str(machine / "keyfiles/mine.nmconnection")}
