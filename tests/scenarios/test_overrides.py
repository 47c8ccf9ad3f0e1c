# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The datasource overrides inside a real guest: what they leave out, and what an update may change."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import assert_network, identity, log_length, warnings_since
from tests.scenarios.seen import assert_boot, assert_follows, reconcile, settled, state_of
from tests.scenarios.test_package_life import attach, web

ABSENT = "fa:16:3e:00:00:0%d"
UPDATES = "updates: {network: {when: [boot-new-instance, boot, hotplug]}}\n"
# What cloud-init's stages do with the datasource, less the stages.
_PREPARE = """
import json, pickle, sys
ds = pickle.load(open("/var/lib/cloud/instance/obj.pkl", "rb"))
from cloudinit.event import EventType
before = dict(ds.__dict__)
def update(event):
    name = "update_metadata_if_supported" if hasattr(ds, "update_metadata_if_supported") else "update_metadata"
    if hasattr(ds, "update_events"):
        ds.update_events = {"network": {EventType.BOOT_NEW_INSTANCE, EventType.BOOT}}
    return getattr(ds, name)([event])
def changed():
    ours = [key for key in ds.__dict__ if key.startswith("osnetd_")] + ["update_events"]
    return sorted(key for key in ds.__dict__ if key not in ours and ds.__dict__[key] is not before.get(key, ds))
def say(value):
    print("ANSWER" + json.dumps(value))
"""


def ask(guest: Container, script: str, **values: Any) -> Any:
    """Run Python beside the guest's pickled datasource; what it `say`s."""
    given = "".join(f"{name} = json.loads({json.dumps(value)!r})\n" for name, value in values.items())
    guest.put((_PREPARE + given + script).encode(), "/root/ask.py")
    done = guest.run("python3 /root/ask.py 2>&1")
    answers = [line[len("ANSWER") :] for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert answers, done.stdout
    return json.loads(answers[-1])


def physical(number: int, mac: str) -> Dict[str, Any]:
    return {"id": f"tap{number}", "type": "phy", "ethernet_mac_address": mac, "mtu": 1450}


def static(number: int, link: str, address: str) -> Dict[str, Any]:
    return {
        "id": f"network{number}",
        "link": link,
        "type": "ipv4",
        "ip_address": address,
        "netmask": "255.255.255.0",
        "routes": [],
    }


def bond(name: str, members: List[str]) -> Dict[str, Any]:
    return {
        "id": name,
        "type": "bond",
        "ethernet_mac_address": "fa:16:3e:ff:ff:01",
        "bond_links": members,
        "bond_mode": "active-backup",
    }


def vlan(name: str, lower: str) -> Dict[str, Any]:
    return {"id": name, "type": "vlan", "vlan_link": lower, "vlan_id": 7, "vlan_mac_address": "fa:16:3e:ff:ff:02"}


CONVERT = """
from cloudinit_osnetd.sources import DataSourceConfigDrive as override, ladder
ds.network_json = document
bare = override.convert(document)
config, level, problems = ladder.choose("drive", document, False, "nobody", lambda: None)
say([bare["config"], config["config"], level, problems])
"""


def converted(guest: Container, links: List[Any], networks: List[Any]) -> List[List[str]]:
    """The names of the links that the bare filter, and the ladder with an empty store, leave in."""
    document = {"links": links, "networks": networks, "services": []}
    bare, config, level, _problems = ask(guest, CONVERT, document=document)
    assert level == "drive"
    return [sorted(item["type"] + (f" {len(item['bond_interfaces'])}" if item["type"] == "bond" else "") for item in each
                   if item["type"] != "nameserver") for each in (bare, config)]  # fmt: skip


def test_what_cannot_be_digested_costs_itself_alone(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = web(cloud)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    macs = [port.mac for port in server.ports]
    good = [physical(0, macs[0]), physical(1, macs[1])]
    nets = [static(0, "tap0", "10.90.0.5"), static(1, "tap1", "10.91.4.5")]

    both = [["physical", "physical"]] * 2
    assert converted(guest, good, nets) == both
    assert converted(guest, [physical(7, ABSENT % 7), *good], [static(7, "tap7", "10.1.1.1"), *nets]) == both
    for bad in (
        {"id": "tap9", "type": "phy"},  # neither MAC nor name
        {"type": "phy", "ethernet_mac_address": macs[2]},
        {"id": "vlan9", "type": "vlan", "vlan_link": "tap0"},
        None,
        "tap9",
    ):
        assert converted(guest, [bad, *good], nets) == both, bad
    for bad in ({"ip_address": "10.91.4.500"}, {"netmask": "none"}):
        bare, ours = converted(guest, good, [nets[0], dict(nets[1], **bad)])
        assert ours == ["physical"]
        assert bare == ours or guest.suite == "bullseye"  # 20.4 looks at no address: ifup refuses it, for that NIC alone

    # A bond goes when its last member has gone, and what lies on it with it. Later than its members or before.
    away = [physical(7, ABSENT % 7), physical(8, ABSENT % 8)]
    assert converted(guest, [*good, bond("bond0", ["tap0", "tap1"])], []) == [["bond 2", "physical", "physical"]] * 2
    assert (
        converted(guest, [bond("bond0", ["tap0", "tap7"]), *good, *away], [])
        == [["bond 1", "physical", "physical"]] * 2
    )
    assert converted(guest, [vlan("vlan0", "bond0"), bond("bond0", ["tap7", "tap8"]), *good, *away], []) == both
    assert converted(guest, [vlan("vlan0", "tap7"), *good, *away], []) == both


def test_an_update_reads_network_data_and_nothing_else(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = web(cloud)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    told = "say([update(EventType.BOOT), changed(), ds.get_instance_id(), len(ds.network_config['config'])])"
    uuid = server.uuid

    assert ask(guest, told) == [True, ["network_json"], uuid, 3]
    # Another drive of the same server: its user-data is no business of an update.
    server.user_data = "#cloud-config\n{}\n"
    server.delete_port(server.ports[2])
    guest.rebuild_drive()
    assert ask(guest, told)[:3] == [True, ["network_json"], uuid]
    # A drive of another server, and none at all: as it was.
    mine, server.uuid = server.uuid, "00000000-0000-4000-8000-000000000001"
    guest.rebuild_drive()
    assert ask(guest, told) == [False, [], uuid, 3]
    guest.take_drive()
    assert ask(guest, told) == [False, [], uuid, 3]
    server.uuid = mine

    if guest.suite == "bullseye":
        return  # has no hotplug
    new: Port = server.create_port(cloud.network("new", cidr="10.98.0.0/24", mtu=None))
    guest.run("systemctl stop cloudinit-osnetd.path")
    guest.plug(new)
    hotplug = told.replace("EventType.BOOT", "EventType.HOTPLUG")
    assert ask(guest, hotplug) == [True, [], uuid, 4]
    cloud.metadata_down()
    assert ask(guest, hotplug)[:3] == [False, [], uuid]


def test_updates_that_a_user_has_enabled(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The drive is gone at one boot and back at the next; cloud-init's own hotplug hook works."""
    server = web(cloud)
    ports = list(server.ports)
    guest = guest_factory(server, trusted_cache=True, files={"etc/cloud/cloud.cfg.d/97_updates.cfg": UPDATES})
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, *ports)
    who = identity(guest)

    if guest.suite != "bullseye":
        guest.run("systemctl stop cloudinit-osnetd.path")
        hotplugged = server.create_port(cloud.network("hot", cidr="10.98.0.0/24", dns=["10.98.0.2"], mtu=1300))
        name = guest.plug(hotplugged)
        log = log_length(guest)
        guest.run(f"cloud-init devel hotplug-hook -s net handle -d /sys/class/net/{name} -u add", timeout=60)
        if guest.backend == "networkd":
            guest.run("networkctl reload")  # cloud-init's activator only sets the link up
        assert_network(guest, *ports, hotplugged)
        # Where cloud-init's own udev rule was quicker, ifup has nothing left to do and says so.
        assert [line for line in warnings_since(guest, log) if "already configured" not in line] == []
        ports.append(hotplugged)
        # What it wrote is what we told it: our own, nobody has drifted.
        assert reconcile(guest)["drifted"] == []
        assert {state_of(guest, port) for port in ports} == {"ok"}
        guest.run("systemctl start cloudinit-osnetd.path")

    for drive in ("there", "gone", "back"):
        guest.poweroff()
        if drive == "gone":
            guest.take_drive()
        elif drive == "back":
            guest.rebuild_drive()
        guest.boot()
        assert guest.cloud_init_errors() == []
        assert_follows(guest, *ports)
        assert identity(guest) == who
        settled(guest)
        assert {state_of(guest, port) for port in ports} == {"ok"}
    attached = attach(cloud, guest, server)
    assert_follows(guest, *ports, attached)
