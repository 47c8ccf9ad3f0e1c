# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One Wine for all tests of a process; each test finds it without NICs and without anything remembered."""

from __future__ import annotations

import itertools
import os
from typing import Any, Dict, Iterator, Sequence

import pytest

from tests.windows.machine import Windows

MACS = tuple(f"fa:16:3e:00:00:0{n}" for n in range(8))


@pytest.fixture(scope="session")
def wine() -> Iterator[Windows]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = Windows()
    yield made
    made.close()


@pytest.fixture
def windows(wine: Windows) -> Iterator[Windows]:
    """With two NICs, `first` and `second`, the latter's name in Cyrillic.

    No two tests have a name in common: Wine shows a NIC that is gone again with the next one of its name.
    """
    wine.forget()
    number = next(_numbers)
    wine.first, wine.second = f"eth{number}", f"Сеть{number}"
    wine.plug(wine.first, MACS[0])
    wine.plug(wine.second, MACS[1])
    yield wine
    for link in wine.json("link"):
        if link["ifname"] != "lo" and not link["ifname"].startswith("peer"):
            wine.unplug(link["ifname"])


_numbers = itertools.count()


def link(n: int, **more: Any) -> Dict[str, Any]:
    return {"id": f"tap{n}", "ethernet_mac_address": MACS[n], "type": "ovs", "mtu": 1450, **more}


def static(n: int, cidr: str, gateway: str = "", routes: Sequence[Any] = (), **more: Any) -> Dict[str, Any]:
    address, _slash, length = cidr.partition("/")
    six = ":" in cidr
    said = [{"network": "::/0" if six else "0.0.0.0/0", "gateway": gateway}] if gateway else []
    said += [{"network": network, "gateway": via} for network, via in routes]
    return {
        "id": f"net{n}{cidr}", "link": f"tap{n}", "type": "ipv6" if six else "ipv4", "ip_address": address, "netmask": length,
        "routes": said, **more,
    }


def document(*items: Dict[str, Any], dns: Sequence[str] = ()) -> Dict[str, Any]:
    return {
        "links": [item for item in items if "link" not in item],
        "networks": [item for item in items if "link" in item],
        "services": [{"type": "dns", "address": server} for server in dns],
    }
