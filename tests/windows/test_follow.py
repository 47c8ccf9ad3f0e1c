# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The service, and the plugin in an unmodified cloudbase-init: a NIC arrives, is configured, leaves."""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import Any, Dict, Iterator

import pytest

from tests.lab import netns
from tests.lab.waiting import wait_for
from tests.windows import place
from tests.windows.conftest import MACS, document, link, static
from tests.windows.machine import Windows

PORT = 8975
URL = f"http://127.0.0.1:{PORT}"
SERVICE = "SYSTEM\\CurrentControlSet\\Services\\cloudinit-osnetd"
FOLDER = "C:\\ProgramData\\cloudinit-osnetd"
UUID = "8d1dd1a4-1111-4222-8333-0123456789ab"


class Metadata:
    """A metadata service in the namespace. `document` is what it says."""

    def __init__(self, windows: Windows) -> None:
        self.document: Any = document(link(0), static(0, "192.0.2.10/24"))
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers: Dict[str, Any] = {"network_data.json": outer.document, "meta_data.json": {"uuid": UUID, "name": "web"}}
                name = self.path.rpartition("/")[2]
                self.send_response(200 if name in answers else 404)
                self.end_headers()
                if name in answers:
                    self.wfile.write(json.dumps(answers[name]).encode())

            def log_message(self, *args: Any) -> None:
                pass

        def make() -> http.server.ThreadingHTTPServer:
            return http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
        self.server = netns.within(windows.namespace, make)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def metadata(windows: Windows) -> Iterator[Metadata]:
    folder = windows.drive(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "osnetd.json").write_text(json.dumps({"metadata_urls": [URL]}))
    made = Metadata(windows)
    yield made
    made.close()


def services(windows: Windows) -> str:
    return windows.inside([place.WINE, "reg", "query", f"HKLM\\{SERVICE}", "/s"]).out


def test_the_service_configures_a_nic_that_arrives_and_sees_it_leave(windows: Windows, metadata: Metadata) -> None:
    log = windows.drive(FOLDER) / "osnetd.log"
    try:
        done = windows.osnetd("install")
        assert done.status == 0, done
        assert "-m cloudinit_osnetd.windows service" in services(windows)
        assert wait_for(lambda: windows.addresses(windows.first) == ["192.0.2.10/24"], 60, 0.5), log.read_text()
        metadata.document = document(link(0), static(0, "192.0.2.10/24"), link(3), static(3, "198.51.100.7/24"))
        windows.plug(f"{windows.first}x", MACS[3])
        assert wait_for(lambda: windows.addresses(f"{windows.first}x") == ["198.51.100.7/24"], 60, 0.5), log.read_text()
        windows.unplug(f"{windows.first}x")
        assert wait_for(lambda: MACS[3] not in log.read_text().rpartition("NICs: ")[2], 30, 0.5), log.read_text()
        assert windows.osnetd("install").status == 0  # may be repeated
    finally:
        done = windows.osnetd("uninstall")
    assert done.status == 0, done
    assert "cloudinit_osnetd" not in services(windows)
    assert not windows.drive(FOLDER).exists()
    assert windows.addresses(windows.first) == ["192.0.2.10/24"]


def test_the_service_waits_until_cloudbase_init_has_ended(windows: Windows, metadata: Metadata) -> None:
    idle = ["-m", "tests.windows.inside.idle_service"]
    log = windows.drive(FOLDER) / "osnetd.log"
    assert windows.python(*idle, "make").status == 0
    try:
        assert windows.osnetd("install").status == 0
        assert wait_for(lambda: log.exists() and "waiting for cloudbase-init" in log.read_text(), 60, 0.5)
        time.sleep(2)
        assert windows.addresses(windows.first) == []
    finally:
        removed = windows.python(*idle, "remove")
        assert removed.status == 0, removed
    assert wait_for(lambda: windows.addresses(windows.first) == ["192.0.2.10/24"], 60, 0.5), log.read_text()
    assert windows.osnetd("uninstall").status == 0


def registry(windows: Windows, *keys: str) -> set[tuple[str, ...]]:
    """All of the registry, or what is below some keys, but what Wine has of the NICs, whose configuration stays, and its count of services started."""
    done = windows.python("-m", "tests.windows.inside.registry_dump", *keys)
    assert done.status == 0, done
    return {tuple(row) for row in map(json.loads, done.out.splitlines()) if "\\Tcpip" not in row[0] and "ServiceCurrent" not in row[0]}


def files(windows: Windows) -> set[str]:
    """The paths of all files but what Python compiles."""
    return {str(path) for path in windows.drive("C:\\").rglob("*") if not {"pycache", "__pycache__"} & set(path.parts)}


def test_nothing_is_left_behind(windows: Windows, metadata: Metadata) -> None:
    """After install, a boot's worth of following, a push and uninstall: no file, no key, no value, no plugin."""
    conf = windows.drive("C:\\cloudbase-init.conf")
    before_conf = "[DEFAULT]\r\nusername=Admin\r\nverbose=true\r\n"
    conf.write_bytes(before_conf.encode())
    inside = str(windows.drive(FOLDER))
    before = (registry(windows), {path for path in files(windows) if not path.startswith(inside)})
    done = windows.osnetd("install", "--cloudbase-init", "C:\\cloudbase-init.conf")
    assert done.status == 0, done
    assert "OsnetdPlugin\r\nusername" in conf.read_bytes().decode()
    assert wait_for(lambda: windows.addresses(windows.first) == ["192.0.2.10/24"], 60, 0.5)
    assert windows.apply(document(link(1), static(1, "203.0.113.5/24"))).status == 0
    assert registry(windows, SERVICE) - before[0]  # all of it takes seconds
    done = windows.osnetd("uninstall", "--cloudbase-init", "C:\\cloudbase-init.conf")
    assert done.status == 0, done
    assert conf.read_bytes().decode() == before_conf
    now = registry(windows)
    assert (now - before[0], before[0] - now) == (set(), set())
    assert files(windows) == before[1]
    # What was configured stays.
    assert windows.addresses(windows.first) == ["192.0.2.10/24"]
    assert windows.addresses(windows.second) == ["203.0.113.5/24"]
    again = windows.osnetd("uninstall")
    assert again.status == 0, again


def test_an_unmodified_cloudbase_init_runs_the_plugin_at_each_boot(windows: Windows, metadata: Metadata) -> None:
    conf = windows.drive("C:\\cloudbase-init.conf")
    before = (
        "[DEFAULT]\nmetadata_services=cloudbaseinit.metadata.services.httpservice.HttpService\nallow_reboot=false\n"
        f"stop_service_on_exit=false\nplugins=cloudbaseinit.plugins.common.mtu.MTUPlugin\n[openstack]\nmetadata_base_url={URL}/\n"
        "add_metadata_private_ip_route=false\n"
    )
    conf.write_text(before)
    edit = "import sys; from cloudinit_osnetd.windows import install; install._edit(sys.argv[1], getattr(install, sys.argv[2]))"
    assert windows.python("-c", edit, "C:\\cloudbase-init.conf", "with_plugin").status == 0
    boot = "import sys; sys.argv = ['cloudbase-init', '--config-file', 'C:\\\\cloudbase-init.conf', '--noreset_service_password', '--debug']; from cloudbaseinit import shell; shell.main()"
    first = windows.python("-c", boot)
    assert windows.addresses(windows.first) == ["192.0.2.10/24"], first
    # The registry remembers plugins that are done for good, and this is none of them.
    metadata.document = document(link(0), static(0, "192.0.2.99/24"))
    second = windows.python("-c", boot)
    assert windows.addresses(windows.first) == ["192.0.2.99/24"], second
    assert windows.python("-c", edit, "C:\\cloudbase-init.conf", "without_plugin").status == 0
    assert conf.read_text() == before


def test_a_config_drive_is_read_where_nobody_answers(windows: Windows) -> None:
    folder = windows.drive(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "osnetd.json").write_text(json.dumps({"metadata_urls": ["http://127.0.0.1:9"]}))
    latest = windows.config_drive / "openstack" / "latest"
    latest.mkdir(parents=True)
    (latest / "network_data.json").write_text(json.dumps(document(link(0), static(0, "192.0.2.10/24"))))
    (latest / "meta_data.json").write_text(json.dumps({"uuid": UUID}))
    one = "from cloudinit_osnetd.windows import config, follow, sources; s = config.load(); a = sources.ask(s.metadata_urls); print(a.source, a.instance, follow.one_pass(s, a))"
    done = windows.python("-c", one)
    assert f"drive {UUID} False" in done.out, done  # the other NIC has no entry
    assert windows.addresses(windows.first) == ["192.0.2.10/24"]
