# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Each document of tests/documents, through this root's renderers and what we finish: what the files then say."""

import re
from pathlib import Path

import pytest

from cloudinit_osnetd import backends
from cloudinit_osnetd.core import network_data, truth
from cloudinit_osnetd.core.desired import desired
from cloudinit_osnetd.core.records import Renderer
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.system import paths
from tests.unit.build import nic, nics

DIRECTORY = Path(__file__).parent.parent / "documents"
ONE, TWO, THREE = ("00:00:5e:00:53:0%d" % n for n in (1, 2, 3))
RENDERERS = ("eni", "networkd", "netplan")
NAMES = {"ens3": ONE, "ens4": TWO, "ens5": THREE}
HERE = nics(nic("ens3", ONE), nic("ens4", TWO, 3), nic("ens5", THREE, 4))


@pytest.fixture(params=RENDERERS)
def rendered(request, guest, tmp_path, monkeypatch):
    """The finished text of each NIC of a document, its files joined, by NIC."""
    from cloudinit_osnetd.cloud_init import compat

    # netplan's renderer asks whether netplan is there, which is in no such root.
    guest.renderer("eni" if request.param == "netplan" else request.param)
    monkeypatch.setattr(paths, "STAGING", str(tmp_path / "staging"))
    backend = backends.of_renderer(request.param)
    monkeypatch.setattr(type(backend), "check", lambda *_: None)  # netplan's own program is not in these roots

    def render_(name):
        document = next(DIRECTORY.glob(name + "-*.json")).read_bytes()
        known = truth.observe(truth.EMPTY, "drive", network_data.parse_bytes(document, lambda: NAMES), 0.0)
        wants = desired(known, HERE)
        config = {"netplan_path": "etc/netplan/50-cloud-init.yaml", "postcmds": False, "features": ["none"]}
        using = Renderer("netplan", config)
        if request.param != "netplan":
            using = Renderer(*compat._renderer())
        done = render.render(wants, backend, using)
        assert done.failures == ()
        texts = {}
        for part in done.parts:
            texts[part.name] = texts.get(part.name, "") + part.text
        return texts

    render_.backend = request.param
    return render_


def flat(text):
    """Without what differs by release in its look alone."""
    return re.sub(r"[\s'\"-]+", " ", text)


def said(rendered, text, eni, networkd, netplan):
    return {"eni": eni, "networkd": networkd, "netplan": netplan}[rendered.backend] in flat(text)


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.name.partition("-")[0])
def test_every_document_is_rendered(rendered, path):
    text = "".join(rendered(path.name.partition("-")[0]).values())
    entries = network_data.parse_bytes(path.read_bytes(), lambda: NAMES).entries.values()
    static = {address.partition("/")[0] for entry in entries for address in network_data.static_addresses(entry)}
    assert [address for address in sorted(static) if address not in text] == []


def test_a_bond_without_a_mac_is_given_none(rendered):
    text = flat(rendered("01")["bond0"])
    assert ONE not in text and "192.0.2.10/24" in text


def test_a_vlan_without_a_mac_is_given_none(rendered):
    text = flat(rendered("02")["ens3.100"])
    assert ONE not in text and "192.0.2.10/24" in text


def test_a_default_route_without_a_gateway_is_none(rendered):
    text = rendered("11")["ens4"]
    assert "198.51.100.10/24" in text and "default" not in text and "0.0.0.0/0" not in text


def test_a_route_on_the_link(rendered):
    text = rendered("12")["ens3"]
    assert said(rendered, text, "ip route add 198.51.100.0/24 dev ens3", "[Route] Destination=198.51.100.0/24 ", "scope: link to: 198.51.100.0/24") or said(
        rendered, text, "-", "[Route] Destination=198.51.100.0/24", "to: 198.51.100.0/24 scope: link"
    )
    assert "192.0.2.1" in text


def test_dns_and_a_route_beside_a_lease(rendered):
    text = rendered("14")["ens3"]
    assert "192.0.2.66" in text
    assert "198.51.100.0/24" in text and "192.0.2.65" in text


@pytest.mark.parametrize(("name", "servers"), [("05", ("192.0.2.53", "192.0.2.54")), ("07", ("192.0.2.53",)), ("23", ("192.0.2.53", "192.0.2.54"))])
def test_search_domains(rendered, name, servers):
    text = rendered(name)["ens3"]
    assert "example.com" in text
    assert all(server in text for server in servers)


def test_the_networks_own_dns_stands_alone(rendered):
    text = rendered("06")["ens3"]
    assert "192.0.2.53" in text and "198.51.100.53" not in text


def test_a_mode_has_its_word(rendered):
    text = rendered("20")["bond0"]
    assert "802.3ad" in text


def test_what_cloud_init_calls_a_bond_is_found_out(guest):
    from cloudinit_osnetd.cloud_init import compat, network_config

    told = network_config.supports_bond_names(compat.convert)
    assert isinstance(told, bool)
