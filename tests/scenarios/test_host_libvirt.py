# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`osnetd-push --domain` and `--all`: a real libvirtd, and a virtual machine of it with its own guest agent."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from tests.lab import Cloud, Server, libvirt
from tests.lab.libvirt import Domain, Libvirt
from tests.lab.ports import Port
from tests.scenarios.place import make_place
from tests.scenarios.seen import assert_follows, wait_until
from tests.scenarios.serving import history

pytestmark = pytest.mark.deep  # and libvirt, which nothing else here needs

TOP = Path(__file__).resolve().parent.parent.parent


def push(of_host: Libvirt, document: Any, *words: str) -> "subprocess.CompletedProcess[str]":
    """As on a host, with the distribution's Python and its python3-libvirt."""
    argv = [libvirt.PYTHON, "-m", "osnetd_push", "--connect", of_host.uri, *words, "-"]
    return subprocess.run(
        argv, input=json.dumps(document), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TOP, timeout=900
    )


class Host(NamedTuple):
    """A hypervisor: its libvirt, a domain with an agent, and what its server has."""

    libvirt: Libvirt
    guest: Domain
    server: Server
    first: Port

    def push(self, *words: str, document: Any = None) -> "subprocess.CompletedProcess[str]":
        return push(self.libvirt, self.server.network_data() if document is None else document, *words)


@pytest.fixture(scope="module", name="of_host")
def a_libvirt() -> Iterator[Libvirt]:
    """One that runs a domain with a channel and no agent, and one without a channel."""
    if libvirt.missing():
        pytest.skip(libvirt.missing())
    with Cloud() as cloud, Libvirt(cloud) as of_host:
        of_host.idle("silent", "fa:16:3e:00:00:01", channel=True)
        of_host.idle("mute", "fa:16:3e:00:00:02", channel=False)
        yield of_host


@pytest.fixture(scope="module", name="host")
def a_host(of_host: Libvirt) -> Iterator[Host]:
    place = make_place(of_host.cloud)
    with Domain(of_host, place.server, suite="trixie", backend="netplan") as guest:
        guest.boot()
        yield Host(of_host, guest, place.server, place.first)


def test_domains_that_cannot_answer(of_host: Libvirt) -> None:
    names = ["silent", "mute", "no-such"]
    document = {"links": [{"id": "nic", "ethernet_mac_address": "FA:16:3E:00:00:01"}], "networks": [], "services": []}
    done = push(of_host, document, *[word for name in names for word in ("--domain", name)], "--json", "--timeout", "20")
    assert done.returncode == 21, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [(one["target"], one["exit"]) for one in told] == [("silent", 21), ("mute", 20), ("no-such", 20)], told
    silent, mute, absent = told
    assert "qemu-guest-agent installed and running" in silent["error"]
    assert "hw_qemu_guest_agent=yes" in mute["error"] and "no-such" in absent["error"]

    # Of all that run, those in whose document none of their NICs stands get none.
    done = push(of_host, document, "--all", "--timeout", "5")
    assert done.returncode == 26, done.stdout + done.stderr
    assert "mute: not sent" in done.stdout and "fa:16:3e:00:00:02" in done.stdout
    assert "silent: no guest agent answers" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 guests: 0 done; ")


@pytest.mark.vm
def test_by_the_domain(host: Host) -> None:
    host.server.freeze_metadata()
    host.server.edit_port(host.first, fixed_ips=["10.90.0.77"], mtu=1380)
    runs = len(history(host.guest))

    planned = host.push("--domain", host.guest.name, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert [line for line in planned.stdout.splitlines() if line.startswith("+") and "10.90.0.77" in line], planned.stdout
    assert len(history(host.guest)) == runs

    done = host.push("--domain", host.server.uuid, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["target"], told["exit"], told["outcome"]) == (host.server.uuid, 0, "done")
    assert [touch["mac"] for touch in told["answer"]["touches"]] == [host.first.mac], told
    assert_follows(host.guest, host.first)
    assert history(host.guest)[-1]["reasons"] == ["push"]
    assert len(history(host.guest)) == runs + 1

    refused = host.push("--domain", host.guest.name, document={"links": 7})
    assert refused.returncode == 3 and "links" in refused.stderr, refused


@pytest.mark.vm
def test_all_domains_each_told_by_itself(host: Host) -> None:
    assert host.push("--domain", host.guest.name).returncode == 0
    runs = len(history(host.guest))
    done = host.push("--all", "--json")
    told = {one["target"]: one for one in json.loads(done.stdout)}
    assert {name: one["exit"] for name, one in told.items()} == {host.guest.name: 0, "silent": 26, "mute": 26}
    assert len(history(host.guest)) == runs, "the same document again: nothing was to be done"


@pytest.mark.vm
def test_blocked_and_off(host: Host) -> None:
    """A block list as Enterprise Linux has it, and a guest that ended. The last test: it spoils the guest."""
    host.guest.run("mkdir -p /etc/qemu; printf '[general]\\nblock-rpcs=guest-exec,guest-exec-status\\n' > /etc/qemu/qemu-ga.conf")
    _restart_agent(host)
    done = host.push("--domain", host.guest.name)
    assert done.returncode == 23, done.stdout + done.stderr
    assert "Debian GNU/Linux 13" in done.stderr and "/etc/qemu/qemu-ga.conf" in done.stderr

    host.libvirt.virsh("destroy", host.guest.name)
    done = host.push("--domain", host.guest.name)
    assert done.returncode == 20 and host.guest.name in done.stderr, done


def _restart_agent(host: Host) -> None:
    """The agent that restarts itself answers no more; that it is back is seen by what it allows."""
    host.guest.run("systemd-run --on-active=1 systemctl restart qemu-guest-agent")
    info = '{"execute": "guest-info"}'

    def is_blocked() -> bool:
        said = host.libvirt.virsh("qemu-agent-command", host.guest.name, info, check=False)
        return '{"enabled":false,"name":"guest-exec"' in said.replace(" ", "")

    wait_until(is_blocked, 30 * host.guest.patience, "an agent with a block list")
