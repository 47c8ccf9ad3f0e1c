# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`osnetd-push --socket`: from the host into a virtual machine, through its real qemu-guest-agent. One boot for all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab import VM
from tests.lab.agent import Agent
from tests.scenarios.place import Place
from tests.scenarios.seen import assert_follows
from tests.scenarios.serving import history
from tests.scenarios.test_push_agent import speak

pytestmark = pytest.mark.vm

TOP = Path(__file__).resolve().parent.parent.parent


def push(guest: VM, document: Any, *options: str) -> "subprocess.CompletedProcess[str]":
    """As on a host: the program, with the document on its standard input."""
    return without_document(guest, *options, "-", text=document if isinstance(document, str) else json.dumps(document))


def without_document(guest: VM, *options: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "osnetd_push", "--socket", str(guest.agent_socket), *options]
    return subprocess.run(words, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TOP, timeout=600)


def test_a_host_that_knows_only_the_socket(place: Place, guest: VM) -> None:
    server = place.server
    server.freeze_metadata()
    server.edit_port(place.first, fixed_ips=["10.90.0.77"], mtu=1380)
    document = server.network_data()

    planned = push(guest, document, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert [line for line in planned.stdout.splitlines() if line.startswith("+") and "10.90.0.77" in line], planned.stdout
    assert history(guest) == [] or history(guest)[-1]["reasons"] != ["push"]

    done = push(guest, document, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["exit"], told["outcome"]) == (0, "done")
    assert [touch["mac"] for touch in told["answer"]["touches"]] == [place.first.mac], told
    assert_follows(guest, place.first)

    # On trial: it stays when the host says so, in time and once. And what was pushed can be dropped.
    server.edit_port(place.first, fixed_ips=["10.90.0.78"])
    assert push(guest, server.network_data(), "--confirm-within", "3000").returncode == 0
    assert_follows(guest, place.first)
    assert [without_document(guest, "--confirm").returncode for _twice in range(2)] == [0, 8]
    assert without_document(guest, "--forget").returncode == 0


def test_a_host_that_speaks_with_the_agent_by_itself(place: Place, guest: VM) -> None:
    speak(lambda: Agent(guest.agent_socket, 5 * guest.patience), guest, place.first)
