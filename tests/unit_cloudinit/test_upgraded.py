# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server whose suite was upgraded, or its cloud-init: the files are those of the release that it was installed with.

An upgrade of cloud-init writes no network configuration anew. What the release of each older suite wrote (written_by.py,
collected by __main__.py) is adopted here, and no NIC is touched.
"""

import glob
import json
import os
import shutil
from types import SimpleNamespace

import pytest
from cloudinit import version

from cloudinit_osnetd import backends
from cloudinit_osnetd.backends.ifcfg import backend as ifcfg_backend
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.core import network_data, truth
from cloudinit_osnetd.planning import build_plan
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files

from .conftest import wipe
from .test_adopted import snapshot
from .test_foreign_documents import A_LIST, NOT_LOADED, UNNAMED
from .written_by import document, nics, of_enterprise_linux

# cloud-init imports what Python 3.11 and later call deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DIRECTORY = "/src/build/written"
_SCRIPTS = "/etc/sysconfig/network-scripts"
_OURS = ("/etc/network/", "/etc/systemd/network/", "/etc/netplan/", "/etc/NetworkManager/system-connections/", _SCRIPTS + "/")
# In ifcfg files cloud-init loses what these say: the default route, or all addresses of a list but one. What is there has
# another meaning than the document, so the NIC is left alone, and the lines are reported.
LOST = ("45-netmask-is-a-number", "70-bond-options-of-many-kinds", "71-default-with-prefix")
# Of the renderers that written.json has too, each third document.
_FEWER = ("eni", "networkd", "netplan")


def _number(release):
    return [int(word) for word in release.split("-")[0].split("~")[0].split(".")]


def older():
    """(release, renderer): what releases before this root's one wrote."""
    found = []
    for path in sorted(glob.glob(DIRECTORY + "/*.json")):
        with open(path) as fh:
            told = json.load(fh)
        if _number(told["release"]) < _number(version.version_string()):
            found += [(told["release"], renderer, texts) for renderer, texts in told["written"].items()]
    return found


OLDER = older()


def on_renderer(guest, renderer, scripts):
    if renderer != "sysconfig":
        guest.renderer(renderer)
        return SimpleNamespace(backend=backends.of_renderer(renderer), context=context.load())
    guest.renderer("eni")
    using = context.load()._replace(renderer="sysconfig", renderer_config=of_enterprise_linux())
    return SimpleNamespace(backend=getattr(ifcfg_backend, "NetworkScripts" if scripts else "Ifcfg")(), context=using)


def planned(on, told, macs):
    data = network_data.parse(told, lambda: {called: mac for mac, called in macs.items()})
    state = store.empty("i")
    heard = state._replace(truth=truth.observe(state.truth, "metadata", data, 0.0))
    now = snapshot(macs)
    return data, build_plan.build_plan(on, heard, now.by_mac(), now)


def put(made):
    wipe()
    shutil.rmtree(_SCRIPTS, ignore_errors=True)
    for path, text in made.items():
        if path.startswith(_OURS):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            files.replace(path, text)


def wanted(renderer, name, data, made):
    """What is planned for each key."""
    found = dict(dict.fromkeys(data.entries, "adopt"), **UNNAMED.get(name, {}))
    if renderer == "network-manager":
        found.update(NOT_LOADED.get(name, {}))
        if name == A_LIST and any("=['" in text for text in made.values()):
            found["00:00:5e:00:53:09/bond"] = "write"
    return found


@pytest.mark.parametrize("scripts", [False, True])
@pytest.mark.parametrize(("release", "renderer", "texts"), OLDER, ids=["%s-%s" % row[:2] for row in OLDER])
def test_what_the_release_of_an_older_suite_wrote_is_adopted(guest, netplan, release, renderer, texts, scripts):
    if scripts and renderer != "sysconfig":
        pytest.skip("only ifcfg files have two readers")
    on = on_renderer(guest, renderer, scripts)
    wrong, adopted = [], 0
    try:
        for number, (name, made) in enumerate(sorted(texts.items())):
            if made is None or (renderer in _FEWER and number % 3):
                continue
            told = document(name)
            put(made)
            data, seen = planned(on, told, nics(told))
            if renderer == "sysconfig" and name in LOST and seen.plan.drifted:
                continue
            did = {}
            for change in seen.plan.changes:
                did.setdefault(change.key, set()).add(change.action)
            adopted += 1
            wrong += ["%s: %s %s" % (name, drift.name, drift.differs) for drift in seen.plan.drifted]
            if seen.failures or did != {key: {action} for key, action in wanted(renderer, name, data, made).items()}:
                wrong.append("%s: %r %r" % (name, did, seen.failures))
    finally:
        shutil.rmtree(_SCRIPTS, ignore_errors=True)
    assert wrong == []
    assert adopted > 30
