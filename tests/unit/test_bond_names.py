# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Bonds that were there before us keep their names, whatever the order of their MACs."""

import pytest

from cloudinit_osnetd.backends.base import Format
from cloudinit_osnetd.backends.eni import stanza_meaning
from cloudinit_osnetd.backends.ifcfg import backend as ifcfg_backend
from cloudinit_osnetd.backends.netplan import yaml_meaning
from cloudinit_osnetd.backends.networkd import file_meaning
from cloudinit_osnetd.backends.networkmanager.format import KeyfileFormat
from cloudinit_osnetd.core import truth
from cloudinit_osnetd.core.desired import desired
from cloudinit_osnetd.planning import bond_names
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files

from .build import A, B, C, bond, data, document, link, nic, nics, owned_bond, snapshot, static

D = "fa:16:3e:00:00:04"
HIGH, LOW = "fa:16:3e:00:00:f0", "fa:16:3e:00:00:10"
# The first of the document is bond0 to cloud-init; its MAC is the higher one.
DOC = document(
    [
        link(A, "tap1"),
        link(B, "tap2"),
        link(C, "tap3"),
        link(D, "tap4"),
        bond(HIGH, "bondA", ("tap1", "tap2")),
        bond(LOW, "bondB", ("tap3", "tap4")),
    ],
    [static(link="bondA"), static("10.1.0.5", link="bondB")],
)
NICS = nics(nic("ens3", A, 2), nic("ens4", B, 3), nic("ens5", C, 4), nic("ens6", D, 5))
RIGHT = {HIGH + "/bond": "bond0", LOW + "/bond": "bond1"}


class Disk(Format):
    """A backend, as far as it is asked here."""

    def __init__(self, parts=()):
        self.parts = dict(parts)

    def staged(self, tree):
        assert tree == ""
        from cloudinit_osnetd.core.records import Part

        return [Part("/etc/x", name, name, name) for name in self.parts]

    def meaning(self, text, name):
        return self.parts[name]


def state(ledger=()):
    known = truth.observe(truth.EMPTY, "drive", data(DOC), 0.0)
    return store.empty("i", tuple(ledger))._replace(truth=known)


def eni(text, name):
    return stanza_meaning.of(text, name)


ENI = {
    name: eni("auto {0}\niface {0} inet manual\n    bond-master {1}\n    bond_mode 802.3ad\n".format(name, of), name)
    for name, of in (("ens3", "bond0"), ("ens4", "bond0"), ("ens5", "bond1"), ("ens6", "bond1"))
}
NETPLAN = {
    "bond0": yaml_meaning.of("bonds: {bond0: {interfaces: [ens3, ens4]}}"),
    "bond1": yaml_meaning.of("bonds: {bond1: {interfaces: [ens5, ens6]}}"),
}
NETWORKD = {
    name: file_meaning.of("[Match]\nName={}\n[Network]\nBond={}\n".format(name, of))
    for name, of in (("ens3", "bond0"), ("ens4", "bond0"), ("ens5", "bond1"), ("ens6", "bond1"))
}
# cloud-init before 25.2: a bond's MAC stands in the files of its members too.
OLD_NETWORKD = {
    name: file_meaning.of("[Match]\nName={}\nMACAddress={}\n".format(name, mac))
    for name, mac in (("ens3", HIGH), ("ens4", HIGH), ("bond0", HIGH), ("ens5", LOW), ("ens6", LOW), ("bond1", LOW))
}


@pytest.mark.parametrize("parts", [ENI, NETPLAN, NETWORKD, OLD_NETWORKD], ids=["eni", "netplan", "networkd", "old networkd"])
def test_a_bonds_name_is_learned_from_what_is_configured(parts):
    assert bond_names.known(state(), NICS, None, Disk(parts)).bonds == RIGHT


def test_a_bond_of_which_neither_members_nor_mac_are_written_is_known_by_its_addresses():
    """As cloud-init 25.1 and earlier write it for networkd if the document names no MAC."""
    links = [link(D, "tap4"), link(C, "tap3"), link(B, "tap2"), link(A, "tap1")]
    links += [bond(None, "bondA", ("tap4", "tap3")), bond(None, "bondB", ("tap2", "tap1"))]
    doc = document(links, [static(link="bondA"), static("10.1.0.5", link="bondB")])
    parts = {
        name: file_meaning.of("[Match]\nName={}\n[Network]\nAddress={}\n".format(name, address))
        for name, address in (("bond0", "10.0.0.5/24"), ("bond1", "10.1.0.5/24"), ("ens9", "10.1.0.5/24"))
    }
    heard = store.empty("i")._replace(truth=truth.observe(truth.EMPTY, "drive", data(doc), 0.0))
    there = dict(NICS, **{"fa:16:3e:00:00:09": nic("ens9", "fa:16:3e:00:00:09", 6)})
    assert bond_names.known(heard, there, None, Disk(parts)).bonds == {C + "/bond": "bond0", A + "/bond": "bond1"}


MEMBERS = (("ens3", "bond0"), ("ens4", "bond0"), ("ens5", "bond1"), ("ens6", "bond1"))
# A member's keyfile has the UUID of the bond's.
KEYFILES = {
    "system-connections/cloud-init-%s.nmconnection" % name: "[connection]\nuuid=u-%s\ntype=%s\n%s" % (name, kind, more)
    for name, kind, more in [(of, "bond", "interface-name=%s\n" % of) for of in ("bond0", "bond1")]
    + [(name, "ethernet", "master=u-%s\nslave-type=bond\n" % of) for name, of in MEMBERS]
}
IFCFG = {"ifcfg-" + name: "DEVICE=%s\nMASTER=%s\nSLAVE=yes\n" % (name, of) for name, of in MEMBERS}
IFCFG.update({"ifcfg-" + name: "DEVICE=%s\nTYPE=Bond\n" % name for name in ("bond0", "bond1")})
IFCFG.update({"route-bond0": "10.8.0.0/16 via 10.0.0.9 dev bond0\n", "route6-ens3": "#\n", "ifcfg-lo": "DEVICE=lo\n"})


@pytest.mark.parametrize(("format_", "texts"), [(KeyfileFormat, KEYFILES), (ifcfg_backend.Ifcfg, IFCFG)])
def test_a_bonds_name_is_learned_from_files(format_, texts, tmp_path):
    for name, text in texts.items():
        files.replace(str(tmp_path / format_.directories[0][1:] / name.rpartition("/")[2]), text)
    backend = format_()
    staged = backend.staged(str(tmp_path))
    backend.staged = lambda _tree: staged
    assert bond_names.known(state(), NICS, None, backend).bonds == RIGHT


def running(of_first="bond0", of_second="bond1", high="02:00:00:00:00:01", low="02:00:00:00:00:02"):
    first = nic(of_first, high, 8, virtual=True, kind="bond", current_mac=high)
    second = nic(of_second, low, 9, virtual=True, kind="bond", current_mac=low)
    members = [one._replace(master=8 if mac in (A, B) else 9) for mac, one in NICS.items()]
    return snapshot(first, second, *members)


def test_the_kernels_word_goes_before_the_disks():
    """By the members: the kernel gives a bond without a MAC of its own that of one of them."""
    assert bond_names.known(state(), NICS, running(), Disk({})).bonds == RIGHT
    assert bond_names.known(state(), NICS, running("wan", "lan"), Disk(ENI)).bonds == {HIGH + "/bond": "wan", LOW + "/bond": "lan"}


def test_a_bond_that_has_lost_its_members_is_known_by_its_mac():
    there = running(high=HIGH, low=LOW)
    apart = there._replace(nics=tuple(one._replace(master=0) for one in there.nics))
    assert bond_names.known(state(), NICS, apart, Disk({})).bonds == RIGHT


def test_what_is_wanted_has_the_names_that_are_there():
    known = bond_names.known(state(), NICS, None, Disk(ENI))
    names = {item.key: item.name for want in desired(known.truth, NICS, bonds=known.bonds) for item in want.items}
    assert {key: names[key] for key in RIGHT} == RIGHT


def test_the_ledgers_names_are_not_looked_for_again():
    rows = [owned_bond(HIGH, "bond7"), owned_bond(LOW, "bond8")]
    known = bond_names.known(state(rows), NICS, None, None)  # nobody is asked
    assert known.bonds == {HIGH + "/bond": "bond7", LOW + "/bond": "bond8"}


def test_a_name_that_is_taken_is_given_to_nobody_else():
    known = bond_names.known(state([owned_bond(HIGH, "bond1")]), NICS, None, Disk(NETPLAN))
    assert known.bonds == {HIGH + "/bond": "bond1"}  # and the other one gets a free number


def test_where_nothing_is_there_they_are_numbered():
    known = bond_names.known(state(), NICS, snapshot(*NICS.values()), Disk({}))
    assert known.bonds == {}
