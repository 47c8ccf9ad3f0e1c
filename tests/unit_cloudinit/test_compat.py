# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""compat: what cloud-init's own configuration says, whatever its version."""

import json
import os
import subprocess
import sys

import pytest
from cloudinit.net import renderers

from cloudinit_osnetd.cloud_init import compat, context, instance
from cloudinit_osnetd.system import files, paths

CFG = "/etc/cloud/cloud.cfg.d/98_unit.cfg"
UPGRADED = "/var/lib/cloud/data/upgraded-network"
UUID = "1b2c0000-0000-0000-0000-00000000000a"
CONFIG = {
    "version": 1,
    "config": [
        {"type": "physical", "name": "ens3", "mac_address": "fa:16:3e:00:00:01", "subnets": [{"type": "dhcp4"}]},
        {"type": "nameserver", "address": ["10.0.0.2"], "search": []},
    ],
}


@pytest.fixture
def cloud(guest, monkeypatch):
    """Ask anew, after a change of the configuration."""
    guest.renderer("eni")

    def ask(cfg="", user="", cmdline="quiet"):
        monkeypatch.setenv("DEBUG_PROC_CMDLINE", cmdline)
        files.replace(CFG, cfg)
        if user:
            files.replace(paths.INSTANCE_ID[0], UUID + "\n")
            files.replace(instance.cloud_config(), user)
        del compat._init[:]
        return compat.cloud()

    yield ask
    for path in (CFG, instance.cloud_config(), paths.INSTANCE_ID[0], UPGRADED):
        files.remove(path)
    del compat._init[:]


def test_by_default_the_network_is_the_datasources(cloud):
    assert cloud() == compat.Cloud("eni", cloud().renderer_config, "", {}, {}, cloud().bond_names)


@pytest.mark.parametrize(
    ("said", "disabled_by"),
    [
        ({"cfg": "network: {config: disabled}\n"}, "disabled by the system configuration"),
        ({"cfg": "network: {version: 1, config: [{type: physical, name: eth0}]}\n"}, "configured by the system configuration"),
        ({"cfg": "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n"}, "configured by the system configuration"),
        ({"cmdline": "network-config=disabled"}, "disabled by the kernel command line"),
        ({"cmdline": "network-config=e2NvbmZpZzogZGlzYWJsZWR9Cg=="}, "disabled by the kernel command line"),
        ({"cmdline": "network-config=eyJ2ZXJzaW9uIjogMSwgImNvbmZpZyI6IFt7InR5cGUiOiAicGh5c2ljYWwiLCAibmFtZSI6ICJldGgwIn1dfQ=="}, "configured by the kernel command line"),
    ],
)  # fmt: skip
def test_what_outranks_the_datasource_keeps_our_hands_off(cloud, said, disabled_by):
    assert cloud(**said).disabled_by.startswith(disabled_by)


def test_the_network_of_an_upgraded_image_is_not_ours(cloud):
    files.replace(UPGRADED, "")
    assert "upgraded-network" in cloud().disabled_by


def test_the_settings_of_drop_in_and_user_data_are_merged_the_user_data_first(cloud):
    found = cloud("osnetd: {debounce: 3, patience: 30}\n", "#cloud-config\nosnetd: {debounce: 9, ignore: [ens4]}\n")
    assert context.parse_settings(found.settings) == context.Settings(
        debounce=9.0, patience=30.0, ignore=frozenset(["ens4"])
    )


def test_updates_are_read(cloud):
    assert cloud("updates: {network: {when: [boot-new-instance]}}\n").updates == {
        "network": {"when": ["boot-new-instance"]}
    }


@pytest.mark.parametrize("cfg", ["osnetd: 7\n", "osnetd: [x]\n", "osnetd:\n", "updates: x\n"])
def test_a_key_of_the_wrong_kind_is_as_good_as_none(cloud, cfg):
    assert (cloud(cfg).settings, cloud(cfg).updates) == ({}, {})


def test_the_context_remembers_the_answer_until_the_configuration_changes(cloud):
    cloud("osnetd: {debounce: 3}\n")
    assert context.load().settings.debounce == 3.0
    assert os.path.exists(paths.CONTEXT)
    files.replace(CFG, "osnetd: {debounce: 4}\n")
    del compat._init[:]
    assert context.load().settings.debounce == 4.0


@pytest.mark.parametrize("renderer", ["eni", "networkd"])
def test_importing_cloud_init_and_rendering_imports_nothing_that_it_only_names(tmp_path, renderer):
    """Where a release needs more than a name, all of it is imported: that works, and would be seen in the bench alone."""
    script = (
        "import json, logging, sys; there = set(sys.modules);"  # of Python 3.14 logging has one of them
        "from cloudinit_osnetd.system import lazy_imports; lazy_imports.in_our_process();"
        "from cloudinit_osnetd.cloud_init import compat, context;"
        "compat.render(json.loads(sys.argv[1]), sys.argv[2], context.Renderer(sys.argv[3], {}));"
        # 20.4 asks it for the version of requests, and it calls something of inspect's at once.
        "there |= {'inspect'} if 'pkg_resources' in sys.modules else set();"
        "print([name for name in compat._NAMED_ONLY if name in set(sys.modules) - there])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(CONFIG), str(tmp_path), renderer],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if renderer not in renderers.NAME_TO_RENDERER:
        pytest.skip("this cloud-init has no renderer %s" % renderer)
    assert done.stdout.decode().split() == ["[]"]
    assert [name for _d, _s, names in os.walk(str(tmp_path)) for name in names]


def test_importing_cloud_init_leaves_our_logging_as_it_was():
    script = (
        "import logging, sys; h = logging.StreamHandler(); logging.basicConfig(level=logging.WARNING, handlers=[h]); "
        "from cloudinit_osnetd.system import lazy_imports; lazy_imports.in_our_process(); "
        "import cloudinit_osnetd.cloud_init.compat; r = logging.getLogger(); "
        "sys.exit(0 if r.handlers == [h] and r.level == logging.WARNING else 1)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize("renderer", ["eni", "networkd"])
def test_rendering_writes_below_its_tree_and_runs_nothing(guest, tmp_path, renderer):
    guest.renderer(renderer)
    before = everything()
    compat.render(CONFIG, str(tmp_path), context.load(remember=False).renders_with)
    assert everything() == before
    assert [name for _d, _s, names in os.walk(str(tmp_path)) for name in names]
    assert not [
        name
        for _d, _s, names in os.walk(str(tmp_path))
        for name in names
        if "persistent" in name or name.endswith(".link")
    ]


def everything():
    return {
        os.path.join(d, name): os.stat(os.path.join(d, name)).st_mtime_ns
        for d, _s, names in os.walk("/etc")
        for name in names
        if os.path.isfile(os.path.join(d, name))
    }
