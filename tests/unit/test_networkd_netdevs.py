# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netdevs: which bonds and VLANs are created again, and which links that affects."""

import time

import pytest

from cloudinit_osnetd.backends.networkd import netdevs
from cloudinit_osnetd.backends.networkd.netdevs import Files
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.system import command, files, paths

from .build import A, B, nic, snapshot
from .programs import programs

BOND = "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=%s\n"
MEMBER = "[Match]\nName=%s\n\n[Network]\nBond=bond0\n"


@pytest.fixture
def machine(guest, monkeypatch):
    """Two members' files and a bond's; `there` are the devices of the kernel."""

    class Machine:
        of = Files(str(guest / "network"), "10-x-")
        programs = programs(guest, monkeypatch, {"ip": "", "networkctl": ""})

        def write(self, name, kind, text):
            files.replace(str(guest / "network" / ("10-x-" + name + kind)), text)

        def has(self, *nics):
            monkeypatch.setattr(netdevs.netlink, "snapshot", lambda: snapshot(*nics))

        def reload(self, *touches):
            problems = netdevs.reload(touches, self.of, lambda: command.run(["networkctl", "reload"]))
            assert problems == {}
            return self.programs.ran()

    monkeypatch.setattr(paths, "NETWORKD_LINKS", str(guest / "links"))
    made = Machine()
    made.write("ens3", ".network", MEMBER % "ens3")
    made.write("ens4", ".network", MEMBER % "ens4")
    made.write("ens5", ".network", "[Match]\nName=ens5\n")
    made.write("bond0", ".netdev", BOND % "802.3ad")
    made.has(nic("ens3", A, 2), nic("ens4", B, 3), nic("bond0", A, 9))
    return made


def touch(action="reconfigure", name="bond0"):
    return Touch(action, A, name, "")


def test_a_device_whose_file_asks_for_another_is_made_again_and_its_members_join_it(machine):
    netdevs.note([touch()], machine.of)
    machine.write("bond0", ".netdev", BOND % "active-backup")
    ran = machine.reload(touch(), touch(name="ens4"))
    # The reload itself configures the one whose file changed.
    assert ran == ["ip link delete dev bond0", "networkctl reload", "networkctl reconfigure -- ens3"]
    assert machine.reload(touch()) == ran + ["networkctl reload"], "it is what its file asks for now"


def test_a_run_that_died_between_the_file_and_the_device_is_finished_by_the_next(machine):
    netdevs.note([touch()], machine.of)
    machine.write("bond0", ".netdev", BOND % "active-backup")
    netdevs.note([touch("kick")], machine.of)
    assert machine.reload(touch("kick"))[0] == "ip link delete dev bond0"


@pytest.mark.parametrize("new", [BOND % "802.3ad", BOND.replace("Kind", "MTUBytes=1400\nKind") % "802.3ad"])
def test_a_device_that_is_as_its_file_asks_is_let_be(machine, new):
    netdevs.note([touch()], machine.of)
    machine.write("bond0", ".netdev", new)
    assert machine.reload(touch()) == ["networkctl reload"]


def test_one_that_somebody_deleted_is_made_by_the_reload(machine):
    machine.has(nic("ens3", A, 2), nic("ens4", B, 3))
    assert netdevs.missing("bond0", machine.of) and not netdevs.missing("ens3", machine.of)
    ran = machine.reload(touch("kick"))
    assert ran == ["networkctl reload", "networkctl reconfigure -- ens3", "networkctl reconfigure -- ens4"]


def test_a_nic_without_a_device_of_its_own_costs_nothing(machine):
    assert machine.reload(touch(name="ens5"), touch("down", "bond0")) == ["networkctl reload"]
    assert not files.read(paths.MADE + "/ens5")


def test_a_device_that_goes_is_deleted_before_its_members_are_configured(machine, monkeypatch):
    bond, vlan = nic("bond0", B, 9, kind="bond"), nic("bond0.7", A, 10, kind="vlan")
    here = [nic("ens3", A, 2), nic("ens4", B, 3), bond, vlan]

    def now():
        gone = {line.split()[-1] for line in machine.programs.ran()}
        return snapshot(*(one for one in here if not gone & {one.name, one.name.partition(".")[0]}))

    monkeypatch.setattr(netdevs.netlink, "snapshot", now)
    downs = [touch("down"), touch("down", "bond0.7"), touch(name="ens3")]
    assert machine.reload(*downs) == ["ip link delete dev bond0", "networkctl reload"], "its VLAN goes with it"


def test_networkd_is_given_time_to_see_that_a_device_is_gone(machine, monkeypatch):
    monkeypatch.setattr(netdevs, "_PATIENCE", 0.1)
    machine.has(nic("ens3.7", A, 10, kind="vlan"))
    files.replace(paths.NETWORKD_LINKS + "/10", "ADMIN_STATE=configured\n")
    began = time.monotonic()
    machine.reload(touch("down", "ens3.7"))
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("there", [nic("ens3.7", B, 10, kind="vlan"), nic("ens3.7", A, 10), nic("ens3.7", A, 10, kind="veth")])
def test_another_device_of_its_name_is_not_deleted(machine, there):
    machine.has(there)
    assert machine.reload(touch("down", "ens3.7")) == ["networkctl reload"]
