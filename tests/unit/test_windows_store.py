# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the Windows part remembers from run to run. tests/windows runs this on a Windows Python too."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from cloudinit_osnetd.core import truth

from .build import A, data, document, link, static

pytest.importorskip("cloudinit_osnetd.windows", reason="no package for Linux has it, and debian/tests/unit tests those")
from cloudinit_osnetd.windows import store
from cloudinit_osnetd.windows.difference import Owned

ROW = Owned(frozenset(["192.0.2.10/24"]), frozenset([("0.0.0.0/0", "192.0.2.1")]), ("192.0.2.53",), (), "пример.example")
on_windows = pytest.mark.skipif(os.name != "nt", reason="only Windows has it")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRAMDATA", str(tmp_path))
    return tmp_path / "cloudinit-osnetd"


def some():
    said = data(document([link(A, "тап")], [static("192.0.2.10", link="тап")]))
    known = truth.observe(truth.EMPTY, "push", said, 7.0)
    return store.Stored(known, {A + "/phy": ROW}, {A + "/phy": 2100}, ("a.example", "b.example"), "8d1dd1a4")


def test_what_was_stored_is_read(folder):
    assert store.load() == store.Stored()
    store.save(some())
    assert store.load() == some()
    assert sorted(os.listdir(str(folder))) == ["state.json"]


def test_the_same_is_not_written_again(folder):
    store.save(some())
    os.utime(str(folder / "state.json"), (1, 1))
    store.save(some())
    assert (folder / "state.json").stat().st_mtime == 1
    store.save(some()._replace(instance="other"))
    assert store.load().instance == "other"


@pytest.mark.parametrize("kept", range(0, 100, 7))
def test_a_file_that_was_cut_is_put_aside(folder, kept):
    store.save(some())
    file = folder / "state.json"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * kept // 100])
    assert store.load() == store.Stored()
    assert sorted(os.listdir(str(folder))) == ["state.json.damaged"]
    store.save(some())
    assert store.load() == some()


@pytest.mark.parametrize("field", ["truth", "owned", "metrics", "search", "instance"])
@pytest.mark.parametrize("value", [None, 7, [7], "x", {"a": 7}, {"a": {"addresses": 7}}])
def test_no_value_breaks_it(folder, field, value):
    store.save(some())
    file = folder / "state.json"
    content = json.loads(file.read_text())
    content[field] = value
    file.write_text(json.dumps(content))
    assert isinstance(store.load(), store.Stored)


def test_what_is_no_text_at_all_is_put_aside(folder):
    folder.mkdir()
    (folder / "state.json").write_bytes(b"\xff\xfe\x00{")
    assert store.load() == store.Stored()
    assert (folder / "state.json.damaged").exists()


@on_windows
def test_a_file_that_another_program_has_open_is_waited_for(folder):
    """A scanner of viruses, a backup: Windows replaces no file that somebody has open."""
    store.save(some())
    other = (folder / "state.json").open("rb")
    threading.Timer(0.7, other.close).start()
    store.save(some()._replace(instance="other"))
    assert store.load().instance == "other"


HOLDS = "import sys, time; from cloudinit_osnetd.windows import store\nwith store.locked(5): print('held', flush=True); time.sleep(float(sys.argv[1]))"


def holder(seconds):
    words = [sys.executable, "-c", HOLDS, str(seconds)]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True)


@on_windows
def test_one_run_waits_for_another_and_gives_up_in_time(folder):
    other = holder(3)
    assert other.stdout.readline() == "held\n"
    began = time.monotonic()
    with pytest.raises(store.Busy), store.locked(0.5):
        pass
    assert time.monotonic() - began < 2.5
    with store.locked(60):
        assert other.wait(10) == 0


@on_windows
def test_the_lock_goes_with_its_process(folder):
    other = holder(60)
    assert other.stdout.readline() == "held\n"
    other.kill()
    with store.locked(5):
        pass
