# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Each document of tests/documents, bonds and VLANs too: what the root's own cloud-init makes of it is what we read.

cloud-init writes it alone, and then we look: all of it is adopted, nothing is drifted, and no NIC is touched.
"""

import json

import pytest

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.system import files

from . import record
from .test_adopted import ALL, planned_for, write_alone
from .written_by import nics

DIRECTORY = record.HERE.parent / "documents"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.json"))
# The kernel takes no such name, so what cloud-init wrote for that VLAN was never there, and another name is used.
UNNAMED = {"68-name-too-long-for-a-vlan": {"00:00:5e:00:53:01/vlan.100": "write"}}
# NetworkManager loads nothing of a profile with a gateway and no address, so it is written anew.
NOT_LOADED = {
    "28-gateway-beside-a-lease": {"00:00:5e:00:53:03/bond": "write", "00:00:5e:00:53:11/vlan.2315": "write"},
    "69-lease-with-address": {"00:00:5e:00:53:02/phy": "write"},
    "103-gateway-beside-a-lease-of-a-nic": {"00:00:5e:00:53:01/phy": "write"},
}
# From 23.2 on cloud-init writes a list for keyfiles as Python shows it, and NetworkManager does not load that profile either.
A_LIST = "70-bond-options-of-many-kinds"


@ALL
@pytest.mark.parametrize("name", NAMES)
def test_what_cloud_init_makes_of_it_is_what_we_read(renderer, name):
    document = json.loads((DIRECTORY / (name + ".json")).read_text())
    macs = nics(document)
    try:
        write_alone(document, macs, renderer)
    except Exception as exc:
        pytest.skip("cloud-init alone breaks off on it: %r" % exc)
    data = network_data.parse(document, lambda: {called: mac for mac, called in macs.items()})
    _heard, seen = planned_for(data, macs, renderer)
    said = [(drift.name, drift.differs) for drift in seen.plan.drifted]
    assert (said, seen.failures) == ([], {})
    wanted = dict(dict.fromkeys(data.entries, "adopt"), **UNNAMED.get(name, {}))
    if renderer == "network-manager":
        wanted.update(NOT_LOADED.get(name, {}))
        shown = (files.read("/etc/NetworkManager/system-connections/cloud-init-bond0.nmconnection") or "").count("=['")
        wanted.update({"00:00:5e:00:53:09/bond": "write"} if name == A_LIST and shown else {})
    assert {change.key: change.action for change in seen.plan.changes} == wanted
