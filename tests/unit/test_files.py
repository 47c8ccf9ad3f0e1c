# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""files: replacement is atomic, whatever fails on the way."""

import errno
import os
import stat
import tempfile

import pyfakefs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.system import files


def mode_of(path):
    return stat.S_IMODE(os.stat(str(path)).st_mode)


@pytest.mark.skipif(
    int(pyfakefs.__version__.split(".")[0]) < 5,
    reason="it has no fchmod of its own: the real one is called, on what has that number outside, such as /dev/null",
)
@pytest.mark.parametrize("old", [None, "", "old\n", "x" * 3000])
def test_a_full_disk_leaves_the_old_file_and_no_scrap(fs, old):
    fs.set_disk_usage(4096)
    fs.create_dir("/etc/network")
    if old is not None:
        files.replace("/etc/network/interfaces", old)
    with pytest.raises(OSError, match="No space left") as caught:
        files.replace("/etc/network/interfaces", "n" * 8192)
    assert caught.value.errno == errno.ENOSPC
    assert files.read("/etc/network/interfaces") == old
    assert os.listdir("/etc/network") == ([] if old is None else ["interfaces"])


@pytest.mark.parametrize("call", ["fdopen", "fsync", "rename", "fchmod"])
def test_a_failure_on_the_way_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch, call):
    path = str(tmp_path / "f")
    files.replace(path, "old")

    def fails(*_args, **_fields):
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fails)
        with pytest.raises(OSError, match="input/output"):
            files.replace(path, "new")
    assert files.read(path) == "old"
    assert os.listdir(str(tmp_path)) == ["f"]


def test_the_data_is_durable_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    done = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd):
        done.append("sync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        real_fsync(fd)

    def rename(old, new):
        done.append("rename")
        real_rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    files.replace(str(tmp_path / "f"), "new")
    assert done == ["sync file", "rename", "sync directory"]
    files.remove(str(tmp_path / "f"), sync=True)
    assert done[3:] == ["sync directory"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_new_file_gets_its_mode_and_an_old_one_keeps_its_own(tmp_path, mode):
    path = tmp_path / "f"
    files.replace(str(path), "new", mode=mode)
    assert mode_of(path) == mode
    path.chmod(0o604)
    files.replace(str(path), "newer", mode=mode)
    assert mode_of(path) == 0o604


def test_the_directory_is_made_where_there_is_none(tmp_path):
    files.replace(str(tmp_path / "a" / "b" / "f"), "x")
    assert files.read(str(tmp_path / "a" / "b" / "f")) == "x"


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o027])
def test_everybody_may_read_what_is_made_whatever_the_umask(tmp_path, umask):
    """networkd's user reads its files and the directories of their drop-ins; an operator's shell may have any umask."""
    mine = os.umask(umask)
    try:
        files.replace(str(tmp_path / "a.network.d" / "b" / "f"), "x", sync=False)
        files.make_directory(str(tmp_path / "c" / "d"))
    finally:
        os.umask(mine)
    assert mode_of(tmp_path / "a.network.d" / "b" / "f") == 0o644
    for made in ("a.network.d", "a.network.d/b", "c", "c/d"):
        assert mode_of(tmp_path / made) == 0o755
    (tmp_path / "c").chmod(0o700)
    files.make_directory(str(tmp_path / "c" / "d"))
    assert mode_of(tmp_path / "c") == 0o700, "somebody's own"


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "f").symlink_to("target")
    files.replace(str(tmp_path / "f"), "ours")
    assert (tmp_path / "target").read_text() == "theirs"
    assert not (tmp_path / "f").is_symlink()


@given(st.binary(max_size=200))
def test_every_byte_survives_being_read_and_written(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("bytes") / "f"
    path.write_bytes(raw)
    files.replace(str(path), files.read(str(path)), sync=False)
    assert path.read_bytes() == raw


@pytest.mark.parametrize("name", ["interfaces", "10-cloud-init-ens3.network"])
def test_no_backend_reads_the_half_written_file(name):
    scrap = os.path.basename(files.temporary_of("/etc/x/" + name))
    assert scrap.startswith(".")
    assert os.path.dirname(files.temporary_of("/etc/x/" + name)) == "/etc/x"


@pytest.mark.parametrize("path", ["absent", "file/below", "."])
def test_what_is_not_there_reads_as_none(tmp_path, path):
    (tmp_path / "file").write_text("x")
    assert files.read(str(tmp_path / path)) is None
    assert files.read_json(str(tmp_path / path)) is None


@pytest.mark.parametrize(("text", "value"), [("{}", {}), ("[1]", [1]), ("", None), ("{", None), ("nope", None)])
def test_json_that_is_none_reads_as_none(tmp_path, text, value):
    (tmp_path / "f").write_text(text)
    assert files.read_json(str(tmp_path / "f")) == value


def test_removing_says_whether_it_was_there(tmp_path):
    (tmp_path / "f").write_text("x")
    assert files.remove(str(tmp_path / "f"))
    assert not files.remove(str(tmp_path / "f"))


def test_what_a_run_that_died_left_half_written_is_swept_and_nothing_else(guest):
    directory = str(guest) + "/etc/network"
    for path in (directory + "/interfaces", directory + "/." + "hidden"):
        files.replace(path, "kept")
    open(files.temporary_of(directory + "/interfaces"), "w").close()
    files.sweep(directory)
    files.sweep(directory + "/*.nowhere")
    assert sorted(os.listdir(directory)) == [".hidden", "interfaces"]


def test_to_remove_what_is_not_there_is_no_error_on_a_disk_that_is_read_only(monkeypatch, tmp_path):
    """The kernel looks at the file system first."""

    def unlink(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(files.os, "unlink", unlink)
    (tmp_path / "there").write_text("")
    assert files.remove(str(tmp_path / "gone")) is False
    with pytest.raises(OSError, match="Read-only"):
        files.remove(str(tmp_path / "there"))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a second file system")
def test_a_file_is_moved_to_another_file_system_with_its_owner_and_mode(tmp_path):
    """/run/udev may be a mount of its own."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(str(tmp_path)).st_dev:
            pytest.skip("they are one file system here")
        there, path = os.path.join(other, "90-netplan.rules"), str(tmp_path / "90-netplan.rules")
        files.replace(there, "new\n", mode=0o640)
        files.replace(path, "old\n", mode=0o600)
        files.move(there, path)
        assert os.listdir(other) == []
    assert files.read(path) == "new\n" and mode_of(path) == 0o640
    assert os.listdir(str(tmp_path)) == ["90-netplan.rules"]
