# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""event_queue: names of events; they are taken at once and kept until a run has ended."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.state import event_queue
from cloudinit_osnetd.state.event_queue import Event
from cloudinit_osnetd.system import paths


def put(*names):
    os.makedirs(paths.QUEUE, exist_ok=True)
    for name in names:
        open(os.path.join(paths.QUEUE, name), "w").close()


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("0000001234.56.added.ens4", Event(1234.56, "added", "ens4")),
        ("0000001234.06.added.eth0.100", Event(1234.06, "added", "eth0.100")),
        ("0000000000.00.boot", Event(0.0, "boot", "")),
        ("0000000012.30.push", Event(12.3, "push", "")),
        ("0000000012.30", Event(12.3, "unknown", "")),
        ("added.ens4", Event(0.0, "unknown", "")),
        ("x", Event(0.0, "unknown", "")),
        ("", Event(0.0, "unknown", "")),
    ],
)
def test_a_name_says_when_what_and_which(name, event):
    assert event_queue.parse(name) == event


@given(st.text(max_size=40))
def test_any_name_is_an_event(name):
    event = event_queue.parse(name)
    assert event.when == event.when, "not a number cannot be put in order"


def test_all_is_taken_at_once_oldest_first(guest):
    put("0000000020.00.added.ens4", "0000000003.00.boot", "0000000100.00.removed.ens3")
    assert [event.reason for event in event_queue.take()] == ["boot", "added", "removed"]
    assert not event_queue.waiting()
    assert os.listdir(paths.QUEUE) == []


def test_what_a_run_that_died_had_taken_is_taken_again(guest):
    put("0000000003.00.boot")
    event_queue.take()
    put("0000000020.00.added.ens4")
    assert [event.reason for event in event_queue.take()] == ["boot", "added"]


def test_what_a_run_has_looked_after_is_forgotten_and_what_came_since_is_not(guest):
    put("0000000003.00.boot")
    event_queue.take()
    put("0000000020.00.added.ens4")
    event_queue.done(event_queue.taken())
    assert event_queue.waiting()
    assert [event.reason for event in event_queue.take()] == ["added"]


def test_a_file_that_is_still_being_made_is_not_taken(guest):
    put(".0000000003.00.boot")
    assert not event_queue.waiting()
    assert event_queue.take() == []
    assert os.listdir(paths.QUEUE) == [".0000000003.00.boot"]


def test_what_was_taken_during_a_look_is_not_forgotten_with_what_it_served(guest):
    put("0000000003.00.boot")
    event_queue.take()
    served = event_queue.taken()
    put("0000000020.00.added.ens4")
    event_queue.take()
    event_queue.done(served)
    assert [event.reason for event in event_queue.take()] == ["added"]


def test_how_long_ago_the_last_taken_event_of_a_nic_was(guest, monkeypatch):
    monkeypatch.setattr(event_queue.files, "read", lambda path: {"/proc/uptime": "25.50 40.00\n"}[path])
    assert event_queue.ago("removed", {"ens4"}) == 0.0
    put("0000000020.00.removed.ens4", "0000000024.50.removed.ens4", "0000000025.00.removed.ens5", "0000000025.40.added.ens4")
    event_queue.take()
    assert event_queue.ago("removed", {"ens4", "ens4.7"}) == 1.0
    assert event_queue.ago("removed", {"ens6"}) == 0.0
    put("0000000030.00.removed.ens6")  # of a clock that was set back, as a resumed guest's may be
    event_queue.take()
    assert event_queue.ago("removed", {"ens6"}) == 0.0


def test_no_queue_is_an_empty_queue(guest):
    event_queue.done(event_queue.taken())
    assert not event_queue.waiting()
    assert event_queue.take() == []
