# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A bond and VLANs that a push makes: taken back, kept once they are confirmed, rolled back. A container's kernel may have neither."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple

import pytest

from tests.lab import VM, Cloud, Port
from tests.scenarios.conftest import Kind
from tests.scenarios.place import KNOWN
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configuration,
    configured_names,
    settled,
    status,
    store_of,
    timers,
    wait_until,
)
from tests.scenarios.test_confirm import confirm
from tests.scenarios.test_push import push
from tests.scenarios.test_undo import rollback
from tests.scenarios.test_vm_networkd_devices import Composed, has, members_of, shown

pytestmark = [pytest.mark.vm, pytest.mark.deep]

KINDS = [Kind("trixie", "networkd"), Kind("bookworm", "ifupdown")]


class Metal(NamedTuple):
    """A guest with a port of its own and two NICs to make a bond of, as it is before the push."""

    guest: VM
    first: Port
    members: List[Port]
    before: Dict[Port, str]

    def push(self, options: str) -> Dict[str, Any]:
        """Pushes a bond with a VLAN on it, and a VLAN on the first NIC; returns the record."""
        composed = Composed([port.mac for port in self.members])
        composed.bond = {"address": "10.94.0.5", "mtu": 1450, "bond_mode": "active-backup", "bond_miimon": 100}
        composed.vlans[7] = {"parent": self.first.mac, "address": "10.95.0.5", "mtu": 1400}
        composed.vlans[9] = {"parent": "bond", "address": "10.96.0.5", "mtu": 1400}
        server = self.guest.server
        server.compose = composed
        document = server.network_data()
        server.compose = lambda document: document  # who is asked again has not heard of it
        code, said = push(self.guest, document, options)
        assert code == 0, said
        return said

    def assert_made(self) -> None:
        guest = self.guest
        name, names = str(guest.nic(self.first)), sorted(str(guest.nic(port)) for port in self.members)
        has(guest, "bond0", addresses=["10.94.0.5"], mtu=1450, mode="active-backup", miimon=100, up=True)
        has(guest, "bond0.9", addresses=["10.96.0.5"], mtu=1400, id=9, link="bond0", up=True)
        has(guest, f"{name}.7", addresses=["10.95.0.5"], mtu=1400, id=7, link=name, up=True)
        wait_until(lambda: members_of(guest, "bond0") == names, 10 * guest.patience, "the members joined")
        assert_follows(guest, self.first)

    def assert_as_before(self) -> None:
        """In the kernel, and on disk but for the blank line that cloud-init leaves at a file's end; nothing is left to do."""
        guest = self.guest
        made = ("bond0", "bond0.9", f"{guest.nic(self.first)}.7")
        wait_until(lambda: not any(shown(guest, name) for name in made), 10 * guest.patience, "the devices are gone")
        assert_follows(guest, self.first, *self.members)
        now = {port: configuration(guest, port) for port in self.before}
        assert [text.rstrip() for text in now.values()] == [text.rstrip() for text in self.before.values()]
        assert configured_names(guest) == sorted(str(guest.nic(port)) for port in self.before)
        assert_nothing_to_do(guest)


@pytest.fixture(params=KINDS, ids=str)
def metal(request: pytest.FixtureRequest, cloud: Cloud, vm_factory: Callable[..., VM]) -> Metal:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    trunk = cloud.network("trunk", cidr="10.94.0.0/24", mtu=1450)
    server = cloud.server("metal", uuid=KNOWN.format(7))
    first = server.create_port(blue, mac="fa:16:3e:a0:07:01", fixed_ips=["10.90.0.19"])
    members = [server.create_port(trunk, mac=f"fa:16:3e:a0:07:0{n}", fixed_ips=[f"10.94.0.2{n}"]) for n in (2, 3)]
    guest = vm_factory(server, suite=request.param.suite, backend=request.param.backend)
    guest.boot(saved=True)
    assert_boot(guest, level="drive")
    assert_follows(guest, first, *members)
    return Metal(guest, first, members, {port: configuration(guest, port) for port in (first, *members)})


def test_a_bond_and_vlans_are_taken_back_kept_and_rolled_back(metal: Metal) -> None:
    guest = metal.guest
    # Its own run may take a minute of an emulated guest.
    said = metal.push(f"--confirm-within {12 * guest.patience:.0f}")
    metal.assert_made()
    (trial,) = status(guest)["on_trial"]
    assert trial["run"] == said["run"] and {"bond0", "bond0.9"} < set(trial["nics"]), trial
    wait_until(lambda: not store_of(guest).get("provisional"), 20 * guest.patience, "taken back")
    settled(guest)
    metal.assert_as_before()
    assert timers(guest) == [] and status(guest)["on_trial"] == []
    assert confirm(guest)[0] == 9

    said = metal.push("--confirm-within 3000")
    assert confirm(guest) == (0, {"confirmed": said["run"]})
    assert timers(guest) == []
    metal.assert_made()
    assert_nothing_to_do(guest)
    assert rollback(guest, str(said["run"]))[0] == 0
    metal.assert_as_before()
    shown_as = {row["key"].partition("/")[2]: (row["name"], row["addresses"]) for row in status(guest)["nics"]}
    assert [shown_as[kind] for kind in ("bond", "vlan.7", "vlan.9")] == [("", [])] * 3, shown_as
    assert rollback(guest)[0] == 0  # of the rollback itself
    metal.assert_made()


def test_a_power_cut_takes_a_bond_and_vlans_back_before_the_network_starts(metal: Metal) -> None:
    guest = metal.guest
    metal.push("--confirm-within 3000")
    metal.assert_made()
    guest.run("sync")
    guest.poweroff(hard=True)
    guest.boot()
    assert_boot(guest, level="store")
    assert "before the reboot" in status(guest)["taken_back"]
    metal.assert_as_before()


def test_a_bond_and_vlans_that_are_confirmed_stay_over_a_reboot(metal: Metal) -> None:
    guest = metal.guest
    metal.push("--confirm-within 3000")
    assert confirm(guest)[0] == 0
    guest.reboot()
    assert_boot(guest, level="store")
    metal.assert_made()
    assert_nothing_to_do(guest)
