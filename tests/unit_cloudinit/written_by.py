# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What this root's cloud-init writes by itself, as JSON: for the roots that carry later releases (test_upgraded.py).

{"release": "22.4.2", "written": {"networkd": {"15-adopt-routes-order": {path: text}}}}; null where it breaks off.
"""

import copy
import importlib
import json
import logging
import os
import sys
import tempfile

from cloudinit import util, version
from cloudinit.net import network_state
from cloudinit.sources.helpers import openstack

from tests.unit_cloudinit import record, servers

MARK = "\nwritten: "
SEEDS = 8
DOCUMENTS = record.HERE.parent / "documents"
_RENDERERS = {
    "eni": ("eni", {"eni_path": "etc/network/interfaces.d/50-cloud-init", "netrules_path": None}),
    "networkd": ("networkd", {"network_conf_dir": "/etc/systemd/network/", "resolve_conf_fn": "/etc/systemd/resolved.conf"}),
    "netplan": ("netplan", {"netplan_path": "etc/netplan/50-cloud-init.yaml", "postcmds": False, "features": ["none"]}),
    "network-manager": ("network_manager", {}),
    "sysconfig": ("sysconfig", {}),
}


def of_enterprise_linux():
    """The configuration of its renderer sysconfig."""
    from cloudinit.distros import rhel  # it imports what Python 3.11 and later call deprecated

    return rhel.Distro.renderer_configs["sysconfig"]


def nics(document):
    """By MAC: the names of the NICs that a document lists; one that is told no MAC has one of ours."""
    found = {}
    for link in document["links"]:
        if link.get("type") in ("bond", "vlan"):
            continue
        number = len(found) + 1
        mac = link.get("ethernet_mac_address") or "00:00:5e:00:53:0%d" % number
        found[mac.lower()] = link.get("name") or "ens%d" % (2 + number)
    return found


def document(name):
    """A document of tests/documents by its name, or a server of Nova's by `seed N`."""
    if name.startswith("seed "):
        return servers.document(int(name[5:]))
    return json.loads((DOCUMENTS / (name + ".json")).read_text())


def names():
    return sorted(path.stem for path in DOCUMENTS.glob("*.json")) + ["seed %d" % seed for seed in range(SEEDS)]


def written(renderer, config, told, macs):
    with tempfile.TemporaryDirectory() as tree:
        os.makedirs(tree + "/etc/systemd/network")
        converted = openstack.convert_net_json(copy.deepcopy(told), known_macs=dict(macs))
        state = network_state.parse_net_config_data(converted, skip_broken=False)
        made = renderer.Renderer(dict(config))
        if "netplan_path" in config:
            # Its writer would run programs, or write by netplan's own library.
            return {"/" + config["netplan_path"]: made._render_content(state)}
        made.render_network_state(state, target=tree)
        paths = [os.path.join(top, name) for top, _, names in os.walk(tree) for name in names]
        return {path[len(tree) :]: open(path).read() for path in paths}


def main():
    logging.disable(logging.CRITICAL)
    util.chownbyname = lambda *_args, **_named: None
    found = {}
    for name, (module, config) in _RENDERERS.items():
        try:
            renderer = importlib.import_module("cloudinit.net." + module)
        except ImportError:
            continue  # this release has none
        config = config or (of_enterprise_linux() if name == "sysconfig" else {})
        of_renderer = found[name] = {}
        for told in names():
            try:
                of_renderer[told] = written(renderer, config, document(told), nics(document(told)))
            except Exception:  # whatever cloud-init raises
                of_renderer[told] = None
    sys.stdout.write(MARK + json.dumps({"release": version.version_string(), "written": found}) + "\n")


if __name__ == "__main__":
    main()
