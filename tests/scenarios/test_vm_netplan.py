# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan on systemd-networkd, in virtual machines: netplan knows a NIC by its permanent MAC, which a veth has not.

The guest is one server's, booted once and gone back to for each scenario (place.py).
"""

from __future__ import annotations

import json
import re

import pytest

from tests.lab import VM, Cloud, Port
from tests.scenarios import package
from tests.scenarios.place import Place, make_place
from tests.scenarios.seen import (
    NETPLAN,
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    configured_names,
    log_of,
    reason_of,
    reconcile,
    settled,
    state_of,
    status,
    wait_until,
)
from tests.scenarios.stream import Stream
from tests.scenarios.test_vm_thread import assert_names_kept, assert_rule_matched, reboot

pytestmark = [pytest.mark.vm, pytest.mark.deep]


@pytest.mark.quick
def test_the_first_boot(place: Place, guest: VM) -> None:
    """cloud-init's own words, finished before the network starts on them."""
    assert_boot(guest, level="drive")
    assert status(guest)["backend"] == "netplan"
    assert status(guest)["boot"]["early"]["drifted"] == []
    assert_follows(guest, place.first, place.second)
    assert_nothing_renames(guest)
    names = [guest.nic(place.first), guest.nic(place.second)]
    assert configured_names(guest) == sorted(map(str, names))
    assert guest.run(f"stat -c %a {NETPLAN}").stdout.strip() == "600"
    assert default_routes(guest)[0] == names[0]
    assert_nothing_to_do(guest)
    assert generated(guest) == reference(guest), "not what netplan makes of the file"


def test_ports_come_change_and_go_and_a_reboot_follows(place: Place, guest: VM) -> None:
    names: dict[Port, str] = {}
    kept = [configuration(guest, port) for port in (place.first, place.second)]

    static = place.server.create_port(place.amber)
    guest.plug(static)
    assert_follows(guest, static)
    settled(guest)
    assert_names_kept(guest, names)
    assert_rule_matched(guest, "added", names[static])
    assert [configuration(guest, port) for port in (place.first, place.second)] == kept
    assert_nothing_to_do(guest)

    dynamic = place.server.create_port(place.second.network)
    guest.plug(dynamic)
    assert_follows(guest, dynamic)
    settled(guest)
    assert_names_kept(guest, names)

    # An edit raises no event.
    place.server.edit_port(static, fixed_ips=["10.93.0.40"], mtu=1280, routes=[("10.211.0.0/16", "10.93.0.8")])
    record = reconcile(guest)
    assert [touch["action"] for touch in record["touches"]] == ["reconfigure"], record
    assert_follows(guest, static)
    assert_nothing_to_do(guest)
    assert generated(guest) == reference(guest)

    # Detached while the metadata still lists it.
    guest.unplug(dynamic)
    assert_gone(guest, names[dynamic])
    settled(guest)
    assert state_of(guest, dynamic) == "absent"
    assert_left_nothing(guest, names.pop(dynamic))
    assert_follows(guest, place.first, place.second, static)
    assert_nothing_to_do(guest)

    reboot(guest)
    assert_follows(guest, place.first, place.second, static)
    assert_names_kept(guest, names)
    assert sorted(configured_names(guest)) == sorted(names.values())
    assert [configuration(guest, port) for port in (place.first, place.second)] == kept
    assert_nothing_renames(guest)
    assert generated(guest) == reference(guest)
    assert_nothing_to_do(guest)


def test_a_nic_is_swapped_for_another_in_its_slot(place: Place, guest: VM) -> None:
    old, name = place.second, guest.nic(place.second)
    new = place.server.create_port(place.amber)
    place.server.delete_port(old)
    guest.unplug(old)
    assert guest.plug(new) == name
    assert_follows(guest, place.first, new)
    settled(guest)
    assert configured_names(guest) == sorted([str(guest.nic(place.first)), str(name)])
    assert old.mac not in guest.run(f"find {NETPLAN} /run/systemd/network -type f -exec cat {{}} +").stdout
    assert generated(guest) == reference(guest)
    assert_nothing_to_do(guest)


def test_no_other_nic_notices_also_after_a_daemon_reload(place: Place, guest: VM) -> None:
    settled(guest)
    streams = [Stream(guest, place.first), Stream(guest, place.second)]
    guest.run("systemctl daemon-reload")
    since = networkd_log(guest)
    port = place.server.create_port(place.amber)
    name = guest.plug(port)
    assert_follows(guest, port)
    settled(guest)

    guest.run("systemctl daemon-reload")
    place.server.edit_port(port, fixed_ips=["10.93.0.40"])
    reconcile(guest)
    assert_follows(guest, port)

    guest.run("systemctl daemon-reload")
    place.server.delete_port(port)
    guest.unplug(port)
    assert_gone(guest, name)
    settled(guest)
    assert [stream.lost() for stream in streams] == ["", ""]
    log = networkd_log(guest)[len(since) :]
    assert re.findall(r"(\S+): (?:Configuring|Re-?configuring) with", log) == [name, name], log


def test_who_reloads_networkd_himself_is_not_undone(place: Place, guest: VM) -> None:
    """What he has loaded is what stays in force: his links are not reconfigured once more, back to what was before."""
    guest.run("systemctl daemon-reload; networkctl reload; sleep 2")
    since = networkd_log(guest)
    assert "econfiguring with" in since, "a reload after a daemon-reload reconfigures no link here: the rest proves nothing"
    port = place.server.create_port(place.amber)
    name = guest.plug(port)
    assert_follows(guest, port)
    log = networkd_log(guest)[len(since) :]
    assert re.findall(r"(\S+): (?:Configuring|Re-?configuring) with", log) == [name], log


def test_a_nic_in_which_another_file_has_a_say_is_left_to_it_and_the_file_is_named(place: Place, guest: VM) -> None:
    theirs = "/etc/netplan/60-admin.yaml"
    port = place.server.create_port(place.amber)
    mine = f"network: {{version: 2, ethernets: {{admin: {{match: {{macaddress: '{port.mac}'}}, addresses: [10.93.0.50/26]}}}}}}\n"
    guest.put(mine.encode(), theirs, mode=0o600)
    name = guest.plug(port)
    wait_until(lambda: f"reason=added nic={name}" in log_of(guest), 15 * guest.patience, "the event was taken")
    settled(guest)
    assert (state_of(guest, port), reason_of(guest, port)) == ("drifted", f"also configured by {theirs}")
    assert name not in configured_names(guest)
    assert guest.run(f"cat {theirs}").stdout == mine
    assert_follows(guest, place.first, place.second)

    # Where he takes it back, the port is followed.
    guest.run(f"rm {theirs}")
    record = reconcile(guest)
    assert [touch["name"] for touch in record["touches"]] == [name], record
    assert_follows(guest, port)


def test_what_somebody_has_built_on_a_nic_does_not_fall_with_it(place: Place, guest: VM) -> None:
    """Without a definition of the VLAN's link netplan refuses its files, and some releases then give no NIC a network."""
    port = place.server.create_port(place.amber)
    name = guest.plug(port)
    assert_follows(guest, port)
    settled(guest)
    theirs = f"network: {{version: 2, vlans: {{vlan7: {{id: 7, link: {name}, addresses: [10.7.0.5/24]}}}}}}\n"
    guest.put(theirs.encode(), "/etc/netplan/60-vlan.yaml", mode=0o600)
    guest.run("netplan generate")
    place.server.delete_port(port)
    guest.unplug(port)
    wait_until(lambda: "vlan7 of /etc/netplan/60-vlan.yaml depends on it" in log_of(guest), 30, "the part left")
    settled(guest)
    guest.run("netplan generate")
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, place.first, place.second)
    assert_nothing_to_do(guest)
    guest.run("rm /etc/netplan/60-vlan.yaml")
    assert [change["action"] for change in reconcile(guest)["changes"]] == ["remove"]
    assert_left_nothing(guest, name)


def test_an_edited_definition_is_drifted_and_the_other_nics_go_on(place: Place, guest: VM) -> None:
    name = guest.nic(place.second)
    guest.run(f"sed -i 's/^    {name}:/&  # mine\\n      critical: true/' {NETPLAN}")
    edited = configuration(guest, place.second)
    assert "critical" in edited
    port = place.server.create_port(place.amber)
    guest.plug(port)
    assert_follows(guest, port)
    settled(guest)
    assert state_of(guest, place.second) == "drifted"
    assert configuration(guest, place.second) == edited
    assert "critical" not in guest.run(f"cat /run/systemd/network/10-netplan-{name}.network").stdout


def test_set_name_of_before_us_stays_until_the_next_boot(cloud: Cloud, request: pytest.FixtureRequest) -> None:
    place = make_place(cloud)
    with VM(place.cloud, place.server, suite="trixie", backend="netplan", package=False) as guest:
        request.node.guests = [guest]
        guest.boot(saved=True)
        before = guest.run(f"cat {NETPLAN}").stdout
        assert before.count("set-name") == 2
        names = {port: str(guest.nic(port)) for port in (place.first, place.second)}
        streams = [Stream(guest, port) for port in names]
        since = networkd_log(guest)

        package.install(guest)
        settled(guest, 30)
        assert [state_of(guest, port) for port in names] == ["ok", "ok"]
        assert guest.run(f"cat {NETPLAN}").stdout == before
        assert_nothing_to_do(guest)
        # The installation reloaded systemd, which wrote networkd's files anew.
        port = place.server.create_port(place.amber)
        new = guest.plug(port)
        assert_follows(guest, port)
        settled(guest)
        assert [stream.lost() for stream in streams] == ["", ""]
        log = networkd_log(guest)[len(since) :]
        assert re.findall(r"(\S+): (?:Configuring|Re-?configuring) with", log) == [new], log
        assert guest.run(f"cat {NETPLAN}").stdout.count("set-name") == 2

        reboot(guest)
        assert_nothing_renames(guest)
        assert_names_kept(guest, names)
        assert_follows(guest, *place.server.ports)
        assert_nothing_to_do(guest)


def test_a_boot_waits_for_the_nic_that_is_left(place: Place, guest: VM) -> None:
    """Each NIC but the first is "optional" for netplan: without the first it would have nobody wait for the network."""
    unit = "systemd-networkd-wait-online.service"  # which the lab masks
    guest.run(f"systemctl unmask {unit} && systemctl enable {unit}")
    gone = str(guest.nic(place.first))
    place.server.delete_port(place.first)
    guest.unplug(place.first)
    assert_gone(guest, gone)
    settled(guest)

    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, place.second)
    shown = guest.run(f"systemctl show -p ActiveState,ExecStart {unit}").stdout
    assert "ActiveState=active" in shown and f"-i {guest.nic(place.second)}:degraded" in shown, shown
    log = guest.run("journalctl -b --no-pager -o short-monotonic -u systemd-networkd").stdout
    (leased,) = re.findall(r"^\[ *([\d.]+)\].* DHCPv4 address .* acquired", log, re.MULTILINE)
    online = guest.run("systemctl show --value -p ActiveEnterTimestampMonotonic network-online.target").stdout
    assert int(online) / 1e6 >= float(leased)
    assert_nothing_to_do(guest)


# -- looking ------------------------------------------------------------------------------------------------------


def networkd_log(guest: VM) -> str:
    return guest.run("journalctl -b --no-pager -o cat -u systemd-networkd.service").stdout


def assert_nothing_renames(guest: VM) -> None:
    assert "set-name" not in guest.run(f"cat {NETPLAN}").stdout
    shown = guest.run("cat /run/systemd/network/*.link /run/udev/rules.d/*netplan*", check=False).stdout
    assert not re.search(r"^Name=|NAME=\"", shown, re.MULTILINE), shown


def assert_left_nothing(guest: VM, name: str) -> None:
    found = guest.run(f"grep -rlw {name} /etc/netplan /run/systemd/network /run/udev/rules.d", check=False).stdout
    assert found == ""
    assert guest.run(f"ls -d /run/systemd/network/10-netplan-{name}.*", check=False).stdout == ""


def default_routes(guest: VM) -> list[str]:
    """The NICs of the default routes, the best first."""
    routes = json.loads(guest.run("ip -json -4 route show default").stdout)
    return [route["dev"] for route in sorted(routes, key=lambda route: route.get("metric", 0))]


_LIST = "cd {0}/run && find systemd/network udev/rules.d -name '*netplan*' -type f -exec sha256sum {{}} + | sort -k 2"


def generated(guest: VM) -> str:
    """What is in force of networkd's and udev's files, by content."""
    return guest.run(_LIST.format("")).stdout


def reference(guest: VM) -> str:
    """What netplan itself makes of /etc/netplan."""
    generate = "rm -rf /root/ref && mkdir /root/ref && cp -a --parents /etc/netplan /root/ref && netplan generate --root-dir /root/ref"
    guest.run(generate)
    return guest.run(_LIST.format("/root/ref")).stdout
