# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An image made of a server that nobody cleaned, booted as another instance (test_vm_images has it with a disk and DMI)."""

from __future__ import annotations

import json

from tests.lab import Cloud
from tests.scenarios.conftest import GuestFactory, Kind
from tests.scenarios.package import identity
from tests.scenarios.seen import assert_boot, assert_follows, assert_nothing_to_do, configured_names, settled
from tests.scenarios.serving import history, serving


def test_what_still_is_as_we_left_it_goes_with_the_instance_that_it_was_for(
    cloud: Cloud, guest_factory: GuestFactory, kind: Kind
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    golden = cloud.server("golden")
    ports = [golden.create_port(network) for network in (blue, leased, green)]
    guest = guest_factory(golden)
    guest.boot()
    assert_boot(guest, level="drive")
    late = golden.create_port(green)
    with serving(guest, touches=[late], events=["added"]):
        guest.plug(late)
        assert_follows(guest, late)
    names = [str(guest.nic(port)) for port in [*ports, late]]
    assert configured_names(guest) == sorted(names)
    was = identity(guest)
    mine = names[2]
    edited = f"/etc/systemd/network/10-cloud-init-{mine}.network"
    if kind.backend == "networkd":
        guest.run(f"printf '\\n[Network]\\nLLDP=no\\n' >> {edited}")
    words = guest.run(f"cat {edited}", check=False).stdout
    guest.poweroff()

    other = cloud.server("other")
    first = other.create_port(blue)
    for port in [*ports, late]:
        guest.unplug(port)
    guest.server = other
    guest.plug(first)
    guest.rebuild_drive()
    guest.boot()
    assert_boot(guest, level="drive")
    settled(guest)
    assert_follows(guest, first)
    early = guest.run("journalctl -b --no-pager -o cat -u cloudinit-osnetd-early.service").stdout
    assert f"store of another instance dropped: was={golden.uuid} is={other.uuid}" in early, early

    # cloud-init itself rewrites a file that all NICs share; one of a NIC's own it leaves behind.
    left = [mine] if kind.backend == "networkd" else []
    name = str(guest.nic(first))
    assert configured_names(guest) == sorted([name, *left])
    assert guest.run(f"cat {edited}", check=False).stdout == words
    store = json.loads(guest.run("cat /var/lib/cloudinit-osnetd/store.json").stdout)
    assert list(store["truth"]["keys"]) == [f"{first.mac}/phy"]
    assert sorted(row["name"] for row in store["ledger"]) == sorted([name, *left])
    assert [record for record in history(guest) for port in [*ports, late] if port.mac in json.dumps(record)] == []
    now = identity(guest)
    assert now["instance"] == other.uuid
    assert now["host keys"] != was["host keys"]
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first)
    assert_nothing_to_do(guest)
