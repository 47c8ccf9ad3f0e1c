# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A guest's root whose changes are thrown away: real cloud-init, real renderers, and NICs that are veths."""

import glob
import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.build import A, B

INSIDE = os.environ.get("OSNETD_IN_ROOT") == "1"
if not INSIDE:
    collect_ignore_glob = ["test_*.py"]  # they write to /etc; see __main__.py

settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("house")

RENDERERS = ("eni", "networkd", "netplan")
_STUB = '#!/bin/sh\n[ "$1" != info ] || echo "netplan.io: {features: []}"\n'
DROP_IN = "/etc/cloud/cloud.cfg.d/99_unit.cfg"
# What cloud-init's renderer looks for.
NETWORK_MANAGER = ("/usr/bin/nmcli", "/etc/NetworkManager/NetworkManager.conf")
WRITTEN = (
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/systemd/network/*",
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/NetworkManager/system-connections/*",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/var/lib/cloudinit-osnetd",
    "/run/cloudinit-osnetd",
)


def wipe():
    for pattern in WRITTEN:
        for path in glob.glob(pattern):
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Guest:
    """What a test may ask of the root: NICs, and a renderer."""

    def __init__(self):
        self.made = []
        self.files = []

    def nic(self, name, mac):
        ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", name + "p")
        self.made.append(name)

    def drop(self, name):
        ip("link", "del", name)
        self.made.remove(name)

    def renderer(self, name):
        """Have cloud-init take this renderer, on a fresh reading of its configuration."""
        from cloudinit.net import renderers

        from cloudinit_osnetd.cloud_init import compat

        if name not in renderers.NAME_TO_RENDERER:
            pytest.skip("this cloud-init has no renderer %s" % name)
        for path in NETWORK_MANAGER if name == "network-manager" else ():
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w"):
                    self.files.append(path)
                os.chmod(path, 0o755)
        with open(DROP_IN, "w") as fh:
            fh.write("system_info: {network: {renderers: [%s], activators: [%s]}}\n" % (name, name))
        del compat._init[:]

    def cleanup(self):
        for name in list(self.made):
            self.drop(name)
        for path in self.files:
            os.unlink(path)
        wipe()
        if os.path.exists(DROP_IN):
            os.unlink(DROP_IN)


@pytest.fixture(scope="session", autouse=True)
def both_renderers():
    """A root has one backend; cloud-init's renderers only ask whether these are there."""
    for name in ("ifquery", "ifup", "ifdown"):
        path = "/sbin/" + name
        if not os.path.exists(path):
            with open(path, "w") as fh:
                fh.write("#!/bin/sh\n")
            os.chmod(path, 0o755)
    os.makedirs("/etc/network/interfaces.d", exist_ok=True)
    if not os.path.exists("/etc/network/interfaces"):
        with open("/etc/network/interfaces", "w") as fh:
            fh.write("source /etc/network/interfaces.d/*\n")


@pytest.fixture
def guest():
    found = Guest()
    wipe()
    yield found
    found.cleanup()


@pytest.fixture
def netplan():
    """cloud-init and we ask for a generator; what it would say is not the matter here."""
    path = "/usr/sbin/netplan"
    if not os.path.exists(path):
        with open(path, "w") as fh:
            fh.write(_STUB)
        os.chmod(path, 0o755)


@pytest.fixture(params=RENDERERS)
def renderer(request, guest, netplan):
    guest.renderer(request.param)
    return request.param


@pytest.fixture
def two_nics(guest):
    guest.nic("ens3", A)
    guest.nic("ens4", B)
    return guest
