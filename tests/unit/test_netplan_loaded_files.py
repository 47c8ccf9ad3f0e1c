# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""loaded_files: before a reload, the inodes that networkd has loaded are restored."""

import os

import pytest

from cloudinit_osnetd.backends.netplan import loaded_files
from cloudinit_osnetd.system import paths

WRITTEN, READ = 1_700_000_000, 1_700_000_001


class Machine:
    """A directory of networkd's files, and what stat() shows of each at the moment of a reload."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()

    def generate(self, name, text="x", read=False):
        """As netplan's generator does: away with it, and a new one."""
        path = self.directory / name
        if path.exists():
            path.unlink()
        path.write_text(text)
        os.utime(str(path), (READ if read else WRITTEN, WRITTEN))

    def networkd_reads(self):
        for path in self.directory.iterdir():
            os.utime(str(path), (READ, os.stat(str(path)).st_mtime))

    def shown(self):
        """What networkd compares (stat_inode_unmodified), and the content."""
        found = {}
        for path in self.directory.iterdir():
            about = os.stat(str(path))
            found[path.name] = (about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size)
        return found

    def text(self, name):
        return (self.directory / name).read_text()


@pytest.fixture
def machine(guest, monkeypatch):
    made = Machine(guest / "network")
    monkeypatch.setattr(paths, "NETWORKD_RUNTIME_FILES", str(made.directory))
    made.generate("10-netplan-ens3.network", "ens3")
    made.generate("10-netplan-ens3.5.netdev", "vlan")
    loaded_files.note()
    made.networkd_reads()
    return made


def test_a_daemon_reload_is_not_seen_by_the_next_reload(machine):
    before = machine.shown()
    machine.generate("10-netplan-ens3.network", "ens3")
    machine.generate("10-netplan-ens3.5.netdev", "vlan")
    assert machine.shown() != before
    with loaded_files.held(frozenset()):
        assert machine.shown() == before
    assert machine.shown() == before


def test_what_changes_is_not_held(machine):
    before = machine.shown()
    machine.generate("10-netplan-ens3.network", "changed")
    with loaded_files.held(frozenset(["10-netplan-ens3.network"])):
        assert machine.text("10-netplan-ens3.network") == "changed"
    machine.networkd_reads()
    after = machine.shown()
    assert after["10-netplan-ens3.network"] != before["10-netplan-ens3.network"]
    machine.generate("10-netplan-ens3.network", "changed")
    with loaded_files.held(frozenset()):
        assert machine.shown() == after, "what the last reload loaded was not kept"


def test_what_somebody_else_has_reloaded_stays(machine):
    machine.generate("10-netplan-ens3.network", "ens3", read=True)
    now = machine.shown()
    with loaded_files.held(frozenset()):
        assert machine.shown() == now


def test_what_networkd_never_read_is_not_put_back(guest, machine):
    machine.generate("10-netplan-ens4.network", "ens4")
    loaded_files.note()
    machine.generate("10-netplan-ens4.network", "ens4")
    now = machine.shown()
    with loaded_files.held(frozenset()):
        assert machine.shown() == now


def test_an_edit_that_nobody_put_in_force_waits_on(machine):
    before = machine.shown()
    machine.generate("10-netplan-ens3.network", "edited by a person")
    edited = machine.shown()
    with loaded_files.held(frozenset()):
        assert machine.shown() == before
    assert machine.shown() == edited
    with loaded_files.held(frozenset()):
        assert machine.shown() == before
    assert machine.text("10-netplan-ens3.network") == "edited by a person"


def test_an_edit_waits_on_where_the_reload_fails(machine):
    machine.generate("10-netplan-ens3.network", "edited by a person")
    with pytest.raises(OSError, match="no bus"), loaded_files.held(frozenset()):
        raise OSError("no bus")
    assert machine.text("10-netplan-ens3.network") == "edited by a person"


def test_a_file_that_went_is_forgotten(guest, machine):
    (machine.directory / "10-netplan-ens3.5.netdev").unlink()
    with loaded_files.held(frozenset()):
        assert sorted(machine.shown()) == ["10-netplan-ens3.network"]
    assert sorted(os.listdir(str(guest / "run/cloudinit-osnetd/loaded"))) == ["10-netplan-ens3.network"]


def test_reading_leaves_no_trace(machine):
    machine.generate("10-netplan-ens3.network", "ens3")
    assert loaded_files.content(str(machine.directory / "10-netplan-ens3.network")) == b"ens3"
    about = os.stat(str(machine.directory / "10-netplan-ens3.network"))
    assert about.st_atime == about.st_mtime
    assert loaded_files.content(str(machine.directory / "no-such")) is None


def test_a_directory_that_is_called_like_a_file_is_none(machine):
    (machine.directory / "50-x.network").mkdir()
    loaded_files.note()
    with loaded_files.held(frozenset()):
        pass
