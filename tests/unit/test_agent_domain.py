# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a confined guest agent may have: agent_domain, and host-command. The kernel's part is in tests/scenarios/test_selinux.py."""

import os
import subprocess
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = "/usr/bin/cloudinit-osnetd"
# Says what it was started with, and what came on standard input.
TELLS = '#!/bin/sh\nprintf "<%s>" "$@"\ncat\n'
AGENTS, PROGRAMS = "system_u:system_r:osnetd_agent_t:s0", "system_u:system_r:osnetd_t:s0"


def run(words, env=None):
    done = subprocess.run(words, input=b"in", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def program(place, name, text):
    path = place / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def host_command(tmp_path):
    """The script, with the program that it starts replaced by one that tells."""
    tells = program(tmp_path, "program", TELLS)
    with open(os.path.join(TOP, "bin/host-command"), encoding="utf-8") as fh:
        text = fh.read()
    assert text.count("exec " + PROGRAM) == 1
    return program(tmp_path, "host-command", text.replace(PROGRAM, tells))


@pytest.mark.parametrize(
    "words",
    [
        ["apply", "--stdin", "--timeout", "60.0", "--json"],
        ["apply", "--forget"],
        ["apply", "--", "eyJsaW5rcyI6IFtdfQ=="],
        ["apply", '{"links": [], "networks": []}'],
        ["confirm", "--json"],
        ["plan", "--stdin", "--diff"],
        ["status", "--json"],
        ["--version"],
    ],
)
def test_what_a_host_may_have_is_started_as_it_was_asked_for(host_command, words):
    assert run([host_command, *words]) == (0, "".join("<%s>" % word for word in words) + "in", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["reconcile"], "reconcile"),
        (["reconcile", "--queue"], "reconcile"),
        (["rollback"], "rollback"),
        (["boot"], "boot"),
        (["datasource", "release"], "datasource"),
        (["announce"], "announce"),
        (["doctor", "--bundle", "/etc/cron.d/left"], "doctor"),
        (["history"], "history"),
        (["show"], "show"),
        (["--verbose", "reconcile"], "--verbose"),
        ([], "no command"),
        (["app"], "app"),
        (["apply", "--file", "/dev/vda"], "--file"),
        (["plan", "--file=/etc/shadow"], "--file=/etc/shadow"),
        (["plan", "--diff", "--fi", "/etc/shadow"], "--fi"),
    ],
)
def test_anything_else_is_refused_by_name(host_command, words, named):
    code, out, err = run([host_command, *words])
    assert (code, out) == (77, "")
    assert err.startswith("cloudinit-osnetd: %s: not permitted (SELinux)" % named)


@pytest.mark.parametrize("command", ["apply", "plan"])
def test_no_other_way_to_name_a_file_is_left(command):
    """argparse takes the beginning of an option for the whole, if it is one option's alone."""
    done = run([sys.executable, "-m", "cloudinit_osnetd", command, "--f", "/etc/shadow"], dict(os.environ, PYTHONPATH=TOP))
    assert done[0] == 2 and "ambiguous option: --f could match" in done[2]


# Not by a monkeypatch: it becomes another program.
_START = """
import sys
from cloudinit_osnetd.system import agent_domain, paths
paths.OWN_CONTEXT, paths.HOST_COMMAND, *sys.argv[1:] = sys.argv[1:]
agent_domain.leave()
print("here")
"""


def start(context, host_command, *words, **environment):
    env = dict(os.environ, PYTHONPATH=TOP, **environment)
    return run([sys.executable, "-c", _START, str(context), host_command, *words], env)


@pytest.fixture
def context(tmp_path):
    return tmp_path / "context"


def test_what_a_confined_guest_agent_starts_becomes_host_command(context, tmp_path):
    context.write_text(AGENTS + "\0")
    tells = program(tmp_path, "tells", TELLS)
    assert start(context, tells, "apply", "--stdin", "a b") == (0, "<apply><--stdin><a b>in", "")


@pytest.mark.parametrize("text", [PROGRAMS + "\0", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0", "unconfined\n", ""])
def test_anybody_else_stays(context, text):
    """In our own domain, in an administrator's, with AppArmor, and where nothing is told."""
    context.write_text(text)
    assert start(context, "/nonexistent", "reconcile") == (0, "here\n", "")


def test_without_selinux_it_stays(context):
    assert start(context, "/nonexistent", "reconcile") == (0, "here\n", "")
    os.mkdir(str(context))  # cannot be read
    assert start(context, "/nonexistent", "reconcile") == (0, "here\n", "")


def test_that_it_cannot_be_started_is_said(context, tmp_path):
    context.write_text(AGENTS)
    code, out, err = start(context, str(tmp_path / "gone"), "apply")
    assert (code, out) == (77, "")
    assert "gone: No such file or directory (SELinux: has it lost its label? restorecon -v" in err


def test_a_host_command_that_leads_back_here_is_told_and_not_started_again(context, tmp_path):
    """Without its label, where SELinux is permissive: the two would start each other without end."""
    context.write_text(AGENTS)
    code, out, err = start(context, program(tmp_path, "tells", TELLS), "apply", OSNETD_HOST_COMMAND="1")
    assert (code, out) == (77, "")
    assert "tells: it does not lead to another domain (SELinux" in err
