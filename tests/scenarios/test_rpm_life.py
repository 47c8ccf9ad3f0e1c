# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Scenario 18 with the .rpm: dnf installs, renews and removes it on a running server, and reboots follow.

A guest of Debian that has dnf, and the Python of the distribution that the package is for (tests/package/formats.py). `make test` does the
same transactions in a root (tests/package/test_package.py).
"""

from __future__ import annotations

import shutil

import pytest

from cloudinit_osnetd import __version__
from tests.lab import Cloud, Container
from tests.package import formats
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import assert_network, identity, untouched
from tests.scenarios.seen import assert_follows, assert_nothing_to_do, settled, state_of
from tests.scenarios.test_package_life import assert_boot_level, attach, leftovers, two_reboots, web

DISTRIBUTION = formats.Rpm("fc42")
SITE = {f"{formats.Deb.site[1:]}/lab-site.pth": DISTRIBUTION.site + "\n"}


def dnf(guest: Container, *words: str) -> str:
    options = "--releasever=9 --setopt=reposdir=/dev/null --nogpgcheck --noplugins --repofrompath=lab,file:///root/repository --repo=lab"
    said = guest.run(f"dnf -y {options} {' '.join(words)} 2>&1", timeout=120).stdout
    for word in ("scriptlet failed", "rror:", "Traceback", "Failed to"):
        assert word not in said, said
    return said


def version(guest: Container) -> str:
    return guest.run("cloudinit-osnetd --version").stdout.split()[-1]


@pytest.mark.deep
@pytest.mark.on("trixie-networkd")
def test_installed_upgraded_downgraded_and_removed_by_dnf(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = web(cloud)
    ports = list(server.ports)
    guest = guest_factory(server, package=False, trusted_cache=True, also=("dnf",), files=SITE)
    guest.boot()
    assert_network(guest, *ports)
    who = identity(guest)
    shutil.copytree(formats.repository(DISTRIBUTION.distribution), guest.root / "root/repository")
    dnf(guest, "install", "lab-stub")

    with untouched(guest):
        dnf(guest, "install", f"{formats.NAME}-{formats.OLDER}")
        settled(guest)
    assert [state_of(guest, port) for port in ports] == ["ok", "ok", "ok"]
    ports.append(attach(cloud, guest, server))  # the udev rule is in force, and finds its program
    assert_follows(guest, ports[-1])
    settled(guest)

    with untouched(guest):
        dnf(guest, "upgrade", formats.NAME)
        settled(guest)
    assert version(guest) == __version__
    assert guest.run("systemctl is-active cloudinit-osnetd.path").stdout.strip() == "active"
    ports.append(attach(cloud, guest, server))
    assert_follows(guest, ports[-1])
    settled(guest)
    two_reboots(guest, ports, who)
    assert_boot_level(guest, "store")
    assert_nothing_to_do(guest)

    with untouched(guest):
        dnf(guest, "downgrade", formats.NAME)
        settled(guest)
        dnf(guest, "upgrade", formats.NAME)
        dnf(guest, "reinstall", formats.NAME)
        settled(guest)
    assert version(guest) == __version__

    with untouched(guest):
        dnf(guest, "remove", formats.NAME)
    assert leftovers(guest) == []
    two_reboots(guest, ports, who)

    unheard = attach(cloud, guest, server)
    dnf(guest, "install", f"{formats.NAME}-{__version__}")
    assert_follows(guest, unheard)
    assert_network(guest, *ports)
