# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""labels: which label is asked for, and for what it is in force. The kernel's part is in tests/scenarios/test_selinux.py."""

import ctypes
import os
import stat
import subprocess
import sys

import pytest

from cloudinit_osnetd.system import files, labels, paths

NETWORK, DIRECTORY = b"system_u:object_r:net_conf_t:s0", b"system_u:object_r:etc_t:s0"


class Kernel:
    """Stands in for the attribute fscreate of a process: notes the label that is in force when something is created."""

    def __init__(self, monkeypatch, refuses=False):
        self.label, self.created, self.refuses = b"", [], refuses
        real_open, real_mkdir = os.open, os.mkdir

        def opened(path, flags, *rest, **fields):
            if flags & os.O_CREAT:
                self.created.append((os.path.basename(path), self.label))
            return real_open(path, flags, *rest, **fields)

        def made(path, *rest):
            real_mkdir(path, *rest)
            self.created.append((os.path.basename(path), self.label))

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "mkdir", made)
        monkeypatch.setattr(labels, "_create_as", self.create_as)

    def create_as(self, label):
        if not self.refuses:
            self.label = label
        return not self.refuses


def policy(path, kind):
    if path.endswith("/none"):
        return None
    return DIRECTORY if kind == stat.S_IFDIR else NETWORK


@pytest.fixture
def selinux(guest, monkeypatch):
    os.makedirs(os.path.dirname(paths.SELINUX))
    with open(paths.SELINUX, "w") as fh:
        fh.write("1")
    monkeypatch.setattr(labels, "_of_policy", policy)
    return guest


def test_without_selinux_nothing_is_looked_up_or_imported(tmp_path):
    program = (
        "import sys; from cloudinit_osnetd.system import files, paths; paths.SELINUX = '/nonexistent'; "
        "files.replace(sys.argv[1], 'x'); assert 'ctypes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "f")], check=True)


def test_a_new_file_and_its_new_directories_are_created_with_the_policys_labels(selinux, monkeypatch):
    kernel = Kernel(monkeypatch)
    files.replace(str(selinux / "etc/netplan/50-cloud-init.yaml"), "new")
    assert kernel.created == [("etc", DIRECTORY), ("netplan", DIRECTORY), (".osnetd-50-cloud-init.yaml", NETWORK)]
    assert kernel.label == b""


def test_the_label_is_that_of_the_name_that_the_file_will_have(selinux, monkeypatch):
    asked = []
    monkeypatch.setattr(labels, "_of_policy", lambda path, kind: asked.append(path) or NETWORK)
    Kernel(monkeypatch)
    files.replace(str(selinux / "10-a.network"), "new")
    assert asked == [str(selinux / "10-a.network")]


def test_what_the_policy_leaves_alone_keeps_the_label_that_it_has(selinux, monkeypatch):
    kernel = Kernel(monkeypatch)
    monkeypatch.setattr(labels, "_of", lambda path: b"of the old file")
    files.replace(str(selinux / "none"), "new")
    assert kernel.created == [(".osnetd-none", b"of the old file")]


@pytest.mark.parametrize("call", ["fdopen", "open"])
def test_a_failure_leaves_no_label_in_force(selinux, monkeypatch, call):
    kernel = Kernel(monkeypatch)

    def fails(*_args, **_fields):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="input/output"):
        files.replace(str(selinux / "f"), "new")
    assert kernel.label == b""


def test_a_label_that_may_not_be_set_costs_nothing(selinux, monkeypatch):
    kernel = Kernel(monkeypatch, refuses=True)
    files.replace(str(selinux / "f"), "new")
    assert (selinux / "f").read_text() == "new"
    assert kernel.created == [(".osnetd-f", b"")]


def test_an_unusable_library_costs_nothing(selinux, monkeypatch, caplog):
    def absent(_name, **_fields):
        raise OSError("libselinux.so.1: cannot open shared object file")

    monkeypatch.undo()
    monkeypatch.setattr(paths, "SELINUX", str(selinux / "sys/fs/selinux/enforce"))
    monkeypatch.setattr(labels.paths, "SELINUX", os.devnull)
    monkeypatch.setattr(ctypes, "CDLL", absent)
    files.replace(str(selinux / "f"), "new")
    assert (selinux / "f").read_text() == "new"
    assert "libselinux.so.1" in caplog.text


def test_our_own_state_is_left_to_the_types_of_its_directories(selinux, monkeypatch):
    monkeypatch.setattr(labels, "_of_policy", lambda path, kind: pytest.fail("looked up: %s" % path))
    assert labels.wanted("/run/cloudinit-osnetd/status.json") is None
    assert labels.wanted("/var/lib/cloudinit-osnetd/store.json") is None


def test_a_file_that_moves_gets_the_label_of_its_new_place_before_it_is_there(selinux, monkeypatch):
    done = []
    there, path = str(selinux / "generated"), str(selinux / "10-netplan-a.network")
    with open(there, "w") as fh:
        fh.write("x")
    rename = os.rename
    monkeypatch.setattr(labels, "_of", lambda path: b"of our directory")
    monkeypatch.setattr(os, "setxattr", lambda *words: done.append(words))
    monkeypatch.setattr(os, "rename", lambda *words: done.append(words) or rename(*words))
    labels.move(there, path)
    assert done == [(there, "security.selinux", NETWORK + b"\0"), (there, path)]


def test_libselinux_is_asked_as_it_wants_to_be_asked(tmp_path):
    """The real library, with a policy's patterns that stand in a file: no SELinux in the kernel is needed for that."""
    try:
        library = ctypes.CDLL("libselinux.so.1")
    except OSError:
        pytest.skip("there is no libselinux")
    patterns = tmp_path / "file_contexts"
    patterns.write_text(
        "/etc/netplan(/.*)?\tsystem_u:object_r:net_conf_t:s0\n"
        "/etc/network\t-d\tsystem_u:object_r:net_conf_t:s0\n"
        "/etc/network/run.*\t<<none>>\n"
    )
    if library.matchpathcon_init(os.fsencode(str(patterns))) != 0:
        pytest.skip("this libselinux reads no patterns without SELinux")
    try:
        assert labels._of_policy("/etc/netplan/50-cloud-init.yaml", stat.S_IFREG) == NETWORK
        assert labels._of_policy("/etc/network", stat.S_IFDIR) == NETWORK
        assert labels._of_policy("/etc/network", stat.S_IFREG) is None
        assert labels._of_policy("/etc/network/run", stat.S_IFREG) is None
    finally:
        library.matchpathcon_fini()
