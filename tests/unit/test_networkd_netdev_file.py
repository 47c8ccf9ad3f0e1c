# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netdev_file: the files of bonds and VLANs, whether or not cloud-init's renderer writes them."""

import pytest

from cloudinit_osnetd.backends.networkd import match_section, netdev_file
from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Part
from cloudinit_osnetd.system import files

from .build import A, B, bond, data, document, link, static, vlan

BACKEND = Networkd()
# As cloud-init 26.2 writes it.
NETDEV = """\
[Bond]
MIIMonitorSec=100ms
Mode=802.3ad

[NetDev]
Kind=bond
MACAddress=fa:16:3e:00:00:01
Name=bond0
"""


def items(**options):
    """Two members, a bond, a VLAN on it, and one on a member."""
    links = [link(A, "tap1"), link(B, "tap2"), bond(A, "bond1", **options), vlan(A, "vlan1", 100, "bond1", mtu=1400)]
    read = data(document(links, [static("10.0.0.5", link="bond1")])).entries
    names = {A + "/phy": "ens3", B + "/phy": "ens4", A + "/bond": "bond0", A + "/vlan.100": "bond0.100"}
    return [Item(key, read[key], name, ()) for key, name in names.items()]


@pytest.fixture(autouse=True)
def nobody_elses(guest, monkeypatch):
    monkeypatch.setattr(match_section, "DIRECTORIES", (str(guest / "etc"),))


def path(name, kind=".network"):
    return match_section.DIRECTORY + "/10-cloud-init-" + name + kind


def completed(some, *there):
    parts = BACKEND.completed([Part(path(*name), "", name[0], text) for name, text in there], some)
    return {part.path[len(path("", "")) :]: netdev_file.parsed(part.text) for part in parts}


def test_a_release_that_writes_none_is_completed():
    rendered = [((name,), "[Match]\nName=%s\n" % name) for name in ("ens3", "ens4", "bond0", "bond0.100")]
    done = completed(items(bond_mode="active-backup", bond_miimon="100"), *rendered)
    assert sorted(done) == ["bond0.100.netdev", "bond0.100.network", "bond0.netdev", "bond0.network", "ens3.network", "ens4.network"]
    assert done["ens3.network"] == done["ens4.network"][:0] + [("Match", "Name", "ens3"), ("Network", "Bond", "bond0")]
    assert ("Network", "Bond", "bond0") in done["ens4.network"]
    assert done["bond0.network"] == [("Match", "Name", "bond0"), ("Network", "VLAN", "bond0.100")]
    assert sorted(done["bond0.netdev"]) == [
        ("Bond", "MIIMonitorSec", "100ms"),
        ("Bond", "Mode", "active-backup"),
        ("NetDev", "Kind", "bond"),
        ("NetDev", "MACAddress", A),
        ("NetDev", "Name", "bond0"),
    ]
    assert sorted(done["bond0.100.netdev"]) == [
        ("NetDev", "Kind", "vlan"),
        ("NetDev", "MACAddress", A),
        ("NetDev", "MTUBytes", "1400"),
        ("NetDev", "Name", "bond0.100"),
        ("VLAN", "Id", "100"),
    ]


def test_what_a_release_writes_is_kept_and_what_it_leaves_out_is_added():
    some = items(bond_mode="4", bond_miimon="100", bond_arp_ip_target="10.0.0.1", bond_lacp_rate="1", bond_primary="ens4")
    text = NETDEV.replace("802.3ad", "4")
    (there,) = [p for p in BACKEND.completed([Part(path("bond0", ".netdev"), "", "bond0", text)], some) if p.name == "bond0"]
    assert there.text == NETDEV + "\n[Bond]\nARPIPTargets=10.0.0.1\nLACPTransmitRate=fast\n"
    done = completed(some, (("ens3",), "[Network]\nBond=bond0\n"), (("ens4",), "[Network]\nBond=bond0\n"))
    assert done["ens3.network"] == [("Network", "Bond", "bond0")]
    assert done["ens4.network"] == [("Network", "Bond", "bond0"), ("Network", "PrimarySlave", "yes")]


def test_a_part_that_says_it_all_is_left_byte_for_byte():
    text = "[Network]\nVLAN=bond0.100\n\n[Bond]\nMode=802.3ad\n"
    assert netdev_file.with_lines(text, [("Network", "VLAN", "bond0.100"), ("Bond", "Mode", "802.3ad")]) == text
    assert netdev_file.with_lines(text, [("Network", "VLAN", "bond0.200")]) == text + "\n[Network]\nVLAN=bond0.200\n"


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("bond_mode", "0", ("Mode", "balance-rr")),
        ("bond_mode", "balance-alb", ("Mode", "balance-alb")),
        ("bond_downdelay", "200", ("DownDelaySec", "200ms")),
        ("bond_xmit_hash_policy", "layer3+4", ("TransmitHashPolicy", "layer3+4")),
        ("bond_xmit_hash_policy", "2", ("TransmitHashPolicy", "layer2+3")),
        ("bond_lacp_rate", "slow", ("LACPTransmitRate", "slow")),
        ("bond_fail_over_mac", "1", ("FailOverMACPolicy", "active")),
        ("bond_all_slaves_active", "True", ("AllSlavesActive", "yes")),
        ("bond_num_unsol_na", "3", ("GratuitousARP", "3")),
        ("bond_lp_interval", "1", ("LearnPacketIntervalSec", "1")),
        ("bond_min_links", "1", ("MinLinks", "1")),
        ("bond_ad_actor_sys_prio", "100", ("AdActorSystemPriority", "100")),
        ("bond_use_carrier", "1", None),  # networkd has no such option
    ],
)
def test_each_option_is_said_as_networkd_has_it(field, value, line):
    (device,) = [item for item in items(**{field: value}) if item.entry.kind == "bond"]
    said = [words[1:] for words in netdev_file.wanted(device) if words[0] == "Bond"]
    mode = [] if field == "bond_mode" else [("Mode", "802.3ad")]
    assert sorted(said) == sorted(mode + ([line] if line else []))


def test_a_device_that_a_foreign_file_makes_is_his(guest):
    files.replace(str(guest / "etc/20-mine.netdev"), "[NetDev]\nName=bond0\nKind=bond\n")
    assert "bond0.netdev" not in completed(items())
    assert "bond0.100.netdev" in completed(items())


@pytest.mark.parametrize(
    ("then", "now", "anew"),
    [
        (NETDEV, NETDEV.replace("\n\n", "\n"), False),
        (NETDEV, NETDEV + "MTUBytes=1400\n", False),
        (NETDEV, NETDEV.replace("802.3ad", "active-backup"), True),
        (NETDEV + "[Bond]\nMinLinks=1\n", NETDEV, True),
    ],
)
def test_a_device_is_made_anew_for_what_networkd_does_not_change(then, now, anew):
    assert netdev_file.must_recreate(then, now) == anew
