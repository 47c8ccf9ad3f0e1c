# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NICs that vanish and come back without anybody's detaching a port: the driver's doing, or an administrator's."""

from __future__ import annotations

import pytest

from tests.lab import VM
from tests.scenarios.place import Place
from tests.scenarios.seen import (
    NETPLAN,
    assert_follows,
    assert_gone,
    configured_names,
    log_of,
    state_of,
    wait_until,
)
from tests.scenarios.serving import serving
from tests.scenarios.test_vm_thread import assert_names_kept

pytestmark = [pytest.mark.vm, pytest.mark.deep]

_DEBOUNCE = "/etc/cloud/cloud.cfg.d/96-test.cfg"
_UNBIND = """
device=$(basename $(readlink -f /sys/class/net/{name}/device))
driver=/sys/bus/virtio/drivers/virtio_net
echo $device > $driver/unbind
{meanwhile}
echo $device > $driver/bind
"""
# Until a run has taken the event, looked, and waits: it has said so for `status`.
_LOOKED = "until journalctl -b -u cloudinit-osnetd.service -o cat | grep -q 'reason=removed nic={name}'; do sleep .1; done; sleep 2"


@pytest.mark.parametrize("meanwhile", ["at-once", "seen"])
def test_a_driver_that_is_reloaded_costs_nothing(place: Place, guest: VM, meanwhile: str) -> None:
    """Removed and back within the debounce: nothing is pruned, nothing written, whether or not a run saw it missing."""
    name = str(guest.nic(place.second))
    names = {port: str(guest.nic(port)) for port in guest.plugged}
    # What is a second on a server is many on an emulated machine.
    guest.put(b"osnetd: {debounce: 30}\n", _DEBOUNCE)
    listed = f"find {NETPLAN} /run/systemd/network -type f -exec stat -c '%n %i %y %s' {{}} + -exec sha256sum {{}} +"
    before = guest.run(listed).stdout
    index = guest.run(f"cat /sys/class/net/{name}/ifindex").stdout
    wait = _LOOKED.format(name=name) if meanwhile == "seen" else "sleep 0.5"

    with serving(guest, leaves=[place.second], events=["removed", "added"], streams=[place.first], starts_of_service=2) as served:
        guest.run(_UNBIND.format(name=name, meanwhile=wait))
        assert_follows(guest, place.second)
    assert guest.run(f"cat /sys/class/net/{name}/ifindex").stdout != index, "the driver was not reloaded"
    assert guest.run(listed).stdout == before
    assert [record["changes"] for record in served.records if record["changes"]] == []
    assert state_of(guest, place.second) == "ok"
    if meanwhile == "seen":
        assert f"reason=removed nic={name}" in log_of(guest)
    assert_names_kept(guest, names)


def test_a_nic_that_is_unplugged_from_its_bus_is_not_waited_for(place: Place, guest: VM) -> None:
    """Its PCI function is gone, so no driver brings it back: cleaned up before the debounce is over."""
    name = str(guest.nic(place.second))
    guest.put(b"osnetd: {debounce: 3000}\n", _DEBOUNCE)
    with serving(guest, touches=[place.second], events=["removed"], streams=[place.first]):
        guest.unplug(place.second)
        assert_gone(guest, name)
    assert configured_names(guest) == [guest.nic(place.first)]


def test_a_nic_is_lent_to_another_network_namespace(place: Place, guest: VM) -> None:
    """In the kernel's words it is gone from ours, and a new one when it comes back."""
    name = str(guest.nic(place.second))
    names = {port: str(guest.nic(port)) for port in guest.plugged}
    with serving(guest, touches=[place.second], events=["removed"], streams=[place.first]) as served:
        guest.run(f"ip netns add aside && ip link set {name} netns aside")
        assert_gone(guest, name)
    assert [(touch["action"], touch["mac"]) for record in served.records for touch in record["touches"]] == [
        ("down", place.second.mac)
    ]
    assert state_of(guest, place.second) == "absent"
    assert configured_names(guest) == [guest.nic(place.first)]
    assert name in guest.run("ip netns exec aside ip -brief link").stdout

    with serving(guest, touches=[place.second], events=["added"], streams=[place.first]) as served:
        guest.run(f"ip netns exec aside ip link set {name} netns 1 && ip netns del aside")
        wait_until(lambda: guest.nic(place.second), 10 * guest.patience, "the NIC is back")
        assert_follows(guest, place.second)
    assert [(touch["action"], touch["mac"]) for record in served.records for touch in record["touches"]] == [
        ("up", place.second.mac)
    ]
    assert_names_kept(guest, names)
