# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`osnetd-push --socket`: from the host into a virtual machine, through its real qemu-guest-agent. One boot for all."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from tests.lab import VM
from tests.lab.agent import Agent, AgentError
from tests.scenarios.place import Place
from tests.scenarios.seen import assert_follows, store_of
from tests.scenarios.serving import history

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


# -- a host that has nothing but the agent's socket, and speaks its protocol by itself -------------------------------


def executed(agent: Agent, arguments: List[str], path: str = "/usr/bin/cloudinit-osnetd", **more: Any) -> Tuple[int, str, str]:
    """What guest-exec and guest-exec-status give: the exit status, and both outputs."""
    pid = agent.call("guest-exec", path=path, arg=arguments, **{"capture_output": True, **more})["pid"]
    return ended(agent, pid)


def ended(agent: Agent, pid: int) -> Tuple[int, str, str]:
    while True:
        told = agent.call("guest-exec-status", pid=pid)
        if told["exited"]:
            out, err = (base64.b64decode(told.get(name, "")).decode() for name in ("out-data", "err-data"))
            return told.get("exitcode", -1), out, err
        time.sleep(0.2)


def test_a_host_that_speaks_with_the_agent_by_itself(place: Place, guest: VM) -> None:
    server = place.server
    server.freeze_metadata()

    def edited(address: str) -> bytes:
        server.edit_port(place.first, fixed_ips=[address])
        return json.dumps(server.network_data()).encode()

    with Agent(guest.agent_socket, 5 * guest.patience) as agent:
        # The ways in which a document gets there, each of them an edit.
        raw = edited("10.90.0.71")
        code, out, err = executed(agent, ["apply", base64.b64encode(raw).decode()])
        assert (code, err) == (0, "") and place.first.mac in out, (code, out, err)
        assert_follows(guest, place.first)
        ways = (
            ("base64 in lines", lambda raw: {"arguments": ["apply", base64.encodebytes(raw).decode()]}),
            ("base64 in lines as Windows ends them", lambda raw: {"arguments": ["apply", base64.encodebytes(raw).decode().replace("\n", "\r\n")]}),
            ("plain", lambda raw: {"arguments": ["apply", "--json", raw.decode()]}),
            ("on standard input", lambda raw: {"arguments": ["apply", "--stdin"], "input_data": base64.b64encode(raw).decode()}),
            ("twice encoded by the host", lambda raw: {"arguments": ["apply", "--stdin"], "input_data": base64.b64encode(base64.b64encode(raw)).decode()}),
            ("no path, no output", lambda raw: {"arguments": ["apply", raw.decode()], "path": "cloudinit-osnetd", "capture_output": False}),
            ("an environment of its own", lambda raw: {"arguments": ["apply", raw.decode()], "env": ["LC_ALL=C", "PATH=/bin:/usr/bin"]}),
        )
        for number, (way, asked) in enumerate(ways):
            raw = edited(f"10.90.0.{80 + number}")
            code, out, err = executed(agent, **asked(raw))
            assert (code, err) == (0, ""), (way, code, out, err)
            assert_follows(guest, place.first)

        # And what does not get there.
        before = store_of(guest)
        document = json.loads(edited("10.90.0.99"))
        document["networks"][0]["netmask"] = "0.0.0.255"
        wrong = base64.b64encode(json.dumps(document).encode()).decode()
        url_safe = base64.urlsafe_b64encode(json.dumps(dict(document, note="\u00ff\u00fe??>>~~"), ensure_ascii=False).encode()).decode()
        for arguments, more, expected, said in (
            (["apply", wrong], {}, 3, "networks[0].netmask"),
            (["apply", url_safe], {"env": ["LC_ALL=C"]}, 3, "alphabet for URLs"),
            (["apply", wrong[:-7]], {}, 3, "base64"),
            (["apply", ""], {}, 3, "the document is empty"),
            (["apply", "--stdin"], {}, 3, "the document is empty"),  # no input-data: the agent gives it /dev/null
            (["apply"], {}, 2, "usage: cloudinit-osnetd apply"),
            (["apply", wrong, wrong], {}, 2, "usage: cloudinit-osnetd"),
        ):
            code, out, err = executed(agent, list(arguments), **more)  # type: ignore[arg-type]
            assert (code, out) == (expected, "") and said in err and "Traceback" not in err, (arguments, code, out, err)
        with pytest.raises(AgentError, match=r"(?i)argument list too long"):  # the kernel's limit of one argument
            executed(agent, ["apply", "A" * (128 << 10)])
        assert store_of(guest) == before

        # Two at once: the agent starts both, the later one stands.
        pushes = [base64.b64encode(edited(address)).decode() for address in ("10.90.0.61", "10.90.0.62")]
        pids = [agent.call("guest-exec", path="/usr/bin/cloudinit-osnetd", arg=["apply", "--json", one], capture_output=True)["pid"] for one in pushes]
        told = [ended(agent, pid) for pid in pids]
        assert [code for code, _out, _err in told] == [0, 0], told
        later = max((json.loads(out)["run"], address) for (_code, out, _err), address in zip(told, ("10.90.0.61", "10.90.0.62")))
        server.edit_port(place.first, fixed_ips=[later[1]])
    assert_follows(guest, place.first)
