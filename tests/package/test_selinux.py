# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The policy module, built by the distribution's own makefile and linked with its policy: what each domain may do, and may not.

What is read here is the policy that a kernel would enforce, so what is not allowed here is denied there. Whether it
suffices for a server's work, tests/scenarios/test_selinux.py shows in a guest that enforces it.

The policy, its headers and its tools are unpacked, not installed (tests/lab/selinux.py).
"""

from __future__ import annotations

import bz2
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, NamedTuple, Set

import pytest

from tests.lab import run, selinux

SOURCES = run.CHECKOUT / "selinux-policy"
OF_THE_LAB = run.CHECKOUT / "tests/lab/selinux_modules"
# Modules of the distribution with which ours meets.
BESIDE = ("base", "networkmanager", "unconfined", "dhcp")
# What writing is, by class.
WRITES = {
    "file": {"write", "append", "create", "unlink", "rename", "link", "setattr", "relabelto"},
    "dir": {"add_name", "remove_name", "create", "rmdir", "setattr"},
    "lnk_file": {"create", "unlink", "rename"},
    "sock_file": {"create", "unlink"},
    "blk_file": {"write", "append"},
    "chr_file": {"write", "append"},
}


# What Fedora and Enterprise Linux call what the module uses (docs/selinux.md names the sources).
OF_FEDORA = {
    "files_runtime_file": "files_pid_file",
    "files_read_runtime_files": "files_read_generic_pids",
    "init_unit_file": "systemd_unit_file",
    "init_start_system": "init_start",
    "init_get_system_status": "init_status",
    "init_reload": "init_reload_services",
    "init_start_transient_units": "init_start_transient_unit",
    "init_stop_transient_units": "init_stop_transient_unit",
    "init_reload_transient_units": "init_reload_transient_unit",
    "init_list_runtime": "init_list_pid_dirs",
    "init_read_runtime_files": "init_read_pid_files",
    "udev_read_runtime_files": "udev_read_pid_files",
    "udev_domtrans_udevadm": "udev_run_udevadm_of_refpolicy",
    "sysnet_read_dhcpc_runtime_files": "sysnet_read_dhcpc_pid",
    "networkmanager_read_runtime_files": "networkmanager_read_pid_files",
    "init_read_generic_units_symlinks": "init_read_unit_symlinks_of_refpolicy",
    "systemd_unit_t": "systemd_unit_file_t",
    "NetworkManager_unit_t": "NetworkManager_unit_file_t",
    "systemd_networkd_runtime_t": "systemd_networkd_var_run_t",
}


# Reads a policy once, which takes longer than all questions: of each domain named, the rules in which it or an attribute of it is
# the source, and the attributes of all types.
_READ = """
import json, sys, setools
policy = setools.SELinuxPolicy(sys.argv[1])
attributes = {str(type_): [str(attribute) for attribute in type_.attributes()] for type_ in policy.types()}
sources = {name: {name, *attributes[name]} for name in sys.argv[2:]}
rules = {name: [] for name in sources}
for rule in policy.terules():
    how, source = rule.ruletype.name, str(rule.source)
    of = [name for name in sources if source in sources[name]] if how in ("allow", "dontaudit", "type_transition") else []
    if of:
        what = [str(rule.default)] if how == "type_transition" else sorted(rule.perms)
        for name in of:
            rules[name].append([how, source, str(rule.target), str(rule.tclass), what])
json.dump([attributes, rules], sys.stdout)
"""
DOMAINS = ("osnetd_t", "osnetd_agent_t", "osnetd_event_t", "virt_qemu_ga_t", "udev_t", "dhcpc_t", "init_t", "initrc_t", "systemd_networkd_t", "NetworkManager_t")


class Rule(NamedTuple):
    how: str
    source: str
    target: str
    kind: str
    permissions: Set[str]  # of a transition: the new type


class Policy:
    """A linked policy, read by setools."""

    def __init__(self, path: Path, tools: Path) -> None:
        environment = dict(os.environ, PYTHONPATH=str(tools / "usr/lib/python3/dist-packages"))
        command = ["/usr/bin/python3", "-c", _READ, str(path), *DOMAINS]
        self._attributes, rules = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
        self._rules = {name: [Rule(*words, set(what)) for *words, what in listed] for name, listed in rules.items()}

    def rules(self, source: str, kind: str = "", target: str = "", direct: bool = False, how: str = "allow") -> List[Rule]:
        """The rules of a domain, of its attributes as well but with `direct`; `target`: those that concern this type."""
        of_target = {target, *self._attributes.get(target, ())}
        return [
            rule
            for rule in self._rules[source]
            if rule.how == how and kind in ("", rule.kind) and (not direct or rule.source == source) and (not target or rule.target in of_target)
        ]

    def attributes(self, name: str) -> Set[str]:
        return set(self._attributes[name])

    def transitions(self, source: str) -> Dict[str, str]:
        """By the type of a program: the domain in which it runs."""
        return {rule.target: "".join(rule.permissions) for rule in self.rules(source, "process", how="type_transition")}

    def written(self, source: str) -> Set[str]:
        """The types of what a domain may make, change or remove, of whatever class."""
        rules = [rule for rule in self.rules(source) if rule.permissions & WRITES.get(rule.kind, set())]
        return {rule.target for rule in rules if rule.target not in (source, "self")}


@pytest.fixture(scope="module")
def tools() -> Path:
    found = selinux.unpacked()
    if found is None:
        pytest.skip("apt has no SELinux policy here")
    return found


def build(directory: Path, tools: Path, headers: Path, *modules: str, distribution: str = "debian") -> None:
    """By the makefile of the headers, in a directory of its own."""
    for path in [*SOURCES.iterdir(), *OF_THE_LAB.iterdir()]:
        shutil.copy(path, directory)
    makefile = re.sub(r"(?m)^SHAREDIR := .*$", f"SHAREDIR := {headers}", (headers / "devel/Makefile").read_text())
    (directory / "Makefile").write_text(makefile)
    words = ["NAME=default", f"DISTRO={distribution}", f"AWK={shutil.which('gawk') or shutil.which('awk')}", f"BINDIR={tools / 'usr/bin'}"]
    told = subprocess.run(["make", "-C", str(directory), *words, *modules], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert told.returncode == 0 and "rror" not in told.stdout, told.stdout


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, tools: Path) -> Policy:
    shipped, programs = tools / "usr/share/selinux/default", tools / "usr/bin"
    directory = tmp_path_factory.mktemp("selinux")
    modules = ["cloudinit-osnetd.pp", "osnetd_lab_agent.pp"]
    build(directory, tools, tools / "usr/share/selinux", *modules)
    for name in BESIDE:
        (directory / f"{name}.pp").write_bytes(bz2.decompress((shipped / f"{name}.pp.bz2").read_bytes()))
    link = [str(programs / "semodule_link"), "-o", "linked.pp", *(f"{name}.pp" for name in BESIDE), *modules]
    subprocess.run(link, cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # It checks the policy's own assertions (neverallow) as well.
    subprocess.run([str(programs / "semodule_expand"), "linked.pp", "policy"], cwd=directory, check=True)
    return Policy(directory / "policy", tools)


def test_it_builds_with_the_names_that_fedora_has(tmp_path: Path, tools: Path) -> None:
    """Fedora's own headers are not to be had here: Debian's, with what the module asks for renamed, and with no Debian in them."""
    headers = tmp_path / "selinux"
    shutil.copytree(tools / "usr/share/selinux/devel", headers / "devel")
    for path in headers.glob("devel/include/*/*.if"):
        text = path.read_text()
        for old, new in OF_FEDORA.items():
            text = re.sub(rf"\b{old}\b", new, text)
        if path.name == "init.if":
            text += "interface(`init_nnp_daemon_domain',`\n\tgen_require(`\n\t\ttype init_t;\n\t')\n\tallow init_t $1:process2 nnp_transition;\n')\n"
        path.write_text(text)
    place = tmp_path / "module"
    place.mkdir()
    build(place, tools, headers, "cloudinit-osnetd.pp", distribution="redhat")
    contexts = subprocess.run([str(tools / "usr/bin/semodule_unpackage"), "cloudinit-osnetd.pp", "m", "fc"], cwd=place, check=False)
    assert contexts.returncode == 0
    # What is Debian's alone is not in it.
    assert "/etc/netplan" not in (place / "fc").read_text()
    assert "/usr/libexec/cloudinit-osnetd/queue-event" in (place / "fc").read_text()


def test_udevs_event_writer_writes_the_queue_and_nothing_else(policy: Policy) -> None:
    """It may make the queue and the directory above it, and in both add names only: no event of another can be taken away."""
    every_domains = {"devtty_t", "null_device_t", "zero_device_t"}
    assert policy.written("osnetd_event_t") - every_domains == {"osnetd_queue_t", "osnetd_runtime_t", "var_run_t"}
    made = {(rule.target, rule.kind): rule.permissions for rule in policy.rules("osnetd_event_t", direct=True)}
    assert ("osnetd_runtime_t", "file") not in made
    assert ("var_run_t", "file") not in made
    assert not made["osnetd_queue_t", "file"] & {"unlink", "rename", "read", "link", "relabelto"}
    for place in ("osnetd_queue_t", "osnetd_runtime_t", "var_run_t"):
        assert not made[place, "dir"] & {"remove_name", "rmdir", "rename", "relabelto"}


def test_udevs_event_writer_has_no_network_no_other_domain_and_no_capability(policy: Policy) -> None:
    assert policy.transitions("osnetd_event_t") == {}
    kinds = {rule.kind for rule in policy.rules("osnetd_event_t", direct=True)}
    assert not {kind for kind in kinds if kind.endswith("_socket")} - {"unix_stream_socket"}
    assert not kinds & {"capability", "capability2", "system", "service", "dbus"}


def test_the_guest_agent_hands_over_a_document_and_nothing_more(policy: Policy) -> None:
    """What it may do with anything of ours: start the program, in a domain that leads on by host-command alone."""
    ours = [
        "osnetd_exec_t",
        "osnetd_host_exec_t",
        "osnetd_agent_t",
        "osnetd_service_exec_t",
        "osnetd_t",
        "osnetd_event_t",
        "osnetd_event_exec_t",
        "osnetd_queue_t",
        "osnetd_runtime_t",
        "osnetd_var_lib_t",
        "osnetd_unit_t",
    ]
    rules = [rule for rule in policy.rules("virt_qemu_ga_t", direct=True) if rule.target in ours]
    assert {(rule.target, rule.kind) for rule in rules} == {("osnetd_exec_t", "file"), ("osnetd_agent_t", "process")}
    allowed = {(rule.target, rule.kind): rule.permissions for rule in rules}
    assert "execute_no_trans" not in allowed["osnetd_exec_t", "file"]
    assert allowed["osnetd_agent_t", "process"] == {"transition"}
    assert "net_conf_t" not in policy.written("virt_qemu_ga_t")
    assert policy.transitions("virt_qemu_ga_t")["osnetd_exec_t"] == "osnetd_agent_t"


def test_what_the_guest_agent_has_started_goes_on_to_host_command_alone(policy: Policy) -> None:
    assert policy.transitions("osnetd_agent_t") == {"osnetd_host_exec_t": "osnetd_t"}
    # Started again, in whichever domain, the program would be past host-command.
    assert not [rule for rule in policy.rules("osnetd_agent_t", "file", "osnetd_exec_t") if rule.permissions & {"execute", "execute_no_trans"}]
    assert not [rule for rule in policy.rules("osnetd_agent_t", "process", "osnetd_agent_t") if rule.permissions & {"setexec", "setcurrent"}]
    assert policy.written("osnetd_agent_t") <= {"devtty_t", "null_device_t", "zero_device_t"}
    kinds = {rule.kind for rule in policy.rules("osnetd_agent_t", direct=True)}
    assert not {kind for kind in kinds if kind.endswith("_socket")}
    assert not kinds & {"capability", "capability2", "system", "service", "dbus"}


def test_who_may_hand_over_a_document_may_not_start_what_the_units_start(policy: Policy) -> None:
    """early-boot is the run before there is a network, serve-queue the one over the queue."""
    may = [name for name in DOMAINS if any("execute" in rule.permissions for rule in policy.rules(name, "file", "osnetd_service_exec_t"))]
    assert not {"virt_qemu_ga_t", "osnetd_event_t", "dhcpc_t"} & set(may)
    assert policy.transitions("init_t")["osnetd_service_exec_t"] == "osnetd_t"
    assert "osnetd_service_exec_t" not in policy.transitions("udev_t")


def test_the_program_changes_the_networks_configuration_and_its_own_state(policy: Policy) -> None:
    files = {
        rule.target
        for rule in policy.rules("osnetd_t", "file")
        if rule.permissions & WRITES["file"] and rule.target not in ("osnetd_t", "init_tmpfs_t", "security_t")
    }
    ours = {"osnetd_queue_t", "osnetd_runtime_t", "osnetd_unit_t", "osnetd_var_lib_t"}
    assert files == ours | {"net_conf_t", "systemd_networkd_runtime_t", "NetworkManager_etc_rw_t", "NetworkManager_runtime_t", "sysctl_net_t"}
    # Nor may it put a file of its own beside others below /etc (sudoers.d, tmpfiles.d).
    assert not [rule for rule in policy.rules("osnetd_t", target="etc_t") if rule.permissions & WRITES.get(rule.kind, set())]
    for kind in ("blk_file", "chr_file"):
        disks = [rule for rule in policy.rules("osnetd_t", kind) if rule.permissions & WRITES[kind]]
        assert not [rule for rule in disks if "disk" in rule.target or "removable" in rule.target]


# What a day of work takes, beside what every domain may: who, on what, of which class, which permissions.
TAKES = """
init_t            osnetd_t                    process             transition
init_t            osnetd_queue_t              dir                 watch read search create
osnetd_t          osnetd_exec_t               file                entrypoint execute execute_no_trans
osnetd_t          osnetd_service_exec_t       file                entrypoint read
init_t            osnetd_service_exec_t       file                execute
osnetd_t          bin_t                       file                execute execute_no_trans map
osnetd_t          sysctl_net_t                file                read write
osnetd_t          osnetd_t                    process             setfscreate signal
osnetd_t          osnetd_t                    netlink_route_socket create bind nlmsg_read nlmsg_write
osnetd_t          osnetd_t                    packet_socket       create bind
osnetd_t          osnetd_t                    rawip_socket        create setopt
osnetd_t          osnetd_t                    capability          net_admin net_raw chown fowner
osnetd_t          http_port_t                 tcp_socket          name_connect
osnetd_t          net_conf_t                  dir                 add_name remove_name
osnetd_t          net_conf_t                  file                create write rename unlink setattr
osnetd_t          osnetd_runtime_t            dir                 create rmdir
osnetd_t          removable_device_t          blk_file            read open
osnetd_t          iso9660_t                   file                read open
osnetd_t          initrc_runtime_t            file                read open getattr ioctl
osnetd_t          initrc_runtime_t            lnk_file            read
osnetd_t          nsfs_t                      file                getattr
osnetd_t          sysctl_vm_overcommit_t      file                read open
osnetd_t          systemd_unit_t              lnk_file            read
osnetd_t          NetworkManager_unit_t       file                getattr
osnetd_t          NetworkManager_t            dbus                send_msg
NetworkManager_t  osnetd_t                    dbus                send_msg
NetworkManager_t  NetworkManager_etc_rw_t     file                read open
osnetd_t          NetworkManager_etc_rw_t     file                create write rename unlink setattr
osnetd_t          NetworkManager_runtime_t    dir                 create add_name search open read
osnetd_t          systemd_networkd_t          dbus                send_msg
systemd_networkd_t osnetd_t                   dbus                send_msg
systemd_networkd_t net_conf_t                 file                read open
osnetd_t          systemd_networkd_t          unix_stream_socket  connectto
osnetd_t          systemd_networkd_runtime_t  sock_file           write
osnetd_t          init_runtime_t              dir                 add_name write
osnetd_t          systemd_networkd_runtime_t  dir                 create
osnetd_t          system_dbusd_t              unix_stream_socket  connectto
osnetd_t          init_t                      unix_stream_socket  connectto
osnetd_t          init_t                      system              start stop status
osnetd_t          init_runtime_t              lnk_file            read
osnetd_t          systemd_transient_unit_t    dir                 search open read
osnetd_t          udev_runtime_t              sock_file           getattr
osnetd_t          udev_rules_t                file                read open
osnetd_t          osnetd_unit_t               service             start stop status
udev_t            osnetd_event_t              process             transition
osnetd_event_t    osnetd_queue_t              file                create write open
osnetd_event_t    osnetd_queue_t              dir                 add_name write search
osnetd_event_t    shell_exec_t                file                execute
initrc_t          osnetd_var_lib_t            file                create write
virt_qemu_ga_t    osnetd_agent_t              process             transition
osnetd_agent_t    osnetd_exec_t               file                entrypoint read open
osnetd_agent_t    osnetd_t                    process             transition
osnetd_t          osnetd_host_exec_t          file                entrypoint read open
osnetd_t          virt_qemu_ga_t              fifo_file           read write
osnetd_t          virt_qemu_ga_t              fd                  use
"""


@pytest.mark.parametrize("line", TAKES.strip().splitlines(), ids=lambda line: "-".join(line.split()[:3]))
def test_what_a_days_work_takes_is_allowed(policy: Policy, line: str) -> None:
    source, target, kind, *wanted = line.split()
    assert not set(wanted) - {name for rule in policy.rules(source, kind, target) for name in rule.permissions}


def test_the_system_is_neither_halted_nor_changed(policy: Policy) -> None:
    """pid 1 has the system's own permissions for a transient unit, which has no label (see the module's source)."""
    allowed = {name for rule in policy.rules("osnetd_t", "system", "init_t") for name in rule.permissions}
    assert allowed >= {"start", "stop", "status", "reload"}
    assert not allowed & {"halt", "reboot", "enable", "disable", "module_load"}


def test_the_audit_log_and_homes_are_not_read(policy: Policy) -> None:
    for place in ("auditd_log_t", "shadow_t", "user_home_dir_t", "user_home_t"):
        assert not [rule for rule in policy.rules("osnetd_t", "file", place) if rule.permissions & {"open", "read"}]


def test_a_file_may_be_labelled_with_another_user_than_who_writes_it(policy: Policy) -> None:
    """As from an administrator's shell: what is written has system_u, as restorecon(8) would say, and he has not."""
    assert "can_change_object_identity" in policy.attributes("osnetd_t")
    assert "can_change_object_identity" not in policy.attributes("osnetd_event_t")


@pytest.mark.parametrize("domain", ["osnetd_t", "osnetd_agent_t", "osnetd_event_t"])
def test_no_domain_is_permissive_or_unconfined(policy: Policy, domain: str) -> None:
    text = (SOURCES / "cloudinit-osnetd.te").read_text() + (SOURCES / "cloudinit-osnetd.if").read_text()
    assert not re.search(r"^\s*(permissive|dontaudit)\b|unconfined_domain|files_manage_all|corecmd_exec_all", text, re.MULTILINE)
    everywhere = [rule for rule in policy.rules(domain) if rule.target == "file_type" and rule.kind != "filesystem"]
    assert everywhere == []
    powers = {name for rule in policy.rules(domain, "capability", direct=True) for name in rule.permissions}
    assert not powers & {"sys_admin", "sys_module", "sys_rawio", "dac_override", "setuid", "sys_boot", "mac_admin"}


@pytest.mark.parametrize("domain", ["osnetd_t", "osnetd_agent_t", "osnetd_event_t"])
def test_no_denial_of_ours_is_hidden(policy: Policy, domain: str) -> None:
    """What the policy keeps quiet of every domain: SELinux's own files, a terminal that was left open, a secure exec."""
    hidden = policy.rules(domain, direct=True, how="dontaudit")
    usual = {"security_t", "selinux_config_t", "sysfs_t", "console_device_t", "user_devpts_t", "user_tty_device_t", "init_t"}
    others = [rule for rule in hidden if rule.target not in usual and rule.permissions - {"noatsecure", "rlimitinh", "siginh", "listen"}]
    assert others == []


def test_hooks_of_ifup_run_as_at_boot_and_others_run_it_as_before(policy: Policy) -> None:
    assert policy.transitions("osnetd_t")["osnetd_ifupdown_exec_t"] == "initrc_t"
    for other in ("udev_t", "dhcpc_t"):
        assert "osnetd_ifupdown_exec_t" not in policy.transitions(other)
        allowed = {name for rule in policy.rules(other, "file", "osnetd_ifupdown_exec_t") for name in rule.permissions}
        assert allowed >= {"execute", "execute_no_trans"}


def test_a_dhcp_client_gets_what_a_run_has_opened_for_ifup(policy: Policy) -> None:
    """/dev/null and the file for its output. Debian 12 denied it, and said so at each lease."""
    assert any("use" in rule.permissions for rule in policy.rules("dhcpc_t", "fd", "osnetd_t"))
