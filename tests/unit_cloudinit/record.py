# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What releases of cloud-init write that no suite here carries, noted in written.json for test_adopted.py.

    python3 -m tests.unit_cloudinit.record DIRECTORY...

Each DIRECTORY holds a package `cloudinit` and is called by its release: `18.2`, `24.1.3`. Any Python that has what
cloud-init imports will do. Nothing of the machine is read or written.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WRITTEN = HERE / "written.json"
SEEDS = (3, 8, 14, 17, 21)
ADOPT = ("15-adopt-routes-order", "16-adopt-networks-order", "17-adopt-mtu-string", "19-adopt-top-level-gateway")
_INSIDE = r"""
import copy, importlib, json, os, sys, tempfile
from cloudinit import util
from cloudinit.net import network_state
from cloudinit.sources.helpers import openstack
util.chownbyname = lambda *_args, **_named: None
CONFIG = {
    "eni": {"eni_path": "etc/network/interfaces.d/50-cloud-init", "netrules_path": None},
    "networkd": {"network_conf_dir": "/etc/systemd/network/", "resolve_conf_fn": "/etc/systemd/resolved.conf"},
    "netplan": {"netplan_path": "etc/netplan/50-cloud-init.yaml", "postcmds": False, "features": ["none"]},
}
def write(name, document, macs):
    try:
        renderer = importlib.import_module("cloudinit.net." + name).Renderer(dict(CONFIG[name]))
    except ImportError:
        return None
    config = openstack.convert_net_json(copy.deepcopy(document), known_macs=dict(macs))
    state = network_state.parse_net_config_data(config, skip_broken=False)
    if name == "netplan":
        return {"/etc/netplan/50-cloud-init.yaml": renderer._render_content(state)}
    with tempfile.TemporaryDirectory() as tree:
        os.makedirs(tree + "/etc/systemd/network")
        renderer.render_network_state(state, target=tree)
        paths = [os.path.join(top, name) for top, _, names in os.walk(tree) for name in names]
        return {path[len(tree):]: open(path).read() for path in paths}
said = [[name, write(name, document, macs)] for document, macs in json.load(sys.stdin) for name in CONFIG]
print("\n" + json.dumps(said))
"""


def documents():
    from tests.unit_cloudinit import servers

    told = [json.loads((HERE.parent / "documents" / (name + ".json")).read_text()) for name in ADOPT]
    return told + [servers.document(seed) for seed in SEEDS]


def nics(document):
    """By MAC: the names of a document's NICs."""
    return {link["ethernet_mac_address"]: "ens%d" % (3 + number) for number, link in enumerate(document["links"])}


def main(directories):
    asked = [(document, nics(document)) for document in documents()]
    found = {}
    for directory in directories:
        argv = [sys.executable, "-c", "import sys; sys.path.insert(0, %r)\n%s" % (directory, _INSIDE)]
        done = subprocess.run(argv, input=json.dumps(asked), stdout=subprocess.PIPE, universal_newlines=True, check=True)
        for number, (renderer, files) in enumerate(json.loads(done.stdout.rpartition("\n")[0].rpartition("\n")[2])):
            if files is not None:
                key = number // 3, renderer, json.dumps(files, sort_keys=True)
                found.setdefault(key, []).append(Path(directory).name)
    rows = [
        {"document": number, "renderer": renderer, "releases": releases, "files": json.loads(files)}
        for (number, renderer, files), releases in sorted(found.items())
    ]
    WRITTEN.write_text("[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
