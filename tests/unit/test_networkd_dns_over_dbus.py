# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""dns_over_dbus, unloaded_files: DNS without a reload, and files that networkd has not loaded."""

import os

import pytest

from cloudinit_osnetd.backends.netplan import yaml_file
from cloudinit_osnetd.backends.networkd import dns_over_dbus, unloaded_files
from cloudinit_osnetd.system import paths

FILE = """[Match]
Name=ens4
MACAddress=fa:16:3e:00:00:01

[Network]
Address=10.91.0.50/24
DNS=10.91.0.2 10.91.0.3
Domains=example.com
DHCP=no

[Route]
Gateway=10.91.0.1
"""
STATIC = "ethernets:\n  ens4:\n    addresses: [10.91.0.50/24]\n    nameservers: {addresses: [10.91.0.2], search: [example.com]}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("DNS=10.91.0.2 10.91.0.3", "DNS=10.91.0.4", (["10.91.0.4"], ["example.com"], ["10.91.0.2", "10.91.0.3"])),
        ("DNS=10.91.0.2 10.91.0.3", "DNS=10.91.0.2\nDNS=10.91.0.9", (["10.91.0.2", "10.91.0.9"], ["example.com"], ["10.91.0.2", "10.91.0.3"])),
        ("DNS=10.91.0.2 10.91.0.3\nDomains=example.com\n", "", ([], [], ["10.91.0.2", "10.91.0.3"])),
        ("Domains=example.com", "Domains=~. b.example", (["10.91.0.2", "10.91.0.3"], ["~.", "b.example"], ["10.91.0.2", "10.91.0.3"])),
        ("", "# nobody cares\n", (["10.91.0.2", "10.91.0.3"], ["example.com"], ["10.91.0.2", "10.91.0.3"])),
        ("10.91.0.50/24", "10.91.0.51/24", None),
        ("[Route]\n", "[Route]\nMetric=7\n", None),
        ("DHCP=no", "DHCP=ipv4", None),
    ],
)
def test_a_difference_in_dns_alone(old, new, said):
    assert dns_over_dbus.difference(FILE, FILE.replace(old, new, 1)) == said


def test_where_a_lease_may_bring_servers_none_are_reported():
    leased = FILE.replace("DHCP=no", "DHCP=ipv4")
    assert dns_over_dbus.difference(leased, leased.replace("10.91.0.2", "10.91.0.4")) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[10.91.0.2]", "[10.91.0.4, '2001:db8::4']", (["10.91.0.4", "2001:db8::4"], ["example.com"], ["10.91.0.2"])),
        ("    nameservers: {addresses: [10.91.0.2], search: [example.com]}\n", "", ([], [], ["10.91.0.2"])),
        ("10.91.0.50", "10.91.0.51", None),
    ],
)
def test_the_same_in_netplans_words(old, new, said):
    assert yaml_file.dns_difference(STATIC, STATIC.replace(old, new)) == said
    leased = STATIC + "    dhcp4: true\n"
    assert yaml_file.dns_difference(leased, leased.replace(old, new)) is None


@pytest.fixture
def network(tmp_path, monkeypatch):
    """networkd's directory, with a file that it has loaded."""
    link = tmp_path / "invocation"
    link.symlink_to("a1b2")
    monkeypatch.setattr(paths, "NETWORKD_INVOCATION", str(link))
    directory = tmp_path / "network"
    directory.mkdir()
    (directory / "ens4.network").write_text("old")
    return directory


def edit(network, text="new"):
    """As files.replace does it."""
    (network / "x").write_text(text)
    os.rename(str(network / "x"), str(network / "ens4.network"))


def test_what_is_loaded_is_in_its_place_for_the_time_of_a_reload(network):
    path = network / "ens4.network"
    inode = path.stat().st_ino
    assert unloaded_files.keep(str(path))
    edit(network)
    with unloaded_files.held(str(network), []):
        assert (path.read_text(), path.stat().st_ino) == ("old", inode)
    assert path.read_text() == "new"
    edit(network, "newer")
    assert unloaded_files.keep(str(path))  # what is loaded is still the first one
    with unloaded_files.held(str(network), []):
        assert path.stat().st_ino == inode
    assert path.read_text() == "newer"
    assert not list(network.glob(".*.coming"))


def test_a_file_that_is_loaded_now_is_not_held(network):
    path = network / "ens4.network"
    unloaded_files.keep(str(path))
    edit(network)
    with unloaded_files.held(str(network), [str(path)]):
        assert path.read_text() == "new"
    assert [one.name for one in network.iterdir()] == ["ens4.network"]


def test_a_networkd_that_has_begun_anew_has_loaded_the_file_as_it_is(network, tmp_path):
    path = network / "ens4.network"
    unloaded_files.keep(str(path))
    edit(network)
    (tmp_path / "invocation").unlink()
    (tmp_path / "invocation").symlink_to("c3d4")
    with unloaded_files.held(str(network), []):
        assert path.read_text() == "new"
    assert [one.name for one in network.iterdir()] == ["ens4.network"]


@pytest.mark.parametrize("boot", [False, True])
def test_a_run_that_dies_in_a_reload_loses_nothing(network, boot):
    path = network / "ens4.network"
    unloaded_files.keep(str(path))
    edit(network)
    if not os.fork():
        with unloaded_files.held(str(network), []):
            os._exit(9)  # as by kill -9
    os.wait()
    assert path.read_text() == "old"
    unloaded_files.recover(str(network), boot)
    assert path.read_text() == "new"
    names = sorted(one.name for one in network.iterdir())
    assert names == (["ens4.network"] if boot else [".ens4.network.loaded-a1b2", "ens4.network"])


def test_without_a_name_for_its_life_nothing_is_kept(network, tmp_path):
    (tmp_path / "invocation").unlink()
    assert not unloaded_files.keep(str(network / "ens4.network"))
