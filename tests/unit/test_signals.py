# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Real signals to a real process."""

import signal
import subprocess
import sys
import textwrap

import pytest

HEAD = """
import os, signal, sys
sys.path[:0] = %r
from cloudinit_osnetd.system import signals
%s
signals.listen()
def tell(): os.kill(os.getpid(), signal.%s)
"""
# Whoever runs the tests may have been told to ignore a hang-up.
HEEDED = "for number in signals.SIGNALS: signal.signal(number, signal.SIG_DFL)"


def ends(script, number=signal.SIGTERM):
    """The exit status and what was printed."""
    head = HEAD % (sys.path, HEEDED, number.name)
    argv = [sys.executable, "-c", head + textwrap.dedent(script)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, universal_newlines=True, check=False)
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_at_once_and_with_what_was_opened_closed(number):
    script = """
    try:
        tell()
        print("went-on")
    finally:
        print("closed")
    """
    assert ends(script, number) == (128 + number, ["closed"])


def test_what_is_begun_is_finished_first():
    script = """
    with signals.when_done():
        with signals.when_done():
            tell()
            print("inner")
        print("outer")
    print("went-on")
    """
    assert ends(script) == (143, ["inner", "outer"])


def test_also_where_it_fails():
    script = """
    try:
        with signals.when_done():
            tell()
            raise OSError("disk")
    except OSError:
        print("went-on")
    """
    assert ends(script) == (143, [])


def test_nothing_is_stopped_that_was_not_told():
    assert ends("with signals.when_done(): pass\nprint('went-on')") == (0, ["went-on"])


def test_a_signal_that_is_ignored_stays_so():
    argv = ["nohup", sys.executable, "-c", HEAD % (sys.path, "", "SIGHUP") + "tell(); print('went-on')"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stdout) == (0, b"went-on\n")
