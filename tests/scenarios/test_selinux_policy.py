# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The whole policy of a release with our module in it, as its kernel would load it: who may do what with what is ours.

tests/package/test_selinux.py links our module with the few others that it meets; here each module of the distribution is in the
policy, and each rule of each domain is looked at. Read by the release's own setools, in a root that does not run.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Dict, List, Set, Tuple

import pytest

from tests.lab import deb, roots, selinux
from tests.scenarios.test_selinux import KINDS

pytestmark = [pytest.mark.deep]

DOMAINS = ("osnetd_t", "osnetd_agent_t", "osnetd_event_t", "virt_qemu_ga_t")
WRITES = {"write", "append", "create", "unlink", "rename", "link", "setattr", "relabelto", "add_name", "remove_name", "rmdir"}
# Of each rule: for which types of ours it is; one for an attribute is for each type that has it.
_READ = """
import glob, json, setools, sys
(path,) = glob.glob("/etc/selinux/default/policy/policy.*")
policy = setools.SELinuxPolicy(path)
attributes = {str(type_): {str(type_), *map(str, type_.attributes())} for type_ in policy.types()}
ours = [name for name in attributes if name.startswith("osnetd_")]
names = {word for name in ours for word in attributes[name]}
of, on, leads = {name: [] for name in sys.argv[1:]}, [], []
for rule in policy.terules():
    if rule.ruletype.name == "type_transition" and str(rule.tclass) == "process" and str(rule.default) in ours:
        leads.append([str(rule.source), str(rule.target), str(rule.default)])
    if rule.ruletype.name != "allow":
        continue
    source, target, kind, may = str(rule.source), str(rule.target), str(rule.tclass), sorted(rule.perms)
    meant = [name for name in ours if target in attributes[name]] if target in names else []
    for name in of:
        if source in attributes[name]:
            # A rule for "self" has the domain's own name here.
            of[name].append([target, meant, kind, may])
    if meant:
        on.append([source, meant, kind, may])
permissive = [str(type_) for type_ in policy.types() if type_.ispermissive]
unconfined = [name for name in attributes if {"unconfined_domain_type", "files_unconfined_type"} & attributes[name]]
json.dump({"ours": ours, "permissive": permissive, "unconfined": unconfined, "of": of, "on": on, "leads": leads}, sys.stdout)
"""


@pytest.fixture(scope="module", params=KINDS[:2], ids=lambda kind: str(kind.suite))
def policy(request: Any) -> Any:
    kind = request.param
    tree = selinux.with_module(roots.tree(kind.suite, kind.backend, deb.under_test(), True, (), selinux.PACKAGES))
    with tree.mounted() as root:
        read = ["chroot", str(root), "/usr/bin/python3", "-c", _READ, *DOMAINS]
        return json.loads(subprocess.run(read, stdout=subprocess.PIPE, check=True).stdout)


def test_no_domain_of_ours_is_permissive_or_unconfined(policy: Any) -> None:
    assert {"osnetd_t", "osnetd_agent_t", "osnetd_event_t"} <= set(policy["ours"])
    assert policy["permissive"] == []
    assert not set(policy["ours"]) & set(policy["unconfined"])


def with_ours(policy: Any, domain: str) -> Dict[Tuple[str, str], Set[str]]:
    """What a domain may do with what is ours, by type and class: rules for attributes included (a file of ours is a file, a process of ours a domain)."""
    may: Dict[Tuple[str, str], Set[str]] = {}
    for _, meant, kind, names in policy["of"][domain]:
        for target in meant:
            may.setdefault((target, kind), set()).update(names)
    # df(1) of a file system that has a label of ours, and ifup, which any domain may run in its own.
    assert {names for (_, kind), found in may.items() if kind == "filesystem" for names in found} <= {"getattr"}
    return {key: names for key, names in may.items() if key[1] != "filesystem" and key[0] != "osnetd_ifupdown_exec_t"}


STARTS = {"execute", "getattr", "ioctl", "map", "open", "read"}


def test_the_guest_agent_may_start_the_program_and_nothing_else_of_ours(policy: Any) -> None:
    assert with_ours(policy, "virt_qemu_ga_t") == {("osnetd_exec_t", "file"): STARTS, ("osnetd_agent_t", "process"): {"transition"}}
    assert [lead[1:] for lead in policy["leads"] if lead[0] == "virt_qemu_ga_t"] == [["osnetd_exec_t", "osnetd_agent_t"]]


def test_what_the_guest_agent_has_started_may_go_on_to_host_command_and_nothing_else(policy: Any) -> None:
    """It says which commands a host may have (tests/unit/test_agent_domain.py)."""
    may = with_ours(policy, "osnetd_agent_t")
    itself = {key: may.pop(key) for key in list(may) if key[0] == "osnetd_agent_t"}
    # Without `execute` the program is not started a second time, in whichever domain.
    assert may == {
        ("osnetd_exec_t", "file"): {"entrypoint", "getattr", "ioctl", "lock", "open", "read"},
        ("osnetd_host_exec_t", "file"): STARTS,
        ("osnetd_t", "process"): {"transition"},
    }
    assert [lead[1:] for lead in policy["leads"] if lead[0] == "osnetd_agent_t"] == [["osnetd_host_exec_t", "osnetd_t"]]
    assert not itself.get(("osnetd_agent_t", "process"), set()) & {"setexec", "setcurrent", "dyntransition", "execmem", "ptrace"}

    rules: List[Any] = policy["of"]["osnetd_agent_t"]
    entered_by = {target for target, _, kind, names in rules if kind == "file" and "entrypoint" in names}
    assert entered_by == {"osnetd_exec_t"}
    others = {target for target, _, kind, names in rules if kind == "process" and {"transition", "dyntransition", "ptrace"} & set(names)}
    assert others - {"osnetd_agent_t"} == {"osnetd_t"}
    written = {(target, kind) for target, _, kind, names in rules if kind in ("file", "dir", "lnk_file", "blk_file", "chr_file") and WRITES & set(names)}
    assert {target for target, _ in written} <= {"osnetd_agent_t", "null_device_t", "zero_device_t", "devtty_t"}
    assert not {kind for _, _, kind, _ in rules} & {"capability", "capability2", "system", "service", "dbus"}
    # Any domain may have a socket without a network, and ask what a label is called.
    opens = {"create", "bind", "connect", "connectto", "sendto", "name_connect", "name_bind"}
    sockets = {(target, kind) for target, _, kind, names in rules if kind.endswith("_socket") and opens & set(names)}
    assert sockets <= {("osnetd_agent_t", "unix_stream_socket"), ("setrans_t", "unix_stream_socket")}


def test_who_enters_our_domains(policy: Any) -> None:
    """By a change of domain. What is unconfined may anyway; sysadm_t is the administrator."""
    unconfined = set(policy["unconfined"]) | {"unconfined_domain_type", "files_unconfined_type"}

    def enter(domain: str) -> Set[str]:
        return {source for source, targets, kind, names in policy["on"] if domain in targets and kind == "process" and "transition" in names} - unconfined

    assert enter("osnetd_t") <= {"init_t", "initrc_t", "sysadm_t", "osnetd_agent_t"}
    assert enter("osnetd_agent_t") == {"virt_qemu_ga_t"}
    assert enter("osnetd_event_t") <= {"init_t", "initrc_t", "udev_t"}


def test_udevs_event_writer_writes_the_queue_and_nothing_else(policy: Any) -> None:
    rules: List[Any] = policy["of"]["osnetd_event_t"]
    written = {(target, kind) for target, _, kind, names in rules if kind in ("file", "dir", "lnk_file", "blk_file", "chr_file") and WRITES & set(names)}
    # Each domain's own /proc, and what every domain has: /dev/null, /dev/zero, /dev/tty.
    own = {("osnetd_event_t", kind) for kind in ("file", "dir")}
    every = {(f"{name}_t", "chr_file") for name in ("null_device", "zero_device", "devtty")}
    queue = {("osnetd_queue_t", "dir"), ("osnetd_queue_t", "file"), ("osnetd_runtime_t", "dir"), ("var_run_t", "dir")}
    assert written - own - every == queue
    assert not {kind for _, _, kind, _ in rules} & {"capability", "capability2", "system", "service", "dbus", "packet_socket"}
    taken_away = [rule for rule in rules if (rule[0], rule[2]) in queue and {"unlink", "rename", "remove_name", "rmdir"} & set(rule[3])]
    assert taken_away == []
