# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The core's own unit tests on a Windows Python, and the wheel that servers get."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from tests.windows.machine import TOP, Windows

TESTS = ("test_bond_keys", "test_metrics", "test_network_data_faults", "test_windows")


def test_the_cores_unit_tests(wine: Windows) -> None:
    files = [f"tests/unit/{name}.py" for name in TESTS]
    run = "import os, sys, pytest; os.chdir('Z:\\\\src'); sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings="]
    done = wine.python("-c", run, *options, *files, more={"HYPOTHESIS_STORAGE_DIRECTORY": "C:\\hypothesis"}, timeout=600)
    assert done.status == 0, done.out[-5000:] + done.err[-2000:]
    assert " passed" in done.out


def test_the_wheel_has_all_that_is_imported(wine: Windows, tmp_path: Path) -> None:
    archive = tmp_path / "windows.zip"
    subprocess.run([TOP / "scripts" / "build-windows-zip", archive], check=True)
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
