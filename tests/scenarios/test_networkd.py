# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What networkd makes of its files: two NICs on one network, somebody else's files, names, drop-ins, modes."""

from __future__ import annotations

import pytest

from tests.lab import Cloud, Container
from tests.lab.ports import Subnet, address_by_mac
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.place import KNOWN, a_server_with_one_nic, boot_known
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_nothing_to_do,
    configured_names,
    ip,
    log_of,
    reason_of,
    reconcile,
    settled,
    state_of,
    wait_until,
)
from tests.scenarios.serving import serving

_DUAL = (
    Subnet("10.91.0.0/24", "10.91.0.1", dns=("10.91.0.2",)),
    Subnet("2001:db8:1::/64", "2001:db8:1::1", dns=("2001:db8:1::53",)),
)


def test_two_ports_on_one_dual_stack_network(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """Both have the route to the subnet and a default route, in both families; before a reboot and after it."""
    green = cloud.network("green", mtu=1400, subnets=list(_DUAL))
    server = cloud.server("twins", uuid=KNOWN.format(5))
    first = server.create_port(green, mac="fa:16:3e:a0:05:01", fixed_ips=["10.91.0.17", "2001:db8:1::17"])
    guest = guest_factory(server)
    boot_known(guest)
    assert_boot(guest, level="drive")
    second = server.create_port(green)
    with serving(guest, touches=[second], events=["added"]):
        guest.plug(second)
        assert_follows(guest, first, second)
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


def test_two_ports_on_one_advertised_network(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """The told default route of the second is refused by a kernel that knows the subnet by the first; the router's is not."""
    six = Subnet("fd00:98::/64", "fd00:98::1", ipv6_mode="slaac")
    green = cloud.network("green", mtu=1400, subnets=[Subnet("10.91.0.0/24", "10.91.0.1"), six])
    server = cloud.server("heard")
    macs = ["fa:16:3e:0b:0b:01", "fa:16:3e:0b:0b:02"]
    first = server.create_port(green, mac=macs[0], fixed_ips=["10.91.0.11", address_by_mac(six.cidr, macs[0])])
    guest = guest_factory(server)
    guest.boot()
    second = server.create_port(green, mac=macs[1], fixed_ips=["10.91.0.12", address_by_mac(six.cidr, macs[1])])
    guest.plug(second)
    assert_follows(guest, first, second, seconds=25)
    guest.reboot()
    assert_follows(guest, first, second, seconds=25)
    assert_nothing_to_do(guest)


def _of_networkd(guest: Container) -> str:
    """What precedes a NIC's name in the names of networkd's files."""
    return "10-netplan-" if guest.backend == "netplan" else "10-cloud-init-"


# Judged by what we know of the NIC, and by networkd's own note of it.
_MATCHES = {"type": "Type=ether", "virtualization": "Virtualization=yes\nType=ether", "kernel": "KernelVersion=>1"}
# udev gives NICs on a bus more names than one, which count as well.
_OTHER_NAME = pytest.param("Name=enxfa163e0a0a0a", id="other-name", marks=pytest.mark.on("vm", "netplan"))


@pytest.mark.on("networkd", "netplan")
@pytest.mark.parametrize("match", [pytest.param(_MATCHES[name], id=name) for name in sorted(_MATCHES)] + [_OTHER_NAME])
def test_an_operators_file_that_sorts_first_has_the_nic(cloud: Cloud, guest_factory: GuestFactory, match: str) -> None:
    """The NIC is left to it, at once and by name, and who takes it away hands the NIC over."""
    first, guest = a_server_with_one_nic(cloud, guest_factory)
    path, mac = "/etc/systemd/network/05-x.network", "fa:16:3e:0a:0a:0a"
    (link,) = ip(guest, f"link show dev {guest.nic(first)}")
    names = " ".join([link["ifname"], *link.get("altnames", [])])
    others = "" if match.startswith("Name=") else f"Name=!{names}\n"
    text = f"[Match]\n{match}\nPermanentMACAddress=\n{others}[Network]\nLinkLocalAddressing=no\n"
    guest.put(text.encode(), path)
    guest.run("networkctl reload")
    port = guest.server.create_port(first.network, mac=mac)
    guest.plug(port)
    wait_until(lambda: state_of(guest, port) == "drifted", 10 * guest.patience, "it is left to the file")
    settled(guest, 5)  # nobody waits for what will not come
    assert path in reason_of(guest, port)
    assert_follows(guest, first)
    assert_nothing_to_do(guest)
    guest.run(f"rm {path}; networkctl reload")
    reconcile(guest)
    assert_follows(guest, first, port)
    assert state_of(guest, port) == "ok"


@pytest.mark.on("networkd", "netplan")
def test_an_operators_drop_in(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """One that says what a port has is somebody's say in it; one that adds to it is no matter."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    server = cloud.server("dropped")
    first, second = server.create_port(blue), server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    prefix = _of_networkd(guest)
    path = f"/etc/systemd/network/{prefix}{guest.nic(second)}.network.d/90-x.conf"
    guest.run(f"mkdir -p $(dirname {path})")
    guest.put(b"[Network]\nLLDP=no\n", path)
    server.edit_port(second, fixed_ips=["10.90.0.77"])
    reconcile(guest)
    assert_follows(guest, first, second)
    assert state_of(guest, second) == "ok"
    guest.put(b"[Link]\nMTUBytes=1280\n", path)
    server.edit_port(second, fixed_ips=["10.90.0.78"])
    reconcile(guest)
    assert state_of(guest, second) == "drifted" and path in reason_of(guest, second)
    assert_nothing_to_do(guest)
    guest.run(f"rm {path}")
    reconcile(guest)
    assert_follows(guest, first, second)


def test_a_shells_umask_and_directories_in_the_place_of_files(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    server = cloud.server("masked")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    for path in ("/etc/systemd/network/05-x.network", "/etc/netplan/01-x.yaml", "/etc/network/interfaces.d/x"):
        guest.run(f"test ! -d $(dirname {path}) || mkdir {path}")
    guest.run("systemctl stop cloudinit-osnetd.path")
    second = server.create_port(blue)
    guest.plug(second)
    guest.run("umask 077; cloudinit-osnetd reconcile")
    guest.run("systemctl start cloudinit-osnetd.path")
    assert_follows(guest, first, second)
    unreadable = "find /etc/systemd/network /run/systemd/network ! -perm -0040 ! -perm -0004 2>/dev/null"
    assert guest.run(unreadable, check=False).stdout == ""
    guest.reboot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    assert "Traceback" not in log_of(guest)


NAMES = ("w[1]", "p=q", "-dash", "a*b", "!x", "ens4")


@pytest.mark.on("networkd", "nm")  # a netplan guest's NICs get their names from udev
def test_names_with_characters_that_mean_something(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """A name is a name: in a list of patterns, in a file's name and on a command line. One like it is another NIC."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"])
    server = cloud.server("named")
    first = server.create_port(blue)
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    ports = [server.create_port(blue) for _ in NAMES]
    for port, name in zip(ports, NAMES):
        guest.plug(port, name=name)
    assert_follows(guest, first, *ports)
    settled(guest)
    assert_nothing_to_do(guest)
    server.edit_port(ports[0], fixed_ips=["10.90.0.201"])
    server.edit_port(ports[2], fixed_ips=["10.90.0.202"])
    reconcile(guest)
    assert_follows(guest, first, *ports)
    guest.run("ip address flush dev -dash scope global; ip address flush dev 'a*b' scope global")
    reconcile(guest)
    assert_follows(guest, first, *ports)
    guest.unplug(ports[0])
    server.delete_port(ports[0])
    wait_until(lambda: "w[1]" not in configured_names(guest), 10, "its file is gone")
    settled(guest)
    assert_follows(guest, first, *ports[1:])
