# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""doctor: its screen at 80 columns, and the checks for which no container has the parts (SELinux, a guest agent's host)."""

import importlib
import os

import pytest

from cloudinit_osnetd import doctor
from cloudinit_osnetd.doctor import boot, bundle, guest_agent, result, security, twice, units
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.system import files, paths

from .build import A, B, nic, snapshot

command = importlib.import_module("cloudinit_osnetd.commands.doctor")

GOLDEN = """\
ok        managed       ConfigDrive, by networkd
failed    drop-in       datasource_pkg_list of
                        /etc/cloud/cloud.cfg.d/99_site.cfg is in force, without
                        cloudinit_osnetd.sources
                        do: remove datasource_pkg_list from it, or add
                        cloudinit_osnetd.sources to its list, first
warning   clock         not synchronised
                        do: timedatectl set-ntp true
skipped   SELinux       not enabled

4 checks: 1 ok, 1 warning, 1 failed, 1 skipped"""


def put(path, text=""):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.replace(path, text)


def test_the_screen_at_80_columns():
    found = "datasource_pkg_list of /etc/cloud/cloud.cfg.d/99_site.cfg is in force, without cloudinit_osnetd.sources"
    advice = "remove datasource_pkg_list from it, or add cloudinit_osnetd.sources to its list, first"
    some = [
        result.ok("managed", "ConfigDrive, by networkd"),
        result.failed("drop-in", found, advice),
        result.warning("clock", "not synchronised", "timedatectl set-ntp true"),
        result.skipped("SELinux", "not enabled"),
    ]
    assert "\n".join(command.screen(some, 80)) == GOLDEN


def test_a_check_that_breaks_off_costs_itself(monkeypatch):
    def breaks():
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor, "CHECKS", (("one", breaks), ("two", lambda: [result.ok("two", "")])))
    one, two = doctor.examine()
    assert (one.state, two.state) == ("failed", "ok") and "a bug" in one.found


# -- the drop-in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "state"),
    [
        ({}, "ok"),
        ({"96_a.cfg": "datasource_list: [OpenStack]\n"}, "ok"),
        ({"96_a.cfg": "datasource_pkg_list: [cloudinit_osnetd.sources, '']\n"}, "ok"),
        ({"96_a.cfg": "datasource_pkg_list: ['']\n"}, "failed"),
        ({"96_a.cfg": "datasource_pkg_list: cloudinit.sources\n"}, "failed"),
        ({"94_a.cfg": "datasource_pkg_list: ['']\n"}, "ok"),
        ({"96_a.cfg": "datasource_pkg_list: [cloudinit_osnetd.sources, no_such_package]\n"}, "failed"),
        ({"96_a.cfg": "a: [\n"}, "failed"),
        ({"96_a.cfg": "- 7\n"}, "ok"),
        ({"96_a.cfg~": "datasource_pkg_list: ['']\n"}, "ok"),
    ],
)
def test_the_last_file_that_sets_the_list_counts(guest, later, state):
    put(paths.OUR_DROP_IN, "datasource_pkg_list: [cloudinit_osnetd.sources]\n")
    for name, text in later.items():
        put(os.path.join(paths.DROP_INS, name), text)
    found = boot.drop_in()
    assert {one.state for one in found} == {state}
    assert state == "ok" or "96_a.cfg" in found[0].found


def test_a_link_that_dangles_is_a_package_that_is_gone(guest):
    assert boot.drop_in()[0].state == "failed"
    os.makedirs(paths.DROP_INS)
    os.symlink("/nonexistent", paths.OUR_DROP_IN)
    assert "dangling" in boot.drop_in()[0].found


# -- the guest agent ----------------------------------------------------------------------------------------------------

AGENT_FILES = [
    # Enterprise Linux 8, 9 and 9.4 on; Debian's default file; the agent's own
    (0, 'BLACKLIST_RPC=guest-file-open,guest-file-close,guest-exec,guest-exec-status\n', True),
    (0, 'FILTER_RPC_ARGS="--block-rpcs=guest-file-open,guest-exec,guest-exec-status"\n', True),
    (0, 'FILTER_RPC_ARGS="--allow-rpcs=guest-sync-delimited,guest-sync,guest-ping,guest-info"\n', True),
    (0, 'FILTER_RPC_ARGS="--allow-rpcs=guest-ping,guest-exec,guest-exec-status"\n', False),
    (0, 'BLACKLIST_RPC=guest-file-open\n', False),
    (0, 'BLACKLIST_RPC=\n', False),
    (0, '# BLACKLIST_RPC=guest-exec\n', False),
    (1, 'DAEMON_ARGS="-b guest-exec"\n', True),
    (1, 'DAEMON_ARGS="--blacklist guest-exec,guest-file-open"\n', True),
    (1, 'DAEMON_ARGS="--verbose"\n', False),
    (2, '[general]\nblacklist = guest-exec;guest-exec-status\n', True),
    (2, '[general]\nblock-rpcs=guest-exec-status\n', True),
    (2, '[general]\nallow-rpcs=guest-ping\n', True),
    (2, '[general]\nmethod=virtio-serial\n', False),
]  # fmt: skip


@pytest.mark.parametrize(("which", "text", "blocked"), AGENT_FILES)
def test_what_the_agent_refuses_is_read_from_the_file_to_change(guest, which, text, blocked):
    put(paths.AGENT_PROGRAMS[0])
    put(paths.AGENT_CHANNEL)
    put(os.path.join(paths.PROC, "7", "cmdline"), "/usr/sbin/qemu-ga\0--daemonize\0")
    put(paths.AGENT_CONFIGS[which], text)
    (found,) = guest_agent.guest_agent()
    assert found.state == ("warning" if blocked else "ok"), found
    assert not blocked or paths.AGENT_CONFIGS[which] in found.advice


def test_the_agents_own_command_line_counts_too(guest):
    put(paths.AGENT_PROGRAMS[0])
    put(os.path.join(paths.PROC, "7", "cmdline"), "/usr/bin/qemu-ga\0-b\0guest-exec\0")
    (found,) = guest_agent.guest_agent()
    assert found.state == "warning" and "pid 7" in found.found


def test_an_agent_that_is_not_there_or_has_no_channel_or_does_not_run(guest):
    assert guest_agent.guest_agent()[0].state == "skipped"
    put(paths.AGENT_PROGRAMS[1])
    assert "channel" in guest_agent.guest_agent()[0].found
    put(paths.AGENT_CHANNEL)
    assert "does not run" in guest_agent.guest_agent()[0].found


# -- SELinux, NetworkManager, udev --------------------------------------------------------------------------------------

DENIED = (
    'type=AVC msg=audit(1.1:1): avc:  denied  { write } for  pid=9 comm="qemu-ga" name="cloudinit-osnetd" '
    "scontext=system_u:system_r:virt_qemu_ga_t:s0 tclass=dir permissive=0\n"
)
UNNAMED = DENIED.replace('name="cloudinit-osnetd"', 'name="x"')
CUT = UNNAMED.replace('comm="qemu-ga"', 'comm="cloudinit-osnet"')
OF_A_DOMAIN = UNNAMED.replace('comm="qemu-ga"', 'comm="sh"').replace("virt_qemu_ga_t", "osnetd_event_t")
OTHER = 'type=AVC msg=audit(1.1:2): avc:  denied  { read } for  pid=9 comm="httpd" name="x"\n'


@pytest.mark.parametrize(
    ("mode", "log", "state"),
    [
        (None, DENIED, "skipped"),
        ("1", OTHER, "ok"),
        ("1", OTHER + DENIED, "failed"),
        ("1", CUT, "failed"),
        ("1", OF_A_DOMAIN, "failed"),
        ("0", DENIED, "warning"),
        ("1", "", "ok"),
    ],
)
def test_a_denial_counts_if_it_names_a_program_of_a_run(guest, mode, log, state):
    put(paths.AUDIT_LOG, log)
    if mode is not None:
        put(paths.SELINUX, mode)
    (found,) = security.selinux()
    assert found.state == state


@pytest.mark.parametrize(
    ("context", "state"),
    [
        ("system_u:system_r:osnetd_t:s0\0", "skipped"),
        ("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0", "failed"),
        ("system_u:system_r:initrc_t:s0\0", "failed"),
    ],
)
def test_in_our_own_domain_the_audit_log_is_not_read(guest, context, state):
    put(paths.SELINUX, "1")
    put(paths.AUDIT_LOG, DENIED)
    put(paths.OWN_CONTEXT, context)
    (found,) = security.selinux()
    assert found.state == state and found.found.startswith("enforcing")


@pytest.mark.parametrize(
    ("networkd", "manager", "state"),
    [
        ("ADMIN_STATE=configured\n", "[device]\nmanaged=true\n", "failed"),
        ("ADMIN_STATE=unmanaged\n", "[device]\nmanaged=true\n", "ok"),
        ("ADMIN_STATE=configured\n", "[device]\nmanaged=false\n", "ok"),
        ("ADMIN_STATE=configured\n", None, "ok"),
    ],
)
def test_a_nic_of_two_managers_is_named(guest, monkeypatch, networkd, manager, state):
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A, 2), nic("ens4", B, 3)))
    put(os.path.join(paths.NETWORKD_LINKS, "3"), networkd)
    if manager is not None:
        put(os.path.join(paths.NETWORKMANAGER_DEVICES, "3"), manager)
    (found,) = twice.two_managers()
    assert found.state == state and (state == "ok" or "ens4" in found.found)


def test_the_first_directory_that_has_the_rule_counts(guest):
    (none,) = units.udev_rule()
    assert none.state == "failed"
    rule = "90-cloudinit-osnetd.rules"
    put(os.path.join(paths.UDEV_RULES[3], rule), 'RUN+="/usr/lib/cloudinit-osnetd/queue-event added"\n')
    put(paths.QUEUE_EVENT)
    os.chmod(paths.QUEUE_EVENT, 0o755)
    put(paths.UDEV_CONTROL)
    assert units.udev_rule()[0].state == "ok"
    put(os.path.join(paths.UDEV_RULES[1], rule), "# nothing\n")
    assert paths.UDEV_RULES[1] in units.udev_rule()[0].found


# -- the bundle ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", ["a link", "a file for all"])
def test_a_bundle_is_a_file_of_its_own_whatever_stands_in_its_place(tmp_path, monkeypatch, planted):
    """In /tmp anybody may make a file, or a link to one that root alone can write."""
    monkeypatch.setattr(bundle, "secrets", frozenset)
    monkeypatch.setattr(bundle, "contents", lambda _results: [("about.txt", "x")])
    path, victim = str(tmp_path / "b.tgz"), tmp_path / "victim"
    victim.write_text("kept")
    victim.chmod(0o666)
    if planted == "a link":
        os.symlink(str(victim), files.temporary_of(path))
    else:
        os.link(str(victim), files.temporary_of(path))
    bundle.write(path, [])
    assert victim.read_text() == "kept"
    assert os.stat(path).st_mode & 0o777 == 0o600 and not os.path.islink(path)
