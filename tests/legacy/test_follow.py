# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`follow` and `early`: what the metadata service or the config drive says, at events and at boots."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import socketserver
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

import pytest

from tests.lab import netns

from .conftest import ENDS, MACS, Place, document, link, static

INTERFACES = "etc/network/interfaces"


class Metadata:
    """The metadata service of one server: 169.254.169.254 on the namespace's loopback."""

    def __init__(self, namespace: str) -> None:
        self.said: Optional[Any] = None
        self.raw: Optional[bytes] = None
        self.uuid = "6e09f1b2-0000-4000-8000-00000000a001"
        self.requests: List[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                body = outer.answer(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_words: object) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

        netns.ip(namespace, "address add 169.254.169.254/32 dev lo")
        self.server = netns.within(namespace, lambda: Server(("169.254.169.254", 80), Handler))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> Optional[bytes]:
        if path == "/openstack/latest/meta_data.json":
            return json.dumps({"uuid": self.uuid}).encode()
        if path != "/openstack/latest/network_data.json" or (self.said is None and self.raw is None):
            return None
        return self.raw if self.raw is not None else json.dumps(self.said).encode()

    @property
    def looks(self) -> int:
        return self.requests.count("/openstack/latest/network_data.json")


@pytest.fixture
def metadata(place: Place) -> Iterator[Metadata]:
    made = Metadata(place.namespace)
    yield made
    made.server.shutdown()
    made.server.server_close()


def ports(*numbers: int, **more: Any) -> Dict[str, Any]:
    """Ports 0, 1, ...: 10.N.0.5/24, the first with the way out."""
    items: List[Any] = [link(n, **more) for n in numbers]
    items += [static(n, f"10.{n}.0.5/24", f"10.{n}.0.1" if n == 0 else "") for n in numbers]
    return document(*items, dns=["10.0.0.53"])


@pytest.mark.parametrize("version", ENDS)
def test_a_port_that_comes_is_configured_and_one_that_goes_leaves_the_files_whatever_is_listed(
    place: Place, metadata: Metadata, version: str
) -> None:
    place.unplug("eth1")
    metadata.said = ports(0)
    done = place.run("-v", "follow")
    assert done.status == 0, done
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    place.plug("eth1", MACS[1])
    metadata.said = ports(0, 1)
    done = place.run("-v", "follow", "--event", "add-4711")
    assert done.status == 0, done
    assert place.addresses("eth1") == ["10.1.0.5/24"]
    assert [command for command in done.commands() if "eth0" in command] == []
    assert "iface eth1 inet static" in place.read(INTERFACES)
    before = place.files()
    assert place.run("-v", "follow").commands() == []
    assert place.files() == before

    place.unplug("eth1")
    done = place.run("-v", "follow", "--event", "remove-4712")  # the metadata lists it still
    assert done.status == 0, done
    assert [command for command in done.commands() if command.startswith("ip")] == []
    assert "eth1" not in place.read(INTERFACES)
    assert "iface eth0 inet static" in place.read(INTERFACES)
    # It comes back, and nobody answers: it is known.
    metadata.said = None
    place.plug("eth1", MACS[1])
    done = place.run("follow", "--event", "add-4713", timeout=4)
    assert place.addresses("eth1") == ["10.1.0.5/24"]


def test_a_push_holds_until_the_metadata_says_something_new_of_that_port(place: Place, metadata: Metadata) -> None:
    metadata.said = ports(0, 1)
    assert place.run("follow").status == 0
    pushed = document(link(0), static(0, "10.0.0.77/24", "10.0.0.1"))
    assert place.apply(pushed).status == 0
    assert place.run("follow").status == 0
    assert place.addresses("eth0") == ["10.0.0.77/24"]
    metadata.said["networks"][1]["ip_address"] = "10.1.0.99"
    assert place.run("follow").status == 0
    assert (place.addresses("eth0"), place.addresses("eth1")) == (["10.0.0.77/24"], ["10.1.0.99/24"])
    metadata.said["networks"][0]["ip_address"] = "10.0.0.88"
    assert place.run("follow").status == 0
    assert place.addresses("eth0") == ["10.0.0.88/24"]


def test_the_drive_is_for_whom_nobody_else_knows(place: Place, metadata: Metadata) -> None:
    seed = "var/lib/cloud/seed/config_drive/openstack/latest/network_data.json"
    place.write(seed, json.dumps(ports(0, 1)))
    assert place.run("follow", timeout=4) is not None
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    # The metadata service tells what is now.
    metadata.said = ports(0, 1)
    metadata.said["networks"][0]["ip_address"] = "10.0.0.6"
    assert place.run("follow").status == 0
    assert place.addresses("eth0") == ["10.0.0.6/24"]
    # And is away again: the drive says what was.
    metadata.said = None
    place.run("follow", timeout=4)
    assert place.addresses("eth0") == ["10.0.0.6/24"]


@pytest.mark.parametrize("raw", [b"<html>503</html>", b"{}"])
def test_what_is_no_network_data_says_nothing(place: Place, metadata: Metadata, raw: bytes) -> None:
    metadata.said = ports(0)
    assert place.run("follow").status == 0
    before = place.files()
    metadata.raw = raw
    place.run("follow", timeout=3)
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert place.files() == before


UUID = "sys/class/dmi/id/product_uuid"


@pytest.mark.parametrize("version", ENDS)
def test_another_servers_metadata_is_not_heard(place: Place, metadata: Metadata, version: str) -> None:
    place.write(UUID, "12345678-0000-4000-8000-123456789ABC\n")
    metadata.said, metadata.uuid = ports(0), "12345678-0000-4000-8000-123456789abd"
    done = place.run("follow", timeout=3)
    assert place.addresses("eth0") == []
    assert "another server" in done.err
    # An old firmware shows the first parts of it with their bytes the other way round.
    metadata.uuid = "78563412-0000-0040-8000-123456789abc"
    assert place.run("follow").status == 0
    assert place.addresses("eth0") == ["10.0.0.5/24"]


@pytest.mark.parametrize("backend", ["interfaces", "interfaces.d", "ifcfg", "netplan"])
def test_on_a_copy_of_the_disk_the_files_are_taken_back_before_cloud_init_starts(place: Place, backend: str) -> None:
    (place.root / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
    place.write(UUID, "12345678-0000-4000-8000-123456789abc\n")
    before = {path: text for path, text in place.files().items() if path.startswith("etc/")}
    assert place.run("install", "--no-start").status == 0
    assert place.apply(ports(0)).status == 0
    place.write(UUID, "12345678-0000-4000-8000-123456789abd\n")
    assert place.run("early").status == 0
    ours = ("etc/systemd", "etc/udev", "etc/init")
    after = {path: text for path, text in place.files().items() if path.startswith("etc/") and not path.startswith(ours)}
    assert {path: text.rstrip() for path, text in after.items()} == {path: text.rstrip() for path, text in before.items()}


def test_a_burst_is_one_look(place: Place, metadata: Metadata) -> None:
    metadata.said = ports(0, 1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: place.run("follow", "--event", f"add-{n}"), range(8)))
    assert [one.status for one in done] == [0] * 8
    assert place.addresses("eth1") == ["10.1.0.5/24"]
    # On a loaded machine one may start after another has looked.
    assert metadata.looks <= 3


def test_it_waits_for_cloud_init_where_there_is_one(place: Place, metadata: Metadata) -> None:
    metadata.said = ports(0)
    place.write("usr/bin/cloud-init", "")
    place.write("proc/uptime", "10.00 20.00\n")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        looking = pool.submit(place.run, "follow", "--event", "boot")
        time.sleep(1.5)
        assert metadata.requests == []
        assert place.addresses("eth0") == []
        place.write("run/cloud-init/result.json", "{}")
        assert looking.result().status == 0
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert (place.root / "run/osnetd-legacy/listening").exists(), "from now on udev's events count"


def test_long_after_a_boot_no_nic_waits_for_a_cloud_init_that_never_ran(place: Place, metadata: Metadata) -> None:
    metadata.said = ports(0)
    place.write("usr/bin/cloud-init", "")
    place.write("proc/uptime", "301.00 20.00\n")
    assert place.run("follow", "--event", "add-1", timeout=10).status == 0
    assert place.addresses("eth0") == ["10.0.0.5/24"]


@pytest.mark.parametrize("backend", ["interfaces", "interfaces.d", "ifcfg"])
def test_before_the_network_starts_the_files_have_the_names_of_this_boot(place: Place, backend: str) -> None:
    """eth1 went while the server was off, eth2 is eth1 now."""
    place.plug("eth2", MACS[2])
    assert place.apply(ports(0, 1, 2)).status == 0
    place.unplug("eth1")
    place.ip("addr flush dev eth0", "link set eth2 down", "addr flush dev eth2", "link set eth2 name eth1")
    done = place.run("-v", "early")
    assert done.status == 0, done
    assert [command for command in done.commands() if command.startswith("ip")] == []
    assert place.addresses("eth1") == []
    text = b"".join(content for path, content in place.files().items() if path.startswith("etc/")).decode()
    assert "10.2.0.5" in text and "10.1.0.5" not in text and "eth2" not in text
    assert text.lower().index(MACS[2]) > text.lower().index(MACS[0])
    before = place.files()
    assert place.run("early").status == 0
    assert place.files() == before


def test_early_on_a_server_that_we_never_configured_does_nothing(place: Place) -> None:
    before = place.files()
    assert place.run("early").status == 0
    assert place.files() == before


def test_a_nic_that_was_attached_while_the_server_was_off_is_configured_from_a_drive_that_knows_it(place: Place) -> None:
    assert place.apply(ports(0)).status == 0
    place.write("var/lib/cloud/seed/config_drive/openstack/latest/network_data.json", json.dumps(ports(0, 1)))
    assert place.run("early").status == 0
    assert "address 10.1.0.5" in place.read(INTERFACES)


def test_cloud_inits_network_is_switched_off_once_ours_is_on_disk_and_where_we_are_installed(place: Place, metadata: Metadata) -> None:
    metadata.said = ports(0)
    (place.root / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
    off = place.root / "etc/cloud/cloud.cfg.d/99-osnetd-legacy.cfg"
    assert place.run("follow").status == 0
    assert not off.exists(), "nobody would see to a copy of this disk"
    assert place.run("install", "--no-start").status == 0
    assert place.run("follow").status == 0
    assert "network: {config: disabled}" in off.read_text()
    assert place.run("uninstall").status == 0
    assert not off.exists()
