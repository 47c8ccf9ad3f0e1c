# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The package in each format, and how an administrator installs and removes it: the .deb by dpkg, the .rpm by dnf.

There is no root of Enterprise Linux or Fedora here, so a distribution's .rpm goes into a root of Debian, if there is one with
the same Python. That root is told what the distribution has and Debian has not: platform-python, and where modules lie.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Dict, FrozenSet, Union

from cloudinit_osnetd import __version__
from tests.lab import deb, run

if TYPE_CHECKING:
    from tests.package.conftest import Root

NAME = "cloudinit-osnetd"
OLDER = "0.1.9"  # a release that never was: what is under test, with this version and a module that went since
GONE = "cloudinit_osnetd/gone.py"

# The Python of each distribution, and whose root is nearest to it.
PYTHONS: Dict[str, str] = {"el8": "3.6", "el9": "3.9", "el10": "3.12", "fc42": "3.13"}
PLATFORM_PYTHON = "usr/libexec/platform-python"
# Names for what a root of Debian has by other means, so that dnf finds it.
_STUB = """
Name:      lab-stub
Version:   9
Release:   1
Summary:   Names for what a root of Debian has
License:   Apache-2.0
BuildArch: noarch
Provides:  cloud-init = 24.4
Provides:  iproute = 6.1
Provides:  systemd = 252
Provides:  python(abi) = {python}
Provides:  /bin/sh
Provides:  {interpreter}
%description
Names for what a root of Debian has.
%files
"""


class Deb:
    site = "/usr/lib/python3/dist-packages"
    # What a removal keeps: conffiles, until they are purged, and the state.
    kept: FrozenSet[str] = frozenset(
        ["/var/lib/cloudinit-osnetd", "/etc/cloud/clean.d/95_osnetd", "/etc/dhcp/dhclient-exit-hooks.d/cloudinit-osnetd"]
    )

    def prepare(self, root: Root) -> None:
        shutil.copy(deb.under_test(), root.path / "root" / "osnetd.deb")

    def install(self, root: Root) -> None:
        root.run("dpkg", "-i", "/root/osnetd.deb")

    reinstall = upgrade = install

    def install_older(self, root: Root) -> None:
        shutil.copy(self._older(), root.path / "root" / "older.deb")
        root.run("dpkg", "-i", "/root/older.deb")

    downgrade = install_older

    def remove(self, root: Root) -> None:
        root.run("dpkg", "-r", NAME)

    def purge(self, root: Root) -> None:
        root.run("dpkg", "-P", NAME)

    @staticmethod
    @functools.lru_cache(maxsize=None)
    def _older() -> Path:
        scratch = _scratch()
        tree, out = scratch / "tree", scratch / f"{NAME}_{OLDER}_all.deb"
        subprocess.run(["dpkg-deb", "-R", str(deb.under_test()), str(tree)], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"\nVersion: {__version__}", f"\nVersion: {OLDER}"))
        _make_older(tree / Deb.site[1:])
        subprocess.run(["dpkg-deb", "-b", "--root-owner-group", str(tree), str(out)], check=True, stdout=subprocess.DEVNULL)
        return out


def _make_older(site: Path) -> None:
    module = site / "cloudinit_osnetd/__init__.py"
    module.write_text(module.read_text().replace(__version__, OLDER))
    (site / GONE).write_text('"""Gone in the next release."""\n')


class Rpm:
    kept: FrozenSet[str] = frozenset()  # rpm knows no purge

    def __init__(self, distribution: str) -> None:
        self.distribution, self.python = distribution, PYTHONS[distribution]
        self.site = f"/usr/lib/python{self.python}/site-packages"

    def prepare(self, root: Root) -> None:
        (root.path / Deb.site[1:] / "lab-site.pth").write_text(self.site + "\n")
        interpreter = root.path / PLATFORM_PYTHON
        interpreter.parent.mkdir(exist_ok=True)
        interpreter.symlink_to("/usr/bin/python3")
        self.dnf(root, "install", "lab-stub")  # by name, or it would go with the package

    def install(self, root: Root) -> None:
        self.dnf(root, "install", f"{NAME}-{__version__}")

    def install_older(self, root: Root) -> None:
        self.dnf(root, "install", f"{NAME}-{OLDER}")

    def upgrade(self, root: Root) -> None:
        self.dnf(root, "upgrade", NAME)

    def downgrade(self, root: Root) -> None:
        self.dnf(root, "downgrade", NAME)

    def reinstall(self, root: Root) -> None:
        self.dnf(root, "reinstall", NAME)

    def remove(self, root: Root) -> None:
        self.dnf(root, "remove", NAME)

    def purge(self, root: Root) -> None:
        """A removal did that."""

    def dnf(self, root: Root, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A transaction by this machine's dnf, whose scriptlets run in the root."""
        options = [f"--installroot={root.path}", "--releasever=9", "--setopt=reposdir=/dev/null", "--nogpgcheck", "--noplugins"]
        options += [f"--repofrompath=lab,file://{repository(self.distribution)}", "--repo=lab"]
        done = root.beside("dnf", "-y", *options, *words, check=check)
        # dnf ends with 0 where a scriptlet failed.
        assert not check or ("scriptlet failed" not in done.stdout and "rror:" not in done.stdout), done.stdout
        return done


def of_distribution(directory: Path, distribution: str) -> Path:
    """The .rpm of a distribution in a directory."""
    (package,) = directory.glob(f"{NAME}-{__version__}-*.{distribution}.noarch.rpm")
    return package


@functools.lru_cache(maxsize=None)
def built() -> Path:
    """A directory with the packages of this checkout: $OSNETD_RPMS, or what scripts/build-rpm makes."""
    if "OSNETD_RPMS" in os.environ:
        return Path(os.environ["OSNETD_RPMS"])
    directory = _scratch()
    _build(run.CHECKOUT, directory)
    return directory


@functools.lru_cache(maxsize=None)
def repository(distribution: str) -> Path:
    """A repository of the package under test, an older one, and the names that a root of Debian lacks."""
    directory, sources = _scratch(), _scratch()
    for package in built().glob(f"*-{__version__}-*.{distribution}.noarch.rpm"):
        shutil.copy(package, directory)
    _build(_older_source(), directory, distribution)
    interpreter = f"/{PLATFORM_PYTHON}" if distribution == "el8" else "/usr/bin/python3"
    (sources / "stub.spec").write_text(_STUB.format(python=PYTHONS[distribution], interpreter=interpreter))
    rpmbuild = ["rpmbuild", "--quiet", "-bb", "--define", f"_topdir {sources}", "--define", f"_rpmdir {directory}"]
    subprocess.run([*rpmbuild, str(sources / "stub.spec")], check=True)
    subprocess.run(["createrepo_c", "--quiet", str(directory)], check=True)
    return directory


@functools.lru_cache(maxsize=None)
def _older_source() -> Path:
    """The source of OLDER, unpacked from a tarball: no git knows it, as with everybody who builds from one."""
    archive, directory = _scratch() / "source.tar.gz", _scratch()
    subprocess.run(["scripts/source-tarball", str(archive)], cwd=run.CHECKOUT, check=True)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(directory)], check=True)
    source = directory / f"{NAME}-{__version__}"
    for name in ("rpm/cloudinit-osnetd.spec", "cloudinit_osnetd/__init__.py"):
        text = (source / name).read_text()
        (source / name).write_text(text.replace(__version__, OLDER, 1))
    (source / GONE).write_text('"""Gone in the next release."""\n')
    return source


def _build(source: Path, directory: Path, *distributions: str) -> None:
    done = subprocess.run(
        ["scripts/build-rpm", str(directory), *distributions], cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout


def _scratch() -> Path:
    return Path(tempfile.mkdtemp(dir=run.current().dir))


Format = Union[Deb, Rpm]
