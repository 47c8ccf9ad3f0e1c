# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""dhcp_helper: the DHCP fragment of Debian's cloud images is removed, and no other file is."""

import pytest

from cloudinit_osnetd.backends.ifupdown import dhcp_helper, hotplug_unit
from cloudinit_osnetd.system import paths

from .programs import programs

FRAGMENT = "auto ens3\nallow-hotplug ens3\n\niface ens3 inet dhcp\n"


@pytest.fixture
def host(tmp_path, monkeypatch):
    found = programs(tmp_path, monkeypatch, {"systemctl": "", "ifdown": "", "ip": ""})
    found.helper, found.fragments = tmp_path / "helper", tmp_path / "interfaces.d"
    found.helper.touch()
    found.fragments.mkdir()
    found.interfaces = tmp_path / "50-cloud-init"
    monkeypatch.setattr(paths, "IFUPDOWN_HELPER", str(found.helper))
    monkeypatch.setattr(paths, "INTERFACES_FRAGMENTS", str(found.fragments))
    monkeypatch.setattr(dhcp_helper, "_CONFIGURATION", (str(found.interfaces),))
    return found


def test_what_it_began_is_ended_while_its_words_can_still_be_read(host):
    (host.fragments / "ens3").write_text(FRAGMENT)
    dhcp_helper.end("ens3")
    assert [line.split(" ")[0] for line in host.ran()] == ["systemctl", "ifdown", "ip"]
    assert host.ran()[0] == "systemctl stop ifup@ens3.service"
    assert list(host.fragments.iterdir()) == []


@pytest.mark.parametrize("text", [None, "", FRAGMENT + "iface ens4 inet dhcp\n", FRAGMENT.replace("ens3", "ens4")])
def test_what_is_not_its_fragment_for_the_nic_stays(host, text):
    if text is not None:
        (host.fragments / "ens3").write_text(text)
    dhcp_helper.end("ens3")
    dhcp_helper.remove_before_start("ens3")
    assert host.ran() == []
    assert [path.read_text() for path in host.fragments.iterdir()] == ([] if text is None else [text])


def test_where_the_helper_is_not_installed_a_file_in_its_place_is_somebody_elses(host):
    (host.fragments / "ens3").write_text(FRAGMENT)
    host.helper.unlink()
    dhcp_helper.end("ens3")
    assert (host.fragments / "ens3").read_text() == FRAGMENT


@pytest.mark.parametrize("known", [True, False])
def test_at_a_boot_it_gives_way_where_the_nic_has_stanzas(host, known):
    (host.fragments / "ens3").write_text(FRAGMENT)
    host.interfaces.write_text("auto ens3\niface ens3 inet static\n    address 10.0.0.5/24\n" if known else "")
    dhcp_helper.remove_before_start("ens3")
    assert (host.fragments / "ens3").exists() is not known
    assert host.ran() == (["systemctl --no-block stop ifup@ens3.service"] if known else [])


@pytest.mark.parametrize(("name", "unit"), [("ens3", "ifup@ens3"), ("bond0.7", "ifup@bond0.7"), ("br-lan", "ifup@br\\x2dlan")])
def test_the_unit_is_spelled_as_systemd_escape_spells_it(name, unit):
    assert hotplug_unit.unit(name) == unit + ".service"
