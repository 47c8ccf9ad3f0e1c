# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lab itself works: guests of both kinds, without our package, in a simulated cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.lab import Cloud, Container, LabError, Network, Server, roots, run
from tests.lab.ports import link_local
from tests.scenarios.conftest import GuestFactory, Kind

FETCH = "python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).read().decode())' "
LATEST = "http://169.254.169.254/openstack/latest/"


@pytest.fixture
def network(cloud: Cloud) -> Network:
    return cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)


@pytest.fixture
def server(cloud: Cloud, network: Network) -> Server:
    server = cloud.server("web")
    server.create_port(network)
    return server


def addresses(guest: Container, name: str) -> List[str]:
    """The IPv4 addresses of a NIC, as its kernel has them."""
    found: List[Dict[str, Any]] = json.loads(guest.run(f"ip -json -4 address show {name}").stdout)
    return [entry["local"] for link in found for entry in link["addr_info"]]


def test_guest_boots_from_its_drive(guest_factory: GuestFactory, server: Server) -> None:
    guest = guest_factory(server, package=False)
    guest.boot()
    (port,) = server.ports
    assert guest.cloud_init_errors() == []
    assert "DataSourceConfigDrive" in guest.run("cloud-init status --long").stdout
    assert guest.nic(port) == "ens3"
    assert addresses(guest, "ens3") == port.fixed_ips
    assert json.loads(guest.run("ip -json link show ens3").stdout)[0]["mtu"] == 1450
    assert guest.run("ip route show default").stdout.startswith("default via 10.90.0.1 dev ens3")
    assert guest.run("hostname").stdout == "web\n"
    assert guest.run("ls /etc/ssh/ssh_host_*_key").stdout == "/etc/ssh/ssh_host_ed25519_key\n"
    assert guest.run("systemctl --failed --no-legend").stdout == ""
    assert guest.run("test -e /usr/bin/cloudinit-osnetd", check=False).returncode == 1


def test_nic_appears_and_vanishes_with_real_uevents(
    guest_factory: GuestFactory, server: Server, network: Network
) -> None:
    guest = guest_factory(server, package=False)
    guest.boot()
    port = server.create_port(network, mac="52:54:00:ab:cd:ef")
    assert guest.plug(port, name="enp7s0") == "enp7s0"
    guest.run("udevadm settle")
    assert guest.nic(port) == "enp7s0"
    device = guest.run("udevadm info --query=property /sys/class/net/enp7s0").stdout.splitlines()
    assert "OSNETD_MANAGE=1" in device, "a plugged NIC must look real to the shipped udev rule"
    guest.run("ip link add name mine type veth peer name yours && udevadm settle")
    assert "OSNETD_MANAGE" not in guest.run("udevadm info --query=property /sys/class/net/mine").stdout
    guest.unplug(port)
    assert guest.nic(port) is None


def test_reboot_keeps_the_disk_and_renews_the_nics(
    guest_factory: GuestFactory, server: Server, network: Network
) -> None:
    guest = guest_factory(server, package=False)
    guest.boot()
    extra = server.create_port(network)
    guest.plug(extra)
    guest.run("echo kept > /root/file; ip link set ens4 up mtu 1400; ip address add 192.0.2.1/24 dev ens4; sync")
    keys = guest.run("cat /etc/ssh/ssh_host_*_key.pub").stdout
    guest.reboot()
    assert guest.run("cat /root/file").stdout == "kept\n"
    assert guest.run("cat /etc/ssh/ssh_host_*_key.pub").stdout == keys
    assert addresses(guest, "ens3") == server.ports[0].fixed_ips
    nic = json.loads(guest.run("ip -json address show ens4").stdout)[0]
    assert (nic["mtu"], nic["addr_info"], nic["operstate"]) == (1500, [], "DOWN")
    guest.poweroff()
    guest.unplug(extra)
    other = server.create_port(network)
    guest.plug(other, name="ens9")
    guest.boot()
    assert guest.nic(other) == "ens9"
    assert guest.nic(extra) is None


@pytest.mark.parametrize("trusted", [False, True])
def test_cached_datasource_is_trusted_on_request(guest_factory: GuestFactory, server: Server, trusted: bool) -> None:
    guest = guest_factory(server, package=False, trusted_cache=trusted)
    guest.boot()
    guest.reboot()
    distrusted = guest.run("grep 'cache invalid in datasource' /var/log/cloud-init.log", check=False).returncode == 0
    assert distrusted == (not trusted)


def test_power_cut(guest_factory: GuestFactory, server: Server) -> None:
    guest = guest_factory(server, package=False)
    guest.boot()
    guest.poweroff(hard=True)
    with pytest.raises(LabError, match="is not running"):
        guest.run("true")
    guest.boot()
    assert addresses(guest, "ens3") == server.ports[0].fixed_ips


def test_metadata_answers_inside_the_guest(
    guest_factory: GuestFactory, cloud: Cloud, server: Server, network: Network
) -> None:
    guest = guest_factory(server, package=False)
    guest.boot()

    def told() -> Any:
        return json.loads(guest.run(f"{FETCH} {LATEST}network_data.json").stdout)

    assert json.loads(guest.run(f"{FETCH} {LATEST}meta_data.json").stdout)["uuid"] == server.uuid
    assert told() == server.network_data()
    assert "latest" in guest.run(f"{FETCH} http://169.254.169.254/openstack").stdout.split()
    guest.run("until ip -6 address show dev ens3 scope link -tentative | grep -q fe80; do sleep .1; done", timeout=10)
    over_ipv6 = guest.run(f"{FETCH} 'http://[fe80::a9fe:a9fe%ens3]/openstack/latest/meta_data.json'").stdout
    assert json.loads(over_ipv6)["uuid"] == server.uuid
    assert [request.source for request in cloud.requests()][-1] == str(link_local(server.ports[0].mac))

    server.freeze_metadata()
    before = server.network_data()
    server.create_port(network)
    assert told() == before
    server.thaw_metadata()
    assert told() == server.network_data() != before


def test_metadata_tells_servers_apart(
    guest_factory: GuestFactory, cloud: Cloud, server: Server, network: Network
) -> None:
    other = cloud.server("db")
    other.create_port(network)
    for one in (server, other):
        guest = guest_factory(one, package=False)
        guest.boot()
        assert json.loads(guest.run(f"{FETCH} {LATEST}meta_data.json").stdout)["uuid"] == one.uuid
    (nobodys,) = network.new_addresses()
    guest.run(f"ip address add {nobodys}/24 dev ens3 && ip route replace default via 10.90.0.1 src {nobodys}")
    stranger = guest.run(f"{FETCH} {LATEST}meta_data.json", check=False)
    assert "HTTP Error 404" in stranger.stderr


def test_metadata_fails_in_many_ways(guest_factory: GuestFactory, cloud: Cloud, server: Server) -> None:
    guest = guest_factory(server, package=False)
    guest.boot()

    def fetch() -> str:
        done = guest.run(f"{FETCH} {LATEST}meta_data.json", check=False)
        return (done.stdout + done.stderr).strip().splitlines()[-1]

    cloud.metadata_down()
    assert "Connection refused" in fetch()
    cloud.metadata_down("drop")
    assert "timed out" in fetch()
    cloud.metadata_up()
    assert server.uuid in fetch()
    cloud.override("*/meta_data.json", status=503, times=1)
    cloud.override("*/meta_data.json", body=b"{", times=1)
    assert fetch() == "{"
    assert "503" in fetch()
    assert server.uuid in fetch()
    assert [request.status for request in cloud.requests()][-3:] == [200, 503, 200]


def test_dhcp_network_gives_the_reserved_lease(guest_factory: GuestFactory, cloud: Cloud, kind: Kind) -> None:
    network = cloud.network("red", cidr="10.91.0.0/24", gateway="10.91.0.1", dhcp=True, dns=["10.91.0.1"], mtu=1400)
    server = cloud.server("leased")
    port = server.create_port(network)
    guest = guest_factory(server, package=False)
    guest.boot()
    guest.run("for try in $(seq 100); do ip route show default | grep -q . && exit; sleep .1; done; exit 1")
    assert addresses(guest, "ens3") == port.fixed_ips
    assert cloud.leases(network) == [(port.mac, port.fixed_ips[0])]
    # cloud-init's networkd renderer does not ask for the MTU of a lease, dhclient takes it.
    assert json.loads(guest.run("ip -json link show ens3").stdout)[0]["mtu"] == (
        1400 if kind.backend == "ifupdown" else 1500
    )
    assert json.loads(guest.run(f"{FETCH} {LATEST}meta_data.json").stdout)["uuid"] == server.uuid


_OLD_KEYS = """
mount --bind "$1" /usr/share/keyrings/debian-archive-keyring.gpg
mount -t tmpfs none /etc/apt/trusted.gpg.d
exec "$2" -c 'import sys; from pathlib import Path; from tests.lab import mirror
mirror.bootstrap("trixie", Path(sys.argv[1]), "--variant=extract", "--include=netbase,libc6")' "$3"
"""


def test_a_host_whose_keyring_is_older_than_the_suite(tmp_path: Path) -> None:
    """As Ubuntu 22.04's; the lab lies in a home that nobody else may enter."""
    trusted = roots.tree("bullseye", "ifupdown").layers[-1] / "etc/apt/trusted.gpg.d"
    (tmp_path / "old.gpg").write_bytes(b"".join(path.read_bytes() for path in trusted.glob("*-bullseye-*")))
    argv = ["unshare", "--mount", "sh", "-ec", _OLD_KEYS, "sh", str(tmp_path / "old.gpg"), sys.executable, str(tmp_path / "root.tar")]
    done = subprocess.run(
        argv, cwd=run.CHECKOUT, env={**os.environ, "OSNETD_LAB": str(tmp_path)}, stderr=subprocess.PIPE, text=True, check=True
    )
    assert "is too old, getting bullseye's" in done.stderr
    assert (tmp_path / "root.tar").stat().st_size > 1 << 20
