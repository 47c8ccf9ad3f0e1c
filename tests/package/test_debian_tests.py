# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""debian/tests: what autopkgtest runs without a cloud, and the self-test's package in each format."""

from __future__ import annotations

import os
import re
import shutil
from typing import Dict

import pytest

from tests.lab import deb, run
from tests.package.conftest import DEBS, Root, named
from tests.package.formats import Rpm

SELFTEST = "cloudinit-osnetd-selftest"
CHECKS = 8

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


def declared() -> Dict[str, Dict[str, str]]:
    """The stanzas of debian/tests/control by the name of the test."""
    text = "\n".join(line for line in (run.CHECKOUT / "debian/tests/control").read_text().splitlines() if not line.startswith("#"))
    stanzas = [dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE)) for stanza in text.split("\n\n")]
    return {stanza.get("Tests") or stanza["Features"].replace("test-name=", ""): stanza for stanza in stanzas}


def test_each_test_has_its_program_and_says_what_it_needs() -> None:
    found = declared()
    assert set(found) == {"installation", "unit", "main-job"}
    assert os.access(run.CHECKOUT / "debian/tests/unit", os.X_OK)
    # It makes a NIC, and without a managed network it has nothing to do.
    assert set(found["main-job"]["Restrictions"].split(", ")) == {"needs-root", "isolation-container", "skippable"}


@pytest.mark.parametrize("kind", DEBS, ids=named, indirect=True)
def test_the_installation_passes_in_a_chroot(root: Root) -> None:
    package = deb.under_test()
    shutil.copy(package.with_name(package.name.replace("osnetd_", "osnetd-selftest_")), root.path / "root/selftest.deb")
    root.run("dpkg", "-i", "/root/selftest.deb")
    done = root.run("sh", "-c", declared()["installation"]["Test-Command"], check=False)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"^ok ", done.stdout, re.MULTILINE)) == CHECKS, done.stdout
    assert re.findall(r"^ok .*# SKIP (.*)$", done.stdout, re.MULTILINE) == ["systemd does not run"]

    # What it is for: it sees what is broken. No main job is tried, here as elsewhere.
    (root.path / "etc/cloud/cloud.cfg.d/99_other.cfg").write_text("datasource_pkg_list: [other.sources]\n")
    root.run("systemctl", "disable", "cloudinit-osnetd.path")
    done = root.run("cloudinit-osnetd-selftest", check=False)
    assert done.returncode == 1
    assert len(re.findall(r"^not ok ", done.stdout, re.MULTILINE)) == 2, done.stdout
    assert "99_other" in done.stdout or "another file" in done.stdout
    assert "cloudinit-osnetd.path is disabled" in done.stdout


@pytest.mark.parametrize("kind", [("bullseye", Rpm("el9"))], ids=named, indirect=True)
def test_the_rpm(bare: Root, package: Rpm) -> None:
    package.dnf(bare, "install", SELFTEST)  # and what it is about
    done = bare.run("cloudinit-osnetd-selftest", "--installation", check=False)
    assert len(re.findall(r"^ok ", done.stdout, re.MULTILINE)) >= CHECKS - 1, done.stdout
    package.dnf(bare, "remove", SELFTEST, "cloudinit-osnetd")
    assert bare.ours() == []
