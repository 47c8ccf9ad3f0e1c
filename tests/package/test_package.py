# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The package beside an unmodified cloud-init, as .deb and as .rpm: installed, verified, upgraded, removed. Nothing boots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from cloudinit_osnetd import __version__
from tests.lab import roots, run
from tests.package import formats
from tests.package.conftest import EVERY_KIND, Root, named
from tests.package.formats import Format

UNITS = ["cloudinit-osnetd.path", "cloudinit-osnetd.service", "cloudinit-osnetd-early.service"]
LINK = "etc/cloud/cloud.cfg.d/95_osnetd.cfg"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
on_every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=named, indirect=True)


def test_the_units_are_clean(root: Root) -> None:
    assert root.verify(*UNITS) == ""


def test_a_whole_boot_has_no_ordering_cycle(root: Root) -> None:
    # What cloud-init's generator does on a cloud, and each network service there is.
    wants = root.path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "cloud-init.target").symlink_to("/lib/systemd/system/cloud-init.target")
    for unit in ("networking.service", "systemd-networkd.service", "systemd-networkd-wait-online.service"):
        mask = root.path / "etc/systemd/system" / unit  # the lab's
        if mask.is_symlink():
            mask.unlink()
        if not (wants / unit).is_symlink() and root.run("systemctl", "cat", unit, check=False).returncode == 0:
            (wants / unit).symlink_to(f"/lib/systemd/system/{unit}")
    assert "cycle" not in root.verify("default.target")

    # And one would be seen.
    drop_in = root.path / "etc/systemd/system/cloudinit-osnetd-early.service.d"
    drop_in.mkdir()
    (drop_in / "wrong.conf").write_text("[Unit]\nAfter=network.target\n")
    assert "cycle" in root.verify("default.target")


def assert_enabled(root: Root) -> None:
    for unit in ("cloudinit-osnetd.path", "cloudinit-osnetd-early.service"):
        assert root.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"


def test_both_units_that_a_boot_needs_are_enabled(root: Root) -> None:
    assert_enabled(root)


def test_the_link_leads_into_the_package(root: Root, package: Format) -> None:
    target = os.readlink(root.path / LINK)
    assert target == f"{package.site}/cloudinit_osnetd/sources/95_osnetd.cfg"
    assert (root.path / target.lstrip("/")).is_file()


@on_every_kind
def test_every_program_that_a_unit_or_a_rule_names_is_there(root: Root) -> None:
    """They lie elsewhere in each format."""
    texts = [path.read_text() for path in (root.path / "usr/lib/systemd/system").glob("*/*osnetd*") if path.is_file()]
    texts += [path.read_text() for path in (root.path / "usr/lib/systemd/system").glob("*osnetd*") if path.is_file()]
    texts += [(root.path / "usr/lib/udev/rules.d/90-cloudinit-osnetd.rules").read_text()]
    ask = "from cloudinit_osnetd.system import paths; print(paths.QUEUE_EVENT)"
    named = root.run("python3", "-c", ask).stdout.strip()
    texts += [named, *(path.read_text() for path in (root.path / os.path.dirname(named)[1:]).iterdir())]
    programs = set(re.findall(r"/usr/(?:bin|lib|libexec)/cloudinit-osnetd(?:/[a-z-]+)?", "\n".join(texts)))
    assert {os.path.basename(program) for program in programs} == {
        "cloudinit-osnetd", "early-boot", "host-command", "queue-event", "serve-queue"
    }  # fmt: skip
    assert len(programs) == 5, programs
    for program in programs:
        assert os.access(root.path / program[1:], os.X_OK), program


def test_the_program_runs(root: Root) -> None:
    assert root.run("cloudinit-osnetd", "--version").stdout == f"cloudinit-osnetd {__version__}\n"


@on_every_kind
def test_a_run_writes_no_bytecode(root: Root, package: Format) -> None:
    """During an upgrade py3compile fails where a directory appears that it is about to make."""
    modules = root.path / package.site[1:] / "cloudinit_osnetd"
    for compiled in list(modules.rglob("__pycache__")):
        shutil.rmtree(compiled)
    root.run("cloudinit-osnetd", "status", check=False)
    assert list(modules.rglob("__pycache__")) == []


def read_pkg_list(root: Root) -> str:
    read = "from cloudinit import util; print(util.read_conf_d('/etc/cloud/cloud.cfg.d').get('datasource_pkg_list'))"
    return root.run("python3", "-c", read).stdout.strip()


def test_cloud_init_reads_the_link_and_ignores_it_when_it_dangles(root: Root, package: Format) -> None:
    assert read_pkg_list(root) == "['cloudinit_osnetd.sources']"
    shutil.rmtree(root.path / package.site[1:] / "cloudinit_osnetd")
    assert read_pkg_list(root) == "None"


def leave_alone(root: Root) -> None:
    """The link as it was installed."""


def delete_link(root: Root) -> None:
    (root.path / LINK).unlink()


@pytest.mark.parametrize("administrator", [leave_alone, delete_link])
def test_removal_takes_everything_but_the_state(root: Root, package: Format, administrator: Callable[[Root], None]) -> None:
    root.run("cloudinit-osnetd", "--version")  # which compiles what it imports, where no installation did
    (root.path / "var/lib/cloudinit-osnetd").mkdir(exist_ok=True)
    (root.path / "var/lib/cloudinit-osnetd/store.json").write_text("{}")
    administrator(root)
    package.remove(root)
    assert not (root.path / LINK).is_symlink()
    # What dpkg and systemd note of a package that is removed, not purged; the queue.
    noted = ("/var/lib/dpkg/", "/var/lib/systemd/", "/etc/systemd/", "/run/") if package.kept else ()
    left = {path for path in root.ours() if not path.startswith(noted)}
    # Each does nothing without the package or its state.
    assert left == package.kept

    package.purge(root)
    assert root.ours() == []


@on_every_kind
def test_upgraded_downgraded_and_reinstalled(bare: Root, package: Format) -> None:
    def assert_whole(version: str) -> None:
        assert bare.run("cloudinit-osnetd", "--version").stdout == f"cloudinit-osnetd {version}\n"
        assert (bare.path / package.site[1:] / formats.GONE).exists() == (version == formats.OLDER)
        assert read_pkg_list(bare) == "['cloudinit_osnetd.sources']"
        assert_enabled(bare)

    package.install_older(bare)
    assert_whole(formats.OLDER)
    package.upgrade(bare)
    assert_whole(__version__)
    package.downgrade(bare)
    assert_whole(formats.OLDER)
    package.upgrade(bare)
    package.reinstall(bare)
    assert_whole(__version__)
    package.remove(bare)
    assert not (bare.path / LINK).is_symlink()
    package.install(bare)
    assert_whole(__version__)


def test_what_an_administrator_has_disabled_stays_so(root: Root, package: Format) -> None:
    root.run("systemctl", "disable", "cloudinit-osnetd-early.service")
    package.reinstall(root)
    assert root.run("systemctl", "is-enabled", "cloudinit-osnetd-early.service", check=False).stdout.strip() == "disabled"


def test_built_where_the_default_compression_is_new(tmp_path: Path) -> None:
    """As on Ubuntu: Debian 11 knows no zstd."""
    package = tmp_path / f"cloudinit-osnetd_{__version__}_all.deb"
    ubuntu = {**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "zstd"}
    subprocess.run(["scripts/build-deb", str(package)], cwd=run.CHECKOUT, env=ubuntu, check=True)
    with roots.tree("bullseye", "ifupdown").mounted() as path:
        root = Root(path)
        shutil.copy(package, path / "root" / "osnetd.deb")
        root.run("dpkg", "-i", "/root/osnetd.deb")
