# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An upgrade from a release, and its being taken back: what one version remembers another knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.lab import Cloud, Container, Port, deb
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import assert_network, assert_network_boot, identity, log_length, untouched
from tests.scenarios.seen import assert_nothing_to_do, reconcile, settled, state_of, status

EARLIER = "0.1.0"


@pytest.fixture
def earlier() -> Path:
    found = deb.of_release(EARLIER)
    if found is None:
        pytest.skip(f"the history does not reach back to {EARLIER}")
    return found


def store_of(guest: Container) -> Dict[str, Any]:
    return dict(json.loads(guest.run("cat /var/lib/cloudinit-osnetd/store.json").stdout))


def version_of(guest: Container) -> str:
    return guest.run("cloudinit-osnetd --version").stdout.split()[-1]


def assert_ok(guest: Container, *ports: Port) -> None:
    """Every port is ours and as it should be, whichever version says so."""
    assert_network(guest, *ports)
    told = status(guest)
    assert [state_of(guest, port) for port in ports] == ["ok"] * len(ports), told["nics"]
    assert told["last_run"]["drifted"] == []


def assert_taken_over(guest: Container, source: Path | None, *ports: Port) -> None:
    """Another version is installed: nothing drifted, nothing touched, nothing forgotten."""
    before = store_of(guest)
    with untouched(guest):
        package.install(guest, source)
        settled(guest)
    assert_ok(guest, *ports)
    assert status(guest)["last_run"]["touches"] == []
    after = store_of(guest)
    for name in ("instance_id", "metrics", "drive_stamp", "answered"):
        assert after[name] == before[name], name
    assert set(after["truth"]["keys"]) == set(before["truth"]["keys"])
    rows = [{(row["path"], row["section"]): row["key"] for row in store["ledger"]} for store in (before, after)]
    assert rows[0] == rows[1]
    assert_nothing_to_do(guest)


def assert_edit_followed(guest: Container, port: Port, *others: Port) -> None:
    mtu = 1300 if port.mtu != 1300 else 1320
    guest.server.edit_port(port, mtu=mtu)
    record = reconcile(guest)
    assert [touch["mac"] for touch in record["touches"]] == [port.mac], record
    assert_ok(guest, port, *others)


@pytest.mark.long
def test_upgraded_and_taken_back(cloud: Cloud, guest_factory: GuestFactory, earlier: Path) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    green = cloud.network(
        "green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")]
    )
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"])
    server = cloud.server("web")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server, package=False)
    guest.boot()
    package.install(guest, earlier)
    settled(guest)
    assert version_of(guest) == EARLIER
    third, fourth = server.create_port(blue), server.create_port(leased)
    guest.plug_all([third, fourth])
    assert_network(guest, first, second, third, fourth)
    settled(guest)
    reconcile(guest)
    ports, who = [first, second, third, fourth], identity(guest)

    assert_taken_over(guest, None, *ports)
    assert version_of(guest) != EARLIER
    assert_edit_followed(guest, third, *ports)
    reboot(guest, who, *ports)
    assert_edit_followed(guest, second, *ports)

    assert_taken_over(guest, earlier, *ports)
    assert version_of(guest) == EARLIER
    assert_edit_followed(guest, third, *ports)
    reboot(guest, who, *ports)
    assert_edit_followed(guest, second, *ports)

    # What was edited meanwhile is heard by the first run of the other version.
    guest.run("systemctl stop cloudinit-osnetd.path")
    server.edit_port(third, mtu=1290)
    package.install(guest)
    settled(guest)
    assert_ok(guest, *ports)
    assert {touch["mac"] for touch in status(guest)["last_run"]["touches"]} == {third.mac}
    assert_nothing_to_do(guest)
    reboot(guest, who, *ports)


def reboot(guest: Container, who: Dict[str, str], *ports: Port) -> None:
    log = log_length(guest)
    guest.reboot()
    assert_network_boot(guest, who, log)
    assert_ok(guest, *ports)
    boot = status(guest)["boot"]
    assert boot.get("level", boot.get("rung")) == "store", boot  # 0.1.0 calls it rung
