# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Scenario 18: the package comes, is renewed and goes on a running server; each time two reboots follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Sequence

import pytest

from tests.lab import Cloud, Container, Port, Server
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import assert_network, assert_network_boot, identity, log_length, untouched
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configuration,
    log_of,
    settled,
    state_of,
    status,
)

TRUSTED = pytest.mark.parametrize("trusted_cache", [True, False], ids=["trusted", "distrusted"])


def web(cloud: Cloud) -> Server:
    """A server with three NICs, global DNS from two networks, and IPv6."""
    six = cloud.network("six", cidr="2001:db8:7::/64", gateway="2001:db8:7::1", mtu=None)
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    green = cloud.network(
        "green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")]
    )
    server = cloud.server("web")
    for network in (blue, green, six):
        server.create_port(network)
    return server


def attach(cloud: Cloud, guest: Container, server: Server) -> Port:
    number = len(cloud.networks)
    port = server.create_port(
        cloud.network(f"more{number}", cidr=f"10.99.{number}.0/24", dns=[f"10.99.{number}.2"], mtu=1300)
    )
    guest.plug(port)
    return port


def two_reboots(guest: Container, ports: Sequence[Port], who: Dict[str, str]) -> None:
    for _ in range(2):
        log = log_length(guest)
        guest.reboot()
        assert_network_boot(guest, who, log)
        assert_network(guest, *ports)


@TRUSTED
def test_installed_on_a_running_server(cloud: Cloud, guest_factory: GuestFactory, trusted_cache: bool) -> None:
    server = web(cloud)
    ports = list(server.ports)
    guest = guest_factory(server, package=False, trusted_cache=trusted_cache)
    guest.boot()
    assert_network(guest, *ports)
    who = identity(guest)

    with untouched(guest):
        package.install(guest)
        settled(guest)
    assert [state_of(guest, port) for port in ports] == ["ok", "ok", "ok"]
    assert_nothing_to_do(guest)

    with_udev = attach(cloud, guest, server)
    assert_follows(guest, with_udev)
    settled(guest)
    assert "reason=added" in log_of(guest)
    two_reboots(guest, [*ports, with_udev], who)
    assert_follows(guest, with_udev)
    assert_boot_level(guest, "store")
    assert_nothing_to_do(guest)


def test_a_nic_that_came_before_the_package_is_configured_and_no_other_touched(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """Its network's DNS servers are in the global DNS by now, which cloud-init alone wrote for every NIC."""
    server = web(cloud)
    guest = guest_factory(server, package=False)
    guest.boot()
    assert_network(guest, *server.ports)
    before = [configuration(guest, port).strip() for port in server.ports]
    early = attach(cloud, guest, server)
    package.install(guest)
    assert_follows(guest, early)
    settled(guest)
    assert {touch["mac"] for touch in status(guest)["last_run"]["touches"]} == {early.mac}
    assert [configuration(guest, port).strip() for port in server.ports if port is not early] == before
    assert_nothing_to_do(guest)


@pytest.mark.long
@TRUSTED
def test_upgraded_removed_and_reinstalled(
    cloud: Cloud, guest_factory: GuestFactory, trusted_cache: bool, tmp_path: Path
) -> None:
    server = web(cloud)
    guest = guest_factory(server, trusted_cache=trusted_cache)
    guest.boot()
    assert_boot(guest, level="drive")
    ports = [*server.ports, attach(cloud, guest, server)]
    assert_follows(guest, *ports)
    settled(guest)
    who = identity(guest)

    with untouched(guest):
        package.install(guest, package.newer(tmp_path))
        settled(guest)
    assert "yes" in guest.run("python3 -c 'import cloudinit_osnetd; print(cloudinit_osnetd.NEWER)'").stdout
    two_reboots(guest, ports, who)
    assert_boot_level(guest, "store")
    ports.append(attach(cloud, guest, server))
    assert_follows(guest, *ports)
    settled(guest)

    with untouched(guest):
        said = package.remove(guest)
    assert "no longer" not in said, said
    two_reboots(guest, ports, who)
    unheard = attach(cloud, guest, server)

    package.install(guest)
    assert_follows(guest, *ports, unheard)
    settled(guest)
    assert_nothing_to_do(guest)
    two_reboots(guest, [*ports, unheard], who)
    assert_boot_level(guest, "store")

    with untouched(guest):
        package.remove(guest, purge=True)
    assert leftovers(guest) == []
    two_reboots(guest, [*ports, unheard], who)

    # Nothing is remembered, and yet every file on disk is known again.
    with untouched(guest):
        package.install(guest)
        settled(guest)
    assert {state_of(guest, port) for port in [*ports, unheard]} == {"ok"}, status(guest)
    assert_nothing_to_do(guest)


@TRUSTED
def test_removed_where_the_drive_lists_a_nic_that_is_gone(
    cloud: Cloud, guest_factory: GuestFactory, trusted_cache: bool
) -> None:
    server = web(cloud)
    first, second, third = server.ports
    guest = guest_factory(server, trusted_cache=trusted_cache)
    guest.boot()
    new = attach(cloud, guest, server)
    assert_follows(guest, new)
    name = str(guest.nic(second))
    server.delete_port(second)
    guest.unplug(second)
    assert_gone(guest, name)
    settled(guest)
    two_reboots(guest, [first, third, new], who := identity(guest))

    with untouched(guest):
        said = package.remove(guest)
    assert second.mac in said and "reads the drive again" in said, said
    if trusted_cache:
        two_reboots(guest, [first, third, new], who)
    else:
        # cloud-init alone fails on such a drive, as was said; the network comes up.
        guest.reboot()
        assert_network(guest, first, third, new)
        assert any("init-local" in error or second.mac in error for error in guest.cloud_init_errors())
        assert guest.run("cat /etc/ssh/ssh_host_*_key.pub").stdout == who["host keys"]


_FETCH = "import urllib.request as r; r.urlretrieve('http://169.254.169.254/x.deb', '/run/osnetd.deb')"
_INSTALL = f'python3 -c "{_FETCH}" && apt-get install -y --no-install-recommends /run/osnetd.deb'
USER_DATA = {
    "runcmd": {"runcmd": [["sh", "-c", _INSTALL]]},
    # It comes at every boot.
    "bootcmd": {"bootcmd": [["cloud-init-per", "once", "osnetd", "sh", "-c", _INSTALL]]},
}


@pytest.mark.parametrize("when", sorted(USER_DATA))
def test_installed_by_cloud_init_at_the_first_boot(cloud: Cloud, guest_factory: GuestFactory, when: str) -> None:
    cloud.override("/x.deb", body=package.deb.under_test().read_bytes())
    server = web(cloud)
    server.user_data = "#cloud-config\n" + json.dumps(USER_DATA[when])
    ports = list(server.ports)
    guest = guest_factory(server, package=False)
    guest.boot()
    assert guest.cloud_init_errors() == []
    assert_network(guest, *ports)
    settled(guest)
    assert [state_of(guest, port) for port in ports] == ["ok", "ok", "ok"]
    who = identity(guest)

    with_udev = attach(cloud, guest, server)
    assert_follows(guest, with_udev)
    settled(guest)
    two_reboots(guest, [*ports, with_udev], who)
    assert_boot_level(guest, "store")


@TRUSTED
def test_installed_in_a_chroot_while_the_image_is_built(
    cloud: Cloud, guest_factory: GuestFactory, trusted_cache: bool
) -> None:
    """Which is how the lab installs it for all the other scenarios."""
    server = web(cloud)
    guest = guest_factory(server, trusted_cache=trusted_cache)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, *server.ports)
    two_reboots(guest, server.ports, identity(guest))
    assert_boot_level(guest, "store")


def test_cloud_init_clean_makes_an_image(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = web(cloud)
    guest = guest_factory(server)
    guest.boot()
    attached = attach(cloud, guest, server)
    assert_follows(guest, attached)
    settled(guest)
    guest.run("cloud-init clean")
    state = guest.run("ls -A /var/lib/cloudinit-osnetd").stdout
    # Before 22.3 nobody runs the scripts of clean.d; then it is the next instance that drops the state.
    assert state == "" or guest.suite == "bullseye", state

    guest.poweroff()
    for port in list(guest.plugged):
        guest.unplug(port)
    twin = cloud.server("twin")
    ports = [twin.create_port(cloud.networks[1]), twin.create_port(cloud.networks[0])]
    guest.server = twin
    guest.rebuild_drive()
    for port in ports:
        guest.plug(port)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, *ports)
    assert {row["mac"] for row in status(guest)["nics"]} == {port.mac for port in ports}


def test_switched_off(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = web(cloud)
    ports = list(server.ports)
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/96_off.cfg": "osnetd: {enabled: false}\n"})
    guest.boot()
    assert_network(guest, *ports)
    assert guest.cloud_init_errors() == []
    with untouched(guest):
        guest.run("/usr/lib/cloudinit-osnetd/queue-event operator")
        settled(guest)
    ignored = attach(cloud, guest, server)
    settled(guest)
    assert "osnetd: {enabled: false}" in status(guest)["hands_off"]
    assert "not up" in package.lacks(guest, ignored)
    two_reboots(guest, ports, identity(guest))


def leftovers(guest: Container) -> List[str]:
    found = guest.run(
        "find / -xdev -name '*osnetd*' ! -name '*osnetd-lab*' ! -path '/var/log/*' ! -path '/root/*'"
        " ! -exec test -e {}/osnetd-lab.conf ';' -print"
    ).stdout
    return found.splitlines() + guest.run("ls -d /run/*osnetd*", check=False).stdout.splitlines()


def assert_boot_level(guest: Container, level: str) -> None:
    assert status(guest)["boot"]["level"] == level, status(guest)["boot"]
