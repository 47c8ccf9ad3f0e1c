# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""osnetd-push --socket with a stand-in for the agent (fake_agent.py): the whole program, from its arguments to its exit status.

tests/scenarios/test_host_push.py has a real agent in a virtual machine.
"""

import base64
import json
import os
import socket
import sys
import threading
import time

import pytest

from osnetd_push import cli
from tests.unit.fake_agent import COMMANDS, FakeAgent, Fault

DOCUMENT = b'{"links": [], "networks": [], "services": []}'
BLOCKED = ("guest-exec", "guest-exec-status")


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "network_data.json"
    path.write_bytes(DOCUMENT)
    return str(path)


@pytest.fixture
def agent(tmp_path):
    """agent(**options of FakeAgent) starts one."""
    running = []

    def start(**options):
        running.append(FakeAgent(tmp_path / "agent.sock", **options))
        return running[-1]

    yield start
    for one in running:
        one.__exit__()


def push(agent, *words):
    return cli.main(["--socket", agent.path, *words])


def refuse(text, kind="GenericError"):
    def answer(_arguments):
        raise Fault(text, kind)

    return answer


# What is sent, and what comes back


def test_the_guests_answer_is_shown_and_its_exit_status_taken(agent, document, capfd):
    guest = agent(code=4, out=b"ens4  rolled back\n", err="cloudinit-osnetd: … unreachable\n".encode())
    assert push(guest, document) == 4
    assert capfd.readouterr() == ("ens4  rolled back\n", "cloudinit-osnetd: … unreachable\n")
    (started,) = guest.started()
    assert (started["path"], started["arg"]) == ("/usr/bin/cloudinit-osnetd", ["apply", "--stdin", "--timeout", "60"])
    assert base64.b64decode(started["input-data"]) == DOCUMENT
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin" in started["env"]
    assert guest.commands() == ["guest-info", "guest-exec"] + ["guest-exec-status"] * 3


def test_a_dry_run_asks_for_the_plan_only(agent, document):
    guest = agent(code=0, out=b"would reconfigure ens4\n")
    assert push(guest, document, "--dry-run", "--json") == 0
    (started,) = guest.started()
    assert started["arg"] == ["plan", "--stdin", "--diff", "--json"]


@pytest.mark.parametrize(('timeout', 'told'), [("300", "60"), ("20", "10"), ("1", "0.5")])
def test_the_guest_gives_up_before_the_host_does(agent, document, timeout, told):
    guest = agent()
    assert push(guest, document, "--timeout", timeout) == 0
    assert guest.started()[0]["arg"] == ["apply", "--stdin", "--timeout", told]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--confirm-within", "120", "FILE"], ["apply", "--stdin", "--confirm-within", "120", "--timeout", "60"]),
        (["--confirm"], ["confirm", "--timeout", "60"]),
        (["--forget", "--json"], ["apply", "--forget", "--timeout", "60", "--json"]),
    ],
)
def test_with_a_time_to_confirm_and_without_a_document(agent, document, words, asked):
    guest = agent(code=9)
    assert push(guest, *[document if word == "FILE" else word for word in words]) == 9
    (started,) = guest.started()
    assert started["arg"] == asked
    assert base64.b64decode(started["input-data"]) == (DOCUMENT if "FILE" in words else b"")


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5, 6])
def test_json_is_a_list_with_the_guests_own_json(agent, document, capsys, code):
    guest = agent(code=code, out=b'{"touches": []}', err=b"a warning\n")
    assert push(guest, document, "--json") == code
    (told,) = json.loads(capsys.readouterr().out)
    assert told["target"] == guest.path
    assert (told["exit"], told["answer"], told["messages"]) == (code, {"touches": []}, ["a warning"])


def test_json_of_a_guest_that_prints_none(agent, document, capsys):
    assert push(agent(code=139, out=b"Segmentation \xff fault\n"), document, "--json") == 139
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["answer"], told["output"]) == (None, "Segmentation � fault\n")


def of_size(size):
    text = b'{"links": [{"id": "%s"}]}'
    return text % (b"x" * (size - len(text) + 2))


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, base64.encodebytes])
@pytest.mark.parametrize(("size", "code"), [(1 << 20, 0), ((1 << 20) + 1, 26)])
def test_a_document_of_a_mebibyte_and_no_larger(agent, tmp_path, capsys, encode, size, code):
    document = encode(of_size(size))
    assert len(of_size(size)) == size
    (tmp_path / "large.json").write_bytes(document)
    guest = agent()
    assert push(guest, str(tmp_path / "large.json")) == code
    assert ("larger than a guest takes (1 MiB)" in capsys.readouterr().err) == bool(code)
    assert [base64.b64decode(one["input-data"]) for one in guest.started()] == ([] if code else [document])


def pipe_with(monkeypatch, content):
    """Standard input is a pipe; its end for the writer."""
    reads, writes = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reads))
    os.write(writes, content)
    return os.fdopen(writes, "wb")


def test_standard_input(agent, monkeypatch):
    pipe_with(monkeypatch, base64.b64encode(DOCUMENT)).close()
    guest = agent()
    assert push(guest, "-") == 0
    assert base64.b64decode(guest.started()[0]["input-data"]) == base64.b64encode(DOCUMENT)  # the guest tells them apart


def test_a_pipe_that_does_not_end_is_waited_for_and_not_for_ever(agent, monkeypatch, tmp_path, capsys):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    guest = agent()
    for path in ("-", fifo):
        with pipe_with(monkeypatch, DOCUMENT), open(fifo, "r+b", buffering=0) as other:
            other.write(DOCUMENT)
            assert push(guest, path, "--timeout", "0.2") == 26
        assert "it does not end: %d bytes came within 0.2 s" % len(DOCUMENT) in capsys.readouterr().err
    assert guest.seen == []


def test_what_never_ends_is_read_up_to_the_limit(agent, capsys):
    guest = agent()
    assert push(guest, "/dev/zero") == 26
    assert "larger than a guest takes" in capsys.readouterr().err and guest.seen == []


@pytest.mark.parametrize("content", [None, b"", b" \n", b"x" * (3 << 19) + b"x"])
def test_no_document_and_nothing_is_asked(agent, tmp_path, capsys, content):
    path = tmp_path / "absent.json"
    if content is not None:
        path.write_bytes(content)
    guest = agent()
    assert push(guest, str(path)) == 26
    assert str(path) in capsys.readouterr().err
    assert guest.seen == []


def test_output_that_the_agent_cut_off_is_reported(agent, document, capsys):
    assert push(agent(out=b'{"touches": [', truncated=True), document) == 0
    assert "the guest agent cut off the rest of the output" in capsys.readouterr().err


def test_a_program_that_a_signal_ended(agent, document):
    killed = {"guest-exec-status": lambda _arguments: {"exited": True, "signal": 9}}
    assert push(agent(on=killed), document) == 137


# No agent, or no way to it


def test_no_such_socket(tmp_path, document, capsys):
    assert cli.main(["--socket", str(tmp_path / "none" / "agent.sock"), document]) == 20
    assert "agent.sock: No such file or directory" in capsys.readouterr().err


def test_a_socket_of_a_guest_that_has_ended(tmp_path, document, capsys):
    with FakeAgent(tmp_path / "agent.sock") as gone:
        pass
    assert push(gone, document) == 20
    assert "the guest's QEMU has ended" in capsys.readouterr().err


def test_a_file_that_is_no_socket(tmp_path, document):
    assert cli.main(["--socket", document, document]) == 20


def test_a_path_longer_than_a_sockets_address(tmp_path, document):
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    with FakeAgent(folder / "agent.sock", out=b"done\n") as guest:
        assert push(guest, document) == 0


def test_a_guest_in_which_no_agent_runs(agent, document, capsys):
    guest = agent(deaf=1000)
    began = time.monotonic()
    assert push(guest, document, "--timeout", "1") == 21
    assert time.monotonic() - began < 5
    assert "qemu-guest-agent installed and running" in capsys.readouterr().err
    assert guest.commands() == []


def test_an_agent_that_is_started_while_we_wait(agent, document):
    guest = agent(deaf=1)
    assert push(guest, document) == 0
    assert [name for name, _arguments in guest.seen[:3]] == ["guest-sync-delimited", "guest-sync-delimited", "guest-info"]


def test_another_client_holds_the_socket(agent, document, capsys):
    """QEMU does not accept a second one until the first is gone."""
    assert push(agent(takes=False), document, "--timeout", "1") == 22
    assert "another client holds the agent's socket" in capsys.readouterr().err


def test_it_is_served_when_the_other_client_is_done(agent, document):
    guest = agent()
    other = socket.socket(socket.AF_UNIX)
    other.connect(guest.path)
    threading.Timer(1.0, other.close).start()
    assert push(guest, document, "--timeout", "20") == 0


# An agent that may not


def test_guest_exec_is_blocked(agent, document, capsys):
    guest = agent(blocked=BLOCKED, system="AlmaLinux 9.4 (Seafoam Ocelot)")
    assert push(guest, document) == 23
    told = capsys.readouterr().err
    for word in ("AlmaLinux 9.4", "guest-exec and guest-exec-status is blocked", "/etc/sysconfig/qemu-ga", "FILTER_RPC_ARGS"):
        assert word in told
    assert guest.started() == []


def test_only_guest_exec_status_is_blocked_and_nothing_is_started(agent, document):
    guest = agent(blocked=("guest-exec-status",))
    assert push(guest, document) == 23
    assert guest.started() == []


@pytest.mark.parametrize("also", [(), ("guest-get-osinfo",), ("guest-get-osinfo", "guest-fsfreeze-status")])
def test_guest_info_is_blocked_as_well(agent, document, also):
    assert push(agent(blocked=("guest-exec", "guest-info", *also)), document) == 23


@pytest.mark.parametrize(
    ('text', 'kind'),
    [
        ("The command guest-exec has been disabled for this instance", "CommandNotFound"),  # QEMU 2.x to 5.1
        ("Command guest-exec has been disabled: the command is not allowed", "CommandNotFound"),  # later
        ("The command guest-exec has been disabled for this instance", "GenericError"),  # 6.0 and 6.1
    ],
)
def test_blocked_in_the_words_of_any_version(agent, document, text, kind):
    guest = agent(on={"guest-exec": refuse(text, kind), "guest-info": refuse("disabled", kind)})
    assert push(guest, document) == 23


def test_an_agent_older_than_guest_exec(agent, document, capsys):
    guest = agent(known=tuple(name for name in COMMANDS if "exec" not in name), version="2.1.2")
    assert push(guest, document) == 23
    assert "version 2.1.2" in capsys.readouterr().err


def test_frozen_file_systems_are_no_block_list(agent, document, capsys):
    frozen = {"guest-fsfreeze-status": lambda _arguments: "frozen"}
    assert push(agent(blocked=("guest-exec", "guest-exec-status"), on=frozen), document) == 22
    told = capsys.readouterr().err
    assert "a backup is at work" in told
    assert "/etc/sysconfig" not in told


@pytest.mark.parametrize(
    "text",
    [
        'Guest agent command failed, error was "Failed to execute child process “/usr/bin/cloudinit-osnetd” (No such file or directory)"',
        'Guest agent command failed, error was "Failed to execute child process "/usr/bin/cloudinit-osnetd" (Permission denied)"',
    ],
)
def test_the_package_is_not_installed_or_selinux_forbids_it(agent, document, capsys, text):
    assert push(agent(on={"guest-exec": refuse(text)}), document) == 24
    told = capsys.readouterr().err
    assert text in told
    assert "docs/guest-agent.md" in told


# Slow, dying, garbage


def test_a_slow_agent(agent, document):
    assert push(agent(late=0.3, out=b"done\n"), document) == 0


def test_an_end_that_is_not_seen(agent, document, capsys):
    began = time.monotonic()
    assert push(agent(polls=10**6), document, "--timeout", "1") == 25
    assert time.monotonic() - began < 5
    told = capsys.readouterr().err
    assert "pid 4711" in told
    assert "goes on there" in told


def test_an_agent_that_falls_silent_after_the_start(agent, document, capsys):
    silent = {"guest-exec-status": lambda _arguments: b""}
    assert push(agent(on=silent), document, "--timeout", "1") == 25
    assert "the agent stopped answering" in capsys.readouterr().err


def test_an_agent_that_falls_silent_at_the_start(agent, document, capsys):
    assert push(agent(on={"guest-exec": lambda _arguments: b""}), document, "--timeout", "1") == 25
    assert "whether anything was started is not known" in capsys.readouterr().err


@pytest.mark.parametrize(('command', 'code'), [("guest-info", 20), ("guest-exec", 25), ("guest-exec-status", 25)])
def test_the_guest_dies(agent, document, command, code):
    """Before anything was sent, nothing was done; from then on nobody knows."""
    guest = agent()
    guest.on = {command: guest.hang_up}
    assert push(guest, document) == code


def test_the_guest_dies_in_the_middle_of_an_answer(agent, document):
    guest = agent()

    def half(_arguments):
        guest._client.sendall(b'{"return": {"exited": true, "exitc')
        guest.hang_up()

    guest.on = {"guest-exec-status": half}
    assert push(guest, document) == 25


def test_the_agent_was_restarted(agent, document, capsys):
    lost = refuse("Invalid parameter 'pid'")
    assert push(agent(on={"guest-exec-status": lost}), document) == 25
    assert "was the agent restarted?" in capsys.readouterr().err


LEFT = [
    b'{"return": {"exited": true, "exitcode": 99}}\n',  # the answer to somebody who gave up
    b'ed": true, "exitcode": 99}}\n',  # the rest of one
    b"\xff\xfe\x00garbage\n[1, 2]\nnull\n\n{}\n",
    b'{"return": 12345}\n',  # the answer to another synchronisation
    b"no end of line",
]


@pytest.mark.parametrize("left", LEFT)
def test_what_an_earlier_client_did_not_read_is_not_ours(agent, document, left):
    assert push(agent(before=left, out=b"done\n"), document) == 0


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"exited": True, "exitcode": "x"}, {"exited": True, "signal": None}])
def test_an_answer_that_nobody_understands(agent, document, capsys, answer):
    assert push(agent(on={"guest-exec-status": lambda _arguments: answer}), document) == 25
    assert "not understood" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["x", 7, "%%%%", ["eA=="]])
def test_output_that_is_no_base64(agent, document, capsys, data):
    ended = {"exited": True, "exitcode": 0, "out-data": data}
    assert push(agent(on={"guest-exec-status": lambda _arguments: ended}), document) == 25
    assert "not understood" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [None, {}, {"pid": "x"}, []])
def test_a_start_without_a_pid(agent, document, answer):
    assert push(agent(on={"guest-exec": lambda _arguments: answer}), document) == 25


@pytest.mark.parametrize("answer", [None, {}, {"supported_commands": None}, {"supported_commands": [{}]}, {"supported_commands": 3}])
def test_an_odd_guest_info_prevents_nothing(agent, document, answer):
    assert push(agent(on={"guest-info": lambda _arguments: answer}), document) == 0


DEEP = b"[" * 100000


def test_an_answer_that_is_nested_too_deep_is_garbage(agent, document):
    answer = DEEP + b"\n" + json.dumps({"return": {}}).encode() + b"\n"
    assert push(agent(on={"guest-info": lambda _arguments: answer}), document) == 0


def test_output_that_is_nested_too_deep_is_no_json(agent, document, capsys):
    assert push(agent(out=DEEP), document, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["answer"] is None and found["output"] == DEEP.decode()


@pytest.mark.parametrize("refused", [True, False])
def test_a_guest_cannot_control_the_terminal(agent, document, capfd, refused):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b2J ä\n"
    options = {"on": {"guest-exec": refuse("Failed " + evil)}} if refused else {"out": evil.encode(), "err": evil.encode()}
    push(agent(**options), document)
    told = "".join(capfd.readouterr())
    assert all(char.isprintable() or char in "\n\t" for char in told) and "ä" in told and "owned" in told


def test_garbage_without_end_is_not_read_for_ever(agent, document, monkeypatch):
    monkeypatch.setattr("osnetd_push.socket_channel._MOST", 1 << 20)
    flood = {"guest-exec-status": lambda _arguments: b"x" * (3 << 20)}
    assert push(agent(on=flood), document, "--timeout", "20") == 25


# Arguments


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["file"],
        ["--socket", "s"],
        ["--socket", "s", "--all", "file"],
        ["--socket", "s", "--timeout", "0", "file"],
        ["--socket", "s", "--timeout", "nan", "file"],
        ["--socket", "s", "--jobs", "x", "file"],
        ["--socket", "s", "--confirm", "file"],
        ["--socket", "s", "--confirm", "--forget"],
        ["--socket", "s", "--confirm", "--dry-run"],
        ["--socket", "s", "--forget", "--confirm-within", "9"],
        ["--socket", "s", "--dry-run", "--confirm-within", "9", "file"],
        ["--all", "--confirm"],
        ["--socket", "s", "--confirm-within", "100000", "file"],
        ["--socket", "s", "--confirm-within", "0.01", "file"],
    ],
)
def test_usage(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "osnetd-push: error:" in capsys.readouterr().err
