# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The service, and the plugin in an unmodified cloudbase-init: a NIC arrives, is configured, leaves."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any, Dict, Iterator

import pytest

from tests.lab import netns
from tests.lab.waiting import wait_for
from tests.windows import place
from tests.windows.conftest import MACS, document, link, static
from tests.windows.machine import Windows

PORT = 8975
URL = f"http://127.0.0.1:{PORT}"
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
    return windows.inside([place.WINE, "reg", "query", "HKLM\\SYSTEM\\CurrentControlSet\\Services\\cloudinit-osnetd", "/s"]).out


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
