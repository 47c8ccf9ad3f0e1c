# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The .rpm: built by rpmbuild, and put into a root of Debian, where cloud-init is, for want of one of its own systems."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import List, Set

import pytest

from cloudinit_osnetd import __version__
from tests.lab import deb, run
from tests.package.conftest import Root

PYLIB = "/usr/lib/python3/dist-packages"
ENABLED = ("cloudinit-osnetd.path", "cloudinit-osnetd-early.service")
# Where each has its own ways, and what belongs to Debian's dhclient-script alone.
PLACES = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/licenses/")
DEBIAN_ONLY = "/etc/dhcp/dhclient-exit-hooks.d/cloudinit-osnetd"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


def told(*argv: str) -> List[str]:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rpm") / "cloudinit-osnetd.rpm"
    subprocess.run(["scripts/build-rpm", str(path)], cwd=run.CHECKOUT, env={**os.environ, "PYLIB": PYLIB}, check=True)
    return path


def names(paths: List[str]) -> Set[str]:
    return {path for path in paths if not path.startswith(PLACES) and ".egg-info" not in path}


def test_it_brings_what_the_deb_brings(package: Path) -> None:
    listed = [line.split() for line in told("dpkg-deb", "--contents", str(deb.under_test()))]
    in_deb = names([words[5].lstrip(".") for words in listed if not words[5].endswith("/")]) - {DEBIAN_ONLY}
    described = [line.rsplit(" ", 1) for line in told("rpm", "-qp", "--qf", "[%{FILENAMES} %{FILEMODES:perms}\n]", str(package))]
    in_rpm = names([path for path, mode in described if not mode.startswith("d")])
    assert in_rpm == in_deb


def test_it_has_the_version_of_what_it_brings_and_a_source_package(package: Path) -> None:
    assert told("rpm", "-qp", "--qf", "%{VERSION}\n", str(package)) == [__version__]
    (source,) = package.parent.glob("*.src.rpm")
    assert told("rpm", "-qp", "--qf", "%{VERSION}\n", str(source)) == [__version__]
    assert sorted(told("rpm", "-qpl", str(source))) == [f"cloudinit-osnetd-{__version__}.tar.gz", "cloudinit-osnetd.spec"]


def rpm(root: Root, *words: str) -> List[str]:
    """What this machine's rpm says, and its scriptlets say in that root."""
    return root.beside("rpm", "--root", str(root.path), "--force-debian", "--nodeps", *words).stdout.splitlines()


def test_installed_and_removed(bare: Root, package: Path) -> None:
    said = [line for line in rpm(bare, "-i", str(package)) if not line.startswith("Created symlink")]
    assert said == ["no cached datasource"]
    for unit in ENABLED:
        assert bare.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"
    assert bare.verify(*ENABLED, "cloudinit-osnetd.service") == ""
    assert bare.run("cloudinit-osnetd", "--version").stdout.startswith("cloudinit-osnetd ")
    read = "from cloudinit import util; print(util.read_conf_d('/etc/cloud/cloud.cfg.d')['datasource_pkg_list'])"
    assert bare.run("python3", "-c", read).stdout.strip() == "['cloudinit_osnetd.sources']"

    said = [line for line in rpm(bare, "-e", "cloudinit-osnetd") if not line.startswith("Removed ")]
    assert said == ["no cached datasource"]
    # What Python compiled when it ran, and where: here no rpm has compiled it before.
    left = [path for path in bare.ours() if not (bare.path / path[1:]).is_dir()]
    assert [path for path in left if "/__pycache__/" not in path] == []
