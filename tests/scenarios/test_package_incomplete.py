# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Any one file of the package is missing: the server boots with its network all the same (DESIGN.md, promise 8)."""

from __future__ import annotations

import os
from typing import List

import pytest

from tests.lab import Cloud, Container
from tests.scenarios import package
from tests.scenarios.conftest import KINDS, GuestFactory, Kind
from tests.scenarios.package import assert_network, identity
from tests.scenarios.seen import assert_follows, assert_gone, settled
from tests.scenarios.test_package_life import TRUSTED, attach, web

# With OSNETD_STRIDE=1 each file on each kind of guest, and with either cache on at least one; else what is no module, and of
# each folder of modules one, with either cache.
EVERYWHERE = os.environ.get("OSNETD_STRIDE") == "1"
# Nobody reads these at a boot.
_DOCUMENTS = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/lintian/")
# Where the override itself is missing there is nothing of ours that could leave out a NIC that the drive lists.
_OVERRIDE = ("DataSourceConfigDrive.py", "95_osnetd.cfg")


def installed_files(guest: Container) -> List[str]:
    listed = guest.run(
        f"dpkg -L {package.NAME} | while read f; do [ -d $f ] && [ ! -L $f ] || echo $f; done"
    ).stdout.split()
    return [path for path in listed if not path.startswith(_DOCUMENTS)]


def some(paths: List[str]) -> List[str]:
    """What is no module, and of each folder of modules one."""
    modules = [path for path in paths if path.endswith(".py")]
    first = {os.path.dirname(path): path for path in reversed(modules) if not path.endswith("__init__.py")}
    return [path for path in paths if path not in modules or path in first.values()]


@pytest.mark.long
@TRUSTED
def test_any_one_file_is_missing(cloud: Cloud, guest_factory: GuestFactory, kind: Kind, trusted_cache: bool) -> None:
    """A reboot for each file."""
    turn = KINDS.index(kind) + trusted_cache if EVERYWHERE else trusted_cache
    server = web(cloud)
    first, second, third = server.ports
    guest = guest_factory(server, trusted_cache=trusted_cache)
    guest.boot()
    attached = attach(cloud, guest, server)
    assert_follows(guest, first, second, third, attached)
    settled(guest)
    who = identity(guest)
    paths = installed_files(guest)
    assert len(paths) > 40, paths

    # The drive lists a NIC that is gone, for all but the two files that stand for the override.
    overrides = [path for path in paths if path.endswith(_OVERRIDE)]
    others = [path for path in paths if path not in overrides]
    for path in overrides[turn % 2 :: 2]:
        without(guest, path, trusted_cache)
        assert_network(guest, first, second, third, attached)
        assert identity(guest) == who
    name = str(guest.nic(second))
    server.delete_port(second)
    guest.unplug(second)
    guest.run("/usr/lib/cloudinit-osnetd/queue-event operator")
    assert_gone(guest, name)
    settled(guest)
    for path in (others if EVERYWHERE else some(others))[turn % 2 :: 2]:
        without(guest, path, trusted_cache)
        assert_network(guest, first, third, attached)
        assert identity(guest) == who, path


def without(guest: Container, path: str, trusted_cache: bool) -> None:
    """Reboot without a file, and put it back."""
    guest.run(f"mv {path} {path}.away")
    guest.reboot()
    assert guest.cloud_init_errors() == [], path
    assert guest.run("cloud-init status", check=False).stdout.split()[-1] == "done", path
    guest.run(f"mv {path}.away {path}")
