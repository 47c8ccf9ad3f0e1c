# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An edit takes away what it changes, and nothing else: measured on the edited NIC, beside what others gave it."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Set

from tests.lab import Cloud, Container, Port, netns
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.place import a_server_with_one_nic
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    findings_of,
    ip,
    reconcile,
    reconcile_anyway,
    settled,
    state_of,
    wait_until,
)
from tests.scenarios.serving import serving
from tests.scenarios.stream import Stream

# keepalived's, a stanza's ens4:1, an operator's, a VPN's and Kubernetes', a routing daemon's.
THEIRS = """
ip addr add 10.91.0.200/32 dev {edited}
ip addr add 10.91.0.201/24 dev {edited} label {edited}:1
ip addr add 192.0.2.200/24 dev {edited}
ip addr add 2001:db8:9::200/64 dev {edited} nodad
ip route add 198.51.100.0/24 via 10.91.0.9 dev {edited}
ip route add 198.51.101.0/24 via 192.0.2.9 dev {edited} mtu 1280
ip route add 198.51.102.0/24 via 10.91.0.9 dev {edited} table 77 proto 99
ip route add default via 10.91.0.1 dev {edited} table 100
ip route add blackhole 203.0.113.0/24
ip route add unreachable 203.0.114.0/24 table 77
ip rule add from 10.91.0.200 table 77 prio 500
ip rule add not fwmark 7/0xff table 100 prio 501
ip -6 rule add from 2001:db8:9::200 table 77 prio 502
ip route add 198.51.110.0/24 via 10.90.0.9 dev {other}
ip addr add 10.90.0.200/32 dev {other}
ip nexthop add id 501 via 10.91.0.9 dev {edited} proto 11
ip nexthop add id 502 via 10.90.0.9 dev {other} proto 11
ip nexthop add id 500 group 501/502 proto 11
ip route add 198.51.103.0/24 nhid 500 proto 11
ip neigh add 10.91.0.202 lladdr 02:00:00:00:02:02 dev {edited} nud permanent
ip neigh add proxy 10.91.0.203 dev {edited}
"""


def _give(guest: Container, edited: Port, other: Port) -> None:
    for line in THEIRS.format(edited=guest.nic(edited), other=guest.nic(other)).strip().splitlines():
        guest.run(line)


def _theirs(guest: Container) -> Set[str]:
    """What others gave, as ip(8) shows it."""
    shown: List[str] = []
    asked = ["-o addr", "route show table all", "-6 route show table all", "rule", "-6 rule", "nexthop"]
    for words in [*asked, "neigh show nud permanent", "neigh show proxy"]:
        lines = guest.run("ip " + words).stdout.splitlines()
        shown += [line.split("valid_lft")[0].split("\\")[0].strip() for line in lines]
    marks = (".0.200", ".0.201", ".0.202", ".0.203", ".2.200", "::200", "198.51.1", "203.0.11", "table 100", "lookup 100", "id 50")
    # What the kernel makes of an address by itself has the order of the day: which one of a subnet came first.
    return {line.replace(" secondary", "") for line in shown if any(m in line for m in marks) and "proto kernel" not in line}


def _scene(cloud: Cloud, guest_factory: GuestFactory) -> Any:
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    green = cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"], mtu=1400)
    server = cloud.servers[0]
    port = server.create_port(green, fixed_ips=["10.91.0.50"])
    guest.plug(port)
    assert_follows(guest, first, port)
    settled(guest)
    return server, first, port, guest


EDITS: Dict[str, Dict[str, Any]] = {
    "dns": dict(dns=["10.91.0.44", "10.91.0.45"]),
    "mtu": dict(mtu=1340),
    "route": dict(routes=[("10.201.0.0/16", "10.91.0.8")]),
    "address": dict(fixed_ips=["10.91.0.51"]),
}


def test_an_edit_takes_away_only_what_it_changes(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """What each edit costs the NIC's own stream is printed; a DNS edit costs it nothing, on any backend."""
    server, first, port, guest = _scene(cloud, guest_factory)
    _give(guest, port, first)
    theirs = _theirs(guest)
    assert len(theirs) == 21, theirs
    cost = {}
    for what, edit in EDITS.items():
        server.edit_port(port, **edit)
        with serving(guest, touches=[port], starts_of_service=0, nothing_to_do=False):
            stream = None if what == "address" else Stream(guest, port)
            record = reconcile(guest)
            assert_follows_beside_theirs(guest, port)
            cost[what] = (stream.end()[1] if stream else [], record["commands"])
        assert _theirs(guest) == theirs, (what, record)
        assert state_of(guest, port) == "ok"
        down = [command for command in record["commands"] if command.startswith(("ifdown", "systemd-run"))]
        assert down == [], record  # no backend takes the NIC down for any of these
        lost = [text for told in record["findings"].values() for text in told if text.startswith("lost")]
        assert lost == [], record
    print(f"\n{guest.suite}-{guest.backend}:", {what: len(lost) for what, (lost, _) in cost.items()})
    assert cost["dns"][0] == [], cost["dns"]
    if guest.backend != "ifupdown":
        assert not any("reload" in command for command in cost["dns"][1]), cost["dns"]
    assert_nothing_to_do(guest)

    # Another NIC comes: that is a reload for networkd, and none of the edited NIC's business.
    server.edit_port(port, dns=["10.91.0.46"])
    reconcile(guest)
    third = server.create_port(cloud.networks[0])
    with serving(guest, touches=[third], events=["added"], streams=[port]):
        guest.plug(third)
        assert_follows(guest, third)
    assert _theirs(guest) == theirs
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, port, third)


def assert_follows_beside_theirs(guest: Container, port: Port) -> None:
    """As the port says, but for what others gave."""
    name = guest.nic(port)

    def follows() -> bool:
        (link,) = ip(guest, f"addr show dev {name}")
        addresses = {a["local"] for a in link["addr_info"]}
        routes = {(r["dst"], r.get("gateway")) for r in ip(guest, f"route show dev {name}")}
        wanted = {route for subnet, _ in port.subnets() for route in subnet.routes} | {("default", "10.91.0.1")}
        return set(port.fixed_ips) <= addresses and link["mtu"] == port.mtu and wanted <= routes

    wait_until(follows, 10 * guest.patience, f"{port} followed")


def test_the_metadata_is_edited_while_a_nic_is_in_a_bridge(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server, first, port, guest = _scene(cloud, guest_factory)
    name, address = guest.nic(port), f"{port.fixed_ips[0]}/24"
    guest.run(
        f"ip link add br-ex type bridge && ip link set br-ex up && ip addr del {address} dev {name}"
        f" && ip link set {name} master br-ex && ip addr add {address} dev br-ex"
    )
    for edit in (dict(dns=["10.91.0.77"]), dict(mtu=1300, dns=["10.91.0.78"]), dict(fixed_ips=["10.91.0.52"])):
        server.edit_port(port, **edit)
        record = reconcile(guest)
        assert record["touches"] == [] and any("br-ex" in text for text in record["findings"][port.mac]), record
        time.sleep(1)
        assert "master br-ex" in guest.run(f"ip link show {name}").stdout
        assert [a for a in ip(guest, f"-4 addr show dev {name}") if a.get("addr_info")] == []
        assert address in guest.run("ip -o addr show dev br-ex").stdout
    assert any("br-ex" in text for text in findings_of(guest, port))
    # Nor does the next NIC's arrival have it taken out.
    third = server.create_port(cloud.networks[0])
    guest.plug(third)
    assert_follows(guest, first, third)
    assert "master br-ex" in guest.run(f"ip link show {name}").stdout
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, port, third)


def test_an_address_that_another_host_has_is_reported(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server, _first, port, guest = _scene(cloud, guest_factory)
    bridge = port.network.bridge
    netns.ip(cloud.namespace, f"address add 10.91.0.66/32 dev {bridge}", f"address add 10.91.0.67/32 dev {bridge}")
    other = json.loads(netns.output(cloud.namespace, ["ip", "-json", "link", "show", "dev", bridge]))[0]["address"]
    third = server.create_port(port.network, fixed_ips=["10.91.0.66"])
    with serving(guest, touches=[third], events=["added"]):
        guest.plug(third)
        assert_follows(guest, third, seconds=5)
    assert f"another host ({other}) has 10.91.0.66" in findings_of(guest, third)
    server.edit_port(port, fixed_ips=["10.91.0.67"])
    # The gateway's host has it, and does not answer to its own address: the NIC goes back, and it is told why.
    record = reconcile_anyway(guest)
    assert f"another host ({other}) has 10.91.0.67" in record["findings"][port.mac]
    assert f"another host ({other}) has 10.91.0.67" in findings_of(guest, port)
    # The two NICs on one network, each of which answers for both, are no other host.
    server.edit_port(port, fixed_ips=["10.91.0.68"])
    reconcile(guest)
    assert [text for text in findings_of(guest, port) if "another host" in text] == []
    assert state_of(guest, port) == "ok"


# Where a backend takes away what others gave, with its own.
_WHERE = {"ifupdown": ("ifdown", "", True), "nm": ("nmcli", "device reapply", True)}
_WHERE["ifcfg"] = _WHERE["netplan_nm"] = _WHERE["nm"]
_WHERE["networkd"] = _WHERE["netplan"] = ("networkctl", "reload", True)


def _hang(guest: Container, program: str, at: str, after: bool) -> None:
    """Have a program hang where it is called with these words, before it does what they say or after."""
    real = guest.run(f"readlink -f $(command -v {program})").stdout.strip()
    call = f'/root/real/{program} "$@"'
    wrapper = f'#!/bin/sh\ncase "$*" in *"{at}"*) {call if after else ":"}; exec sleep 1000;; esac\nexec {call}\n'
    guest.run(f"mkdir -p /root/real && cp {real} /root/real/{program} && rm {real}")
    guest.put(wrapper.encode(), real)
    guest.run(f"chmod 755 {real}")


def _as_it_was(guest: Container, program: str) -> None:
    real = guest.run(f"readlink -f $(command -v {program})").stdout.strip()
    guest.run(f"rm {real} && cp -p /root/real/{program} {real}")


def test_a_run_that_is_killed_leaves_what_others_gave_to_the_next_one(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server, first, port, guest = _scene(cloud, guest_factory)
    _give(guest, port, first)
    if guest.backend == "ifupdown":
        # A NIC that has its address is edited while it is up, and keeps what others gave.
        guest.run(f"ip addr del 10.91.0.50/24 dev {guest.nic(port)}")
    theirs = _theirs(guest)
    program, words, after = _WHERE[guest.backend]
    _hang(guest, program, words, after)
    server.edit_port(port, fixed_ips=["10.91.0.51"])
    guest.run("systemd-run --quiet --collect --unit=killed cloudinit-osnetd reconcile")
    wait_until(lambda: guest.run("pgrep -f 'sleep 100[0]'", check=False).stdout, 20 * guest.patience, "the run hangs")
    wait_until(lambda: _theirs(guest) != theirs, 5 * guest.patience, "something of others' is gone")
    guest.run("systemctl kill --signal=KILL killed")
    _as_it_was(guest, program)
    time.sleep(0.5)
    assert _theirs(guest) != theirs
    record = reconcile(guest)
    assert _theirs(guest) == theirs, record
    assert_follows_beside_theirs(guest, port)
    shown = guest.run(f"ip -o -4 addr show dev {guest.nic(port)}").stdout
    assert "10.91.0.51/24" in shown and "10.91.0.50/" not in shown
    assert guest.run("ls /run/cloudinit-osnetd/theirs.json", check=False).returncode
    settled(guest)
    assert_nothing_to_do(guest)


def test_an_address_of_ours_that_was_left_goes(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Where the run was killed, and the backend does not take away what it brought up."""
    server, _first, port, guest = _scene(cloud, guest_factory)
    name = guest.nic(port)
    guest.run(f"ip addr add 10.91.0.201/24 dev {name}")
    program, words, after = ("ip", "address del", False) if guest.backend == "ifupdown" else _WHERE[guest.backend]
    _hang(guest, program, words, after)
    server.edit_port(port, fixed_ips=["10.91.0.51"])
    guest.run("systemd-run --quiet --collect --unit=killed cloudinit-osnetd reconcile")
    wait_until(lambda: guest.run("pgrep -f 'sleep 100[0]'", check=False).stdout, 20 * guest.patience, "the run hangs")
    guest.run("systemctl kill --signal=KILL killed")
    _as_it_was(guest, program)
    if guest.backend == "ifupdown":
        guest.run("mv /sbin/ifdown /sbin/ifdown.real && ln -s /bin/false /sbin/ifdown")
    guest.run(f"ip addr add 10.91.0.50/24 dev {name}", check=False)
    time.sleep(1)
    reconcile(guest)
    shown = guest.run(f"ip -o -4 addr show dev {name}").stdout
    assert "10.91.0.51/24" in shown and "10.91.0.201/24" in shown and "10.91.0.50/" not in shown, shown
