# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What each NIC's state is called, what a person has made stays, and what was pushed holds."""

from __future__ import annotations

import json
import re
from typing import Any, Dict

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    ip,
    profile_path,
    reason_of,
    reconcile,
    settled,
    state_of,
    status,
    wait_until,
)


def test_each_state_is_shown_with_its_reason(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("states")
    fine, ignored, delisted, absent = [server.create_port(net) for net in (blue, green, green, green)]
    settings = {"osnetd": {"patience": 1, "back_off": 60, "ignore": [ignored.mac]}}
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/92_osnetd-test.cfg": json.dumps(settings)})
    guest.boot()
    settled(guest)
    name = str(guest.nic(absent))
    guest.unplug(absent)
    assert_gone(guest, name)
    server.delete_port(delisted)
    server.freeze_metadata()
    pending = server.create_port(green)
    guest.plug(pending)
    wait_until(lambda: "next check in" in reason_of(guest, pending), 20, "pending")
    settled(guest)

    expected = {fine: "ok", ignored: "ignored", delisted: "orphan", absent: "absent", pending: "pending"}
    assert {port: state_of(guest, port) for port in expected} == expected
    assert "osnetd.ignore" in reason_of(guest, ignored)
    assert "no longer listed (metadata)" in reason_of(guest, delisted)
    assert reason_of(guest, absent) == "no NIC has this MAC"
    # An orphan keeps what it had.
    assert f"{delisted.fixed_ips[0]}/24" in guest.run(f"ip addr show {guest.nic(delisted)}").stdout
    table = guest.run("cloudinit-osnetd status").stdout
    for port, state in expected.items():
        assert any(port.mac in line and f" {state} " in line for line in table.splitlines()), table

    # On a screen of 80 columns, with the ports' ids and what each source says.
    screen = guest.run("COLUMNS=80 cloudinit-osnetd status").stdout.splitlines()
    assert max(map(len, screen)) <= 80, screen
    assert any(fine.mac in line and fine.id in line for line in screen), screen
    assert any(line.startswith("metadata ") and "answered" in line for line in screen), screen
    assert any(line.startswith("next ") and str(guest.nic(delisted)) in line for line in screen), screen

    # Something takes the address away: status sees it, exits with 1, and reconcile mends it.
    guest.run(f"ip -4 addr flush dev {guest.nic(fine)}")
    assert state_of(guest, fine) == "failed" and "the kernel lacks" in reason_of(guest, fine)
    assert guest.run("cloudinit-osnetd status", check=False).returncode == 1
    history = "cat /var/lib/cloudinit-osnetd/history.jsonl | wc -l"
    lines = int(guest.run(history).stdout)
    guest.run("cloudinit-osnetd reconcile", check=False)
    assert_follows(guest, fine)
    assert int(guest.run(history).stdout) == lines + 1
    reconcile(guest)
    assert int(guest.run(history).stdout) == lines + 1, "a run that changed nothing left history"


# -- edited by hand ----------------------------------------------------------------------------------------------


def test_a_later_document_that_is_refused_is_reported_for_the_nic_that_keeps_its_network(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", mtu=1450)
    server = cloud.server("refused")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)

    said = server.network_data()
    (wrong,) = [link for link in said["links"] if link["ethernet_mac_address"] == second.mac]
    wrong["mtu"] = 67
    cloud.override("/openstack/*/network_data.json", body=json.dumps(said).encode())
    record = reconcile(guest)
    assert (record["changes"], record["touches"]) == ([], []), record
    assert_follows(guest, first, second)
    assert (state_of(guest, first), state_of(guest, second)) == ("ok", "failed")
    reason = reason_of(guest, second)
    assert all(word in reason for word in (second.mac, wrong["id"], ".mtu", "67", "its last valid entry is kept")), reason
    told = guest.run("cloudinit-osnetd status", check=False)
    assert told.returncode == 1 and reason in told.stdout

    # All of it.
    cloud.override("/openstack/*/network_data.json", body=b'{"links": 7}')
    assert_follows(guest, first, second)
    reconcile(guest)
    assert any("network_data.links" in text for text in status(guest)["faults"]), status(guest)["faults"]

    cloud.metadata.clear_overrides()
    server.edit_port(second, mtu=1400)
    reconcile(guest)
    assert_follows(guest, first, second)
    assert (state_of(guest, first), state_of(guest, second)) == ("ok", "ok")
    assert status(guest)["faults"] == []


def test_dns_that_somebody_took_out_of_what_is_ours_stays_out(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Some releases of cloud-init write none: what was ours is a person's all the same, and is not overwritten."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1450)
    server = cloud.server("quiet")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)

    path = "/etc/netplan/50-cloud-init.yaml" if guest.backend in ("netplan", "netplan_nm") else f"/etc/systemd/network/10-cloud-init-{guest.nic(second)}.network"
    if guest.backend == "ifupdown":
        path = "/etc/network/interfaces.d/50-cloud-init"
    if guest.backend in ("nm", "ifcfg"):
        path = profile_path(guest, second)
    guest.run(f"sed -i '/10\\.91\\.0\\.2;\\?$/d' {path}")
    assert not re.search(r"10\.91\.0\.2;?$", configuration(guest, second), re.MULTILINE)
    record = reconcile(guest)
    assert (record["changes"], record["touches"], record["problems"]) == ([], [], {}), record
    assert state_of(guest, second) == "drifted"
    (row,) = [row for row in status(guest)["nics"] if row["mac"] == second.mac]
    assert any("dns 10.91.0.2" in line for line in row["differs"]), row
    text = configuration(guest, second)
    guest.reboot()
    assert_boot(guest, level="store")
    settled(guest)
    assert configuration(guest, second) == text
    assert (state_of(guest, first), state_of(guest, second)) == ("ok", "drifted")


def edit_by_hand(guest: Container, port: Port) -> None:
    """A second address, as a person would add it to the port's own configuration; on NetworkManager, where that is followed, and more."""
    name = guest.nic(port)
    if guest.backend == "networkd":
        guest.run(f"printf '\\n[Network]\\nAddress=10.99.0.9/24\\n' >> /etc/systemd/network/10-cloud-init-{name}.network")
    elif guest.backend in ("netplan", "netplan_nm"):
        guest.run(f"netplan set ethernets.{name}.addresses=[10.99.0.9/24] --origin-hint 50-cloud-init")
    elif guest.backend == "nm":
        guest.run(f"sed -i 's|^address1=.*|&\\naddress2=10.99.0.9/24\\nignore-auto-routes=true|' {profile_path(guest, port)}")
    elif guest.backend == "ifcfg":
        guest.run(f"printf 'IPADDR1=10.99.0.9\\nPREFIX1=24\\nPEERROUTES=no\\n' >> {profile_path(guest, port)}")
    else:
        guest.run(
            f"sed -i '/^iface {name} inet static/a \\    up ip addr add 10.99.0.9/24 dev {name}' "
            "/etc/network/interfaces.d/50-cloud-init"
        )


def test_drift_is_corrected_where_the_configuration_says_so_and_not_in_a_loop(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    green = cloud.network("green", cidr="10.91.0.0/24")
    server = cloud.server("corrected")
    first, edited = server.create_port(blue), server.create_port(green)
    settings = {"osnetd": {"drift": "correct"}}
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/92_osnetd-test.cfg": json.dumps(settings)})
    guest.boot()
    settled(guest)
    ours, other = configuration(guest, edited), configuration(guest, first)

    edit_by_hand(guest, edited)
    assert state_of(guest, edited) == "drifted" and "corrected by the next run" in reason_of(guest, edited)
    record = reconcile(guest)
    assert {touch["mac"] for touch in record["touches"]} == {edited.mac}, record
    assert all(change["reason"] == "changed externally, and corrected" for change in record["changes"]), record
    assert configuration(guest, edited) == ours and configuration(guest, first) == other
    assert_follows(guest, first, edited)
    assert_nothing_to_do(guest)

    # Somebody insists: left alone for an hour.
    edit_by_hand(guest, edited)
    by_hand = configuration(guest, edited)
    for _again in range(2):
        record = reconcile(guest)
        assert (record["changes"], record["touches"]) == ([], []), record
        assert [drift["mac"] for drift in record["drifted"]] == [edited.mac]
    assert configuration(guest, edited) == by_hand
    assert "changed again" in reason_of(guest, edited)

    # An hour later, as far as the note says.
    guest.run("sed -i 's/: [0-9.]*}/: 0.001}/' /run/cloudinit-osnetd/corrected.json; cat /run/cloudinit-osnetd/corrected.json")
    record = reconcile(guest)
    assert configuration(guest, edited) == ours, record
    assert_follows(guest, first, edited)


def test_what_was_edited_by_hand_survives_an_attach_and_a_reboot_and_is_reported(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    server = cloud.server("by-hand")
    first, edited = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    edit_by_hand(guest, edited)
    by_hand = configuration(guest, edited)
    assert "10.99.0.9" in by_hand

    new = server.create_port(green)
    guest.plug(new)
    assert_follows(guest, first, new)
    settled(guest)
    assert configuration(guest, edited) == by_hand
    assert state_of(guest, edited) == "drifted"
    assert "changed externally" in reason_of(guest, edited)

    # Edited in the cloud too: the person's word stands.
    server.edit_port(edited, mtu=1333)
    record = reconcile(guest)
    assert [drift["mac"] for drift in record["drifted"]] == [edited.mac] and record["changes"] == []
    assert configuration(guest, edited) == by_hand

    guest.reboot()
    settled(guest)
    early = status(guest)["boot"]["early"]
    assert early["drifted"] == [guest.nic(edited)] and early["changes"] == 0
    assert configuration(guest, edited) == by_hand
    assert_follows(guest, first, new)
    wait_until(lambda: "10.99.0.9" in guest.run(f"ip addr show {guest.nic(edited)}").stdout, 10, "the address by hand")
    assert state_of(guest, edited) == "drifted"

    # Taken back only by force.
    reconcile(guest, "--force")
    assert_follows(guest, first, edited, new)
    assert "10.99.0.9" not in configuration(guest, edited)
    assert_nothing_to_do(guest)


# -- pushed ------------------------------------------------------------------------------------------------------

PUSH = """
import json, sys
from cloudinit_osnetd.openstack import refresh
from cloudinit_osnetd.cloud_init import instance
from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.state import run_lock, store
data = network_data.parse_bytes(sys.stdin.buffer.read())
with run_lock.locked():
    store.save(refresh.refresh_push(store.load(instance.instance_id()), data).state)
"""


def push(guest: Container, document: Dict[str, Any]) -> None:
    """Push a network_data as the command to come will do it."""
    text = json.dumps(document).replace("'", "")
    guest.run(f"printf %s '{text}' | python3 -c '{PUSH}' && /usr/lib/cloudinit-osnetd/queue-event push")


def test_what_was_pushed_for_one_nic_holds_while_others_come_change_and_go(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """The metadata service tells one address of two: Nova names the first fixed IP of a subnet only."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    server = cloud.server("pushed")
    first, two = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)

    document = server.network_data()
    (network,) = [net for net in document["networks"] if net.get("ip_address") == two.fixed_ips[0]]
    document["networks"].append({**network, "id": "network9", "ip_address": "10.91.0.200"})
    push(guest, document)
    both = {f"{two.fixed_ips[0]}/24", "10.91.0.200/24"}

    def has_both() -> bool:
        links = ip(guest, f"-4 addr show dev {guest.nic(two)}")  # none while it has no address
        return {f"{a['local']}/{a['prefixlen']}" for link in links for a in link.get("addr_info", [])} == both

    wait_until(has_both, 15, "both addresses")
    settled(guest)
    sources = {row["mac"]: row["source"] for row in status(guest)["nics"]}
    assert sources[two.mac] == "push"
    kept = configuration(guest, two)

    other = server.create_port(green)
    guest.plug(other)
    assert_follows(guest, first, other)
    assert has_both()
    server.edit_port(other, fixed_ips=["10.91.0.90"], mtu=1333)
    reconcile(guest)
    assert_follows(guest, other)
    assert has_both()
    name = str(guest.nic(other))
    server.delete_port(other)
    guest.unplug(other)
    assert_gone(guest, name)
    settled(guest)
    assert has_both() and configuration(guest, two) == kept
    assert_nothing_to_do(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    wait_until(has_both, 15, "both addresses after a reboot")
    assert configuration(guest, two) == kept
