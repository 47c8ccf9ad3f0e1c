# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What goes into a guest's root: the packages of each suite and backend, and the lab's own files on top.

cloud-init stays as the distribution ships it. Whatever the lab wants of it is said in a drop-in that carries the lab's
name, and every other change to a root is a file or a link listed here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid")  # oldest first
# netplan on networkd: in VMs only, a veth has no permanent MAC.
BACKENDS = ("ifupdown", "networkd", "netplan", "nm", "ifcfg", "netplan_nm")
NETWORK_MANAGER = ("nm", "ifcfg", "netplan_nm")  # with keyfiles; with ifcfg files, in trixie only; below netplan

_COMMON = (
    "systemd-sysv udev dbus kmod procps netbase "
    "cloud-init openssh-server python3 jq "
    "iproute2 iputils-ping net-tools"  # net-tools: cloud-init's eni renderer writes `route add ...`
).split()
_VM = "linux-image-cloud-amd64 initramfs-tools qemu-guest-agent busybox-static e2fsprogs zstd".split()
# A plugged veth carries this group from the moment of its birth, so a udev rule knows it from one the guest made.
NIC_GROUP = 7878

# Units that would set the host's clock, sysctls or modules from inside a container, or that wake up by themselves.
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service "
    "fstrim.timer man-db.timer logrotate.timer systemd-networkd-wait-online.service"
).split()
MASKED_IN_CONTAINERS = (
    "systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service systemd-timesyncd.service "
    "proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount "
    "systemd-hwdb-update.service systemd-journal-catalog-update.service ldconfig.service getty@tty1.service console-getty.service systemd-logind.service"
).split()

_RENDERER = {"ifupdown": "eni", "networkd": "networkd", "netplan": "netplan", "nm": "network-manager", "ifcfg": "sysconfig", "netplan_nm": "netplan"}
_ACTIVATOR = {**_RENDERER, "ifcfg": "network-manager"}
_EL_RELEASE = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\nPRETTY_NAME="Rocky Linux (the lab\'s)"\n'


class Recipe(NamedTuple):
    """One kind of root. `vm` adds a kernel, an initramfs and the guest agent; `without` leaves packages out, `also` adds some."""

    suite: str
    backend: str
    vm: bool = False
    without: Tuple[str, ...] = ()
    also: Tuple[str, ...] = ()

    @property
    def packages(self) -> Tuple[str, ...]:
        suite = SUITES.index(self.suite)
        names = list(_COMMON)
        if self.backend == "ifupdown":
            names += ["ifupdown"]
            names += ["isc-dhcp-client"] if suite <= SUITES.index("trixie") else ["dhcpcd-base"]
            names += ["resolvconf"] if suite <= SUITES.index("bookworm") else []
            names += ["ifenslave"] if self.vm else []  # bonds: a container's kernel is the host's, which may have none
        elif self.backend in NETWORK_MANAGER:
            names += ["network-manager"]
        elif suite >= SUITES.index("bookworm"):  # before that it was a part of the systemd package
            names += ["systemd-resolved"]
        names += ["netplan.io"] if self.backend in ("netplan", "netplan_nm") else []
        names += [*(_VM if self.vm else []), *self.also]
        return tuple(name for name in names if name not in self.without)

    @property
    def key(self) -> str:
        """Names the tarball: changes when the packages do."""
        packages = "nm" if self.backend == "ifcfg" else self.backend  # the same ones
        return f"{self.suite}-{packages}{'-vm' if self.vm else ''}-{_digest(' '.join(self.packages))}"

    def files(self) -> Dict[str, str]:
        """The lab's own files, path inside the root to content."""
        renderer, activator = _RENDERER[self.backend], _ACTIVATOR[self.backend]
        distro = "distro: rocky, " if self.backend == "ifcfg" else ""
        files = {
            "etc/hostname": "osnetd-lab\n",
            "etc/hosts": "127.0.0.1 localhost osnetd-lab\n::1 localhost ip6-localhost\n",
            "etc/machine-id": "",
            "etc/fstab": "",
            "etc/cloud/cloud.cfg.d/90_osnetd-lab.cfg": (
                "# The lab: no locale is generated, one quick host key, this backend.\n"
                "locale: false\n"
                "ssh_genkeytypes: [ed25519]\n"
                "apt: {preserve_sources_list: true}\n"
                f"system_info: {{{distro}network: {{renderers: [{renderer}], activators: [{activator}]}}}}\n"
            ),
            "etc/udev/rules.d/50-osnetd-lab.rules": (
                "# The NICs that the lab plugs into a container are veths: claim them as real.\n"
                f'SUBSYSTEM=="net", ACTION!="remove", ATTR{{netdev_group}}=="{NIC_GROUP}", ENV{{OSNETD_MANAGE}}="1"\n'
            ),
        }
        if self.backend in NETWORK_MANAGER:
            # Debian's own has ifupdown first, which is not installed.
            plugins = "ifcfg-rh,keyfile" if self.backend == "ifcfg" else "keyfile"
            files["etc/NetworkManager/NetworkManager.conf"] = f"[main]\nplugins={plugins}\n"
            files["etc/udev/rules.d/90-osnetd-lab-nm.rules"] = (
                "# NetworkManager's own rules (85) leave veths alone.\n"
                f'SUBSYSTEM=="net", ACTION!="remove", ATTR{{netdev_group}}=="{NIC_GROUP}", ENV{{NM_UNMANAGED}}="0"\n'
            )
        if self.backend == "ifcfg":  # cloud-init writes ifcfg files on the like of Enterprise Linux only
            files["etc/os-release"] = _EL_RELEASE
            files["etc/sysconfig/network-scripts/readme-ifcfg-rh.txt"] = ""
        if self.backend == "netplan_nm":  # as on Ubuntu's desktop
            files["etc/netplan/01-network-manager-all.yaml"] = "network:\n  version: 2\n  renderer: NetworkManager\n"
        if self.vm:
            # It would note every question whether a command has ended yet, and bury what a test prints of the journal.
            files["etc/systemd/system/qemu-guest-agent.service.d/osnetd-lab.conf"] = "[Service]\nLogLevelMax=notice\n"
            # Emulated on a busy host, a guest may be sixty times as slow as a server: as with all limits here, six times.
            files["etc/systemd/system/cloudinit-osnetd-early.service.d/osnetd-lab.conf"] = "[Service]\nTimeoutStartSec=180\n"
        else:
            # Cold-plug the network only: the container shares /sys with the host's other devices.
            files["etc/systemd/system/systemd-udev-trigger.service.d/osnetd-lab.conf"] = (
                "[Service]\nExecStart=\nExecStart=udevadm trigger --type=devices --action=add --subsystem-match=net\n"
            )
        return files

    def links(self) -> Dict[str, str]:
        """Symbolic links, path inside the root to target."""
        units = MASKED + ([] if self.vm else MASKED_IN_CONTAINERS)
        links = {f"etc/systemd/system/{unit}": "/dev/null" for unit in units}
        wants = "etc/systemd/system/multi-user.target.wants"
        if self.backend in NETWORK_MANAGER:
            for unit in ("systemd-networkd.service", "systemd-networkd.socket", "networking.service"):
                links[f"etc/systemd/system/{unit}"] = "/dev/null"
            links["etc/NetworkManager/dispatcher.d/01-ifupdown"] = "/dev/null"  # it fails without /etc/network
            if self.backend == "ifcfg":
                links["usr/libexec/cloud-init"] = "../lib/cloud-init"
        elif self.backend != "ifupdown":
            for unit in ("systemd-networkd.service", "systemd-resolved.service"):
                links[f"{wants}/{unit}"] = f"/lib/systemd/system/{unit}"
            links["etc/systemd/system/networking.service"] = "/dev/null"
            links["etc/resolv.conf"] = "../run/systemd/resolve/stub-resolv.conf"
        elif "resolvconf" in self.packages:
            links["etc/resolv.conf"] = "../run/resolvconf/resolv.conf"
        return links

    @property
    def tree_key(self) -> str:
        """Names the customised tree: changes when the packages or the lab's own files do."""
        content = repr((sorted(self.files().items()), sorted(self.links().items()), _THIS_CODE))
        return f"{self.key}-{_digest(content)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


_THIS_CODE = Path(__file__).with_name("roots.py").read_text()
