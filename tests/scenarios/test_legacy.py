# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""legacy/osnetd_legacy.py on Python 2.7, in a guest with ifupdown and no package of ours: Debian 11, the last one that has both."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.lab import Cloud, Container, Port
from tests.scenarios import package
from tests.scenarios.seen import assert_follows, ip, settled, state_of, status, wait_until

PROGRAM = Path(__file__).resolve().parent.parent.parent / "legacy" / "osnetd_legacy.py"
PYTHON = "python2.7"
INTERFACES = "/etc/network/interfaces"
SECTION = "/etc/network/interfaces.d/50-cloud-init"  # cloud-init's file, in which ours stands
# What images of Debian 9 and 10 have there.
DEBIAN9 = """\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback
""" + "".join(f"\nallow-hotplug ens{n}\niface ens{n} inet dhcp\n" for n in (3, 4, 5))
# The helper of such an image has udev's rule bring up what is allowed to be; ifupdown's own unit does that here.
QUICK = 20.0


@pytest.fixture
def guest(cloud: Cloud) -> Iterator[Container]:
    """With one static port on blue; green is there for more."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"])
    server = cloud.server("elder")
    server.create_port(blue)
    with Container(
        cloud, server, "bullseye", "ifupdown", package=False, also=("python2.7",), files={INTERFACES.lstrip("/"): DEBIAN9}
    ) as made:
        yield made


def legacy(guest: Container, words: str, text: str = "", python: str = PYTHON) -> str:
    """Run the program, as a host would through the guest agent; what it printed."""
    guest.put(PROGRAM.read_bytes(), "/root/osnetd_legacy.py")
    guest.put(text.encode(), "/root/input")
    return guest.run(f"cd /root; LC_ALL=C {python} osnetd_legacy.py {words} < /root/input 2>&1", timeout=150).stdout


def install(guest: Container, words: str = "") -> None:
    legacy(guest, f"install {words}")
    wait_until(lambda: guest.run("test -e /run/osnetd-legacy/listening; echo $?").stdout == "0\n", QUICK, "the first look")
    wait_until(lambda: at_rest(guest), QUICK, "the first look done")


def at_rest(guest: Container) -> bool:
    return "osnetd" not in guest.run("systemctl list-units --no-legend --plain --state=activating,active,deactivating 'osnetd-legacy@*' 'osnetd-legacy.service'").stdout


def attach(guest: Container, network: int = 1) -> Port:
    port = guest.server.create_port(guest.cloud.networks[network])
    guest.plug(port)
    return port


def wire(guest: Container, port: Port) -> List[str]:
    """Address and link of a port's NIC, as the kernel numbers them: taken down and up, they would be others."""
    text = guest.run(f"ip -o address show dev {guest.nic(port)}; cat /sys/class/net/{guest.nic(port)}/carrier_changes").stdout
    return text.replace(" tentative", "").split("\n")


def test_apply_sets_a_port_at_once_and_for_the_next_boot(guest: Container) -> None:
    guest.boot()
    (first,) = guest.server.ports
    second = attach(guest)
    # The trap: udev has given the NIC a DHCP client, in a network where nobody answers one.
    wait_until(lambda: guest.run("pgrep -a dhclient", check=False).stdout, QUICK, "the image's DHCP client")
    untouched = wire(guest, first)
    said = legacy(guest, "apply -", json.dumps(guest.server.network_data()))
    assert f"{second.mac}  configured" in said and f"{first.mac}  ok" in said, said
    assert_follows(guest, second, seconds=5)
    assert guest.run("pgrep -a dhclient", check=False).stdout == ""
    assert wire(guest, first) == untouched
    assert "wrote" not in legacy(guest, "apply -", json.dumps(guest.server.network_data()))

    guest.reboot()
    for port in guest.server.ports:
        assert_follows(guest, port, seconds=QUICK)
    assert guest.run("pgrep -a dhclient", check=False).stdout == ""
    assert guest.run("systemctl is-failed networking.service", check=False).stdout == "active\n"
    # ifup and ifdown know them.
    assert set(re.findall(r"^(ens\d)=", guest.run("cat /run/network/ifstate").stdout, re.MULTILINE)) == {"ens3", "ens4"}


def rich(port: Port) -> str:
    """What Nova cannot say and a push can: several addresses of both families, gateways that no subnet holds."""
    nets: List[Dict[str, Any]] = [
        {"type": "ipv4", "ip_address": "10.91.0.50", "netmask": "24", "gateway": "10.91.0.1"},
        {"type": "ipv4", "ip_address": "10.91.0.51", "netmask": "24"},
        {"type": "ipv4", "ip_address": "10.95.0.5", "netmask": "32", "routes": [{"network": "10.96.0.0/16", "gateway": "10.95.9.1"}]},
        {"type": "ipv6", "ip_address": "2001:db8:91::5", "netmask": "64", "gateway": "fe80::1"},
        {"type": "ipv6", "ip_address": "2001:db8:92::5", "netmask": "128", "routes": [{"network": "2001:db8:96::/48", "gateway": "2001:db8:9::1"}]},
    ]
    link = {"id": "тап", "ethernet_mac_address": port.mac, "type": "ovs", "mtu": 1400}
    services = [{"type": "dns", "address": "10.91.0.2"}]
    return json.dumps({"links": [link], "networks": [dict(net, link="тап") for net in nets], "services": services}, ensure_ascii=False)


def shown(guest: Container, port: Port) -> List[str]:
    """All that the kernel has of a NIC and that does not count time or events."""
    name = guest.nic(port)
    text = guest.run(f"ip -o address show dev {name}; ip route show dev {name}; ip -6 route show dev {name}; cat /sys/class/net/{name}/mtu").stdout
    return sorted(line.replace(" tentative", "") for line in re.sub(r"^\d+: ", "", text, flags=re.MULTILINE).splitlines())


def assert_shown(guest: Container, port: Port, wanted: List[str]) -> None:
    with contextlib.suppress(AssertionError):
        wait_until(lambda: shown(guest, port) == wanted, QUICK, "the same as before")
    assert shown(guest, port) == wanted


def test_what_is_live_is_what_ifup_makes_of_the_file(guest: Container) -> None:
    guest.boot()
    port = attach(guest)
    said = legacy(guest, "-v apply -", rich(port))
    assert f"{port.mac}  configured" in said, said
    live = shown(guest, port)
    text = "\n".join(live)
    for word in ("10.91.0.50/24", "10.91.0.51/24", "10.95.0.5/32", "2001:db8:91::5/64", "2001:db8:92::5/128", "1400"):
        assert word in text
    for route in ("default via 10.91.0.1 metric 2100", "10.96.0.0/16 via 10.95.9.1", "default via fe80::1", "2001:db8:96::/48 via 2001:db8:9::1"):
        assert route in text
    name = guest.nic(port)
    guest.run(f"ifdown {name} && ip link show dev {name} && ifup {name}")
    assert_shown(guest, port, live)
    assert "+ ip" not in legacy(guest, "-v apply -", rich(port))
    guest.reboot()
    assert_shown(guest, port, live)
    assert "10.91.0.2" in guest.run("cat /etc/resolv.conf").stdout
    assert "+ ip" not in legacy(guest, "-v apply -", rich(port))


def test_it_follows_ports_that_come_and_go_and_a_reboot_keeps_them(guest: Container) -> None:
    guest.boot()
    (first,) = guest.server.ports
    install(guest)
    assert "network: {config: disabled}" in guest.run("cat /etc/cloud/cloud.cfg.d/99-osnetd-legacy.cfg").stdout
    assert_follows(guest, first, seconds=QUICK)
    untouched = wire(guest, first)

    second = attach(guest)
    assert_follows(guest, second, seconds=QUICK)
    third = attach(guest)
    assert_follows(guest, third, seconds=QUICK)
    assert wire(guest, first) == untouched
    assert guest.run("pgrep -a dhclient", check=False).stdout == ""

    # It leaves; the metadata service has not noticed yet.
    guest.server.freeze_metadata()
    guest.unplug(second)
    guest.server.delete_port(second)
    wait_until(lambda: second.mac not in guest.run(f"cat {SECTION}").stdout, QUICK, "the departed NIC out of the file")
    guest.server.thaw_metadata()
    assert wire(guest, first) == untouched

    guest.reboot()
    for port in (first, third):
        assert_follows(guest, port, seconds=QUICK)
    assert guest.cloud_init_errors() == []
    assert "ordering cycle" not in guest.run("journalctl -b --no-pager").stdout
    text = guest.run(f"cat {SECTION}").stdout
    assert third.mac in text and second.mac not in text
    fourth = attach(guest)
    assert_follows(guest, fourth, seconds=QUICK)


@pytest.fixture
def enterprise(cloud: Cloud) -> Iterator[Container]:
    """As `guest`, with NetworkManager and its plugin for ifcfg files, as on Enterprise Linux 8; its Python is Debian 13's."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    cloud.network("green", cidr="10.91.0.0/24", gateway="10.91.0.1", dns=["10.91.0.2"])
    server = cloud.server("elder")
    server.create_port(blue)
    with Container(cloud, server, "trixie", "ifcfg", package=False) as made:
        yield made


def reached(guest: Container, port: Port) -> List[str]:
    """Addresses, and routes without what NetworkManager adds to each: a metric of its own where none is said."""
    name = guest.nic(port)
    (link,) = ip(guest, f"address show dev {name}")
    found = [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if not one["local"].startswith("fe80")]
    routes = [route for family in ("-4", "-6") for route in ip(guest, f"{family} route show dev {name}") if "gateway" in route]
    metrics = [f" metric {route['metric']}" if route.get("metric", 0) >= 2100 else "" for route in routes]
    return sorted(found + [f"{route['dst']} via {route['gateway']}{metric}" for route, metric in zip(routes, metrics)])


@pytest.mark.deep
def test_networkmanagers_plugin_reads_of_ifcfg_files_what_was_set_live(enterprise: Container) -> None:
    guest = enterprise
    guest.boot()
    (first,) = guest.server.ports
    # NetworkManager has it already, with metrics of its own.
    said = legacy(guest, "-v apply -", json.dumps(guest.server.network_data()), python="python3")
    assert f"{first.mac}  ok" in said and "+ ip" not in said, said
    port = attach(guest)
    said = legacy(guest, "-v apply -", rich(port), python="python3")
    assert f"{port.mac}  configured" in said, said
    live = reached(guest, port)
    for word in ("10.91.0.50/24", "10.91.0.51/24", "10.95.0.5/32", "2001:db8:91::5/64", "2001:db8:92::5/128"):
        assert word in live
    for route in ("default via 10.91.0.1 metric 2100", "10.96.0.0/16 via 10.95.9.1 metric 2100", "default via fe80::1 metric 2100", "2001:db8:96::/48 via 2001:db8:9::1 metric 2100"):
        assert route in live
    assert "+ ip" not in legacy(guest, "-v apply -", rich(port), python="python3")
    guest.reboot()
    wait_until(lambda: reached(guest, port) == live, 2 * QUICK, f"{live} again")
    name = guest.nic(port)
    used = guest.run("nmcli -t -f DEVICE,FILENAME connection").stdout
    assert f"{name}:/etc/sysconfig/network-scripts/ifcfg-{name}" in used
    assert guest.run(f"nmcli -g GENERAL.MTU,IP4.DNS device show {name}").stdout == "1400\n10.91.0.2\n"
    assert "+ ip" not in legacy(guest, "-v apply -", rich(port), python="python3")
    assert_follows(guest, first, seconds=QUICK)


@pytest.mark.deep
def test_names_that_move_at_a_reboot(guest: Container) -> None:
    """Without consistent names a NIC takes the place of one that has gone."""
    guest.boot()
    install(guest)
    gone, moved = attach(guest), attach(guest)
    for port in (gone, moved):
        assert_follows(guest, port, seconds=QUICK)
    names = [guest.nic(port) for port in (gone, moved)]
    guest.poweroff()
    guest.unplug(gone)
    guest.server.delete_port(gone)
    guest.plug(moved, names[0])
    guest.boot()
    assert guest.nic(moved) == names[0]
    assert_follows(guest, moved, seconds=3)
    assert guest.run(f"grep -c 'iface {names[1]}' {SECTION}", check=False).stdout == "0\n"


@pytest.mark.deep
def test_the_primary_goes_and_the_metadata_service_is_found_by_another_way(guest: Container) -> None:
    guest.boot()
    install(guest)
    (first,) = guest.server.ports
    second = attach(guest)
    assert_follows(guest, second, seconds=QUICK)
    guest.unplug(first)
    guest.server.delete_port(first)
    wait_until(lambda: first.mac not in guest.run(f"cat {SECTION}").stdout, QUICK, "the departed NIC out of the file")
    third = attach(guest, 0)
    assert_follows(guest, third, seconds=QUICK)
    assert [route for route in ip(guest, "route") if route["dst"] == "169.254.169.254"] == []


@pytest.mark.deep
def test_a_dhcp_port(guest: Container) -> None:
    red = guest.cloud.network("red", cidr="10.92.0.0/24", gateway="10.92.0.1", dhcp=True)
    guest.boot()
    install(guest)
    port = guest.server.create_port(red)
    guest.plug(port)
    wait_until(lambda: guest.cloud.leases(red), 2 * QUICK, "a lease")
    assert_follows(guest, port, seconds=QUICK)
    wait_until(lambda: at_rest(guest), QUICK, "the look done")
    # The unit has ended; the client that ifup started in it has not.
    assert len(guest.run("pgrep dhclient", check=False).stdout.split()) == 1
    guest.unplug(port)
    guest.server.delete_port(port)
    wait_until(lambda: not guest.run("pgrep dhclient", check=False).stdout, QUICK, "the client ended")


@pytest.mark.deep
def test_nothing_is_left_after_uninstall_and_a_reboot_has_its_network(guest: Container) -> None:
    guest.boot()
    before = guest.run("find / -xdev -name '*osnetd*' -not -path '/sys/*' | sort").stdout
    install(guest, "--entry-point")
    second = attach(guest)
    assert_follows(guest, second, seconds=QUICK)
    wait_until(lambda: at_rest(guest), QUICK, "the look done")
    # A host of openstack-networkd edits the port by its own entry point.
    guest.server.edit_port(second, fixed_ips=["10.91.0.200"])
    pushed = base64.b64encode(json.dumps(guest.server.network_data()).encode()).decode()
    assert f"{second.mac}  configured" in guest.run(f"/scripts/apply-network-config {pushed}").stdout
    assert_follows(guest, second, seconds=3)
    legacy(guest, "uninstall")
    guest.run("rm /root/osnetd_legacy.py /root/input")
    assert guest.run("find / -xdev -name '*osnetd*' -not -path '/sys/*' | sort").stdout == before
    assert guest.run("grep -rl osnetd-legacy /etc /run /var/lib /usr/local", check=False).stdout == ""
    for port in guest.server.ports:
        assert_follows(guest, port, seconds=3)
    guest.rebuild_drive()
    guest.reboot()
    for port in guest.server.ports:
        assert_follows(guest, port, seconds=QUICK)


@pytest.mark.deep
def test_the_package_follows_the_ports_after_it(guest: Container) -> None:
    """Moving on: uninstalled, and the package installed. No NIC is touched by that."""
    guest.boot()
    install(guest)
    second = attach(guest)
    assert_follows(guest, second, seconds=QUICK)
    wait_until(lambda: at_rest(guest), QUICK, "the look done")
    legacy(guest, "uninstall")
    untouched = [wire(guest, port) for port in guest.server.ports]
    package.install(guest)
    settled(guest, 60)
    assert [wire(guest, port) for port in guest.server.ports] == untouched
    third = attach(guest, 0)
    assert_follows(guest, third, seconds=QUICK)
    assert {port.mac: state_of(guest, port) for port in guest.server.ports} == {port.mac: "ok" for port in guest.server.ports}, json.dumps(status(guest)["nics"])
