# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The core's own unit tests on a Windows Python, and the wheel that servers get."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.windows.machine import TOP, Windows

# All of core/ that Windows uses, its store, and what is pure in the Windows part. What writes files on Linux (test_files,
# test_store) imports fcntl: Windows has test_windows_store in its place.
TESTS = (
    "bond_keys", "conformance", "desired", "documents", "meaning", "metrics", "network_data", "network_data_faults", "plan", "truth",
    "windows", "windows_documents", "windows_store",
)  # fmt: skip
EXAMPLES = "10"  # of Hypothesis, for each property: Linux tries a hundred, and nothing in them depends on the system


def test_the_cores_unit_tests(wine: Windows) -> None:
    files = [f"tests/unit/test_{name}.py" for name in TESTS]
    run = "import os, sys, pytest; os.chdir('Z:\\\\src'); sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-q", "--noconftest", "-p", "tests.unit.house", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=", "--durations=10"]
    environment = {"HYPOTHESIS_STORAGE_DIRECTORY": "C:\\hypothesis", "OSNETD_EXAMPLES": EXAMPLES}
    done = wine.python("-c", run, *options, *files, more=environment, timeout=600)
    print(done.out[-3000:])
    assert done.status == 0, done.out[-5000:] + done.err[-2000:]
    assert " passed" in done.out


def test_the_wheel_has_all_that_is_imported(wine: Windows, tmp_path: Path) -> None:
    archive = tmp_path / "windows.zip"
    subprocess.run([TOP / "scripts" / "build-windows-zip", archive], check=True)
    # It needs no network, and nothing that cloudbase-init's Python has not: pip takes it with no other package at hand.
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path / "unpacked")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", f"--find-links={tmp_path}/unpacked"]
    words = [f"--target={tmp_path}/installed", "--platform=win_amd64", "--python-version=3.11", "--only-binary=:all:", "--no-compile"]
    subprocess.run([*pip, *words, "cloudinit-osnetd"], check=True)
    assert (tmp_path / "installed/cloudinit_osnetd/windows/cli.py").exists()
    with zipfile.ZipFile(archive) as content:
        (wheel,) = (name for name in content.namelist() if name.endswith("-none-any.whl"))
        content.extract(wheel, tmp_path)
    with zipfile.ZipFile(tmp_path / wheel) as content:
        assert not [name for name in content.namelist() if "/kernel/" in name or "/backends/" in name]
        content.extractall(wine.root / "wheel")
    run = (
        "import sys; sys.path[:] = ['Z:\\\\wheel'] + [one for one in sys.path if 'src' not in one]; import cloudinit_osnetd as it;"
        "assert 'wheel' in it.__file__; from cloudinit_osnetd.windows import cli, plugin, service, follow; sys.exit(cli.main(['apply', '%%%']))"
    )
    done = wine.python("-c", run)
    assert (done.status, "nothing was changed" in done.err) == (2, True), done
