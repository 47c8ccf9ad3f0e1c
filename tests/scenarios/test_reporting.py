# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A webhook below `reporting:` hears of each run that changed something; one that hangs or is down delays no NIC."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List

import pytest

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import assert_follows, assert_gone, settled, wait_until
from tests.scenarios.serving import history

_HOOK = """
import http.server, sys, time
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        time.sleep(float(sys.argv[1]))
        with open("/root/heard", "a") as heard:
            heard.write(body + "\\n")
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Hook).serve_forever()
"""
REPORT = "cloudinit-osnetd-report.service"


def listen(guest: Container, seconds: float) -> None:
    """Somebody takes events at the webhook's place, so long each."""
    guest.run("systemctl stop hook.service; systemctl reset-failed hook.service", check=False)
    guest.put(_HOOK.encode(), "/root/hook.py")
    guest.run(f"systemd-run --quiet --collect --unit=hook python3 /root/hook.py {seconds}")
    wait_until(lambda: ":8099" in guest.run("ss -ltn").stdout, 10, "the webhook listens")


def heard(guest: Container) -> List[Dict[str, Any]]:
    lines = guest.run("cat /root/heard", check=False).stdout.splitlines()
    return [event for event in map(json.loads, lines) if event["name"] == "cloudinit-osnetd"]


def runs_heard(guest: Container) -> List[int]:
    return [int(re.findall(r"run (\d+)", event["description"])[0]) for event in heard(guest) if event["event_type"] == "finish"]


@pytest.mark.every_kind
def test_a_webhook_hears_of_each_run_and_delays_none(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("reporting")
    server.create_port(blue)
    hook = {"reporting": {"hook": {"type": "webhook", "endpoint": "http://127.0.0.1:8099/"}}}
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/92_hook.cfg": json.dumps(hook)})
    guest.boot()
    settled(guest)

    listen(guest, 0)
    first = server.create_port(green)
    guest.plug(first)
    assert_follows(guest, first)
    settled(guest)
    number = history(guest)[-1]["run"]
    wait_until(lambda: number in runs_heard(guest), 15, "the webhook heard of the attach")
    start, finish = heard(guest)[-2:]
    assert (start["event_type"], finish["event_type"], finish["result"]) == ("start", "finish", "SUCCESS"), (start, finish)
    assert str(guest.nic(first)) in finish["description"] and "added" in finish["description"]
    assert start["timestamp"] < finish["timestamp"]

    # It takes events and does not answer: NICs come and go as before, and the service does not wait for it.
    listen(guest, 1000)
    second = server.create_port(green)
    guest.plug(second)
    assert_follows(guest, second, seconds=5)
    settled(guest)
    assert guest.run(f"systemctl is-active {REPORT}", check=False).stdout.strip() == "active"
    name = str(guest.nic(second))
    server.delete_port(second)
    guest.unplug(second)
    assert_gone(guest, name)
    settled(guest)

    # Nobody is there at all.
    guest.run("systemctl stop hook.service")
    third = server.create_port(green)
    guest.plug(third)
    assert_follows(guest, third, seconds=5)
    settled(guest)

    # It is back: no run is lost.
    listen(guest, 0)
    guest.run(f"systemctl reset-failed {REPORT}; systemctl restart {REPORT}", check=False)
    wanted = {record["run"] for record in history(guest)}
    wait_until(lambda: wanted <= set(runs_heard(guest)), 20, f"the webhook heard of {wanted}")
    wait_until(lambda: guest.run(f"systemctl is-active {REPORT}", check=False).stdout.strip() == "inactive", 10, "the report's end")
