# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The package of the policy module comes, is renewed and goes: in a guest that enforces SELinux, and in a root that does not run.

semodule(8), the policy's store and restorecon(8) are Debian's own in both, also where the package is an .rpm. The macros of which
its scriptlets are made are Fedora's, and have stand-ins here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

from tests.lab import VM, Cloud, Port, deb, roots, selinux
from tests.package import formats
from tests.scenarios.seen import assert_follows, assert_gone, settled
from tests.scenarios.test_selinux import HELPERS, KINDS, denials, domains, enforcing, let_domains_be_told, wrong_labels

pytestmark = [pytest.mark.deep]

NAME = "cloudinit-osnetd-selinux"
_DPKG = "DEBIAN_FRONTEND=noninteractive dpkg"
# Which modules of ours there are, at which priority: that of the lab's own is 400.
_MODULES = "semodule -lfull | grep -F cloudinit-osnetd || true"
_OURS = "/usr/bin/cloudinit-osnetd /usr/lib/cloudinit-osnetd/queue-event /var/lib/cloudinit-osnetd /run/cloudinit-osnetd/queue"
WITH = ["osnetd_exec_t", "osnetd_event_exec_t", "osnetd_var_lib_t", "osnetd_queue_t"]
# Debian 13 has lib_t for all that it does not know in /usr/lib: udev may not start it, and pid 1 does in its own domain.
WITHOUT = ["bin_t", "lib_t", "var_lib_t", "var_run_t"]


def package() -> Path:
    """Beside the package under test, built with it."""
    (found,) = deb.under_test().parent.glob(f"{NAME}_*_all.deb")
    return found


def newer(scratch: Path) -> Path:
    """The package with a higher version, as the next release has it."""
    tree, out = scratch / "tree", scratch / f"{NAME}_9_all.deb"
    subprocess.run(["dpkg-deb", "-R", str(package()), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9:"))
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", str(tree), str(out)], check=True, stdout=subprocess.DEVNULL)
    return out


def dpkg(guest: VM, words: str) -> str:
    said = guest.run(f"{_DPKG} {words} 2>&1", timeout=300).stdout
    assert "takes no module" not in said and "rror" not in said, said
    return said


def modules(guest: VM) -> List[str]:
    """The priority of each module of our name."""
    return [line.split()[0] for line in guest.run(_MODULES, timeout=120).stdout.splitlines()]


def types(guest: VM) -> List[str]:
    """Of what the module has types for."""
    return [label.split(":")[2] for label in guest.run(f"stat -c %C {_OURS}").stdout.split()]


def take_out_the_labs_module(guest: VM) -> None:
    """As before it is installed: the lab puts the module into each image."""
    guest.run(f"semodule -X 400 -r cloudinit-osnetd && restorecon -R -i {_OURS} /usr/lib/systemd/system", timeout=300)
    guest.run("chcon -R -t var_run_t /run/cloudinit-osnetd && systemctl daemon-reload")
    assert (modules(guest), types(guest)) == ([], WITHOUT)


def assert_that_a_nic_is_followed_in_our_domain(guest: VM, port: Port) -> str:
    """The name of the NIC, which is attached here."""
    assert (modules(guest), types(guest)) == (["200"], WITH)
    assert wrong_labels(guest) == []
    let_domains_be_told(guest)
    name = guest.plug(port)
    assert_follows(guest, port)
    settled(guest)
    assert domains(guest)["cloudinit-osnetd.service"] == "osnetd_t"
    return name


def assert_that_a_nic_is_followed_without_one(guest: VM, port: Port, name: str) -> None:
    """The module is gone, the program stays. Of a NIC that goes it hears from whoever has it look: udev may not start what queues the event."""
    assert (modules(guest), types(guest)) == ([], WITHOUT)
    guest.server.delete_port(port)
    guest.unplug(port)
    guest.run(f"{HELPERS}/queue-event timer")
    assert_gone(guest, name)
    settled(guest)
    assert domains(guest)["cloudinit-osnetd.service"] == "init_t"
    assert {re.sub(r".*denied +{ (\w+) }.*comm=\S+ path=(\S+).*scontext=\S+:(udev_t):.*", r"\3 \1 \2", line) for line in denials(guest)} == {
        f'udev_t execute_no_trans "{HELPERS}/queue-event"'
    }


@pytest.mark.vm
def test_the_module_is_in_force_with_its_package_and_gone_with_it(cloud: Cloud, vm_factory: Callable[..., VM], tmp_path: Path) -> None:
    guest = enforcing(cloud, vm_factory, KINDS[0])
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400)
    settled(guest)
    guest.put(package().read_bytes(), "/root/this.deb")
    guest.put(newer(tmp_path).read_bytes(), "/root/newer.deb")
    take_out_the_labs_module(guest)

    dpkg(guest, "-i /root/this.deb")
    port = guest.server.create_port(green)
    name = assert_that_a_nic_is_followed_in_our_domain(guest, port)

    dpkg(guest, "-i /root/newer.deb")
    assert (modules(guest), types(guest)) == (["200"], WITH)
    assert denials(guest) == []

    dpkg(guest, f"-r {NAME}")
    assert_that_a_nic_is_followed_without_one(guest, port, name)

    dpkg(guest, f"-P {NAME}")
    assert guest.run(f"dpkg -l {NAME}", check=False).returncode != 0
    assert wrong_labels(guest) == ["Warning no default label for /run/cloudinit-osnetd"]


# What is written on Debian, and the type that it has to get: that of what the backend itself writes there, or reads.
WRITTEN = """
/etc/network/interfaces                                         net_conf_t
/etc/network/interfaces.d/50-cloud-init                         net_conf_t
/run/network/ifstate.ens4                                       net_conf_t
/etc/resolv.conf                                                net_conf_t
/run/resolvconf/interface/ens4.inet                             net_conf_t
/etc/systemd/network/10-cloud-init-ens4.network                 net_conf_t
/etc/systemd/network/10-cloud-init-ens4.network.d/x.conf        net_conf_t
/etc/netplan/50-cloud-init.yaml                                 net_conf_t
/run/systemd/network/10-netplan-ens4.network                    systemd_networkd_runtime_t
/etc/NetworkManager/system-connections/cloud-init-ens4.nmconnection NetworkManager_etc_rw_t
/run/NetworkManager/conf.d/50-cloudinit-osnetd.conf             NetworkManager_runtime_t
/var/lib/cloudinit-osnetd/store.json                            osnetd_var_lib_t
/run/cloudinit-osnetd/status.json                               osnetd_runtime_t
/run/cloudinit-osnetd/queue/0000000000.00.ens4                  osnetd_queue_t
"""

_IN_A_ROOT = f"""
modules() {{ semodule -lfull | grep -F cloudinit-osnetd | cut -d' ' -f1; }}
say() {{ echo "$1|$(modules)|$(grep -c osnetd_ /etc/selinux/default/contexts/files/file_contexts)"; }}
say before
{_DPKG} -i /root/this.deb >&2 && say installed
matchpathcon -m file {" ".join(line.split()[0] for line in WRITTEN.strip().splitlines())}
{_DPKG} -i /root/newer.deb >&2 && say upgraded
{_DPKG} -r {NAME} >&2 && say removed
{_DPKG} -i /root/this.deb >&2 && {_DPKG} -P {NAME} >&2 && say purged
"""


def inside(root: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """A shell script in a root."""
    enter = (
        'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && '
        'exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C sh -c "$2"'
    )
    words = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", enter, "sh", str(root), script]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
def test_in_a_root_that_does_not_run_it_waits_in_the_policys_store(kind: Any, tmp_path: Path) -> None:
    """As where an image is built: nothing is loaded there, and the first boot has it."""
    tree = roots.tree(kind.suite, kind.backend, deb.under_test(), True, (), selinux.PACKAGES)
    with tree.mounted() as root:
        shutil.copyfile(package(), root / "root/this.deb")
        shutil.copyfile(newer(tmp_path), root / "root/newer.deb")
        told = inside(root, _IN_A_ROOT)
    lines = [line.split("|") for line in told.stdout.splitlines() if "|" in line]
    states = {state: (priorities, int(contexts) > 0) for state, priorities, contexts in lines}
    without, with_it = ("", False), ("200", True)
    assert states == {"before": without, "installed": with_it, "upgraded": with_it, "removed": without, "purged": without}, told.stderr
    labels = dict(line.split() for line in told.stdout.splitlines() if line.startswith("/"))
    assert {path: label.split(":")[2] for path, label in labels.items()} == dict(line.split() for line in WRITTEN.strip().splitlines())


# Stand-ins for macros of Fedora's package selinux-policy, by what its documentation says that they do.
_MACROS = """
%selinux_requires %{nil}
%selinux_relabel_pre(s:) ! selinuxenabled || cp /etc/selinux/%{-s*}/contexts/files/file_contexts /run/lab-contexts
%selinux_modules_install(s:) semodule -n -s %{-s*} -X 200 -i %* || : ; ! selinuxenabled || load_policy || :
%selinux_modules_uninstall(s:) semodule -n -s %{-s*} -X 200 -r %* || : ; ! selinuxenabled || load_policy || :
%selinux_relabel_post(s:) ! selinuxenabled || fixfiles -C /run/lab-contexts restore || :
"""


def rpm(scratch: Path, release: str) -> Path:
    """The subpackage as Fedora's macros would have it built, of a release number, for the policy that Debian has."""
    macros, top = scratch / "macros", scratch / release
    macros.write_text(_MACROS)
    # The helpers where the guest's own package has them.
    where = {"_topdir": str(top), "dist": f".{release}", "selinuxtype": "default", "_unitdir": "/usr/lib/systemd/system", "_libexecdir": "/usr/lib"}
    where.update({"_udevrulesdir": "/usr/lib/udev/rules.d", "python3_sitelib": "/usr/lib/python3/site-packages", "__python3": "/usr/bin/python3"})
    defined = [word for name, value in where.items() for word in ("--define", f"{name} {value}")]
    words = ["rpmbuild", "--load", str(macros), "--rebuild", "--nodeps", "--without", "bytecode", *defined]
    (source,) = formats.built().glob(f"{formats.NAME}-[0-9]*.src.rpm")
    done = subprocess.run([*words, str(source)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    (found,) = top.glob(f"RPMS/noarch/{NAME}-*.rpm")
    return found


@pytest.mark.vm
def test_the_rpms_module_is_in_force_with_its_package_and_gone_with_it(cloud: Cloud, vm_factory: Callable[..., VM], tmp_path: Path) -> None:
    """Its scriptlets, by rpm(8) in a guest of Debian that enforces SELinux."""
    this, later = rpm(tmp_path, "1"), rpm(tmp_path, "2")
    guest = enforcing(cloud, vm_factory, KINDS[0], also=("rpm",))
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400)
    settled(guest)
    guest.put(this.read_bytes(), "/root/this.rpm")
    guest.put(later.read_bytes(), "/root/later.rpm")
    take_out_the_labs_module(guest)

    def after(words: str) -> None:
        said = guest.run(f"rpm --nodeps {words} 2>&1", timeout=300).stdout
        assert "scriptlet failed" not in said and "rror" not in said, said

    after("-i /root/this.rpm")
    port = guest.server.create_port(green)
    name = assert_that_a_nic_is_followed_in_our_domain(guest, port)

    after("-U /root/later.rpm")
    assert (modules(guest), types(guest)) == (["200"], WITH)
    assert denials(guest) == []

    # Nothing of a transaction runs after its %postun, so that has to leave no label that is not valid any more.
    after(f"-e {NAME}")
    assert guest.run("systemctl show -P LoadState cloudinit-osnetd.path cloudinit-osnetd.service").stdout.split() == ["loaded", "loaded"]
    assert_that_a_nic_is_followed_without_one(guest, port, name)


def test_the_rpms_scriptlets_put_the_module_into_the_store_and_take_it_out(tmp_path: Path) -> None:
    kind = KINDS[0]
    tree = roots.tree(kind.suite, kind.backend, deb.under_test(), True, (), selinux.PACKAGES)
    this, later = rpm(tmp_path, "1"), rpm(tmp_path, "2")
    with tree.mounted() as root:

        def after(*words: str) -> List[str]:
            done = subprocess.run(["rpm", "--root", str(root), "--nodeps", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, done.stdout
            return [line.split()[0] for line in inside(root, _MODULES).stdout.splitlines()]

        assert after("-i", str(this)) == ["200"]
        # The new one's %post, then the old one's %postun.
        assert after("-U", str(later)) == ["200"]
        assert after("-e", NAME) == []
