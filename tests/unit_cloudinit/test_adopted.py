# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Before the package came cloud-init wrote a server's configuration alone. Whatever it was told, and whichever release it
was, all of it is adopted, no NIC is touched, and a later edit of a port is that NIC's alone.

The oracle is the root's own cloud-init; written.json has what other releases wrote (record.py).
OSNETD_RANDOM_SERVERS=200 tries as many of Nova's.
"""

import copy
import json
import os
import re
from types import SimpleNamespace

import pytest
from cloudinit.net import network_state, renderers
from cloudinit.sources.helpers import openstack

from cloudinit_osnetd import backends
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.core import network_data, truth
from cloudinit_osnetd.core.records import Snapshot, removed_nic
from cloudinit_osnetd.planning import build_plan
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files
from tests.unit.build import bond, document, link, static

from . import record, servers
from .conftest import RENDERERS, wipe

SEEDS = range(int(os.environ.get("OSNETD_RANDOM_SERVERS", "10")))
_TEMPLATES = {
    "eni": {"eni_path": "etc/network/interfaces.d/50-cloud-init", "netrules_path": None},
    "networkd": {"network_conf_dir": "/etc/systemd/network/", "resolve_conf_fn": "/etc/systemd/resolved.conf"},
    "network-manager": {},
    "netplan": {"netplan_path": "etc/netplan/50-cloud-init.yaml", "postcmds": False, "features": ["none"]},
}


ALL = pytest.mark.parametrize("renderer", [*RENDERERS, "network-manager"], indirect=True)


def write_alone(doc, macs, renderer):
    """What this cloud-init writes by itself, in place."""
    config = openstack.convert_net_json(copy.deepcopy(doc), known_macs=dict(macs))
    state = network_state.parse_net_config_data(config, skip_broken=False)
    made = renderers.NAME_TO_RENDERER[renderer].Renderer(dict(_TEMPLATES[renderer]))
    if renderer == "netplan":
        # Its writer would run programs, or write by netplan's own library.
        files.replace("/etc/netplan/50-cloud-init.yaml", made._render_content(state))
    else:
        made.render_network_state(state, target="/")


def snapshot(macs):
    """As the kernel would show them: there, and up."""
    return Snapshot(
        tuple(
            removed_nic(mac, name)._replace(ifindex=number, up=True, carrier=True)
            for number, (mac, name) in enumerate(macs.items(), 2)
        ),
        (),
    )


def planned_for(doc, macs, renderer, state=None):
    """What is planned for the document, read or not: (state that was heard, look)."""
    state = state or store.empty("i")
    data = doc if isinstance(doc, network_data.NetworkData) else network_data.parse(doc)
    heard = state._replace(truth=truth.observe(state.truth, "metadata", data, 0.0))
    on = SimpleNamespace(backend=backends.of_renderer(renderer), context=context.load())
    now = snapshot(macs)
    return heard, build_plan.build_plan(on, heard, now.by_mac(), now)


def assert_adopted(doc, macs, renderer):
    """Everything is adopted and nothing else is planned; the state that follows."""
    heard, seen = planned_for(doc, macs, renderer)
    said = [(drift.name, drift.differs) for drift in seen.plan.drifted]
    assert (said, seen.failures) == ([], {})
    assert {change.action for change in seen.plan.changes} == {"adopt"}
    assert {change.mac for change in seen.plan.changes} >= {one["ethernet_mac_address"] for one in doc["links"]}
    assert {touch.action for touch in seen.plan.touches} <= {"kick"}  # nothing here has an address
    return heard._replace(ledger=tuple(change.row for change in seen.plan.changes), metrics=seen.metrics)


def assert_edit_is_followed(doc, macs, renderer, state):
    """An edit of each port is written for its NIC, and for no other."""
    assert not planned_for(doc, macs, renderer, state)[1].plan.changes
    for number, one in enumerate(doc["links"]):
        edited = copy.deepcopy(doc)
        edited["links"][number]["mtu"] = 1333
        _heard, seen = planned_for(edited, macs, renderer, state)
        did = {(change.action, change.mac) for change in seen.plan.changes}
        assert (did, seen.plan.drifted) == ({("write", one["ethernet_mac_address"])}, ())


def check(doc, macs, renderer):
    assert_edit_is_followed(doc, macs, renderer, assert_adopted(doc, macs, renderer))


@ALL
def test_whatever_nova_told_is_adopted(renderer):
    for seed in SEEDS:
        wipe()
        doc = servers.document(seed)
        macs = record.nics(doc)
        write_alone(doc, macs, renderer)
        check(doc, macs, renderer)


# Of single NICs.
TOLD_BY_OTHERS = (
    *record.ADOPT,
    "05-dns-nameservers",
    "06-dns-nameservers-and-global",
    "07-services-search",
    "11-gateway-null",
    "12-route-onlink",
    "13-netmask-missing",
    "14-dhcp4-dns",
    "23-services-other-type",
)


@ALL
@pytest.mark.parametrize("name", TOLD_BY_OTHERS)
def test_what_others_told_is_adopted(renderer, name):
    doc = json.loads((record.HERE.parent / "documents" / (name + ".json")).read_text())
    try:
        write_alone(doc, record.nics(doc), renderer)
    except KeyError as exc:
        # eni, 20.1 to 26.2: a route without a gateway.
        if exc.args != ("gateway",) or name[:2] not in ("11", "12"):
            raise
        pytest.skip("cloud-init alone breaks off on it, and writes nothing that could be found")
    check(doc, record.nics(doc), renderer)


@pytest.mark.parametrize("name", RENDERERS)
def test_what_another_release_wrote_is_adopted(guest, netplan, name):
    guest.renderer(name)
    told = record.documents()
    rows = [row for row in json.loads(record.WRITTEN.read_text()) if row["renderer"] == name]
    assert {release for row in rows for release in row["releases"]} >= {"22.1", "23.1.2", "24.1.3", "24.4.1", "25.1.1", "25.3"}
    for row in rows:
        wipe()
        for path, text in row["files"].items():
            files.replace(path, text)
        doc = told[row["document"]]
        try:
            check(doc, record.nics(doc), name)
        except AssertionError as exc:
            raise AssertionError("%s, document %d" % (row["releases"], row["document"])) from exc


def less_dns(renderer):
    """Take the DNS servers out of what is configured, as an operator would; the files, by path, before and after."""
    wanted = {"eni": r"^\s*dns-.*\n", "networkd": r"^(DNS|Domains)=.*\n", "netplan": r"^( +)nameservers:\n(?:\1 +.*\n)+"}[renderer]
    paths = {
        "eni": "/etc/network/interfaces.d/50-cloud-init",
        "networkd": "/etc/systemd/network/10-cloud-init-ens3.network",
        "netplan": "/etc/netplan/50-cloud-init.yaml",
    }
    before = files.read(paths[renderer])
    after = re.sub(wanted, "", before, flags=re.MULTILINE)
    assert after != before
    files.replace(paths[renderer], after)
    return paths[renderer], before, after


def test_dns_that_somebody_took_out_before_we_came_is_reported(renderer):
    """An older release may not have written it; so it is adopted, and said what the next boot will add."""
    doc = json.loads((record.HERE.parent / "documents" / "05-dns-nameservers.json").read_text())
    macs = record.nics(doc)
    write_alone(doc, macs, renderer)
    less_dns(renderer)
    heard, seen = planned_for(doc, macs, renderer)
    (change,) = seen.plan.changes
    assert (change.action, seen.plan.drifted) == ("adopt", ())
    assert "without dns 192.0.2.53 192.0.2.54" in change.reason
    assert change.row.unsaid.startswith("dns 192.0.2.53 192.0.2.54")
    store.save(heard._replace(ledger=(change.row,)))
    assert store.load("i").ledger == (change.row,)
    assert planned_for(doc, macs, renderer, store.load("i"))[1].plan.changes == ()


def test_dns_that_somebody_took_out_of_what_was_ours_stays_out(renderer):
    doc = json.loads((record.HERE.parent / "documents" / "05-dns-nameservers.json").read_text())
    macs = record.nics(doc)
    write_alone(doc, macs, renderer)
    state = assert_adopted(doc, macs, renderer)
    path, before, _after = less_dns(renderer)
    _heard, seen = planned_for(doc, macs, renderer, state)
    assert seen.plan.changes == ()
    (drift,) = seen.plan.drifted
    assert drift.reason == "changed externally"
    assert "+ dns 192.0.2.53 192.0.2.54" in drift.differs
    # What cloud-init itself writes anew at a boot is taken for that.
    files.replace(path, before + "\n")
    assert planned_for(doc, macs, renderer, state)[1].plan.drifted == ()


HIGH, LOW = "fa:16:3e:00:00:f0", "fa:16:3e:00:00:10"


def test_two_bonds_keep_their_names(renderer):
    """cloud-init numbers them as the document has them; their MACs are in another order."""
    macs = {"fa:16:3e:00:00:0%d" % n: "ens%d" % (2 + n) for n in (1, 2, 3, 4)}
    links = [link(mac, "tap%d" % n) for n, mac in enumerate(macs, 1)]
    doc = document(
        [*links, bond(HIGH, "a", ("tap1", "tap2")), bond(LOW, "b", ("tap3", "tap4"))],
        [static(link="a"), static("10.1.0.5", link="b")],
    )
    write_alone(doc, macs, renderer)
    state = assert_adopted(doc, macs, renderer)
    assert state.bonds == {HIGH + "/bond": "bond0", LOW + "/bond": "bond1"}
