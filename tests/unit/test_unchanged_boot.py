# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An early boot at which nothing has changed since an earlier one is skipped, and any other one is not."""

import fcntl
import os
import subprocess
import sys

import pytest

from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.cloud_init.context import Context, Settings
from cloudinit_osnetd.cloud_init.eligibility import RunContext
from cloudinit_osnetd.core.records import Owned
from cloudinit_osnetd.run import boot_inputs, unchanged_boot
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths

from .build import A

ID = "i-1"
PASSED = {"changes": 0, "adopted": 0, "drifted": [], "problems": {}, "faults": [], "imported_cloudinit": False}


class Backend(Networkd):
    def __init__(self, etc, run):
        self.etc, self.boot_outputs = etc, (run,)

    def boot_inputs(self):
        return (self.etc, *self.boot_outputs)


class Server:
    """A server that is shut down after an early boot that found nothing to do."""

    def __init__(self, root):
        self.root = root
        self.etc, self.run = str(root / "etc/net"), str(root / "run/net")
        self.backend = Backend(self.etc, self.run)
        self.state = store.empty(ID)._replace(ledger=(Owned(A + "/phy", A, "ens3", "networkd", "/etc/x", "", "m", "d"),))
        self.cfg = str(root / "etc/cloud.cfg")
        self.tool = str(root / "sbin/netplan")
        files.replace(self.cfg, "osnetd: {}\n")
        files.replace(self.etc + "/10-ens3.network", "[Match]\n")
        files.replace(paths.CLOUD_RAN, '{"at": 1}')
        files.replace(paths.INSTANCE_ID[1], ID + "\n")
        files.replace(paths.INSTANCES + "/%s/datasource" % ID, "DataSourceOpenStack\n")
        files.replace(paths.SEED + "/openstack/latest/network_data.json", "{}")
        files.replace(paths.CONFIG_DRIVES[0], "a drive")
        self.nic("ens3", A)
        store.save(self.state)

    def nic(self, name, mac, slot="0000:00:03.0"):
        files.replace("%s/sys/devices/%s/net/%s/address" % (self.root, slot, name), mac + "\n")
        files.replace("%s/sys/devices/%s/net/%s/ifindex" % (self.root, slot, name), "2\n")
        os.makedirs(paths.KERNEL_NICS, exist_ok=True)
        os.symlink("%s/sys/devices/%s/net/%s" % (self.root, slot, name), paths.KERNEL_NICS + "/" + name)

    def on(self):
        return RunContext(ID, Context("networkd", "", Settings(), {}), self.backend)

    def early_boot(self, report=PASSED, state=None, during=lambda: None):
        """The whole flow: it reads, prepares what is below /run, and notes the inputs."""
        inputs = boot_inputs.read(self.on())
        files.replace(self.run + "/10-ens4.network.d/ours.conf", "RequiredForOnline=no\n")
        during()
        boot_inputs.keep(inputs, self.on(), state or self.state, report)

    def power_off(self):
        for path in (self.run, paths.RUN):
            subprocess.run(["rm", "-rf", path], check=True)


@pytest.fixture
def server(guest, monkeypatch):
    made = Server(guest)
    monkeypatch.setattr(context, "inputs", lambda: ([made.cfg], [made.tool]))
    made.early_boot()
    made.power_off()
    return made


def test_a_boot_at_which_nothing_has_changed_is_done_at_once(server):
    files.replace(paths.CLOUD_RAN, '{"at": 2}')  # it is of each boot
    assert unchanged_boot.done()
    assert files.read(server.run + "/10-ens4.network.d/ours.conf") == "RequiredForOnline=no\n"
    report = files.read_json(paths.EARLY)
    assert {name: report[name] for name in PASSED} == PASSED and report["unchanged"] is True
    server.power_off()
    assert unchanged_boot.done()  # and so is the next one


CHANGES = {
    "a file of ours is edited": lambda s: files.replace(s.etc + "/10-ens3.network", "[Match]\n# edited\n"),
    "a file of ours is gone": lambda s: os.unlink(s.etc + "/10-ens3.network"),
    "another file": lambda s: files.replace(s.etc + "/05-other.network", "[Match]\n"),
    "a drop-in": lambda s: files.replace(s.etc + "/10-ens3.network.d/x.conf", "[Link]\n"),
    "a half-written file": lambda s: files.replace(s.etc + "/.osnetd-10-ens3.network", ""),
    "a file below /run": lambda s: files.replace(s.run + "/01-kernel.network", "[Match]\n"),
    "an empty directory": lambda s: os.makedirs(s.etc + "/20-x.network.d"),
    "cloud-init's configuration": lambda s: files.replace(s.cfg, "osnetd: {enabled: false}\n"),
    "the renderers' tools": lambda s: files.replace(s.tool, ""),
    "cloud-init is disabled": lambda s: files.replace(paths.CLOUD_DISABLED, ""),
    "cloud-init has not run": lambda s: os.unlink(paths.CLOUD_RAN),
    "another instance": lambda s: files.replace(paths.INSTANCE_ID[0], "i-2\n"),
    "another datasource": lambda s: files.replace(paths.INSTANCES + "/%s/datasource" % ID, "DataSourceEc2\n"),
    "hotplug is enabled": lambda s: files.replace(paths.HOTPLUG_ENABLED, "{}"),
    "the seed": lambda s: files.replace(paths.SEED + "/openstack/latest/network_data.json", '{"links": []}'),
    "the drive": lambda s: files.replace(paths.CONFIG_DRIVES[0], "another drive"),
    "no drive": lambda s: os.unlink(paths.CONFIG_DRIVES[0]),
    "a second label": lambda s: files.replace(paths.CONFIG_DRIVES[1], "a drive"),
    "a NIC comes": lambda s: s.nic("ens4", "52:54:00:00:00:0f", "0000:00:04.0"),
    "a NIC goes": lambda s: os.unlink(paths.KERNEL_NICS + "/ens3"),
    "a NIC has another MAC": lambda s: files.replace(
        str(s.root) + "/sys/devices/0000:00:03.0/net/ens3/address", "52:54:00:00:00:0f\n"
    ),
    "a NIC in another slot": lambda s: (os.unlink(paths.KERNEL_NICS + "/ens3"), s.nic("ens3", A, "0000:00:07.0")),
    "the store": lambda s: store.save(s.state._replace(answered=A)),
    "a change on trial": lambda s: store.save(s.state._replace(on_trial="{}")),
    "a push that is not confirmed": lambda s: store.save(s.state._replace(provisional="{}")),
    "an intent": lambda s: files.replace(paths.INTENT, "{}"),
    "the cached configuration": lambda s: files.replace(paths.CONTEXT, "{}"),
    "a half-written store": lambda s: files.replace(paths.STATE + "/.osnetd-store.json", ""),
    "a record that was cut": lambda s: os.truncate(paths.UNCHANGED_BOOT, 200),
    "an empty record": lambda s: os.truncate(paths.UNCHANGED_BOOT, 0),
    "no record": lambda s: os.unlink(paths.UNCHANGED_BOOT),
    "a NIC that udev has not seen": lambda s: files.replace(paths.UDEV_CONTROL, ""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_a_boot_of_its_own(server, change):
    files.replace(paths.CLOUD_RAN, '{"at": 2}')
    change(server)
    assert not unchanged_boot.done()
    assert not os.path.exists(paths.EARLY) and not os.path.exists(server.run + "/10-ens4.network.d")


def test_what_udev_has_seen_is_a_nic_as_any(server):
    files.replace(paths.CLOUD_RAN, "")
    files.replace(paths.UDEV_CONTROL, "")
    files.replace(paths.UDEV_DATABASE + "/n2", "")
    assert unchanged_boot.done()


def test_another_python_or_another_version_of_this_package_is_a_boot_of_its_own(server, monkeypatch):
    files.replace(paths.CLOUD_RAN, "")
    with monkeypatch.context() as other:
        other.setattr(sys, "version", "3.99")
        assert not unchanged_boot.done()
    text = files.read(paths.UNCHANGED_BOOT)
    package = os.path.dirname(boot_inputs.package)
    (line,) = [line for line in text.splitlines() if line.startswith("stamp\t%s\t" % package)]
    files.replace(paths.UNCHANGED_BOOT, text.replace(line, line + "0"))
    assert not unchanged_boot.done()


def test_while_another_run_is_at_work_it_is_not_skipped(server):
    files.replace(paths.CLOUD_RAN, "")
    os.makedirs(paths.RUN, exist_ok=True)
    with open(paths.LOCK, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not unchanged_boot.done()
    assert unchanged_boot.done()


@pytest.mark.parametrize(
    "found",
    [{"changes": 1}, {"adopted": 1}, {"drifted": ["ens3"]}, {"problems": {"x": "y"}}, {"faults": ["x"]}, {"imported_cloudinit": True}],
    ids=repr,
)
def test_a_boot_that_found_something_is_not_the_measure_of_others(server, found):
    files.replace(paths.CLOUD_RAN, "")
    server.early_boot(report={**PASSED, **found})
    server.power_off()
    assert not unchanged_boot.done()


@pytest.mark.parametrize(
    "during",
    [
        lambda s: files.replace(s.etc + "/10-ens3.network", "changed meanwhile\n"),
        lambda s: store.save(s.state._replace(answered=A)),
        lambda s: os.unlink(s.run + "/00-fragment"),
    ],
    ids=["a file", "the store", "removed at each boot"],
)
def test_nor_is_one_during_which_its_inputs_changed(server, during):
    files.replace(paths.CLOUD_RAN, "")
    files.replace(server.run + "/00-fragment", "")
    server.early_boot(during=lambda: during(server))
    server.power_off()
    files.replace(server.run + "/00-fragment", "")
    assert not unchanged_boot.done()


@pytest.mark.parametrize("state", [{"ledger": ()}, {"on_trial": "{}"}, {"provisional": "{}"}], ids=repr)
def test_nor_one_with_nothing_configured_or_with_a_change_on_trial(server, state):
    files.replace(paths.CLOUD_RAN, "")
    server.state = server.state._replace(**state)
    store.save(server.state)
    server.early_boot()
    server.power_off()
    assert not unchanged_boot.done()


def test_a_backend_that_does_not_say_what_it_reads_is_never_skipped(server, monkeypatch):
    files.replace(paths.CLOUD_RAN, "")
    monkeypatch.setattr(Backend, "boot_inputs", lambda _self: None)
    server.early_boot()
    assert not os.path.exists(paths.UNCHANGED_BOOT)


def test_it_imports_next_to_nothing():
    """Each module of the library costs about as much as the whole check."""
    program = "import sys; before = set(sys.modules); import cloudinit_osnetd.run.unchanged_boot; print(' '.join(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, universal_newlines=True)
    modules = {name for name in found.stdout.split() if not name.startswith("cloudinit_osnetd")}
    assert modules <= {"_sha2", "_sha256", "time", "__future__"}, modules
