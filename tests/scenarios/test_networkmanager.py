# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager with keyfiles and with ifcfg files: which of its ways serves a port, and what it does by itself before and after."""

from __future__ import annotations

import datetime
import json
import re
import time
from typing import Any, Dict, List

import pytest

from tests.lab import Cloud, Container, Port
from tests.lab.ports import Subnet, address_by_mac
from tests.scenarios.conftest import KINDS, GuestFactory, Kind
from tests.scenarios.seen import (
    IFCFG,
    KEYFILES,
    NO_WIRED_CONNECTION,
    PROFILES,
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    configured_names,
    findings_of,
    lacks,
    profile_path,
    proved_unique,
    reason_of,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    status,
    timers,
    wait_until,
)
from tests.scenarios.serving import serving
from tests.scenarios.stream import Stream

_ASKED = [kind for kind in KINDS if kind.backend in PROFILES]
pytestmark = pytest.mark.parametrize("kind", _ASKED or [Kind("trixie", "nm")], ids=str)


def _blue(cloud: Cloud) -> Any:
    return cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)


def _commands(records: List[Dict[str, Any]]) -> List[str]:
    return [command for record in records for command in record["commands"]]


def _profile(guest: Container, port: Port) -> str:
    """The file of the profile that is active on the port's NIC."""
    lines = guest.run("nmcli -t -f DEVICE,FILENAME connection show --active").stdout.splitlines()
    return dict(line.split(":", 1) for line in lines)[str(guest.nic(port))]


def test_ports_come_and_go(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """One file is loaded and its profile brought up; nothing else is asked of NetworkManager."""
    blue = _blue(cloud)
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("web")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert status(guest)["boot"]["early"]["drifted"] == []
    assert_follows(guest, first)
    static, dynamic = server.create_port(blue), server.create_port(leased)
    for port in (static, dynamic):
        with serving(guest, touches=[port], events=["added"]) as served:
            name = guest.plug(port)
            assert_follows(guest, first, port)
        path = profile_path(guest, name)
        commands = _commands(served.records)
        assert f"nmcli connection load {path}" in commands and not any("reload" in command for command in commands)
        assert any(command.startswith("nmcli --wait 0 connection up uuid ") for command in commands)
        assert guest.backend == "netplan_nm" or all(command.startswith("nmcli ") for command in commands), commands
        assert _profile(guest, port) == path
        assert guest.run(f"stat -c '%a %U' {path}").stdout == ("644 root\n" if guest.backend == "ifcfg" else "600 root\n")
    name = str(guest.nic(static))
    with serving(guest, leaves=[static], events=["removed"]):
        guest.unplug(static)
        assert_gone(guest, name)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, dynamic)
    assert len(configured_names(guest)) == 2
    assert_nothing_to_do(guest)


def test_a_nic_that_is_not_touched_hears_nothing(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """While another one is attached, edited and detached: no datagram of a thousand a second, no kernel event, no DHCP."""
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    green = cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"], mtu=1400)
    server = cloud.server("quiet")
    static, dynamic = server.create_port(_blue(cloud)), server.create_port(leased)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, static, dynamic)
    names = [str(guest.nic(port)) for port in (static, dynamic)]
    proved_unique(guest)
    said = cloud.dhcp_log(leased)
    watch = "systemd-run --quiet --unit=lab-watch -p StandardOutput=file:/run/lab-watch ip -oneline monitor link address route"
    guest.run(watch)
    other = server.create_port(green)
    with serving(guest, touches=[other], events=["added"], streams=[static, dynamic]):
        gone = guest.plug(other)
        assert_follows(guest, other)
    for edit in ({"routes": [("10.200.0.0/16", "10.91.0.9")], "dns": ["10.91.0.3"]}, {"fixed_ips": ["10.91.0.77"], "mtu": 1380}):
        with serving(guest, touches=[other], streams=[static, dynamic]):
            server.edit_port(other, **edit)
            reconcile(guest)
            assert_follows(guest, other)
    with serving(guest, leaves=[other], events=["removed"], streams=[static, dynamic]):
        guest.unplug(other)
        assert_gone(guest, gone)
    guest.run("systemctl stop lab-watch")
    heard = guest.run("cat /run/lab-watch").stdout.splitlines()
    assert [line for line in heard if set(names) & set(re.split(r"[\s:@]+", line)) and " lladdr " not in line] == []
    assert cloud.dhcp_log(leased) == said
    assert gone in " ".join(heard)


_SIX = Subnet("2001:db8:1::/64", "2001:db8:1::1", dns=("2001:db8:1::53",))


def _tentative(seen: str) -> Dict[str, float]:
    """By address: for how many seconds it was tentative at most, as `ip -tshort monitor` told it."""
    since: Dict[str, float] = {}
    found: Dict[str, float] = {}
    for line in seen.splitlines():
        told = re.match(r"\[(.+?)\] *(Deleted )?\d+: .* inet6 (\S+) ", line)
        if told is None:
            continue
        when, address = datetime.datetime.fromisoformat(told[1]).timestamp(), told[3]
        if " tentative" in line and not told[2]:
            since.setdefault(address, when)
        elif address in since:
            found[address] = max(found.get(address, 0.0), when - since.pop(address))
    return {**found, **dict.fromkeys(since, float("inf"))}


def test_an_edit_is_reapplied(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Of a route, DNS and the MTU: the NIC stays up, its addresses of both families too."""
    green = cloud.network("green", mtu=1400, subnets=[Subnet("10.91.0.0/24", dns=("10.91.0.2",)), _SIX])
    server = cloud.server("edited")
    first, second = server.create_port(_blue(cloud)), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)
    edits: List[Dict[str, Any]] = [
        {"routes": [("10.200.0.0/16", "10.91.0.9")]},
        {"dns": ["10.91.0.3", "2001:db8:1::54"]},
        {"mtu": 1380},
        {"fixed_ips": ["10.91.0.77", second.fixed_ips[1]]},
    ]
    told: Dict[str, float] = {}
    for edit in edits:
        # The last one takes the address away that the stream leaves by.
        streams = [first] if "fixed_ips" in edit else [first, second]
        with serving(guest, touches=[second], streams=streams) as served:
            server.edit_port(second, **edit)
            watch = f"timeout 60 ip -oneline -tshort -6 monitor address dev {guest.nic(second)} >/run/seen 2>&1 & echo $!"
            pid = guest.run(watch).stdout.strip()
            reconcile(guest)
            assert_follows(guest, first, second)
            seen = guest.run(f"sleep 2; kill {pid} && cat /run/seen").stdout
            # The kernel tells of each new address as tentative first; its detection would take a second or two.
            assert all(seconds < 0.5 for seconds in _tentative(seen).values()), seen
            told.update(_tentative(seen))
        commands = _commands(served.records)
        assert f"nmcli device reapply {guest.nic(second)}" in commands
        assert not any("connection up" in command for command in commands), commands
    assert second.fixed_ips[1] + "/64" in told, told
    assert guest.run(f"cat /proc/sys/net/ipv6/conf/{guest.nic(second)}/accept_dad").stdout == "1\n"
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)


def test_ipv6_that_is_switched_off_costs_no_ipv4(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Beneath a NIC, by an administrator: NetworkManager gives up IPv6 and keeps the NIC, with our profile."""
    blue = cloud.network("blue", subnets=[Subnet("10.91.0.0/24", "10.91.0.1"), _SIX])
    server = cloud.server("four")
    port = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, port)
    stream = Stream(guest, port)
    guest.run("sysctl -w net.ipv6.conf.all.disable_ipv6=1")
    time.sleep(6)  # it fails a NIC after 2 s
    assert stream.lost() == ""
    assert state_of(guest, port) == "ok"
    assert f"IPv6 is switched off: no {port.fixed_ips[1]}/64" in findings_of(guest, port)
    assert_nothing_to_do(guest)


@pytest.mark.parametrize("auto_default", [True, pytest.param(False, marks=pytest.mark.deep)], ids=["auto-default", "no-auto-default"])
def test_a_wired_connection_gives_way(cloud: Cloud, guest_factory: GuestFactory, auto_default: bool) -> None:
    """NetworkManager makes a profile for a new NIC and asks for a lease, where no DHCP server is. It does not come back."""
    server = cloud.server("wired")
    blue = _blue(cloud)
    first = server.create_port(blue)
    said = "" if auto_default else "[main]\nno-auto-default=*\n"
    guest = guest_factory(server, files={"etc/NetworkManager/conf.d/50-lab.conf": said})
    guest.boot()
    settled(guest)
    second = server.create_port(blue)
    with serving(guest, touches=[second], events=["added"]):
        guest.plug(second)
        assert_follows(guest, first, second)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert "Wired connection" not in guest.run("nmcli -g NAME connection show --active").stdout


def test_profiles_of_others_and_what_is_not_managed(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Left alone and named: an operator's profile, an edit with nmcli, a device that NetworkManager is told to leave."""
    blue = _blue(cloud)
    server = cloud.server("others")
    first, edited, own, left = (server.create_port(blue) for _ in range(4))
    unmanaged = "[keyfile]\nunmanaged-devices=interface-name:ens6\n"
    guest = guest_factory(server, files={"etc/NetworkManager/conf.d/50-lab.conf": unmanaged})
    guest.boot()
    settled(guest)
    assert_follows(guest, first, edited, own)
    names = [str(guest.nic(port)) for port in (edited, own, left)]
    assert names == ["ens4", "ens5", "ens6"]
    # The first plugin in NetworkManager's list writes a new profile.
    path = f"{IFCFG}/ifcfg-mine" if guest.backend == "ifcfg" else f"{KEYFILES}/mine.nmconnection"
    profile = PROFILES[guest.backend]
    guest.run("nmcli connection add type ethernet con-name mine ifname ens5 ipv4.method manual ipv4.addresses 10.90.0.250/24")
    guest.run("nmcli connection up mine")
    guest.run(f"nmcli connection modify '{profile}ens4' ipv4.dns 10.90.0.9 && nmcli device reapply ens4")
    for port in (edited, own, left):
        server.edit_port(port, mtu=1400)
    record = reconcile(guest)
    assert (record["changes"], record["touches"]) == ([], []), record
    assert [state_of(guest, port) for port in (edited, own, left)] == ["drifted"] * 3
    assert path in reason_of(guest, own)
    assert "does not manage it" in reason_of(guest, left)
    assert "10.90.0.250/24" in guest.run("ip -brief address show ens5").stdout
    assert_nothing_to_do(guest)
    guest.run(f"nmcli connection delete mine; nmcli connection up '{profile}ens5'")
    reconcile(guest)
    assert_follows(guest, first, own)


def _modify(guest: Container, port: Port, *settings: str) -> None:
    """Edit the port's profile, as an administrator does; the device is left as it is."""
    guest.run(f"nmcli connection modify '{PROFILES[guest.backend]}{guest.nic(port)}' {' '.join(settings)}")


@pytest.mark.deep
@pytest.mark.on("nm", "ifcfg")
def test_a_profile_that_nmcli_wrote_anew_is_still_ours(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """An edit that was taken back: in NetworkManager's words the profile means the same. The port is followed, and its files go,
    whether or not a run has seen the new text before the port was edited or its NIC unplugged."""
    routed = Subnet("10.91.0.0/24", "10.91.0.1", dns=("10.91.0.2",), routes=(("10.9.0.0/16", "10.91.0.9"),))
    both = cloud.network("both", mtu=1400, subnets=[routed, _SIX])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("words")
    ports = [server.create_port(network) for network in (_blue(cloud), both, leased)]
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, *ports)

    def write_anew(*ports: Port) -> None:
        written = [configuration(guest, port) for port in ports]
        for port in ports:
            for priority in (121, 120):
                _modify(guest, port, f"connection.autoconnect-priority {priority}")
        assert not {configuration(guest, port) for port in ports} & set(written)

    write_anew(*ports)
    assert {state_of(guest, port) for port in ports} == {"ok"}
    record = reconcile(guest)
    assert {change["action"] for change in record["changes"]} <= {"adopt", "forget"}, record
    assert (record["touches"], record["drifted"]) == ([], []), record
    assert {state_of(guest, port) for port in ports} == {"ok"}
    assert_nothing_to_do(guest)
    for port in ports[:2]:
        server.edit_port(port, dns=["10.90.0.3"])
    reconcile(guest)
    assert_follows(guest, *ports)
    write_anew(*ports[:2])
    for port in ports[:2]:  # no run has seen the new text
        server.edit_port(port, dns=["10.90.0.4"], mtu=1390)
    record = reconcile(guest)
    assert (record["drifted"], {touch["mac"] for touch in record["touches"]}) == ([], {port.mac for port in ports[:2]}), record
    assert_follows(guest, *ports)
    write_anew(ports[1])
    for port in ports[1:]:
        server.delete_port(port)
        name = str(guest.nic(port))
        with serving(guest, leaves=ports[1:], events=["removed"]):
            guest.unplug(port)
            assert_gone(guest, name)
    assert len(configured_names(guest)) == 1
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, ports[0])
    assert_nothing_to_do(guest)


@pytest.mark.on("nm", "ifcfg")
def test_what_somebody_added_with_nmcli_is_kept(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A zone, a priority, an address and a route beside the port's: the port is followed, and they stay. What contradicts it is drift."""
    green = cloud.network("green", mtu=1400, subnets=[Subnet("10.91.0.0/24", "10.91.0.1", dns=("10.91.0.2",)), _SIX])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("added")
    first, static, dynamic, changed = (server.create_port(network) for network in (_blue(cloud), green, leased, green))
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, static, dynamic, changed)
    _modify(guest, static, "connection.zone work ipv4.dns-priority 50 +ipv4.addresses 10.99.0.5/24 +ipv4.routes '10.98.0.0/16 10.99.0.1'")
    _modify(guest, dynamic, "connection.autoconnect-priority 130 ipv4.dhcp-hostname guest")
    _modify(guest, changed, "ipv4.dns 10.91.0.77")
    added = "address 10.99.0.5/24"
    theirs = ["address of nobody 10.99.0.5/24", "route of nobody ('10.98.0.0/16', '10.99.0.1')"]
    assert state_of(guest, static) == "ok" and added in "; ".join(findings_of(guest, static))
    assert state_of(guest, changed) == "drifted"

    def assert_just(after: Any) -> None:
        """What was added, and else just what the port has."""
        deadline = time.monotonic() + 15 * guest.patience
        while sorted(lacks(guest, static)) != theirs:
            assert time.monotonic() < deadline, (after, lacks(guest, static))
            time.sleep(0.2)

    for edit in ({"mtu": 1390}, {"dns": ["10.91.0.3"]}, {"routes": [("10.200.0.0/16", "10.91.0.9")]}, {"fixed_ips": ["10.91.0.88", "2001:db8:1::88"]}):
        for port in (static, changed):
            server.edit_port(port, **({} if port is changed and "fixed_ips" in edit else edit))
        record = reconcile(guest)
        assert {touch["mac"] for touch in record["touches"]} == {static.mac}, record
        assert_just(edit)
    shown = guest.run(f"nmcli -g connection.zone,ipv4.dns-priority connection show '{PROFILES[guest.backend]}{guest.nic(static)}'").stdout
    assert shown.split() == ["work", "50"]
    (row,) = [row for row in status(guest)["nics"] if row["mac"] == changed.mac]
    assert (row["state"], [line for line in row["differs"] if "10.91.0.77" in line]) == ("drifted", ["- dns 10.91.0.77 2001:db8:1::53"]), row
    assert_nothing_to_do(guest)
    guest.reboot()
    assert_boot(guest, level="store")
    settled(guest)
    assert_just("a reboot")
    assert_follows(guest, first, dynamic)
    assert "130" in guest.run(f"nmcli -g connection.autoconnect-priority connection show '{PROFILES[guest.backend]}{guest.nic(dynamic)}'").stdout
    reconcile(guest, "--force")  # it overwrites what others added, too
    assert_follows(guest, first, static, dynamic, changed)
    assert_nothing_to_do(guest)


@pytest.mark.on("netplan_nm")
def test_a_profile_that_nmcli_wrote_beside_netplan_s_is_told(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """It is in /etc and replaces the one that netplan's generator makes at each boot: an operator's, until he removes it."""
    server = cloud.server("beside")
    blue = _blue(cloud)
    first, second = server.create_port(blue), server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)
    _modify(guest, second, "ipv4.dns-priority 50")
    path = _profile(guest, second)
    server.edit_port(second, mtu=1400)
    record = reconcile(guest)
    assert (record["changes"], record["touches"]) == ([], []), record
    assert state_of(guest, second) == "drifted" and path in reason_of(guest, second), (path, reason_of(guest, second))
    assert_follows(guest, first)
    guest.run(f"rm '{path}' && nmcli connection reload")  # and netplan's own is not there any more
    reconcile(guest)
    assert_follows(guest, first, second)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_a_silent_dhcp_server_costs_no_lease(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A reapply would restart DHCP. The edit waits, and says so; with a server it is applied."""
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("silent")
    first, second = server.create_port(_blue(cloud)), server.create_port(leased)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)
    address = f"{second.fixed_ips[0]}/24"
    for silent in (True, False):
        if not silent:
            server.edit_port(second, mtu=1410)  # which starts the DHCP server again
        said = server.network_data()
        (network,) = [net for net in said["networks"] if net["type"] == "ipv4_dhcp"]
        network["routes"] = [{"network": f"10.20{int(silent)}.0.0", "netmask": "255.255.0.0", "gateway": "10.92.0.9"}]
        cloud.override("/openstack/*/network_data.json", body=json.dumps(said).encode())
        if silent:
            cloud.stop_dhcp(leased)
        record = reconcile_anyway(guest)
        name = str(guest.nic(second))
        commands = record["commands"]
        assert (f"nmcli device reapply {name}" in commands) == (not silent), record
        assert not any("connection up" in command for command in commands), commands
        if silent:
            assert "no DHCP server answers" in record["problems"][second.mac], record
            time.sleep(17)  # it took the address away after 15 s
        else:
            wait_until(lambda: "10.200.0.0/16 via 10.92.0.9" in guest.run("ip route").stdout, 10, "the route")
        assert address in guest.run(f"ip -brief address show {name}").stdout


@pytest.mark.deep
def test_a_boot_waits_for_the_lease_of_the_nic_that_is_left(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Its profile is that of a later NIC, for whose lease no boot waits."""
    leased = cloud.network("leased", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True, dns=["10.92.0.2"])
    server = cloud.server("left")
    first, second = server.create_port(_blue(cloud)), server.create_port(leased)
    guest = guest_factory(server, files=NO_WIRED_CONNECTION)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)
    server.delete_port(first)
    name = str(guest.nic(first))
    guest.unplug(first)
    assert_gone(guest, name)
    settled(guest)
    cloud.stop_dhcp(leased)
    guest.reboot(wait=False)

    def state() -> str:
        return guest.run("systemctl is-active NetworkManager-wait-online.service", check=False).stdout.strip()

    wait_until(lambda: state() == "activating", 30 * guest.patience, "the boot waits for the network")
    time.sleep(8)  # its link-local address was there after 2 s
    assert state() == "activating"
    server.edit_port(second)  # the DHCP server is back
    guest.wait_for_cloud_init()
    assert_follows(guest, second)
    assert state() == "active"
    assert_nothing_to_do(guest)


@pytest.mark.deep
def test_a_dns_edit_that_waits_for_a_dhcp_server_is_applied_by_itself(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Nothing in the kernel lacks: the note of it and the timer bring it, once the server answers."""
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)
    server = cloud.server("waiting")
    first, second = server.create_port(_blue(cloud)), server.create_port(leased)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert_follows(guest, first, second)
    cloud.stop_dhcp(leased)
    said = server.network_data()
    (network,) = [net for net in said["networks"] if net["type"] == "ipv4_dhcp"]
    network["services"] = [{"type": "dns", "address": "10.92.0.77"}]
    cloud.override("/openstack/*/network_data.json", body=json.dumps(said).encode())
    record = reconcile_anyway(guest)
    assert "no DHCP server answers" in record["problems"][second.mac], record
    assert timers(guest) == ["cloudinit-osnetd-look.timer"]
    server.edit_port(second)  # the DHCP server is back; the document stays

    def used() -> bool:
        shown = guest.run(f"nmcli -g IP4.DNS device show {guest.nic(second)}").stdout
        return "10.92.0.77" in shown

    assert not used()
    wait_until(used, 30, "the DNS server in use")
    settled(guest)
    assert timers(guest) == []
    assert state_of(guest, second) == "ok"
    assert_nothing_to_do(guest)


def test_advertised_networks(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A port with IPv4 only takes nothing that is advertised beside it; DHCPv6 has its route; addresses are EUI-64."""
    heard = cloud.network("heard", mtu=1400, subnets=[Subnet("10.91.0.0/24"), Subnet("fd00:98::/64", "fd00:98::1", advertised=True)])
    six = Subnet("fd00:97::/64", "fd00:97::1", ipv6_mode="dhcpv6-stateful")
    stateful = cloud.network("stateful", mtu=1400, subnets=[six])
    slaac = Subnet("fd00:96::/64", "fd00:96::1", ipv6_mode="slaac")
    made = cloud.network("made", mtu=1400, subnets=[slaac])
    mac = "fa:16:3e:0b:0b:01"
    server = cloud.server("heard")
    first = server.create_port(_blue(cloud))
    ports = [server.create_port(heard, fixed_ips=["10.91.0.5"]), server.create_port(stateful)]
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    ports.append(server.create_port(made, mac=mac, fixed_ips=[address_by_mac(slaac.cidr, mac)]))
    guest.plug(ports[-1])
    assert_follows(guest, first, *ports, seconds=25)
    guest.reboot()
    assert_follows(guest, first, *ports, seconds=25)
    routes = guest.run("ip -6 route show default").stdout
    assert f"dev {guest.nic(ports[0])} " not in routes, routes
    assert_nothing_to_do(guest)
