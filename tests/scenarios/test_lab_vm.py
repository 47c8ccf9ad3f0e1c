# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lab's own promises about VMs: what a test of the package in a VM may take for granted. No package is installed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.lab import VM, Cloud, LabError, Port
from tests.lab.qmp import connect
from tests.lab.view import differences, look

pytestmark = pytest.mark.vm


def test_a_vm_lives_like_a_server(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """One guest from its first boot to its last: a boot takes half a minute where QEMU has to emulate.

    Its NICs are wired as they are for who may not use /dev/net/tun; all others in these tests are taps.
    """
    monkeypatch.setenv("OSNETD_WIRE", "dgram")
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    server = cloud.server("web")
    first = server.create_port(blue)
    with VM(cloud, server, suite="trixie", backend="networkd", package=False) as guest:
        guest.boot()
        assert_it_is_the_server_that_nova_made(guest)
        assert_its_nic_is_a_pci_device_that_udev_named(guest, first)
        assert differences(first, look(guest)[first.mac]) == []
        assert_frames_of_all_sizes_pass(guest)
        assert_commands_and_files_arrive_whole(guest)

        second = server.create_port(blue)
        name = guest.plug(second)
        assert name == guest.nic(second) != guest.nic(first)
        guest.unplug(second)
        assert guest.nic(second) is None
        assert guest.run(f"test -e /sys/class/net/{name}", check=False).returncode == 1

        before, boot = guest.nic(first), boot_id(guest)
        guest.reboot()
        assert boot_id(guest) != boot
        assert guest.nic(first) == before
        log = guest.run("cat /var/log/cloud-init.log").stdout
        assert "restored from checked cache: DataSourceConfigDrive" in log, "the DMI uuid was not trusted"

        guest.poweroff()
        assert guest.plug(second) == ""
        guest.boot()
        assert guest.nic(first) == before
        assert guest.nic(second) == name, "a NIC in the same slot got another name"


def assert_frames_of_all_sizes_pass(guest: VM) -> None:
    """An answer of many segments: who leaves the sums and the cutting to the next one would lose it."""
    guest.cloud.override("*/user_data", body=b"x" * 300_000, times=1)
    fetch = "import urllib.request as u; print(len(u.urlopen('http://169.254.169.254/openstack/latest/user_data').read()))"
    assert guest.run(f'python3 -c "{fetch}"').stdout == "300000\n"


def test_a_guest_that_cannot_boot_is_reported_with_its_console(cloud: Cloud) -> None:
    with VM(cloud, cloud.server("broken"), package=False, model="pc", append="rdinit=/nothing/here") as guest:
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


def assert_it_is_the_server_that_nova_made(guest: VM) -> None:
    status = json.loads(guest.run("cat /run/cloud-init/status.json").stdout)["v1"]
    assert status["datasource"].startswith("DataSourceConfigDrive")
    assert "source=/dev/vd" in status["datasource"], "not from the ISO volume"
    assert guest.cloud_init_errors() == []
    assert guest.run("cat /sys/class/dmi/id/product_uuid").stdout.strip().lower() == guest.server.uuid
    assert guest.run("cat /sys/class/dmi/id/product_name").stdout.strip() == "OpenStack Nova"


def assert_its_nic_is_a_pci_device_that_udev_named(guest: VM, port: Port) -> None:
    name = guest.nic(port)
    assert name is not None and name.startswith("en")
    properties = guest.run(f"udevadm info --query=property /sys/class/net/{name}").stdout
    assert "ID_BUS=pci" in properties and "ID_PATH=pci-" in properties


def assert_commands_and_files_arrive_whole(guest: VM) -> None:
    with pytest.raises(LabError, match="ended with 3\nout\nerr"):
        guest.run("echo out; echo err >&2; exit 3")
    data = bytes(range(256)) * 3000
    guest.put(data, "/root/put", mode=0o600)
    assert guest.run("stat -c '%a %s' /root/put").stdout == f"600 {len(data)}\n"
    script = "import urllib.request; print(urllib.request.urlopen('http://169.254.169.254/openstack').read().decode())"
    assert "latest" in guest.run(f'python3 -c "{script}"').stdout, "the metadata service is not reached"


def boot_id(guest: VM) -> str:
    return guest.run("cat /proc/sys/kernel/random/boot_id").stdout
