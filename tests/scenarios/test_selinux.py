# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""SELinux enforces: a server follows its ports without one denial, and what no domain of ours may do is denied.

In a virtual machine with Debian's policy, our module built by that policy's own makefile, and labels set as the image was
made (tests/lab/selinux.py). The policy keeps no denial quiet there. Debian has no domain for the guest agent: one of the name
and kind that Enterprise Linux has is added for a second agent (tests/lab/selinux_modules).
"""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from tests.lab import VM, Cloud, Server, run
from tests.scenarios.conftest import Kind
from tests.scenarios.place import KNOWN
from tests.scenarios.seen import assert_boot, assert_follows, assert_gone, assert_nothing_to_do, reconcile, settled

pytestmark = [pytest.mark.vm, pytest.mark.deep]

KINDS = [Kind("trixie", "networkd"), Kind("bookworm", "ifupdown"), Kind("trixie", "nm"), Kind("trixie", "netplan")]
PROGRAM, HELPERS = "/usr/bin/cloudinit-osnetd", "/usr/lib/cloudinit-osnetd"
SOCKET = "/run/qemu-ga-confined/agent.sock"
# Of a process that changes its domain while it starts a program; each policy keeps them quiet, and means "be careful".
CAREFUL = {"noatsecure", "rlimitinh", "siginh"}
# Where a label of ours, or that of a file that we wrote, could stand in the way of somebody else.
CONFIGURATION = ("net_conf_t", "systemd_networkd_runtime_t", "NetworkManager_etc_rw_t")
READERS = ("systemd_networkd_t", "NetworkManager_t", "dhcpc_t", "ifconfig_t", "mount_t")
LABELLED = (
    "/usr/bin/cloudinit-osnetd /usr/lib/cloudinit-osnetd /usr/lib/systemd/system/cloudinit-osnetd* /etc/network /etc/netplan "
    "/etc/systemd/network /etc/NetworkManager /run/network /run/NetworkManager /run/systemd/network /var/lib/cloudinit-osnetd /run/cloudinit-osnetd"
)


def denials(guest: VM) -> List[str]:
    """What was denied to us, because of us, or to the reader of a file that we wrote; since the image was made."""
    log = guest.run("cat /var/log/audit/audit.log* 2>/dev/null; journalctl -b -k -q --no-pager -o cat -g 'avc:.*denied' || true").stdout
    found = []
    for line in log.splitlines():
        denied = re.search(r"avc:\s+denied\s+\{ (.*?) \}.*scontext=\S+?:\S+?:(\w+).*tcontext=\S+?:\S+?:(\w+)", line)
        if not denied or not set(denied[1].split()) - CAREFUL:
            continue
        of_readers = denied[2] in READERS and denied[3] in CONFIGURATION
        if "osnetd" in line or of_readers:
            found.append(line)
    return sorted(set(found))


def wrong_labels(guest: VM) -> List[str]:
    """The files that restorecon(8) would label anew, by their type; the user part is that of who was there first."""
    return guest.run(f"restorecon -R -n -v -i {LABELLED}").stdout.splitlines()


UNITS = {"early-boot": "cloudinit-osnetd-early.service", "serve-queue": "cloudinit-osnetd.service"}
# The program says it of itself. The journal's own field for it is looked up a moment later, and a process that has ended by then has none.
_SAYS = "read -r domain < /proc/self/attr/current; echo \"runs as $domain\""


def let_domains_be_told(guest: VM) -> None:
    """From here on each start of a unit of ours notes the domain in which it runs; what is overwritten in place keeps its label."""
    for helper in UNITS:
        guest.run(f"sed '1a {_SAYS}' {HELPERS}/{helper} > /root/telling && cat /root/telling > {HELPERS}/{helper}")


def domains(guest: VM) -> Dict[str, str]:
    """By unit: the domain of its last start in this boot, "" if it was not started since it tells."""
    found = {}
    for unit in UNITS.values():
        told = guest.run(f"journalctl --sync; journalctl -b -q --no-pager -o cat -u {unit} | grep '^runs as ' || true").stdout.splitlines()
        found[unit] = told[-1].split(":")[2] if told else ""
    return found


def enforcing(cloud: Cloud, vm_factory: Callable[..., VM], kind: Kind, **options: Any) -> VM:
    """A server that is the same in any cloud: its first boot is kept, and gone back to by each scenario."""
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"], mtu=1450)
    server = cloud.server("web", uuid=KNOWN.format(17))
    server.create_port(blue, mac="fa:16:3e:a0:17:01", fixed_ips=["10.90.0.17"])
    guest = vm_factory(server, suite=kind.suite, backend=kind.backend, enforcing=True, **options)
    guest.boot(timeout=240, saved=True)
    assert guest.run("cat /sys/fs/selinux/enforce").stdout == "1"
    return guest


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_day_of_work_without_a_denial(cloud: Cloud, vm_factory: Callable[..., VM], kind: Kind) -> None:
    guest = enforcing(cloud, vm_factory, kind)
    server, (first,) = guest.server, guest.server.ports
    green = cloud.network("green", cidr="10.91.4.0/22", dns=["10.91.4.2"], mtu=1400, routes=[("10.200.0.0/16", "10.91.4.9")])
    leased = cloud.network("leased", cidr="10.92.0.0/24", dhcp=True, dns=["10.92.0.2"], mtu=1420)

    assert_boot(guest, level="drive")
    assert_follows(guest, first)
    settled(guest)
    assert denials(guest) == []

    # Attached, by an event of udev's.
    let_domains_be_told(guest)
    static, dynamic = server.create_port(green), server.create_port(leased)
    names = {}
    for port in (static, dynamic):
        names[port] = guest.plug(port)
        assert_follows(guest, port)
    settled(guest)
    assert denials(guest) == []
    assert domains(guest)["cloudinit-osnetd.service"] == "osnetd_t"
    assert wrong_labels(guest) == []

    # Edited.
    server.edit_port(static, fixed_ips=["10.91.4.77"], mtu=1390)
    reconcile(guest)
    assert_follows(guest, static)
    assert denials(guest) == []

    # Pushed through the confined agent.
    server.freeze_metadata()
    server.edit_port(static, fixed_ips=["10.91.4.78"])
    start_confined_agent(guest)
    push(guest, server)
    assert_follows(guest, static)
    # By a host that calls the program itself, as openstack-networkd's does.
    for program, words, address in ((PROGRAM, ["apply"], "10.91.4.79"), (f"{HELPERS}/apply-network-config", [], "10.91.4.80")):
        server.edit_port(static, fixed_ips=[address])
        document = base64.b64encode(json.dumps(server.network_data()).encode()).decode()
        assert agent(guest, program, [*words, document])[0] == 0
        assert_follows(guest, static)
    server.thaw_metadata()
    push(guest, server, "--forget")
    assert denials(guest) == []

    # The first NIC is detached, so that the next boot may wait for the lease of another. Rebooted.
    names[first] = str(guest.nic(first))
    server.delete_port(first)
    guest.unplug(first)
    assert_gone(guest, names[first])
    settled(guest)
    assert denials(guest) == []
    guest.reboot(timeout=240)
    assert_follows(guest, static, dynamic)
    settled(guest)
    assert_nothing_to_do(guest)
    assert denials(guest) == []
    assert domains(guest) == dict.fromkeys(UNITS.values(), "osnetd_t")
    assert wrong_labels(guest) == []

    # Detached.
    server.delete_port(static)
    guest.unplug(static)
    assert_gone(guest, names[static])
    settled(guest)
    assert denials(guest) == []
    assert wrong_labels(guest) == []

    # Removed: the network stays, at the next boot as well.
    guest.run("DEBIAN_FRONTEND=noninteractive dpkg -P cloudinit-osnetd", timeout=180)
    guest.reboot(timeout=240)
    assert_address(guest, dynamic.fixed_ips[0])
    assert denials(guest) == []


# -- what must be denied --------------------------------------------------------------------------


def probe(attempts: Dict[str, str]) -> str:
    """A shell script that tries each, and says what became of it."""
    return "#!/bin/sh\n" + "".join(f"if ({command}) >/dev/null 2>&1; then echo '{name}: done'; else echo '{name}: denied'; fi\n" for name, command in attempts.items())


def tried(guest: VM, program: str, attempts: Dict[str, str]) -> Dict[str, str]:
    """The attempts by a program of ours, in its domain: it is overwritten in place, so its label stays, and pid 1 starts it."""
    guest.run("systemctl stop cloudinit-osnetd.path cloudinit-osnetd.service")
    guest.run(f"cp {program} /root/kept")
    guest.put(probe(attempts).encode(), "/root/probe")
    try:
        guest.run(f"cat /root/probe > {program}")
        # To the journal, as from udev: a pipe of the agent's it may not write.
        unit = f"osnetd-lab-probe-{time.monotonic_ns()}"
        guest.run(f"systemd-run --quiet --wait --collect --unit={unit} {program}", timeout=120)
        told = guest.run(f"journalctl --sync; journalctl -b -q --no-pager -o cat -u {unit} | grep -E ': (done|denied)$'").stdout
    finally:
        guest.run(f"cat /root/kept > {program}; systemctl start cloudinit-osnetd.path")
    return dict(line.split(": ") for line in told.splitlines())


def may(guest: VM, attempts: Dict[str, str]) -> None:
    """Without a domain of ours each of them succeeds: what is denied is denied by SELinux, not by a mistake in the attempt."""
    guest.put(probe(attempts).encode(), "/root/probe")
    told = dict(line.split(": ") for line in guest.run("sh /root/probe").stdout.splitlines())
    assert told == dict.fromkeys(attempts, "done")


EVENT = "/run/cloudinit-osnetd/queue/0000000000.00.timer"
OF_ALL = {
    "passwords": "cat /etc/shadow",
    "accounts": "true >> /etc/passwd",
    "a home": "true > /root/left",
    "a program": "true >> /usr/bin/env",
    "a file of /etc": "true > /etc/tmpfiles.d/left && rm -f /etc/tmpfiles.d/left",
    "the disk": "true >> /dev/vda",
}
OF_THE_EVENT_WRITER = {
    **OF_ALL,
    "the configuration": "true > /etc/systemd/network/left.network && rm -f /etc/systemd/network/left.network",
    "the state": "true > /var/lib/cloudinit-osnetd/left && rm -f /var/lib/cloudinit-osnetd/left",
    "beside the queue": "true > /run/cloudinit-osnetd/left && rm -f /run/cloudinit-osnetd/left",
    "an event taken away": f"true > {EVENT} && rm -f {EVENT}",
    "the program of ours": "/usr/bin/cloudinit-osnetd --version",
    "the network": "ip link set lo up",
    "a unit": "systemctl --no-block start cloudinit-osnetd.path",
}


# By host-command, as a policy does not see what a program is told.
NOT_PERMITTED = 77
OF_NO_HOST = (
    ["reconcile"],
    ["reconcile", "--queue"],
    ["boot"],
    ["rollback"],
    ["doctor", "--bundle", "/run/left"],
    ["datasource", "release"],
    ["apply", "--file", "/etc/shadow"],
    ["plan", "--fil=/dev/vda"],
    [],
)


def test_what_must_be_denied_is_denied(cloud: Cloud, vm_factory: Callable[..., VM]) -> None:
    guest = enforcing(cloud, vm_factory, KINDS[0])
    settled(guest)
    for attempts in (OF_ALL, OF_THE_EVENT_WRITER):
        may(guest, attempts)

    # udev's event writer: the queue and nothing else.
    assert tried(guest, f"{HELPERS}/queue-event", OF_THE_EVENT_WRITER) == dict.fromkeys(OF_THE_EVENT_WRITER, "denied")
    assert tried(guest, f"{HELPERS}/queue-event", {"an event": f"true > {EVENT}"}) == {"an event": "done"}
    assert any("scontext=system_u:system_r:osnetd_event_t:s0" in line for line in denials(guest))

    # The program.
    assert tried(guest, f"{HELPERS}/serve-queue", OF_ALL) == dict.fromkeys(OF_ALL, "denied")
    assert any("scontext=system_u:system_r:osnetd_t:s0" in line for line in denials(guest))

    # The guest agent: a document and nothing more.
    start_confined_agent(guest)
    for command in OF_THE_EVENT_WRITER.values():
        if "cloudinit-osnetd --version" not in command:
            assert agent(guest, "/bin/sh", ["-c", command])[0] != 0, command
    copied = "cp /usr/bin/cloudinit-osnetd /run/qemu-ga-confined/copy && /run/qemu-ga-confined/copy reconcile"
    for command in (
        f"{HELPERS}/queue-event push",
        f"{HELPERS}/early-boot",
        f"{HELPERS}/serve-queue",
        # What it leads to, and past that, by another domain than the one that it is given.
        f"{HELPERS}/host-command status",
        f"runcon -t osnetd_t {PROGRAM} reconcile",
        f"runcon -t osnetd_agent_t {HELPERS}/host-command status",
        f"true > {EVENT}",
        "cat /var/lib/cloudinit-osnetd/store.json",
        "cat /run/cloudinit-osnetd/status.json",
        "ls /run/cloudinit-osnetd/queue",
        "systemctl --no-block start cloudinit-osnetd.service",
        # A copy has not its label, so it stays in the agent's domain.
        copied,
        "python3 -m cloudinit_osnetd reconcile",
    ):
        assert agent(guest, "/bin/sh", ["-c", command])[0] != 0, command
    code, out = agent(guest, PROGRAM, ["status", "--json"])
    assert code == 0 and json.loads(out)["nics"], out
    for words in OF_NO_HOST:
        assert agent(guest, PROGRAM, words)[0] == NOT_PERMITTED, words

    # As by an administrator's mistake: without its label the program is not started in its domain, and nothing is changed.
    guest.run("chcon -t bin_t /usr/bin/cloudinit-osnetd")
    look = "ip -o address | sed 's/valid_lft.*//'; ls -l --time-style=full-iso /etc/systemd/network"
    before = guest.run(look).stdout
    assert agent(guest, PROGRAM, ["apply", "--stdin"], json.dumps(guest.server.network_data()))[0] != 0
    assert guest.run(look).stdout == before
    guest.run("restorecon /usr/bin/cloudinit-osnetd")

    # And where host-command has lost its own, that leads nowhere.
    guest.run(f"chcon -t bin_t {HELPERS}/host-command")
    assert agent(guest, PROGRAM, ["apply", "--stdin"], json.dumps(guest.server.network_data()))[0] != 0
    assert guest.run(look).stdout == before
    guest.run(f"restorecon {HELPERS}/host-command")
    push(guest, guest.server)


# -- the second agent -----------------------------------------------------------------------------

# What a host would send, from inside the guest: one guest-exec, and its end. Prints exit status and output.
CLIENT = r"""
import base64, json, socket, sys, time
path, words, stdin = sys.argv[2], json.loads(sys.argv[3]), sys.stdin.read().encode()
sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1]); lines = sock.makefile("r")
def call(name, **fields):
    sock.sendall(json.dumps({"execute": name, "arguments": {k.replace("_", "-"): v for k, v in fields.items()}}).encode() + b"\n")
    return json.loads(lines.readline())
began = call("guest-exec", path=path, arg=words, input_data=base64.b64encode(stdin).decode(), capture_output=True)
if "error" in began:
    print(json.dumps([126, began["error"]["desc"]])); sys.exit()
while True:
    told = call("guest-exec-status", pid=began["return"]["pid"])["return"]
    if told["exited"]:
        break
    time.sleep(0.2)
print(json.dumps([told.get("exitcode", 128), base64.b64decode(told.get("out-data", "")).decode()]))
"""


def start_confined_agent(guest: VM) -> None:
    guest.run(
        "systemd-run --quiet --collect --unit=qemu-ga-confined -p RuntimeDirectory=qemu-ga-confined "
        f"/usr/local/sbin/qemu-ga-confined -m unix-listen -p {SOCKET} -t /run/qemu-ga-confined; "
        f"for wait in $(seq 100); do [ -S {SOCKET} ] && break; sleep 0.2; done"
    )
    assert "virt_qemu_ga_t" in guest.run("ps -o label= -C qemu-ga-confined").stdout
    guest.put(CLIENT.encode(), "/root/client.py")
    for path in Path(run.CHECKOUT, "osnetd_push").glob("*.py"):
        guest.run("mkdir -p /root/osnetd_push")
        guest.put(path.read_bytes(), f"/root/osnetd_push/{path.name}")


def agent(guest: VM, path: str, words: List[str], stdin: str = "") -> Any:
    """Exit status and output of a program that the confined agent starts; 126 if it may not."""
    guest.put(stdin.encode(), "/root/stdin")
    guest.put(json.dumps(words).encode(), "/root/words")
    told = guest.run(f'python3 /root/client.py {SOCKET} {path} "$(cat /root/words)" < /root/stdin', timeout=180).stdout
    return json.loads(told)


def push(guest: VM, server: Server, *options: str) -> None:
    guest.put(json.dumps(server.network_data()).encode(), "/root/document.json")
    what = "" if "--forget" in options else " /root/document.json"
    guest.run(f"cd /root && python3 -m osnetd_push --socket {SOCKET} {' '.join(options)}{what}", timeout=180)


def assert_address(guest: VM, address: str) -> None:
    assert address in guest.run("ip -o address").stdout
