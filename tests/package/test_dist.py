# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`make dist`: everything is in it, and who builds the source tarball gets the same files, byte by byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Dict

from cloudinit_osnetd import __version__
from tests.lab import deb, run
from tests.package import formats

# Where a policy's headers are, there is a package with the module for it.
HAS_POLICY = Path("/usr/share/selinux/devel/Makefile").exists()
SOURCE = f"{formats.NAME}-{__version__}"


def digests(directory: Path) -> Dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_built_twice_by_different_people_it_is_the_same(tmp_path: Path) -> None:
    """Once from this checkout, by the suites; once from the tarball, elsewhere, with another umask, time zone and language."""
    archive = tmp_path / f"{SOURCE}.tar.gz"
    subprocess.run(["scripts/source-tarball", str(archive)], cwd=run.CHECKOUT, check=True)
    first = {archive.name: hashlib.sha256(archive.read_bytes()).hexdigest()}
    for package in (*deb.under_test().parent.glob(f"*_{__version__}_all.deb"), *formats.built().glob(f"*-{__version__}-*.rpm")):
        first[package.name] = hashlib.sha256(package.read_bytes()).hexdigest()

    place = tmp_path / "another-place"
    place.mkdir(mode=0o700)
    other = {**os.environ, "TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "HOME": str(place), "USER": "somebody"}
    # By the checkout's Makefile no virtual environment is made anew here: scripts/dist is all that `make dist` does.
    script = f'umask 0077 && cd "$1" && tar -xf "$2" && cd {SOURCE} && exec scripts/dist "$1/dist"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(place), str(archive)], env=other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    second = digests(place / "dist")

    said = dict(line.split()[::-1] for line in (place / "dist/SHA256SUMS").read_text().splitlines())
    assert said == {name: digest for name, digest in second.items() if name != "SHA256SUMS"}
    kinds = {"".join(Path(name).suffixes[-2:]) for name in said}
    assert {".tar.gz", ".src.rpm", ".noarch.rpm"} < kinds and len(said) == len(formats.PYTHONS) * 3 + 5 + HAS_POLICY
    assert said == first


def test_the_tarball_brings_all_that_git_knows(tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    subprocess.run(["scripts/source-tarball", str(archive)], cwd=run.CHECKOUT, check=True)
    inside = subprocess.run(["tar", "-tzf", str(archive)], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    known = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=run.CHECKOUT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    assert sorted(filter(None, inside)) == sorted(f"{SOURCE}/{name}" for name in known if name and (run.CHECKOUT / name).exists())
