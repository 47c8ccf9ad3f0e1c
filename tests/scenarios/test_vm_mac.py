# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A NIC whose MAC somebody has changed: it is its port's all the same, by the MAC that its driver knows.

In a virtual machine, for a container's NICs have no other MAC than the one that they were given.
"""

from __future__ import annotations

from typing import Callable

import pytest

from tests.lab import VM, Cloud
from tests.scenarios.place import KNOWN
from tests.scenarios.seen import assert_follows, configuration, reconcile, settled, state_of, status

pytestmark = [pytest.mark.vm, pytest.mark.deep]

KERNEL = "/usr/lib/python3/dist-packages/cloudinit_osnetd/kernel/netlink.py"
OTHER = "02:00:00:00:77:01"


@pytest.mark.parametrize("told_by", ["the driver", "netlink"])
def test_a_nic_whose_mac_was_changed_has_not_left(cloud: Cloud, vm_factory: Callable[..., VM], told_by: str) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    server = cloud.server("masked", uuid=KNOWN.format(8))
    first = server.create_port(blue, mac="fa:16:3e:a0:08:01", fixed_ips=["10.90.0.21"])
    second = server.create_port(green, mac="fa:16:3e:a0:08:02", fixed_ips=["10.91.0.21"])
    guest = vm_factory(server, suite="bookworm", backend="ifupdown")
    guest.boot(saved=True)
    assert_follows(guest, first, second)
    settled(guest)
    if told_by == "the driver":
        # Linux before 5.6: no IFLA_PERM_ADDRESS (54) in what netlink tells.
        guest.run(f"sed -i 's/elif kind == 54:/elif kind == 9954:/' {KERNEL}; grep -q 9954 {KERNEL}")

    before, name = configuration(guest, second), str(guest.nic(second))
    guest.run(f"ip link set dev {name} address {OTHER}")
    assert guest.run(f"cat /sys/class/net/{name}/address").stdout.strip() == OTHER
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["pending"]) == ([], [], []), record
    assert [state_of(guest, port) for port in (first, second)] == ["ok", "ok"]
    assert {row["mac"] for row in status(guest)["nics"]} == {first.mac, second.mac}
    assert configuration(guest, second) == before

    # An edit is its own, whatever it is called by now.
    server.edit_port(second, mtu=1380)
    record = reconcile(guest)
    assert {touch["mac"] for touch in record["touches"]} == {second.mac}
    assert state_of(guest, second) == "ok"
