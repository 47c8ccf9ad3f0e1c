# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Events: none is lost, none does more than it should, and nothing that goes wrong ends the listening."""

from __future__ import annotations

import time
from typing import List

import pytest

from tests.lab import Cloud, Container, Port
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import (
    NO_WIRED_CONNECTION,
    assert_follows,
    assert_nothing_to_do,
    lacks,
    log_of,
    reconcile,
    settled,
    starts,
    state_of,
    status,
    timers,
    wait_until,
)

QUEUE_EVENT = "/usr/lib/cloudinit-osnetd/queue-event"


def one_port(cloud: Cloud) -> List[Port]:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    cloud.network("green", cidr="10.91.0.0/24", dns=["10.91.0.2"])
    return [cloud.server("eventful").create_port(blue)]


def attached(guest: Container) -> Port:
    """Attach a port to the second network."""
    port = guest.server.create_port(guest.cloud.networks[1])
    guest.plug(port)
    return port


def cpu_seconds(guest: Container) -> float:
    """What all of the guest's processes, those that have ended included, have used so far."""
    used = guest.run("cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct.usage").stdout.split()
    return int(used[1]) / 1e6 if len(used) > 1 else int(used[0]) / 1e9


# -- runs that fail ----------------------------------------------------------------------------------------------

BREAK = {
    # No module, no state directory, no Python at all. The second command mends it.
    "module": ("mv /usr/lib/python3/dist-packages/cloudinit_osnetd /root/", "mv /root/cloudinit_osnetd /usr/lib/python3/dist-packages/"),
    "state": (
        "mv /var/lib/cloudinit-osnetd /root/state; touch /var/lib/cloudinit-osnetd",
        "rm /var/lib/cloudinit-osnetd; mv /root/state /var/lib/cloudinit-osnetd",
    ),
    "python": ("chmod a-x $(readlink -f /usr/bin/python3)", "chmod a+x $(readlink -f /usr/bin/python3)"),
}


@pytest.mark.parametrize("what", BREAK)
def test_five_hundred_events_with_each_run_failing_end_idle_and_listening(
    cloud: Cloud, guest_factory: GuestFactory, what: str
) -> None:
    (first,) = one_port(cloud)
    (server,) = cloud.servers
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    started = starts(guest)

    broken, mended = BREAK[what]
    guest.run(broken)
    guest.run(f"for n in $(seq 500); do {QUEUE_EVENT} added ens$n; sleep 0.002; done")
    # A pause or two, and then: next to nothing.
    time.sleep(4)
    before = cpu_seconds(guest)
    time.sleep(5)
    used = cpu_seconds(guest) - before
    assert used < max(0.5, 0.1 * guest.patience), f"{used:.2f} s of CPU in 5 s"
    assert starts(guest) - started < max(12, 1.6 * guest.patience)
    assert guest.run("systemctl is-active cloudinit-osnetd.path", check=False).stdout == "active\n"
    wait_until(lambda: timers(guest) == ["cloudinit-osnetd-retry.timer"], 10, "a timer to try again")

    kept = guest.run("ls -A /run/cloudinit-osnetd/work /run/cloudinit-osnetd/queue").stdout
    assert kept.count(".added.") == 500, "events were lost"
    guest.run(mended)
    late = attached(guest)
    assert_follows(guest, first, late)
    settled(guest)
    assert guest.run("ls -A /run/cloudinit-osnetd/work /run/cloudinit-osnetd/queue | grep [.]", check=False).stdout == ""
    wait_until(lambda: timers(guest) == [], 120, "no timer any more")
    assert_nothing_to_do(guest)


KILL = {
    "all": "systemctl kill -s KILL cloudinit-osnetd",
    "main": "kill -9 $(systemctl show --value -p MainPID cloudinit-osnetd)",
    "run": "pkill -9 -f '[c]loudinit-osnetd reconcile --queue'",
}


@pytest.mark.parametrize("kill", KILL.values(), ids=KILL)
def test_what_a_run_left_when_it_was_killed_is_done_without_another_event(
    cloud: Cloud, guest_factory: GuestFactory, kill: str
) -> None:
    (first,) = one_port(cloud)
    (server,) = cloud.servers
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    cloud.metadata_down("drop")
    late = attached(guest)
    wait_until(lambda: guest.run("ls /run/cloudinit-osnetd/work", check=False).stdout, 20, "the event taken")
    guest.run(kill)
    cloud.metadata_up()
    assert_follows(guest, first, late, seconds=20)
    settled(guest)
    assert guest.run("ls /run/cloudinit-osnetd/work").stdout == ""


# -- who else is at work -----------------------------------------------------------------------------------------


def test_an_operator_is_told_that_another_run_is_at_work(cloud: Cloud, guest_factory: GuestFactory) -> None:
    one_port(cloud)
    guest = guest_factory(cloud.servers[0])
    guest.boot()
    settled(guest)
    guest.run("flock /run/cloudinit-osnetd/lock sleep 6 >/dev/null 2>&1 & sleep 0.5")
    done = guest.run("cloudinit-osnetd reconcile")
    assert "waiting for another run" in done.stderr
    assert "nothing to do" in done.stdout


def test_an_operator_need_not_wait_for_a_run_that_only_waits(cloud: Cloud, guest_factory: GuestFactory) -> None:
    (first,) = one_port(cloud)
    (server,) = cloud.servers
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    server.freeze_metadata()
    nameless = attached(guest)
    wait_until(lambda: state_of(guest, nameless) == "pending", 10, "pending")
    time.sleep(2)
    assert guest.run("systemctl is-active cloudinit-osnetd.service").stdout == "active\n"
    began = time.monotonic()
    reconcile(guest)
    assert time.monotonic() - began < 5
    server.thaw_metadata()
    assert_follows(guest, first, nameless, seconds=20)


# -- not managed -------------------------------------------------------------------------------------------------

OFF = {
    "osnetd": ({"osnetd.cfg": "osnetd: {enabled: false}"}, "switched off"),
    "network": ({"network.cfg": "network: {config: disabled}"}, "disabled by the system configuration"),
}


_CONFIGURATIONS = (
    "cd /etc; find network systemd/network netplan NetworkManager sysconfig -type f 2>/dev/null | sort | xargs sha256sum"
)


def attach_unseen(guest: Container) -> Port:
    """Attach a port, and see the events taken and nothing done."""
    before = guest.run(_CONFIGURATIONS).stdout
    known = log_of(guest).count("not managed:")
    new = attached(guest)
    wait_until(lambda: log_of(guest).count("not managed:") > known, 15, "an event taken")
    settled(guest)
    assert guest.run("ls -A /run/cloudinit-osnetd/queue /run/cloudinit-osnetd/work | grep [.]", check=False).stdout == ""
    assert guest.run(_CONFIGURATIONS).stdout == before
    assert f"no address {new.fixed_ips[0]}/24" in lacks(guest, new)
    assert timers(guest) == []
    return new


@pytest.mark.parametrize("how", OFF)
def test_hands_off_where_the_configuration_says_so_and_status_says_why(
    cloud: Cloud, guest_factory: GuestFactory, how: str
) -> None:
    (first,) = one_port(cloud)
    drop_ins, why = OFF[how]
    guest = guest_factory(cloud.servers[0], files=NO_WIRED_CONNECTION)
    guest.boot()
    settled(guest)
    assert_follows(guest, first)
    for name, content in drop_ins.items():
        guest.run(f"echo '{content}' > /etc/cloud/cloud.cfg.d/92_{name}")
    attach_unseen(guest)
    assert why in status(guest)["hands_off"]
    shown = guest.run("cloudinit-osnetd status").stdout
    assert why in shown
    asked = reconcile(guest)
    assert why in asked["hands_off"] and asked["changes"] == []

    guest.reboot()
    settled(guest)
    assert_follows(guest, first)
    assert why in status(guest)["boot"]["early"]["hands_off"]
    assert guest.run("systemctl --failed --no-legend --plain").stdout == ""


def test_hands_off_where_the_kernel_command_line_says_so(cloud: Cloud, guest_factory: GuestFactory) -> None:
    one_port(cloud)
    guest = guest_factory(cloud.servers[0])
    guest.boot()
    settled(guest)
    # base64 of: {config: disabled}. A container's words are those of its pid 1; cloud-init looks here first.
    line = "network-config=e2NvbmZpZzogZGlzYWJsZWR9"
    guest.run(f"systemctl set-environment DEBUG_PROC_CMDLINE={line}; rm -f /var/lib/cloudinit-osnetd/context.json")
    attach_unseen(guest)
    assert "disabled by the kernel command line" in guest.run(f"DEBUG_PROC_CMDLINE={line} cloudinit-osnetd status").stdout


def test_hands_off_where_cloud_init_is_disabled(cloud: Cloud, guest_factory: GuestFactory) -> None:
    (first,) = one_port(cloud)
    guest = guest_factory(cloud.servers[0], files=NO_WIRED_CONNECTION)
    guest.boot()
    settled(guest)
    guest.run("touch /etc/cloud/cloud-init.disabled")
    attach_unseen(guest)
    assert "cloud-init is disabled by /etc/cloud/cloud-init.disabled" in status(guest)["hands_off"]

    guest.poweroff()
    guest.boot(wait=False)
    assert_follows(guest, first, seconds=40)
    settled(guest)
    attach_unseen(guest)

    # Disabled by whatever else: no stage of cloud-init has run at this boot.
    guest.run("rm /etc/cloud/cloud-init.disabled")
    assert "cloud-init is disabled at this boot" in status(guest)["hands_off"]


def test_hands_off_on_another_cloud(cloud: Cloud, guest_factory: GuestFactory) -> None:
    one_port(cloud)
    guest = guest_factory(cloud.servers[0])
    guest.boot()
    settled(guest)
    guest.run("echo 'DataSourceEc2Local: DataSourceEc2Local' > $(readlink -f /var/lib/cloud/instance)/datasource")
    attach_unseen(guest)
    assert "the datasource is Ec2" in status(guest)["hands_off"]


@pytest.mark.parametrize(("when", "boots"), [("boot-new-instance", False), ("boot", True)])
def test_without_hotplug_in_a_given_list_events_are_left_alone(
    cloud: Cloud, guest_factory: GuestFactory, when: str, boots: bool
) -> None:
    (first,) = one_port(cloud)
    guest = guest_factory(cloud.servers[0], files=NO_WIRED_CONNECTION)
    guest.boot()
    settled(guest)
    # Not in the user-data: there, up to 25.1, `boot` breaks cloud-init's own boot on a config drive.
    guest.run(f"echo 'updates: {{network: {{when: [{when}]}}}}' > /etc/cloud/cloud.cfg.d/92_updates.cfg")
    new = attach_unseen(guest)
    report = status(guest)
    assert f"updates.network.when is [{when}]: without hotplug" in report["hands_off"]
    assert {row["mac"] for row in report["nics"]} == {first.mac, new.mac}

    # What an operator asks for is done.
    reconcile(guest)
    assert_follows(guest, first, new)
    newer = attach_unseen(guest)

    guest.reboot()
    settled(guest)
    early = status(guest)["boot"]["early"]
    assert ("hands_off" in early) == (not boots), early
    assert_follows(guest, first, new)
    if boots:
        assert_follows(guest, newer)
    else:
        assert lacks(guest, newer)


def test_with_hotplug_in_a_given_list_everything_is_followed(cloud: Cloud, guest_factory: GuestFactory) -> None:
    (first,) = one_port(cloud)
    (server,) = cloud.servers
    guest = guest_factory(server, files={"etc/cloud/cloud.cfg.d/92_updates.cfg": "updates: {network: {when: [hotplug]}}\n"})
    guest.boot()
    settled(guest)
    new = attached(guest)
    assert_follows(guest, first, new)
    assert status(guest)["hands_off"] == ""


# -- cloud-init's own hotplug ------------------------------------------------------------------------------------

FIFO = "/run/cloud-init/share/hook-hotplug-cmd"
LINE = "--subsystem=net handle --devpath=/devices/%s --udevaction=add"


def fed(guest: Container, devpath: str, times: int = 1) -> None:
    guest.run(f"for n in $(seq {times}); do echo '{LINE % devpath}' > {FIFO}; sleep 0.002; done")


def hook_log(guest: Container) -> str:
    return guest.run("journalctl -b --no-pager -o cat -u cloud-init-hotplugd.service").stdout


@pytest.mark.on("bookworm", "trixie", "sid")  # cloud-init 20.4.1 has no hotplug
def test_cloud_inits_own_hotplug_becomes_events_of_ours(cloud: Cloud, guest_factory: GuestFactory) -> None:
    one_port(cloud)
    guest = guest_factory(cloud.servers[0])
    guest.boot()
    settled(guest)
    guest.run("systemctl start cloud-init-hotplugd.socket")
    wait_until(lambda: guest.run(f"test -p {FIFO}", check=False).returncode == 0, 10, "the FIFO")
    idle = starts(guest)

    fed(guest, "virtual/net/veth1", times=50)
    wait_until(lambda: "Deactivated" in hook_log(guest) or "Succeeded" in hook_log(guest), 20, "the lines taken")
    time.sleep(1)
    assert starts(guest) == idle, "a container's veth started a run"

    fed(guest, "pci0000:00/0000:00:05.0/virtio2/net/ens5", times=500)
    wait_until(lambda: starts(guest) > idle, 20, "an event of ours")
    settled(guest)
    assert "reason=added nic=-" in log_of(guest)
    listening = "systemctl is-active cloud-init-hotplugd.socket cloudinit-osnetd.path"
    wait_until(lambda: guest.run(listening, check=False).stdout == "active\nactive\n", 10, "both listening")
    assert guest.run("systemctl --failed --no-legend --plain").stdout == ""
    assert "hotplug-hook" not in hook_log(guest)

    # Half installed: cloud-init's own hotplug takes over again.
    guest.run(f"mv {QUEUE_EVENT} /root/")
    fed(guest, "pci0000:00/0000:00:05.0/virtio2/net/ens5")
    wait_until(lambda: "args=--subsystem=net handle" in hook_log(guest), 10, "cloud-init's own handler")


# -- units -------------------------------------------------------------------------------------------------------


def test_the_units_are_sound_and_order_no_cycle(cloud: Cloud, guest_factory: GuestFactory) -> None:
    one_port(cloud)
    guest = guest_factory(cloud.servers[0])
    guest.boot()
    settled(guest)
    units = guest.run("cd /usr/lib/systemd/system && ls -d cloudinit-osnetd*").stdout.split()
    kinds = ["-early.service", "-periodic.service", "-periodic.timer", "-report.service", ".path", ".service"]
    assert units == ["cloudinit-osnetd" + kind for kind in kinds]
    units += ["cloud-init-hotplugd.service"] if guest.suite != "bullseye" else []
    checked = guest.run(f"systemd-analyze verify --man=no {' '.join(units)} multi-user.target 2>&1", check=False).stdout
    ours = [line for line in checked.splitlines() if "osnetd" in line or "hotplugd" in line or "cycle" in line]
    assert ours == [], checked
    journal = guest.run("journalctl -b --no-pager -o cat").stdout
    assert "ordering cycle" not in journal
    assert guest.run("systemctl is-enabled cloudinit-osnetd-periodic.timer", check=False).stdout == "disabled\n"


def test_the_periodic_timer_is_off_and_takes_edits_when_it_is_on(cloud: Cloud, guest_factory: GuestFactory) -> None:
    (first,) = one_port(cloud)
    (server,) = cloud.servers
    guest = guest_factory(server)
    guest.boot()
    settled(guest)
    assert timers(guest) == []
    guest.run(
        "mkdir /etc/systemd/system/cloudinit-osnetd-periodic.timer.d; printf '[Timer]\\nOnActiveSec=\\nOnUnitActiveSec=\\n"
        "OnActiveSec=2\\nRandomizedDelaySec=0\\nAccuracySec=1\\n' > /etc/systemd/system/cloudinit-osnetd-periodic.timer.d/quick.conf;"
        "systemctl daemon-reload; systemctl enable --now cloudinit-osnetd-periodic.timer"
    )
    server.edit_port(first, mtu=1333)
    assert_follows(guest, first)
    assert "reason=timer" in log_of(guest)
