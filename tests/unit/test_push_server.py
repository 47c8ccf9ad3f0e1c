# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""osnetd-push --server with a stand-in for the SDK's connection: answers as of Neutron 29, and Nova's by its documentation.

tests/neutron asks a real Neutron.
"""

import base64
import json
import subprocess
import sys
import types

import pytest

from cloudinit_osnetd.core import network_data
from osnetd_push import cli
from osnetd_push.errors import NoDocument
from osnetd_push.server_document import Cloud, document
from tests.unit.fake_agent import FakeAgent

SERVER = "6e09f1b2-0000-4000-8000-00000000a001"
NETWORK, SUBNET, MAC = "d913ac5e-c4c0-4520-a601-bdd36e208922", "bc41c7ae-7bf5-4a60-8c84-8465eb402922", "fa:16:3e:f3:56:ce"
PORT = {
    "id": "32c8e16d-336a-40f8-9604-699cd2889a47",
    "network_id": NETWORK,
    "mac_address": MAC,
    "device_id": SERVER,
    "created_at": "2026-11-29T08:42:38Z",
    "fixed_ips": [{"subnet_id": SUBNET, "ip_address": "10.90.0.11"}, {"subnet_id": SUBNET, "ip_address": "10.90.0.12"}],
}
ANSWERS = {
    "ports": [PORT],
    "networks": [{"id": NETWORK, "mtu": 1400, "dns_domain": "blue.example."}],
    "subnets": [
        {
            "id": SUBNET,
            "network_id": NETWORK,
            "ip_version": 4,
            "enable_dhcp": False,
            "ipv6_address_mode": None,
            "gateway_ip": "10.90.0.1",
            "cidr": "10.90.0.0/24",
            "host_routes": [{"destination": "10.200.0.0/16", "nexthop": "10.90.0.9"}],
            "dns_nameservers": ["10.90.0.2"],
        }
    ],
    "servers": [{"id": SERVER, "name": "web.1"}, {"id": "other", "name": "webx1"}],
}
FILTERS = {"id": "id", "network_id": "network_id", "device_id": "device_id", "device_owner": "device_owner"}


class Answer:
    def __init__(self, body, status_code=200):
        self.body, self.status_code, self.text = body, status_code, json.dumps(body)

    def json(self):
        return self.body


class Cloudy:
    """The connection of the SDK: .network and .compute, each asked by get(path, params)."""

    def __init__(self, answers=ANSWERS, forbidden=()):
        self.answers, self.forbidden, self.asked = answers, forbidden, []
        self.network = self.compute = self

    def get(self, path, params):
        self.asked.append((path, params))
        if any(word in params for word in self.forbidden):
            return Answer({"forbidden": {"message": "Policy doesn't allow it"}}, 403)
        kind = path.strip("/")
        if kind not in self.answers:
            return Answer({"itemNotFound": {}}, 404)
        wanted = {FILTERS[key]: value for key, value in params.items() if key in FILTERS}
        return Answer({kind: [one for one in self.answers[kind] if all(one.get(key) == value for key, value in wanted.items())]})


@pytest.fixture
def cloud(monkeypatch):
    """cloud(Cloudy) puts a connection in place."""

    def put(cloudy):
        module = types.ModuleType("openstack")
        module.connect = lambda **words: cloudy
        monkeypatch.setitem(sys.modules, "openstack", module)
        return cloudy

    return put


def printed(capsys):
    return network_data.parse_bytes(capsys.readouterr().out.encode())


def test_the_document_is_printed_and_a_guest_can_read_it(cloud, capsys):
    cloud(Cloudy())
    assert cli.main(["--server", SERVER, "--print"]) == 0
    read = printed(capsys)
    assert read.faults == ()
    (entry,) = read.entries.values()
    assert (entry.mac, entry.mtu) == (MAC, 1400)
    assert [(net.address, len(net.routes), net.dns, net.search) for net in entry.networks] == [
        ("10.90.0.11/24", 2, ("10.90.0.2",), ("blue.example",)),
        ("10.90.0.12/24", 0, (), ("blue.example",)),
    ]


@pytest.mark.parametrize("forbidden", [(), ("all_tenants",)])
def test_by_name(cloud, capsys, forbidden):
    asked = cloud(Cloudy(forbidden=forbidden)).asked
    assert cli.main(["--server", "web.1", "--print"]) == 0
    assert next(iter(printed(capsys).entries.values())).mac == MAC
    assert asked[0][1]["name"] == "^web\\.1$"


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        ([], "no server is named web"),
        ([{"id": "1", "name": "web"}, {"id": "2", "name": "web"}], "web names 2 servers"),
        ([{"id": "1", "name": "webb"}], "no server is named web"),
    ],
)
def test_a_name_that_is_not_one_servers(cloud, capsys, servers, told):
    cloud(Cloudy(dict(ANSWERS, servers=servers)))
    assert cli.main(["--server", "web", "--print"]) == 26
    assert told in capsys.readouterr().err


def without(key):
    return {name: value for name, value in ANSWERS.items() if name != key}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (dict(ANSWERS, ports=[]), "has no port"),
        (dict(ANSWERS, networks=[]), NETWORK),
        (dict(ANSWERS, subnets=[]), SUBNET),
        (without("ports"), "HTTP status 404"),
        (dict(ANSWERS, ports=[dict(PORT, fixed_ips=None)]), "not understood"),
        (dict(ANSWERS, ports=[{"device_id": SERVER}]), "not understood"),
    ],
)
def test_a_cloud_that_says_too_little(cloud, capsys, answers, told):
    cloud(Cloudy(answers))
    assert cli.main(["--server", SERVER, "--print"]) == 26
    assert told in capsys.readouterr().err


def test_no_sdk(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openstack", None)
    assert cli.main(["--server", SERVER, "--print"]) == 26
    assert "python3-openstacksdk" in capsys.readouterr().err


def test_the_document_is_what_the_guest_gets(cloud, capsys, tmp_path):
    cloud(Cloudy())
    assert cli.main(["--server", SERVER, "--print"]) == 0
    shown = json.loads(capsys.readouterr().out)
    with FakeAgent(tmp_path / "agent.sock") as guest:
        assert cli.main(["--server", SERVER, "--socket", guest.path]) == 0
    assert json.loads(base64.b64decode(guest.started()[0]["input-data"]).decode("ascii")) == shown


def test_a_port_in_no_network_of_the_answer_is_not_left_out():
    with pytest.raises(KeyError):
        document(Cloud([PORT], {}, {}, frozenset()))


@pytest.mark.parametrize(
    "words",
    [
        ["--server", SERVER, "--all"],
        ["--server", SERVER, "file"],
        ["--server", SERVER, "--domain", "a", "--domain", "b"],
        ["--socket", "s", "--print", "file"],
        ["--socket", "s", "--static", "file"],
        ["--socket", "s", "--os-cloud", "c", "file"],
    ],
)
def test_usage(words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


# --all: whose document is it?

ONE = b'{"links": [{"id": "a", "ethernet_mac_address": "FA-16-3E-00-00-01"}, {"id": "b", "ethernet_mac_address": null}, 7]}'


@pytest.mark.parametrize("data", [ONE, b"\n" + ONE, base64.b64encode(ONE), base64.encodebytes(ONE)])
def test_the_macs_of_a_document_plain_or_base64(data):
    from osnetd_push.document import check_names_a_nic_of, macs

    assert macs(data) == {"fa:16:3e:00:00:01"}
    check_names_a_nic_of("web", data, ["fa:16:3e:00:00:02", "fa:16:3e:00:00:01"])
    for others in (["fa:16:3e:00:00:02"], []):
        with pytest.raises(NoDocument, match=r"^web: not sent"):
            check_names_a_nic_of("web", data, others)


@pytest.mark.parametrize("data", [b"x", b"{}", b'{"links": 7}', b'{"links": null}', b"\xff", b"[" * 100000, b"e30="])
def test_what_is_no_document_is_sent_to_no_domain(data):
    from osnetd_push.document import check_names_a_nic_of

    with pytest.raises(NoDocument):
        check_names_a_nic_of("web", data, ["fa:16:3e:00:00:01"])


@pytest.mark.parametrize(("redirected", "said"), [("<&-", "it is closed"), ("</dev/null", "empty"), ("0>/dev/null", "Bad file descriptor")])
def test_a_standard_input_that_gives_nothing_is_told(redirected, said):
    words = ["sh", "-c", 'exec "$@" %s' % redirected, "sh", sys.executable, "-m", "osnetd_push", "--socket", "/nowhere", "-"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert (done.returncode, done.stderr) == (NoDocument.code, "osnetd-push: standard input: %s\n" % said)
