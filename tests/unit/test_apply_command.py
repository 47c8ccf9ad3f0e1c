# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""apply: what is taken, what is refused, and the exit statuses. On real guests: tests/scenarios/test_push.py."""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from cloudinit_osnetd import cli
from cloudinit_osnetd.commands import apply
from cloudinit_osnetd.commands import document as handed_over
from cloudinit_osnetd.core import truth
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.system import files, paths
from cloudinit_osnetd.system.command import CommandError

from .build import A, B, data, document, link, nic, snapshot, static

GOOD = document([link()], [static()])


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A, 2)))


def b64(value):
    return base64.b64encode(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("said", "looked"),
    [
        (["Job=\n\nJob=\n"], 1),
        (["\n"], 1),
        (["Job=71\n\nJob=\n\nJob=\n", "Job=\n\nJob=80\n", "Job=0\n"], 3),
        (["Job=71\n"] * 9, 4),  # and not for ever
        ([CommandError("no systemd")], 1),
    ],
)
def test_it_waits_for_what_a_boot_is_about_to_start(said, looked, guest, monkeypatch):
    clock, asked = [0.0], []

    def run(argv, timeout):
        asked.append(argv)
        if isinstance(said[len(asked) - 1], Exception):
            raise said[len(asked) - 1]
        return said[len(asked) - 1]

    monkeypatch.setattr(apply, "run_command", run)
    monkeypatch.setattr(apply.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(apply.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + 1.0))
    apply._await_network_service(4.0)
    assert len(asked) == looked and "systemd-networkd.service" in asked[0]


def test_after_the_boot_systemd_is_not_asked(guest, monkeypatch):
    files.replace(paths.CLOUD_DONE, "{}")
    monkeypatch.setattr(apply, "run_command", lambda *_args, **_options: pytest.fail("asked"))
    apply._await_network_service(1e9)


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(GOOD).encode(),
        b"\n  " + json.dumps(GOOD, indent=4).encode() + b"\n",
        b64(GOOD),
        b64(GOOD) + b"\n",
        base64.encodebytes(json.dumps(GOOD).encode()),  # in lines of 76 characters
    ],
    ids=["json", "indented", "base64", "base64 with a newline", "base64 in lines"],
)
def test_json_and_base64_are_told_apart(raw):
    assert set(handed_over.parsed(raw).entries) == {A + "/phy"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"hello, guest!", "neither JSON nor base64"),
        (b64(GOOD)[:-3], "neither JSON nor base64"),
        (base64.b64encode(b"not json"), "not JSON"),
        (b'{"links": [', "not JSON"),
        (b"[1, 2]", "not an object"),
        (b64({}), "links"),
        (b64({"links": []}), "links"),
        (b"x" * (2 << 20), "larger than"),
        (b64(dict(GOOD, pad="x" * (1 << 20))), "larger than"),
        (b64(document([link(mtu="large")], [static()])), "links[0].mtu"),
        (b64(document([link()], [static("10.0.0.999")])), "networks[0].ip_address"),
        (b64(document([link(), link(B, "tap2", mtu=-1)], [static()])), "links[1].mtu"),
        (b64(document([link()], [static(), static(link="nobody", id="n2")])), "nobody"),
        ("{\"links\": [{\"id\": \"п\"}]}".encode("utf-16"), "neither JSON nor base64"),
    ],
)
def test_what_is_refused_names_the_field(raw, said):
    with pytest.raises(handed_over.Refused) as refused:
        handed_over.parsed(raw)
    assert said in str(refused.value)


def test_every_error_is_reported_at_once():
    wrong = document([link(mtu="large"), link(B, "tap2", mtu=-1)], [static("10.0.0.999"), static(link="tap2", id="n2")])
    with pytest.raises(handed_over.Refused) as refused:
        handed_over.parsed(b64(wrong))
    assert len(refused.value.problems) >= 2


def given(file=None, stdin=False):
    return SimpleNamespace(file=file, stdin=stdin, document=None, json=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "--file '': No such file"),
        ("nowhere", "nowhere: No such file"),
        (".", ".: Is a directory"),
        ("file/below", "file/below: Not a directory"),
        ("loop", "loop: Too many levels"),
        ("a\x1b[31m\nb", "a\\x1b[31m\\nb: No such file"),
        ("n\udcff", "n\\udcff: No such file"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("{}")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(handed_over.Refused) as refused:
        handed_over.read(given(name))
    assert said in str(refused.value) and str(refused.value).isprintable()


def test_a_pipe_and_a_socket_are_read_to_their_end(tmp_path, monkeypatch):
    raw, pipe = b64(GOOD), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(raw,))
    writer.start()
    assert handed_over.read(given(str(pipe))) == raw
    writer.join()
    here, there = socket.socketpair()
    with here, there:
        there.sendall(raw)
        there.shutdown(socket.SHUT_WR)
        with os.fdopen(os.dup(here.fileno())) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert handed_over.read(given(stdin=True)) == raw


@pytest.mark.parametrize(("redirected", "said"), [("<&-", "standard input: it is closed"), ("</dev/null", "the document is empty"), ("0>/dev/null", "standard input: ")])
@pytest.mark.parametrize("command", ["apply", "plan"])
def test_a_standard_input_that_gives_nothing_is_refused(command, redirected, said):
    """Closed, empty, or open for writing alone."""
    script = "import os, sys; os.geteuid = lambda: 0; from cloudinit_osnetd import cli; sys.exit(cli.main(sys.argv[1:]))"
    words = ["sh", "-c", 'exec "$@" %s' % redirected, "sh", sys.executable, "-c", script, command, "--stdin"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert (done.returncode, done.stdout) == (3, ""), done
    assert "refused, nothing was changed: " + said in done.stderr, done.stderr


SCRIPT = "import os, sys; os.geteuid = lambda: 0; from cloudinit_osnetd import cli; from cloudinit_osnetd.commands import document; "


@pytest.mark.parametrize("command", [["apply", "--timeout", "0.3"], ["plan"]])
@pytest.mark.parametrize("writer", ["one that is silent", "one that stops", "nobody"])
@pytest.mark.parametrize("source", ["--stdin", "--file"])
def test_a_document_that_does_not_end_is_not_waited_for_forever(command, writer, source, tmp_path):
    """A pipe that is kept open, and a FIFO that nobody has opened: 6, as when another run does not end."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    fd = os.open(pipe, os.O_RDWR)  # opens at once, and keeps it open
    words = [*command, source] + ([pipe] if source == "--file" else [])
    limits = "document._SECONDS = document._LEAST_SECONDS = 0.3; sys.exit(cli.main(sys.argv[1:]))"
    try:
        if writer == "one that stops":
            os.write(fd, b64(GOOD)[:20])
        if writer == "nobody" and source == "--file":
            os.close(fd)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if source == "--stdin" else os.open(os.devnull, os.O_RDONLY)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT + limits, *words],
            stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
        )  # fmt: skip
        os.close(reader)
    finally:
        if not (writer == "nobody" and source == "--file"):
            os.close(fd)
    came = 20 if writer == "one that stops" else 0
    said = "nothing was changed: %s: it does not end: %d bytes came within 0.3 s" % ("standard input" if source == "--stdin" else pipe, came)
    assert (done.returncode, done.stdout) == (6, "") and said in " ".join(done.stderr.split()), done


def test_a_writer_that_is_slow_is_waited_for_though_no_other_run_is(tmp_path):
    writer = "sleep 0.5; printf %s " + b64(GOOD)[:-40].decode() + "; sleep 0.5; printf %s " + b64(GOOD)[-40:].decode()
    pipe = subprocess.Popen(["sh", "-c", writer], stdout=subprocess.PIPE)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", pipe.stdout)
            args = given(stdin=True)
            args.timeout = 0.0
            assert handed_over.read(args) == b64(GOOD)
    finally:
        pipe.stdout.close()
        pipe.wait()


@pytest.mark.parametrize("words", [["apply"], ["apply", "--file", "x", "--stdin"], ["apply", "e30=", "--forget"]])
def test_one_way_to_hand_it_over(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args(words)
    assert ended.value.code == cli.EXIT_USAGE
    capsys.readouterr()


# -- what a push means ------------------------------------------------------------------------------------------


ONE, TWO, THREE = (data(document([link()], [static("10.0.0.%d" % n)])) for n in (1, 2, 3))
KEY = A + "/phy"


def after(*said):
    known = truth.EMPTY
    for number, (source, one) in enumerate(said):
        known = truth.observe(known, source, one, 1000.0 + number)
    return known


def in_force(known):
    kt = known.keys[KEY]
    return kt.in_force, [net.address for net in kt.entry.networks]


@pytest.mark.parametrize(
    ("said", "then"),
    [
        ([("metadata", ONE), ("push", TWO)], ("push", ["10.0.0.2/24"])),
        ([("metadata", ONE), ("push", TWO), ("metadata", ONE)], ("push", ["10.0.0.2/24"])),  # repeats itself
        ([("metadata", ONE), ("push", TWO), ("metadata", THREE)], ("metadata", ["10.0.0.3/24"])),  # a change afterwards
        ([("metadata", ONE), ("push", TWO), ("metadata", THREE), ("push", TWO)], ("push", ["10.0.0.2/24"])),  # again
        ([("push", ONE), ("push", TWO), ("push", ONE)], ("push", ["10.0.0.1/24"])),  # never in doubt
    ],
)
def test_the_latest_word_is_in_force(said, then):
    assert in_force(after(*said)) == then


def test_what_was_pushed_is_forgotten():
    known = truth.forget(after(("metadata", ONE), ("push", TWO)), "push")
    assert in_force(known) == ("metadata", ["10.0.0.1/24"])
    assert truth.forget(after(("push", TWO)), "push").keys == {}


def test_pushed_global_name_servers_serve_every_nic_that_names_none():
    known = after(("metadata", data(document([link(), link(B, "tap2")], [static(), static("10.0.1.5", link="tap2", id="n2")]))))
    pushed = data(document([link()], [static()], [{"type": "dns", "address": "10.9.9.9"}]))
    known = truth.with_global_dns(truth.observe(known, "push", pushed, 1001.0), pushed)
    assert {key: kt.services for key, kt in known.keys.items()} == {KEY: ("10.9.9.9",), B + "/phy": ("10.9.9.9",)}
