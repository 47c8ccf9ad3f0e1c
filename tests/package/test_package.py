# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The .deb beside an unmodified cloud-init, in each suite's root: installed, verified, removed, purged. Nothing boots."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from cloudinit_osnetd import __version__
from tests.lab import deb, roots, run
from tests.package.conftest import Root

UNITS = ["cloudinit-osnetd.path", "cloudinit-osnetd.service", "cloudinit-osnetd-early.service"]
LINK = "etc/cloud/cloud.cfg.d/95_osnetd.cfg"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@pytest.fixture
def root(bare: Root) -> Root:
    shutil.copy(deb.under_test(), bare.path / "root" / "osnetd.deb")
    bare.run("dpkg", "-i", "/root/osnetd.deb")
    return bare


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


def test_both_units_that_a_boot_needs_are_enabled(root: Root) -> None:
    for unit in ("cloudinit-osnetd.path", "cloudinit-osnetd-early.service"):
        assert root.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"


def test_the_link_leads_into_the_package(root: Root) -> None:
    target = os.readlink(root.path / LINK)
    assert target == "/usr/lib/python3/dist-packages/cloudinit_osnetd/sources/95_osnetd.cfg"
    assert (root.path / target.lstrip("/")).is_file()


def read_pkg_list(root: Root) -> str:
    read = "from cloudinit import util; print(util.read_conf_d('/etc/cloud/cloud.cfg.d').get('datasource_pkg_list'))"
    return root.run("python3", "-c", read).stdout.strip()


def test_cloud_init_reads_the_link_and_ignores_it_when_it_dangles(root: Root) -> None:
    assert read_pkg_list(root) == "['cloudinit_osnetd.sources']"
    shutil.rmtree(root.path / "usr/lib/python3/dist-packages/cloudinit_osnetd")
    assert read_pkg_list(root) == "None"


def leave_alone(root: Root) -> None:
    """The link as it was installed."""


def delete_link(root: Root) -> None:
    (root.path / LINK).unlink()


@pytest.mark.parametrize("administrator", [leave_alone, delete_link])
def test_removal_takes_everything_but_the_state(root: Root, administrator: Callable[[Root], None]) -> None:
    (root.path / "var/lib/cloudinit-osnetd").mkdir(exist_ok=True)
    (root.path / "var/lib/cloudinit-osnetd/store.json").write_text("{}")
    administrator(root)
    root.run("dpkg", "-r", "cloudinit-osnetd")
    assert not (root.path / LINK).is_symlink()
    # What dpkg and systemd note of a package that is removed, not purged; the queue.
    noted = ("/var/lib/dpkg/", "/var/lib/systemd/", "/etc/systemd/", "/run/")
    left = {path for path in root.ours() if not path.startswith(noted)}
    # Conffiles stay until they are purged, as Debian has it; each does nothing without the package or its state.
    assert left == {
        "/var/lib/cloudinit-osnetd",
        "/etc/cloud/clean.d/95_osnetd",
        "/etc/dhcp/dhclient-exit-hooks.d/cloudinit-osnetd",
    }

    root.run("dpkg", "-P", "cloudinit-osnetd")
    assert root.ours() == []


def test_an_upgrade_and_a_second_installation_go_through(root: Root) -> None:
    root.run("dpkg", "-i", "/root/osnetd.deb")
    root.run("dpkg", "-r", "cloudinit-osnetd")
    root.run("dpkg", "-i", "/root/osnetd.deb")
    assert (root.path / LINK).is_symlink()
    assert root.run("systemctl", "is-enabled", "cloudinit-osnetd.path").stdout.strip() == "enabled"


def test_built_where_the_default_compression_is_new(tmp_path: Path) -> None:
    """As on Ubuntu: Debian 11 knows no zstd."""
    package = tmp_path / f"cloudinit-osnetd_{__version__}_all.deb"
    ubuntu = {**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "zstd"}
    subprocess.run(["scripts/build-deb", str(package)], cwd=run.CHECKOUT, env=ubuntu, check=True)
    with roots.tree("bullseye", "ifupdown").mounted() as path:
        root = Root(path)
        shutil.copy(package, path / "root" / "osnetd.deb")
        root.run("dpkg", "-i", "/root/osnetd.deb")
