# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The .deb under test: $OSNETD_DEB, or what `make deb` builds from this checkout; and that of an earlier release."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

from tests.lab import run
from tests.lab.call import LabError
from tests.lab.progress import step


@functools.lru_cache(maxsize=None)
def under_test() -> Path:
    given = os.environ.get("OSNETD_DEB")
    if given:
        return Path(given)
    with run.locked(run.lab_dir() / "deb.lock"), step("building the package"):
        made = subprocess.run(
            ["make", "deb"], cwd=run.CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if made.returncode != 0:
            raise LabError(f"`make deb` failed:\n{made.stdout[-3000:]}")
        built = sorted((run.CHECKOUT / "dist").glob("cloudinit-osnetd_*.deb"), key=lambda path: path.stat().st_mtime)
        if not built:
            raise LabError("`make deb` left no dist/cloudinit-osnetd_*.deb")
        return built[-1]


def for_hosts() -> Path:
    """The other package of the same build, with osnetd-push."""
    package = under_test()
    return package.with_name(package.name.replace("cloudinit-osnetd_", "cloudinit-osnetd-host_"))


RELEASES = {"0.1.0": "a1b7897d66167c6b02ccd8fa177dd6b5162490a8"}  # the commits that they were built from


def of_release(version: str) -> Path | None:
    """The package of an earlier release, built once from the history; None where that does not reach back to it."""
    kept = run.lab_dir() / "packages" / f"cloudinit-osnetd_{version}_all.deb"
    git = ["git", "-c", "safe.directory=*", "-C", str(run.CHECKOUT)]
    if subprocess.run([*git, "cat-file", "-e", RELEASES[version] + "^{tree}"], stderr=subprocess.DEVNULL).returncode != 0:
        return kept if kept.exists() else None  # a shallow clone
    with run.locked(run.lab_dir() / "deb.lock"), tempfile.TemporaryDirectory() as scratch:
        if kept.exists():
            return kept
        with step(f"building the package of {version}"):
            tree = Path(scratch, "cloudinit-osnetd")
            tree.mkdir()
            archive = subprocess.run([*git, "archive", RELEASES[version]], check=True, stdout=subprocess.PIPE)
            subprocess.run(["tar", "--extract", f"--directory={tree}"], check=True, input=archive.stdout)
            made = subprocess.run(
                ["dpkg-buildpackage", "-us", "-uc", "-b", "-d"], cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if made.returncode != 0:
                raise LabError(f"the package of {version} cannot be built:\n{made.stdout[-3000:]}")
            kept.parent.mkdir(exist_ok=True)
            kept.with_suffix(".new").write_bytes(Path(scratch, kept.name).read_bytes())
            kept.with_suffix(".new").rename(kept)
            return kept
