# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Guests that enforce SELinux: the policy of their own Debian, and our module, built by that policy's own makefile.

    with_module(tree)       a layer with the module in the policy's store, and SELinux set to enforcing
    label(root)             each file of a root gets its label, as the image is made
    unpacked()              a policy with its headers and its tools, to be read on the host

Nothing of this needs SELinux on the host: the policy is compiled in a chroot, and a label is an extended attribute, which
mke2fs -d copies. Only a kernel of its own can enforce a policy, so these guests are virtual machines.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.lab import run
from tests.lab.call import call
from tests.lab.progress import step
from tests.lab.roots import Tree, on_top

# selinux-policy-dev has the headers and the makefile. auditd keeps /var/log/audit/audit.log.
PACKAGES = ("selinux-basics", "selinux-policy-default", "selinux-policy-dev", "auditd", "attr")
# A backlog that holds what is denied before auditd runs: what the kernel has no room for it drops. An emulated guest in which
# each denial is noted takes minutes to boot on a busy host, and systemd gives a service or a device 90 seconds.
COMMAND_LINE = (
    "security=selinux selinux=1 enforcing=1 audit=1 audit_backlog_limit=8192 "
    "systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900"
)
# Unpacked, none is installed: what selinux-policy-default installs would compile a policy for the host.
_ON_THE_HOST = "selinux-policy-dev selinux-policy-default checkpolicy semodule-utils setools python3-setools python3-networkx python3-pkg-resources"
_SOURCES = (run.CHECKOUT / "selinux-policy", run.CHECKOUT / "tests/lab/selinux_modules")
_CONFIG = "etc/selinux/config"
_LABELS = "/etc/selinux/default/contexts/files/file_contexts"
# Ours, the stand-in for what Enterprise Linux has for the guest agent, and what cloud-init and resolvconf lack, into the store of a
# policy at rest (-n). -D: every denial is noted, those as well that the policy keeps quiet (dontaudit).
_MODULES = ("cloudinit-osnetd.pp", "osnetd_lab_agent.pp", "osnetd_lab_cloud_init.pp", "osnetd_lab_resolvconf.pp", "osnetd_lab_look.pp")
_BUILD = f"""
cd /root/selinux && make -f /usr/share/selinux/devel/Makefile NAME=default {" ".join(_MODULES)} &&
semodule -n -s default -D {" ".join(f"-i {name}" for name in _MODULES)}
"""


def with_module(tree: Tree) -> Tree:
    sources = sorted(path for folder in _SOURCES for path in folder.iterdir())
    text = _BUILD + "".join(path.name + path.read_text() for path in sources)
    return on_top(tree, f"selinux-{hashlib.sha256(text.encode()).hexdigest()[:10]}", lambda root: _install(root, sources))


def is_enforcing(root: Path) -> bool:
    config = root / _CONFIG
    return config.exists() and "\nSELINUX=enforcing\n" in config.read_text()


def label(root: Path) -> None:
    """-m: it does not look at mounts, of which none has labels here. -F: also the user and the role of each label."""
    # Debian 12's sets a label by way of /proc/self/fd.
    script = f'mount -t proc proc "$1/proc" && exec chroot "$1" setfiles -m -F -e /proc -e /sys -e /dev {_LABELS} /'
    with step("labelling the files for SELinux"):
        call(["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", str(root)], "labelling")


def unpacked() -> Path | None:
    """A directory with the host's distribution's policy, headers, compiler and sesearch(1), fetched once by apt.

    $OSNETD_SELINUX_ROOT names another. None where apt has no such packages.
    """
    given = os.environ.get("OSNETD_SELINUX_ROOT")
    if given:
        return Path(given)
    place = run.lab_dir() / "selinux"
    with run.locked(place.with_suffix(".lock")):
        if not place.exists():
            unfinished = place.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *_ON_THE_HOST.split()]
            with step("fetching a policy and its tools"):
                done = subprocess.run(fetch, cwd=unfinished, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if done.returncode:
                return None
            for package in unfinished.glob("*.deb"):
                call(["dpkg-deb", "-x", str(package), str(unfinished)], f"unpacking {package.name}")
                package.unlink()
            unfinished.rename(place)
    return place


def _install(root: Path, sources: list[Path]) -> None:
    place = root / "root/selinux"
    place.mkdir()
    for path in sources:
        shutil.copy(path, place)
    script = (
        'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && '
        'exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C sh -c "$2"'
    )
    with step("building the policy module"):
        call(["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", str(root), _BUILD], "building the policy module")
    shutil.rmtree(place)
    (root / _CONFIG).write_text("# Written by the lab.\nSELINUX=enforcing\nSELINUXTYPE=default\n")
    # The second agent, in a domain; the first is the one by which the lab works.
    shutil.copy(root / "usr/sbin/qemu-ga", root / "usr/local/sbin/qemu-ga-confined")
