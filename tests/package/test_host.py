# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The package for hosts, as .deb and as .rpm: installed, started, removed. And the ancestor's entry point in a guest's root."""

from __future__ import annotations

import base64
import os
import shutil
from typing import List

import pytest

from cloudinit_osnetd import __version__
from tests.lab import deb, run
from tests.package import formats
from tests.package.conftest import DEBS, Root, named
from tests.package.formats import Rpm

HOST = "cloudinit-osnetd-host"
LIBRARY = "/usr/lib/python3/dist-packages"
ENTRY = "/scripts/apply-network-config"

on_debs = pytest.mark.parametrize("kind", DEBS, ids=named, indirect=True)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


def brought(root: Root) -> List[str]:
    """The files that came, without what each format has of its own."""
    own = ("/var/lib/dpkg/", "/usr/share/doc/", "/usr/share/licenses/")
    return [path for path in root.ours() if not path.startswith(own) and not (root.path / path[1:]).is_dir()]


def answers(root: Root) -> None:
    """The program, its manual, and what it says where it can do nothing: neither libvirt nor a guest is here."""
    assert root.run("osnetd-push", "--version").stdout == f"osnetd-push {__version__}\n"
    assert set(brought(root)) >= {"/usr/bin/osnetd-push"}
    (root.path / "tmp/document.json").write_text("{}")
    for words, code, told in (
        (["--socket", "/run/no.sock", "/tmp/document.json"], 20, "/run/no.sock: No such file or directory"),
        (["--domain", "web", "/tmp/document.json"], 20, "package python3-libvirt"),
        (["--socket", "/run/no.sock", "/tmp/no.json"], 26, "/tmp/no.json: No such file or directory"),
        (["/tmp/document.json"], 2, "one of --socket, --domain"),
    ):
        done = root.run("osnetd-push", *words, check=False)
        assert (done.returncode, told in done.stdout) == (code, True), done.stdout


@on_debs
def test_the_deb(bare: Root) -> None:
    shutil.copy(deb.for_hosts(), bare.path / "root" / "host.deb")
    bare.run("dpkg", "-i", "/root/host.deb")
    answers(bare)
    assert not (bare.path / "usr/lib/systemd/system/cloudinit-osnetd.service").exists()
    bare.run("dpkg", "-P", HOST)
    assert bare.ours() == []
    assert not (bare.path / f"{LIBRARY}/osnetd_push".lstrip("/")).exists()


@on_debs
def test_both_packages_of_debian_on_one_machine(bare: Root) -> None:
    for package, name in ((deb.under_test(), "guest.deb"), (deb.for_hosts(), "host.deb")):
        shutil.copy(package, bare.path / "root" / name)
    bare.run("dpkg", "-i", "/root/guest.deb", "/root/host.deb")
    bare.run("dpkg", "-r", HOST)
    assert bare.run("cloudinit-osnetd", "--version").stdout.startswith("cloudinit-osnetd ")


@pytest.mark.parametrize("kind", [("bookworm", Rpm("el8"))], ids=named, indirect=True)
def test_the_rpm(bare: Root, package: Rpm) -> None:
    package.dnf(bare, "install", HOST)
    answers(bare)
    (path,) = formats.built().glob(f"{HOST}-{__version__}-*.el8.noarch.rpm")
    needs = bare.beside("rpm", "-qp", "--requires", str(path)).stdout.split()
    assert not [need for need in needs if "cloud-init" in need or "libvirt" in need]
    package.dnf(bare, "remove", HOST)
    assert brought(bare) == []
    assert not (bare.path / package.site[1:] / "osnetd_push").exists()


@on_debs
def test_the_ancestors_entry_point(bare: Root) -> None:
    shutil.copy(deb.under_test(), bare.path / "root" / "guest.deb")
    bare.run("dpkg", "-i", "/root/guest.deb")
    # The step of docs/guest-agent.md.
    (step,) = [line.strip() for line in (run.CHECKOUT / "docs/guest-agent.md").read_text().splitlines() if f" {ENTRY}" in line and "ln -s" in line]
    bare.run("sh", "-c", step)

    document = base64.b64encode(b'{"links": 7}').decode()
    done = bare.run(ENTRY, document, check=False)
    assert done.returncode == 3 and "links" in done.stdout, done.stdout
    assert done.stdout == bare.run("cloudinit-osnetd", "apply", document, check=False).stdout
    for wrong in ([], ["--forget"], [document, document]):
        done = bare.run(ENTRY, *wrong, check=False)
        assert done.returncode in (2, 3), done.stdout

    # Who has one keeps it: the ancestor's, or osnetd_legacy.py's.
    again = bare.run("sh", "-c", step, check=False)
    assert again.returncode != 0 and "File exists" in again.stdout
    bare.run("dpkg", "-P", "cloudinit-osnetd")
    assert (bare.path / ENTRY[1:]).is_symlink(), "an administrator's link is not ours to remove"
