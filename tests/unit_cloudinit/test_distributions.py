# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Each distribution's cloud-init: which renderer, which files and which activator, in its own choice and in ours.

A root of Debian is told what a server of the distribution has: os-release, system_info.distro and the renderers of its
cloud.cfg (config/cloud.cfg.tmpl of each release of cloud-init), and the programs and files that renderers look for.
Nothing of cloud-init is replaced: it chooses and renders in this root, whose changes are thrown away.
"""

import glob
import os
import shutil
import subprocess
from collections import namedtuple

import pytest
from cloudinit import distros, stages, util
from cloudinit.net import renderers

from cloudinit_osnetd.backends import of_renderer
from cloudinit_osnetd.cloud_init import compat, context
from cloudinit_osnetd.system import files

from .conftest import ip

# cloud-init imports what Python 3.11 and later call deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LAB = "/etc/cloud/cloud.cfg.d/90_osnetd-lab.cfg"  # names a renderer and an activator
CFG = "/etc/cloud/cloud.cfg.d/99_distribution.cfg"
OS_RELEASE = "/etc/os-release"
MAC = "fa:16:3e:00:00:07"
CONFIG = {
    "version": 1,
    "config": [
        {
            "type": "physical",
            "name": "dist0",
            "mac_address": MAC,
            "subnets": [{"type": "static", "address": "10.0.0.7", "netmask": "255.255.255.0", "gateway": "10.0.0.1"}],
        }
    ],
}

# What a renderer's available() asks for. A name that ends in .service is a unit that is enabled, any other a file.
IFUPDOWN = ("/usr/sbin/ifquery", "/usr/sbin/ifup", "/usr/sbin/ifdown", "/etc/network/interfaces")
NETPLAN = ("/usr/sbin/netplan",)
NM = ("/usr/bin/nmcli", "/etc/NetworkManager/NetworkManager.conf", "NetworkManager.service")
IFCFG = ("/usr/lib64/NetworkManager/1.42/libnm-settings-plugin-ifcfg-rh.so",)
SCRIPTS = ("/usr/sbin/ifup", "/usr/sbin/ifdown", "/etc/sysconfig/network-scripts/network-functions")
WICKED = ("/usr/sbin/ifup", "/usr/sbin/ifdown", "/etc/sysconfig/config")
ALL = sorted({*IFUPDOWN, *NETPLAN, *NM, *IFCFG, *SCRIPTS, *WICKED})

OLD_RHEL = ("netplan", "network-manager", "networkd", "sysconfig", "eni")  # 22.2 to 23.1, and Fedora's to this day
RHEL = ("eni", "netplan", "network-manager", "sysconfig", "networkd")  # from 24.1 on
UBUNTU = ("netplan", "eni", "sysconfig")

Row = namedtuple("Row", "name distro release has priority renderer")
# `renderer`: with this suite's cloud-init; "" where that finds none. Three releases, oldest first: 20.4, 22.4, 25.1 and later.
ROWS = [
    Row("Debian with ifupdown", "debian", 'ID=debian\nVERSION_ID="12"', IFUPDOWN, ((), (), ("netplan", "eni", "networkd")), ("eni",) * 3),
    Row("Debian with networkd", "debian", 'ID=debian\nVERSION_ID="13"', (), ((), (), ("netplan", "eni", "networkd")), ("", "networkd", "networkd")),
    Row("Debian with netplan", "debian", 'ID=debian\nVERSION_ID="12"', NETPLAN, ((), (), ("netplan", "eni", "networkd")), ("netplan",) * 3),
    Row("Debian with NetworkManager", "debian", 'ID=debian\nVERSION_ID="13"', NM, ((), (), ("network-manager",)), ("", "network-manager", "network-manager")),
    Row("Ubuntu", "ubuntu", 'ID=ubuntu\nVERSION_ID="24.04"', NETPLAN, (UBUNTU,) * 3, ("netplan",) * 3),
    Row("RHEL 8, network-scripts", "rhel", 'ID="rhel"\nVERSION_ID="8.10"', SCRIPTS + NM, ((), ("sysconfig", "network-manager"), RHEL), ("sysconfig", "sysconfig", "network-manager")),
    Row("RHEL 9, keyfiles", "rhel", 'ID="rhel"\nVERSION_ID="9.4"', NM, ((), OLD_RHEL, RHEL), ("sysconfig", "network-manager", "network-manager")),
    Row("RHEL 9, ifcfg plugin first", "rhel", 'ID="rhel"\nVERSION_ID="9.4"', NM + IFCFG, ((), ("sysconfig", "network-manager"), ("sysconfig", "network-manager")), ("sysconfig", "network-manager", "sysconfig")),
    Row("RHEL 10", "rhel", 'ID="rhel"\nVERSION_ID="10.0"', NM, ((), OLD_RHEL, RHEL), ("sysconfig", "network-manager", "network-manager")),
    Row("CentOS Stream 9", "centos", 'ID="centos"\nVERSION_ID="9"', NM, ((), OLD_RHEL, RHEL), ("sysconfig", "network-manager", "network-manager")),
    Row("Rocky Linux 9", "rocky", 'ID="rocky"\nVERSION_ID="9.4"', NM, ((), OLD_RHEL, RHEL), ("sysconfig", "network-manager", "network-manager")),
    Row("AlmaLinux 9", "almalinux", 'ID="almalinux"\nVERSION_ID="9.4"', NM, ((), OLD_RHEL, RHEL), ("sysconfig", "network-manager", "network-manager")),
    Row("Fedora 42", "fedora", 'ID=fedora\nVERSION_ID="42"', NM, ((), OLD_RHEL, OLD_RHEL), ("sysconfig", "network-manager", "network-manager")),
    Row("openSUSE Leap 15, wicked", "opensuse", 'ID="opensuse-leap"\nVERSION_ID="15.6"', WICKED, ((), (), ()), ("sysconfig",) * 3),
    Row("openSUSE Tumbleweed", "opensuse", 'ID="opensuse-tumbleweed"\nVERSION_ID="20250101"', NM, ((), (), ()), ("sysconfig", "network-manager", "network-manager")),
]
# Where each renderer writes, by distribution, and what brings it up (cloudinit/net/activators.py).
FILES = {
    "eni": "/etc/network/interfaces.d/50-cloud-init",
    "netplan": "/etc/netplan/50-cloud-init.yaml",
    "networkd": "/etc/systemd/network/10-cloud-init-dist0.network",
    "network-manager": "/etc/NetworkManager/system-connections/cloud-init-dist0.nmconnection",
    "sysconfig": "/etc/sysconfig/network-scripts/ifcfg-dist0",
}
SUSE_FILE = "/etc/sysconfig/network/ifcfg-dist0"
ACTIVATORS = {
    "eni": "IfUpDownActivator",
    "netplan": "NetplanActivator",
    "networkd": "NetworkdActivator",
    "network-manager": "NetworkManagerActivator",
}


def column():
    """Which of the three releases this root's cloud-init is nearest to, by what it has."""
    if "network-manager" not in renderers.NAME_TO_RENDERER:
        return 0
    from cloudinit.net import sysconfig

    return 2 if hasattr(sysconfig, "available_nm_ifcfg_rh") else 1


class Server:
    """This root, as a server of a distribution."""

    def becomes(self, row):
        try:
            distros.fetch(row.distro)
        except ImportError:
            pytest.skip("this cloud-init has no class for %s: there it was told another" % row.distro)
        self.strip()
        with open(OS_RELEASE, "w") as fh:
            fh.write(row.release + '\nNAME="%s"\n' % row.name)
        self.add(*row.has)
        self.configure(row)

    def configure(self, row):
        priority = row.priority[column()]
        network = ", network: {renderers: [%s]}" % ", ".join(priority) if priority else ""
        files.replace(CFG, "system_info: {distro: %s%s}\n" % (row.distro, network))
        self.forget()

    @staticmethod
    def forget():
        """cloud-init remembers what it read of the system; another process would read it again."""
        for name in dir(util):
            clear = getattr(getattr(util, name), "cache_clear", None)
            if clear is not None:
                clear()

    def add(self, *names):
        for name in names:
            if name.endswith(".service"):
                unit = "/usr/lib/systemd/system/" + name
                files.replace(unit, "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
                subprocess.run(["systemctl", "enable", "--quiet", name], check=True)
            elif not os.path.exists(name):
                os.makedirs(os.path.dirname(name), exist_ok=True)
                files.replace(name, "#!/bin/sh\n")
                os.chmod(name, 0o755)
        self.forget()

    def remove(self, *names):
        for name in names:
            if name.endswith(".service"):
                subprocess.run(["systemctl", "disable", "--quiet", name], check=False, stderr=subprocess.DEVNULL)
            elif os.path.exists(name):
                os.unlink(name)
        self.forget()

    def strip(self):
        """Nothing that a renderer asks for, but ip and systemctl."""
        self.remove(*ALL)
        for path in (*FILES.values(), SUSE_FILE, context.paths.CONTEXT):
            files.remove(path)
        # /etc/sysconfig/network is a directory to SUSE, and a file to others. Debian has nothing there.
        shutil.rmtree("/etc/sysconfig", ignore_errors=True)

    def choice(self):
        """Returns the renderer that cloud-init takes in a fresh process, its class of the distribution, and the files."""
        init = stages.Init(ds_deps=[])
        init.read_cfg()
        try:
            if hasattr(init.distro, "_get_renderer"):
                found = init.distro._get_renderer()
                name = found.__module__.rsplit(".", 1)[-1]
            else:
                priority = util.get_cfg_by_path(init.distro._cfg, ("network", "renderers"), None)
                name = renderers.select(priority=priority)[0]
        except renderers.RendererNotFoundError:
            return "", init.distro, []
        before = set(everything())
        init.distro.apply_network_config(CONFIG, bring_up=False)
        return name.replace("_", "-"), init.distro, sorted(set(everything()) - before)


def everything():
    roots = ("/etc/network", "/etc/netplan", "/etc/systemd/network", "/etc/NetworkManager", "/etc/sysconfig")
    return [path for root in roots for path in glob.glob(root + "/**", recursive=True) if os.path.isfile(path)]


@pytest.fixture(scope="module")
def server():
    """The root, given back as it was: other tests run in it."""
    scratch = "/run/distribution"
    os.makedirs(scratch)
    kept = [path for path in (*ALL, LAB) if os.path.exists(path)]
    for number, path in enumerate(kept):
        shutil.copy2(path, "%s/%d" % (scratch, number))
    link = os.readlink(OS_RELEASE) if os.path.islink(OS_RELEASE) else None
    os.unlink(OS_RELEASE)
    os.unlink(LAB)
    ip("link", "add", "dist0", "address", MAC, "type", "veth", "peer", "name", "dist0p")
    found = Server()
    yield found
    ip("link", "del", "dist0")
    found.strip()
    files.remove(CFG)
    os.unlink(OS_RELEASE)
    if link:
        os.symlink(link, OS_RELEASE)
    for number, path in enumerate(kept):
        shutil.copy2("%s/%d" % (scratch, number), path)
    shutil.rmtree(scratch)
    found.forget()
    del compat._init[:]


def ours():
    """Returns the renderer that we take; "" where cloud-init finds none."""
    return context.load().renderer


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_choice_is_cloud_inits(server, row):
    server.becomes(row)
    name, _, written = server.choice()
    assert name == row.renderer[column()]
    assert ours() == name
    if not name:
        return
    file = SUSE_FILE if name == "sysconfig" and row.distro == "opensuse" else FILES[name]
    assert file in written
    of_renderer.cache_clear()
    backend = of_renderer(name)
    read = name != "sysconfig" or bool({IFCFG[0], SCRIPTS[2]}.intersection(row.has))
    assert (backend.unfit() == "") == read, "say so in docs/matrix.md"
    if read:
        staged = os.path.dirname(file)
        assert any(glob.fnmatch.fnmatch(staged, pattern) for pattern in backend.directories), (staged, backend.directories)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_activator_goes_with_the_renderer(server, row):
    """Where cloud-init has activators (21.3), the first that is there is the one of the renderer's backend."""
    if column() == 0:
        pytest.skip("this cloud-init has none")
    server.becomes(row)
    name, distro, _ = server.choice()
    if name not in ACTIVATORS:
        pytest.skip("no activator is for %s" % name)
    found = distro.network_activator
    assert (getattr(found, "__name__", None) or type(found).__name__) == ACTIVATORS[name]


def test_a_choice_that_changes_is_read_again(server):
    """What cloud-init looks at is looked at by us: NetworkManager that is disabled, a plugin that is installed."""
    if column() == 0:
        pytest.skip("this cloud-init has no renderer network-manager")
    (row,) = [row for row in ROWS if row.name == "RHEL 9, keyfiles"]
    server.becomes(row)
    assert ours() == server.choice()[0] == "network-manager"
    for change, names in ((server.remove, ["NetworkManager.service"]), (server.add, NM), (server.remove, ["/usr/bin/nmcli"])):
        change(*names)
        assert ours() == server.choice()[0], (change, names)
    server.add(*NM)
    (row,) = [row for row in ROWS if row.name == "RHEL 9, ifcfg plugin first"]
    server.configure(row)
    for change in (server.add, server.remove, server.add):
        change(*IFCFG)
        assert ours() == server.choice()[0], change
    files.replace(OS_RELEASE, "ID=debian\n")
    server.forget()
    assert ours() == server.choice()[0] == "network-manager"
