# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lab's own promises about VMs: what a test of the package in a VM may take for granted. No package is installed."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

from tests.lab import VM, Cloud, LabError, Network, Server
from tests.lab.qmp import connect

pytestmark = pytest.mark.vm


class Lab(NamedTuple):
    """A booted VM whose drive lists its first port."""

    cloud: Cloud
    blue: Network
    server: Server
    guest: VM


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Cloud() as cloud:
        blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
        server = cloud.server("web")
        server.create_port(blue)
        with VM(cloud, server, suite="trixie", backend="networkd", package=False) as guest:
            guest.boot()
            yield Lab(cloud, blue, server, guest)


def test_cloud_init_takes_the_config_drive_from_the_iso_volume(lab: Lab) -> None:
    status = json.loads(lab.guest.run("cat /run/cloud-init/status.json").stdout)["v1"]
    assert status["datasource"].startswith("DataSourceConfigDrive")
    assert "source=/dev/vd" in status["datasource"]
    assert lab.guest.cloud_init_errors() == []


def test_the_dmi_uuid_is_the_servers(lab: Lab) -> None:
    assert lab.guest.run("cat /sys/class/dmi/id/product_uuid").stdout.strip().lower() == lab.server.uuid
    assert lab.guest.run("cat /sys/class/dmi/id/product_name").stdout.strip() == "OpenStack Nova"


def test_the_boot_nic_has_its_address_on_a_pci_device_named_by_udev(lab: Lab) -> None:
    port = lab.server.ports[0]
    name = lab.guest.nic(port)
    assert name is not None and name.startswith("en")
    properties = lab.guest.run(f"udevadm info /sys/class/net/{name}").stdout
    assert "E: ID_BUS=pci" in properties and "E: ID_PATH=pci-" in properties
    (link,) = json.loads(lab.guest.run(f"ip -json addr show {name}").stdout)
    assert port.fixed_ips[0] in [address["local"] for address in link["addr_info"]]


def test_a_nic_comes_and_goes_while_the_server_runs(lab: Lab) -> None:
    port = lab.server.create_port(lab.blue)
    name = lab.guest.plug(port)
    assert name == lab.guest.nic(port) != lab.guest.nic(lab.server.ports[0])
    lab.guest.unplug(port)
    assert lab.guest.nic(port) is None
    assert lab.guest.run(f"ls /sys/class/net/{name}", check=False).returncode != 0
    lab.server.delete_port(port)


def test_the_guest_reaches_the_metadata_service(lab: Lab) -> None:
    script = "import urllib.request; print(urllib.request.urlopen('http://169.254.169.254/openstack').read().decode())"
    assert "latest" in lab.guest.run(f'python3 -c "{script}"').stdout


def test_a_command_that_fails_says_what_it_printed(lab: Lab) -> None:
    with pytest.raises(LabError, match="ended with 3\nout\nerr"):
        lab.guest.run("echo out; echo err >&2; exit 3")


def test_a_file_put_into_the_guest_arrives_whole(lab: Lab) -> None:
    data = bytes(range(256)) * 3000
    lab.guest.put(data, "/root/put", mode=0o600)
    assert lab.guest.run("sha256sum < /root/put; stat -c %a /root/put").stdout.split()[2] == "600"
    assert int(lab.guest.run("wc -c < /root/put").stdout) == len(data)


def test_a_reboot_trusts_the_cached_datasource_and_renames_no_nic(lab: Lab) -> None:
    port = lab.server.ports[0]
    before, boot = lab.guest.nic(port), lab.guest.run("cat /proc/sys/kernel/random/boot_id").stdout
    lab.guest.reboot()
    assert lab.guest.run("cat /proc/sys/kernel/random/boot_id").stdout != boot
    assert lab.guest.nic(port) == before
    log = lab.guest.run("grep -a 'restored from' /var/log/cloud-init.log").stdout
    assert "restored from checked cache: DataSourceConfigDrive" in log


def test_after_a_poweroff_it_boots_with_other_nics(lab: Lab) -> None:
    lab.guest.poweroff()
    port = lab.server.create_port(lab.blue)
    assert lab.guest.plug(port) == ""
    lab.guest.boot()
    assert lab.guest.nic(port) is not None
    assert lab.guest.nic(lab.server.ports[0]) is not None


def test_a_guest_that_cannot_boot_is_reported_with_its_console(lab: Lab) -> None:
    with VM(lab.cloud, lab.cloud.server("broken"), package=False, append="init=/nothing/here") as guest:
        with pytest.raises(LabError, match=r"the guest is dead(.|\n)*Kernel panic"):
            guest.boot()


def test_unix_sockets_are_reached_at_any_path_length(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    (tmp_path / "short").symlink_to(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/short/s")
        listener.listen()
        connect(folder / "s", timeout=1).close()
