# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloudinit-osnetd-selftest on a server: it passes, touches nothing of the server's, leaves nothing, and sees what is broken."""

from __future__ import annotations

import pytest

from tests.lab import Cloud, Container, deb
from tests.scenarios import package
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.package import untouched
from tests.scenarios.seen import assert_boot, assert_nothing_to_do, log_of, settled, status, wait_until


def selftest(guest: Container, *words: str) -> "tuple[int, list[str]]":
    done = guest.run(f"cloudinit-osnetd-selftest {' '.join(words)} 2>&1", check=False, timeout=300)
    return done.returncode, done.stdout.splitlines()


def the_rest(guest: Container) -> str:
    """The kernel's view of the server's own NICs, and all configuration, without what counts down."""
    kernel = "for what in 'addr' 'route' '-6 route'; do ip $what show; done | sed 's/valid_lft.*//; s/expires.*//'"
    files = "find /etc/network /etc/systemd /etc/netplan /run/systemd/network /run/udev/rules.d -type f -exec sha256sum {} + 2> /dev/null"
    return guest.run(f"{kernel}; {files}", check=False).stdout


@pytest.mark.on("trixie-networkd", "bookworm-ifupdown")
def test_the_main_job_on_a_virtual_nic(cloud: Cloud, guest_factory: GuestFactory) -> None:
    server = cloud.server("web")
    for number in (0, 1):
        server.create_port(cloud.network(f"net{number}", cidr=f"10.9{number}.0.0/24", gateway=f"10.9{number}.0.1"))
    guest = guest_factory(server)
    guest.boot()
    assert_boot(guest, level="drive")
    settled(guest)
    path = deb.under_test()
    package.install(guest, path.with_name(path.name.replace("osnetd_", "osnetd-selftest_")))

    wait_until(lambda: "tentative" not in the_rest(guest), 10, "the check for duplicates of each address")
    before = the_rest(guest)
    code, said = selftest(guest)
    assert code == 0, "\n".join(said)
    assert [line for line in said if line.startswith(("not ok", "ok")) and "SKIP" in line] == []
    assert sum(line.startswith("ok ") for line in said) == 13
    assert "event: reason=added nic=osnselftest0" in log_of(guest)
    assert the_rest(guest) == before
    assert guest.run("ip link show osnselftest0", check=False).returncode != 0
    assert "selftest" not in str(status(guest)["nics"])
    settled(guest)
    assert_nothing_to_do(guest)

    # And it sees what is broken, without a try of the main job.
    guest.run("echo '# other' >> /usr/lib/udev/rules.d/90-cloudinit-osnetd.rules; systemctl stop cloudinit-osnetd.path")
    with untouched(guest):
        code, said = selftest(guest)
    assert code == 1
    assert [line.split(" - ")[1] for line in said if line.startswith("not ok")] == [
        "the package is whole",
        "the path unit is active and no unit has failed",
    ]
