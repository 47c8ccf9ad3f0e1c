# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Whichever file of the package is missing, a server boots with its network."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import cloudinit_osnetd
from tests.unit.build import B

from .datasources import TWO

PACKAGE = os.path.dirname(cloudinit_osnetd.__file__)
FILES = sorted(
    os.path.relpath(os.path.join(directory, name), PACKAGE)
    for directory, _dirs, found in os.walk(PACKAGE)
    for name in found
    if name.endswith(".py")
)
HALF = """
import json, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from cloudinit import helpers, settings, sources, stages
init = stages.Init(ds_deps=[])
init.read_cfg()


def config_of(name, document):
    (cls,) = sources.list_sources([name], [sources.DEP_FILESYSTEM], ["cloudinit_osnetd.sources", "", "cloudinit.sources"])
    found = cls(settings.CFG_BUILTIN, init.distro, helpers.Paths({"run_dir": "/run/cloud-init", "cloud_dir": "/var/lib/cloud"}))
    found.metadata = {"instance-id": "i", "uuid": "i"}
    found.network_json = document
    names = sorted(item["name"] for item in found.network_config["config"] if item["type"] == "physical")
    return " ".join([cls.__module__.split(".")[0]] + names)


# A process for each missing file: what one has imported the next one must not find.
for gone in json.loads(sys.argv[2]):
    for name in ("ConfigDrive", "OpenStack"):
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        path = os.path.join(sys.argv[1], "cloudinit_osnetd", gone)
        os.rename(path, path + ".gone")
        try:
            said = config_of(name, json.loads(sys.argv[3]))
        except BaseException as error:
            said = repr(error)
        os.rename(path + ".gone", path)
        print(json.dumps([gone, name, said]), flush=True)
        os._exit(0)
"""


@pytest.fixture
def half_installed(tmp_path):
    """What both datasources of a package give from which one file is missing, for each of its files."""

    def ask(doc):
        shutil.copytree(PACKAGE, str(tmp_path / "cloudinit_osnetd"), ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [sys.executable, "-c", HALF, str(tmp_path), json.dumps(FILES), json.dumps(doc)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=str(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        found = {(gone, name): said for gone, name, said in map(json.loads, done.stdout.splitlines())}
        assert len(found) == 2 * len(FILES), done.stderr
        return found

    return ask


def test_whichever_file_is_missing_a_server_boots_with_its_network(two_nics, half_installed):
    for case, said in half_installed(TWO).items():
        assert said.split()[1:] == ["ens3", "ens4"], case


def test_whichever_file_is_missing_but_the_override_itself_a_listed_nic_that_is_gone_costs_nothing(
    guest, half_installed
):
    guest.nic("ens4", B)
    for (gone, name), said in half_installed(TWO).items():
        if name == "ConfigDrive" and gone != "sources/DataSourceConfigDrive.py":
            assert said == "cloudinit_osnetd ens4", gone
