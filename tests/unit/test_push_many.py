# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""osnetd-push to several guests side by side, and what the host's part may import."""

import ast
import os
import sys
import time

import pytest

import osnetd_push
from osnetd_push import report
from osnetd_push.errors import NoChannel
from osnetd_push.push import Request, push_all
from osnetd_push.socket_channel import SocketChannel
from tests.unit.fake_agent import FakeAgent

PACKAGE = os.path.dirname(os.path.abspath(osnetd_push.__file__))
STANDARD_LIBRARY = frozenset(getattr(sys, "stdlib_module_names", ()))  # Python 3.10


def request(timeout=20.0):
    return Request(("apply", "--stdin"), lambda target: target.encode(), timeout)


def test_each_guest_is_told_by_itself_and_one_costs_no_other(tmp_path, capsys):
    guests = {
        "good": {"out": b"done\n"},
        "rolled": {"code": 4, "out": b"ens4 rolled back\n"},
        "blocked": {"blocked": ("guest-exec",)},
        "off": {},
        "slow": {"late": 0.5},
    }
    running = {name: FakeAgent(tmp_path / name, **options) for name, options in guests.items()}
    running["off"].__exit__()
    channels = [(name, SocketChannel(one.path)) for name, one in running.items()]
    outcomes = {one.target: one for one in push_all([*channels, ("no such", NoChannel("no domain"))], request(), 3)}
    for one in running.values():
        one.__exit__()
    assert {name: one.code for name, one in outcomes.items()} == {
        "good": 0, "rolled": 4, "blocked": 23, "off": 20, "slow": 0, "no such": 20
    }  # fmt: skip
    assert report.worst(list(outcomes.values())) == 23

    for name in guests:
        report.show_block(outcomes[name])
    report.show_summary(list(outcomes.values()))
    told = capsys.readouterr().out.splitlines()
    assert told[:4] == ["good: done", "  done", "rolled: rolled back", "  ens4 rolled back"]
    assert told[-1].startswith("6 guests: 2 done; ")
    assert "rolled: rolled back" in told[-1]


def test_side_by_side(tmp_path):
    agents = [FakeAgent(tmp_path / str(number), late=0.2) for number in range(8)]
    began = time.monotonic()
    outcomes = list(push_all([(one.path, SocketChannel(one.path)) for one in agents], request(), 8))
    took = time.monotonic() - began
    for one in agents:
        one.__exit__()
    assert [one.code for one in outcomes] == [0] * 8
    assert took < 8 * 6 * 0.2  # six answers each, one guest after the other


def test_each_guest_gets_its_own_document(tmp_path):
    agents = [FakeAgent(tmp_path / name) for name in ("a", "b")]
    list(push_all([(one.path, SocketChannel(one.path)) for one in agents], request(), 2))
    for one in agents:
        one.__exit__()
    assert [len(one.started()) for one in agents] == [1, 1]
    assert agents[0].started()[0]["input-data"] != agents[1].started()[0]["input-data"]


def imported():
    """(file, name of the module) of each import in the package."""
    for file in sorted(os.listdir(PACKAGE)):
        if file.endswith(".py"):
            with open(os.path.join(PACKAGE, file), encoding="utf-8") as fh:
                for node in ast.walk(ast.parse(fh.read())):
                    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                    names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                    for name in names:
                        yield file, name.split(".")[0]


@pytest.mark.skipif(not STANDARD_LIBRARY, reason="this Python does not tell its standard library's names")
def test_a_host_needs_python_only():
    others = {(file, name) for file, name in imported() if name not in STANDARD_LIBRARY}
    assert others <= {("domain_channel.py", "libvirt"), ("domain_channel.py", "libvirt_qemu"), ("cloud.py", "openstack")}
