# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a boot reads: the drive, the metadata service, the instance's directory; and a boot at which none of it has changed."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from tests.lab import Cloud, Container, Port, Server
from tests.scenarios.boots import network_of, two_networks
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    assert_boot,
    assert_follows,
    assert_gone,
    assert_nothing_to_do,
    configured_names,
    lacks,
    reconcile,
    settled,
    state_of,
    status,
    wait_until,
)


@pytest.mark.on("networkd", "ifupdown")  # netplan's generator is run at each boot
def test_a_boot_at_which_nothing_has_changed_is_not_gone_through_again(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """And one at which anything has is, whatever changed while the server was off."""
    blue, green = two_networks(cloud)
    server = cloud.server("skip")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")

    def early() -> Dict[str, Any]:
        settled(guest)
        return dict(status(guest)["boot"]["early"])

    def assert_unchanged() -> None:
        """The second reboot with the same files is one at the latest: cloud-init may have written anew at the first."""
        for _number in range(3):
            guest.reboot()
            if early().get("unchanged"):
                break
        assert_boot(guest, level="store")
        assert early().get("unchanged"), early()
        assert_follows(guest, *guest.plugged)

    assert_unchanged()
    network, files_there = network_of(guest), configured_names(guest)
    assert_nothing_to_do(guest)

    def upgrade_cloud_init() -> None:
        there = guest.root / cloud_init.lstrip("/")
        there.write_text(there.read_text() + "# another\n")

    def edit_port() -> None:
        server.edit_port(second, mtu=1380)
        guest.rebuild_drive()

    cloud_init = guest.run("python3 -c 'import cloudinit.version as v; print(v.__file__)'").stdout.strip()
    ours = guest.run("python3 -c 'import cloudinit_osnetd as o; print(o.__file__)'").stdout.strip()
    version = ours.replace("__init__.py", "new.py")
    changes: Dict[str, Callable[[], None]] = {
        "configuration": lambda: guest.put(b"osnetd: {patience: 80}\n", "/etc/cloud/cloud.cfg.d/96-test.cfg"),
        "cloud-init": upgrade_cloud_init,
        "our program": lambda: guest.put(b"", version),
        "the drive": edit_port,
    }
    for what, change in changes.items():
        guest.poweroff()
        change()
        guest.boot()
        found = early()
        assert "unchanged" not in found and "error" not in found, (what, found)
        assert_boot(guest, level="store")
        assert_follows(guest, first, second)
    assert network_of(guest)["routes"] == network["routes"] and configured_names(guest) == files_there

    # A NIC, and then a person's edit of its part.
    assert_unchanged()
    guest.poweroff()
    third = server.create_port(green)
    guest.rebuild_drive()
    guest.plug(third, name="ens9")
    guest.boot()
    assert early()["changes"] == 1
    assert_follows(guest, first, second, third)
    assert_unchanged()
    guest.poweroff()
    files_of = [path for path in guest.root.glob("etc/systemd/network/*ens9*")] or [
        path for path in (guest.root / "etc/network").rglob("50-cloud-init*")
    ]
    for path in files_of:
        path.write_text(path.read_text().replace("1400", "1390"))
    guest.boot()
    assert early()["drifted"] == ["ens9"], early()


# Nothing waits for the network in networkd's guest: it would be cloud-init that misses its link.
@pytest.mark.on("ifupdown")
def test_the_link_to_the_instance_is_away_when_early_boot_begins(cloud: Cloud, guest_factory: GuestFactory) -> None:
    """cloud-init's network stage makes it anew, and runs beside early boot where nothing waits for the network.

    Nothing is read through it, so early boot does its work while it is away: it comes back when that is over.
    """
    blue, green = two_networks(cloud)
    server = cloud.server("link")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    name = str(guest.nic(second))

    away = "/run/away-while-early-boot-ran"
    guest.run(
        "d=/etc/systemd/system/cloudinit-osnetd-early.service.d; mkdir $d; cat > $d/link.conf <<'end'\n"
        f'[Service]\nExecStartPre=/bin/mv -T /var/lib/cloud/instance {away}\n'
        f'ExecStartPost=/bin/sh -c "test ! -e /var/lib/cloud/instance && mv -T {away} /var/lib/cloud/instance"\nend'
    )
    # What early boot is to see to: the file of a NIC that has left is taken away.
    guest.poweroff()
    server.delete_port(second)
    guest.unplug(second)
    guest.boot()
    assert_boot(guest, level="store")
    early = status(guest)["boot"]["early"]
    assert "hands_off" not in early and early["changes"] == 1, early
    assert guest.run("systemctl show -p Result --value cloudinit-osnetd-early.service").stdout == "success\n"
    assert guest.run("systemctl show -p ExecStartPost cloudinit-osnetd-early.service").stdout.count("status=0") == 1
    assert_follows(guest, first)
    assert_gone(guest, name)


def identity(guest: Container) -> Dict[str, str]:
    commands = {
        "instance": "cat /run/cloud-init/.instance-id /var/lib/cloud/data/instance-id",
        "host keys": "sha256sum /etc/ssh/ssh_host_*_key",
    }
    return {what: guest.run(command).stdout for what, command in commands.items()}


@pytest.mark.every_kind
def test_a_rebuilt_drive_with_other_content_wins_at_boot(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("rebuilt")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    assert_follows(guest, first, second)
    before = identity(guest)

    guest.poweroff()
    server.edit_port(second, fixed_ips=["10.91.0.55"], mtu=1380)
    guest.rebuild_drive()
    cloud.metadata_down()  # so it is the drive that said it
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second)
    sources = {row["mac"]: row["source"] for row in status(guest)["nics"]}
    assert sources[second.mac] == "drive"
    assert identity(guest) == before
    cloud.metadata_up()
    assert reconcile(guest)["changes"] == []
    assert_follows(guest, first, second)
    assert_nothing_to_do(guest)


@pytest.mark.parametrize("gone", ["drive", "metadata", "both"])
def test_without_the_drive_or_the_metadata_service_a_trusted_cache_boots_as_before(
    cloud: Cloud, guest_factory: GuestFactory, gone: str
) -> None:
    blue, green = two_networks(cloud)
    server = cloud.server("bereft")
    first, second = server.create_port(blue), server.create_port(green)
    guest = guest_factory(server, trusted_cache=True)
    guest.boot()
    assert_boot(guest, level="drive")
    late = server.create_port(green)
    guest.plug(late)
    assert_follows(guest, first, second, late)
    settled(guest)
    before, network = identity(guest), network_of(guest)

    guest.poweroff()
    if gone in ("drive", "both"):
        guest.take_drive()
    if gone in ("metadata", "both"):
        cloud.metadata_down()
    guest.boot()
    assert_boot(guest, level="store")
    assert_follows(guest, first, second, late)
    assert identity(guest) == before
    wait_until(lambda: network_of(guest) == network, 10, "the network as before")


def test_without_the_drive_a_distrusted_cache_is_no_worse_than_cloud_init_alone(
    cloud: Cloud, guest_factory: GuestFactory
) -> None:
    """cloud-init finds no datasource then, and without us the network of the last boot comes up."""
    blue, green = two_networks(cloud)

    def after_reboot(server: Server, package: bool) -> Dict[str, Any]:
        ports = [server.create_port(blue), server.create_port(green)]
        guest = guest_factory(server, package=package)
        guest.boot()
        if package:
            assert_boot(guest, level="drive")
        wait_until(lambda: network_is_up(guest, ports), 15, "the network of the first boot")
        guest.poweroff()
        guest.take_drive()
        # Without a datasource cloud-init is disabled, and writes no result.
        guest.boot(wait=False)
        wait_until(lambda: network_is_up(guest, ports), 40 * guest.patience, "the network as before")
        shown = guest.run("cloud-init status --long", check=False).stdout
        if package:
            assert status(guest)["hands_off"] or [state_of(guest, port) for port in ports] == ["ok", "ok"]
            guest.run("/usr/lib/cloudinit-osnetd/queue-event operator")
            settled(guest)
            assert_follows(guest, *ports)
            assert guest.run("systemctl --failed --no-legend --plain").stdout == ""
        return {"status": shown.splitlines()[0], "links": len(network_of(guest)["links"])}

    alone = after_reboot(cloud.server("alone"), package=False)
    assert after_reboot(cloud.server("with-us"), package=True) == alone


def network_is_up(guest: Container, ports: List[Port]) -> bool:
    """All but the DNS servers, which cloud-init alone puts on `lo`, or on every NIC."""
    return all(lack.startswith("DNS server") for port in ports for lack in lacks(guest, port))
