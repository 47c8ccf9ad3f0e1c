# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""In cloud-init's own process nothing of cloud-init's, or of Python's, is another than it was."""

import subprocess
import sys

import pytest

from tests.unit.build import A, B

# What a stage of cloud-init has imported by the time it asks a datasource, and what it imports afterwards.
SCRIPT = """
import importlib, logging, sys, types
from cloudinit import helpers, settings, sources, stages, util
from cloudinit.cmd import main
from cloudinit.net import network_state
from cloudinit.sources.helpers import openstack

def looks(module):
    found = {}
    for name, value in vars(module).items():
        found[name] = value
        if isinstance(value, type):
            found.update((name + "." + inner, one) for inner, one in vars(value).items())
    return {name: id(value) for name, value in found.items() if callable(value) or isinstance(value, types.ModuleType)}

def everything():
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("cloudinit", "http", "ssl")}
    return {(name, inner): what for name, module in modules.items() for inner, what in looks(module).items()}

def logs():
    return [(log.level, list(log.handlers)) for log in (logging.getLogger(), logging.getLogger("cloudinit"))]

from tests.unit_cloudinit import datasources
from tests.unit.build import A, B
from cloudinit_osnetd.system import files, paths
from cloudinit_osnetd.core import network_data, truth
from cloudinit_osnetd.state import store
from cloudinit_osnetd.sources import DataSourceConfigDrive, DataSourceOpenStack
makers = {"drive": DataSourceConfigDrive.DataSourceConfigDrive, "metadata": DataSourceOpenStack.DataSourceOpenStackLocal}
known = truth.observe(truth.EMPTY, "drive", network_data.parse(datasources.TWO), 0.0)
store.save(store.empty(datasources.UUID)._replace(truth=known))
made = datasources.make(makers[sys.argv[1]], datasources.TWO)
before, log, there = everything(), logs(), dict(sys.modules)
config = made.network_config
from cloudinit_osnetd.sources import ladder
ladder.refreshed_truth(datasources.UUID)  # as at a hotplug
after = everything()
assert "cloudinit_osnetd.cloud_init.compat" in sys.modules, "it was not needed: then there is nothing to be seen"
assert datasources.names(config) == ["ens3", "ens4"]
print(files.read_json(paths.BOOT)["level"])
print(sorted(name for name in before if after.get(name) != before[name] and "network_config" not in name))
print([] if logs() == log else [log, logs()])
print(sorted(name for name, module in there.items() if sys.modules.get(name) is not module))
# Nor does anything that was imported meanwhile name what is not there.
from cloudinit_osnetd.system import lazy_imports
print(sorted(name for name, module in sys.modules.items() if isinstance(module, lazy_imports._Later)))
stand_ins = [
    (name, inner) for name, module in list(sys.modules.items()) if name.startswith("cloudinit.")
    for inner, value in vars(module).items() if isinstance(value, lazy_imports._Later)
]
print(stand_ins)
network_state.NetworkStateInterpreter  # as cloud-init goes on: it renders
state = network_state.parse_net_config_data(config, skip_broken=False)
assert [nic["name"] for nic in state.iter_interfaces()] == ["ens3", "ens4"]
"""


@pytest.mark.parametrize("source", ["drive", "metadata"])
def test_an_override_that_has_served_has_changed_nothing(guest, source):
    guest.nic("ens3", A)
    guest.nic("ens4", B)
    done = subprocess.run([sys.executable, "-c", SCRIPT, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = done.stdout.decode().split("\n")
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert said[:6] == ["store", "[]", "[]", "[]", "[]", "[]"]
