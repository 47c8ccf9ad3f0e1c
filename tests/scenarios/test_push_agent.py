# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A host that has nothing but the guest agent's socket, and speaks its protocol by itself: a real qemu-ga, in containers too.

In a container the agent listens on a socket of the guest's, for it has no channel; its commands are the same.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Callable, List, Tuple

import pytest

from tests.lab import Cloud, Port
from tests.lab.agent import Agent, AgentError
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import Guest, assert_follows, settled, store_of, wait_until

SOCKET = "run/qga.sock"
Connect = Callable[[], Agent]


def test_a_host_that_speaks_with_the_agent_by_itself(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.2"], mtu=1450)
    server = cloud.server("agent")
    first = server.create_port(blue, fixed_ips=["10.90.0.13"])
    guest = guest_factory(server, also=("qemu-guest-agent",))
    guest.boot()
    assert_follows(guest, first)
    settled(guest)
    guest.run(f"systemd-run --quiet --unit=lab-agent qemu-ga --method=unix-listen --path=/{SOCKET}")
    path = guest.running_root / SOCKET
    wait_until(path.exists, 10, "the agent's socket")
    speak(lambda: Agent(path), guest, first)


def executed(connect: Connect, arguments: List[str], path: str = "/usr/bin/cloudinit-osnetd", **more: Any) -> Tuple[int, str, str]:
    """What guest-exec and guest-exec-status give: the exit status, and both outputs."""
    with connect() as agent:  # no longer than that: it serves one client, and looking into a virtual machine is another
        pid = agent.call("guest-exec", path=path, arg=arguments, **{"capture_output": True, **more})["pid"]
        return ended(agent, pid)


def ended(agent: Agent, pid: int) -> Tuple[int, str, str]:
    while True:
        told = agent.call("guest-exec-status", pid=pid)
        if told["exited"]:
            out, err = (base64.b64decode(told.get(name, "")).decode() for name in ("out-data", "err-data"))
            return told.get("exitcode", -1), out, err
        time.sleep(0.2)


def speak(connect: Connect, guest: Guest, port: Port) -> None:
    """All that such a host may ask for, right and wrong; the port is in 10.90.0.0/24."""
    server = guest.server
    server.freeze_metadata()

    def edited(address: str) -> bytes:
        server.edit_port(port, fixed_ips=[address])
        return json.dumps(server.network_data()).encode()

    # The ways in which a document gets there, each of them an edit.
    raw = edited("10.90.0.71")
    code, out, err = executed(connect, ["apply", base64.b64encode(raw).decode()])
    assert (code, err) == (0, "") and port.mac in out, (code, out, err)
    assert_follows(guest, port)
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
        code, out, err = executed(connect, **asked(raw))
        assert (code, err) == (0, ""), (way, code, out, err)
        assert_follows(guest, port)

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
        code, out, err = executed(connect, list(arguments), **more)  # type: ignore[arg-type]
        assert (code, out) == (expected, "") and said in err and "Traceback" not in err, (arguments, code, out, err)
    with pytest.raises(AgentError, match=r"(?i)argument list too long"):  # the kernel's limit of one argument
        executed(connect, ["apply", "A" * (128 << 10)])
    assert store_of(guest) == before

    # Two at once: the agent starts both, the later one stands.
    pushes = [base64.b64encode(edited(address)).decode() for address in ("10.90.0.61", "10.90.0.62")]
    with connect() as agent:
        pids = [agent.call("guest-exec", path="/usr/bin/cloudinit-osnetd", arg=["apply", "--json", one], capture_output=True)["pid"] for one in pushes]
        told = [ended(agent, pid) for pid in pids]
    assert [code for code, _out, _err in told] == [0, 0], told
    later = max((json.loads(out)["run"], address) for (_code, out, _err), address in zip(told, ("10.90.0.61", "10.90.0.62")))
    server.edit_port(port, fixed_ips=[later[1]])
    assert_follows(guest, port)
