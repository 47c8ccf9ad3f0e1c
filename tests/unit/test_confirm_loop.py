# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A push that waits for its confirmation, in the loop of runs: its timer, its end, and `confirm`."""

import json
import os
from types import SimpleNamespace

import pytest

from cloudinit_osnetd.apply import provisional_push
from cloudinit_osnetd.cloud_init import instance
from cloudinit_osnetd.cloud_init.context import Context
from cloudinit_osnetd.cloud_init.eligibility import NotManaged, RunContext
from cloudinit_osnetd.commands.status import screen
from cloudinit_osnetd.core import provisional
from cloudinit_osnetd.run import confirmation, recheck_timer, reconcile, status
from cloudinit_osnetd.run.confirmation import Answer
from cloudinit_osnetd.run.record import Push
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths

from .build import A, data, document, link, static
from .test_run_loop import ID, KEY, server  # noqa: F401 - a fixture

SAME = data(document([link()], [static()]))  # what the NIC has already: nothing is rendered


@pytest.fixture
def pushed(server, monkeypatch):  # noqa: F811 - a fixture
    """The server after `apply --confirm-within 60`, which was begun at 1000."""
    monkeypatch.setattr(confirmation.time, "monotonic", lambda: server.now)
    monkeypatch.setattr(instance, "instance_id", lambda: ID)
    monkeypatch.setattr(confirmation, "run_context", lambda **_options: server.run_context())
    server.before = store.load(ID).truth
    server.pushing = server.run("push", patient=False, push=Push(SAME, 1.0, 60.0))
    return server


def test_its_timer_is_there_and_the_record_tells_its_end(pushed):
    assert pushed.timers[0] == 60.0 and pushed.pushing.next_check == 60.0
    held = provisional.read(store.load(ID).provisional)
    assert (held.run, held.deadline, held.until) == (pushed.pushing.run, 1060.0, pushed.pushing.confirm_by)
    assert "push" in store.load(ID).truth.keys[KEY].statements


def test_after_its_time_nothing_of_it_is_left(pushed):
    pushed.now += 59.0
    pushed.run("timer")
    assert store.load(ID).provisional and pushed.timers[-1] == 1.0
    pushed.now += 1.0
    pushed.run("timer")
    state = store.load(ID)
    assert state.provisional == "" and "not confirmed in time" in state.taken_back
    assert "push" not in state.truth.keys[KEY].statements
    assert state.truth._replace(counter=0) == pushed.before._replace(counter=0)
    assert confirmation.confirm(1.0) == Answer(0, state.taken_back)


def test_in_another_boot_any_run_takes_it_back(pushed, monkeypatch):
    monkeypatch.setattr(provisional_push, "boot_id", lambda: "another")
    assert "reboot" in confirmation.confirm(1.0).too_late
    pushed.run("boot")
    assert "reboot" in store.load(ID).taken_back and store.load(ID).provisional == ""


def test_confirmed_it_stays_and_no_timer_is_left(pushed, monkeypatch):
    stopped = []
    monkeypatch.setattr(recheck_timer, "stop", lambda: stopped.append(True))
    assert confirmation.confirm(1.0) == Answer(pushed.pushing.run)
    assert stopped == [True] and confirmation.confirm(1.0) == Answer(0)
    pushed.now += 100.0
    pushed.run("timer")
    assert "push" in store.load(ID).truth.keys[KEY].statements and store.load(ID).taken_back == ""


def test_confirmed_while_its_run_still_waits_the_record_does_not_ask_for_it(server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(confirmation.time, "monotonic", lambda: server.now)
    monkeypatch.setattr(instance, "instance_id", lambda: ID)
    answers = []
    server.nics = []  # its removal is waited for, with the lock lent
    files.replace(paths.DEVICES, json.dumps({A: str(paths.KERNEL_NICS)}))
    os.makedirs(paths.KERNEL_NICS)
    server.later.append((0.5, lambda: answers.append(confirmation.confirm(1.0))))
    record = server.run("push", patient=False, push=Push(SAME, 1.0, 60.0))
    assert answers == [Answer(record.run)] and record.confirm_by == 0.0
    assert store.load(ID).provisional == ""


@pytest.mark.parametrize("left", ["a change that was not checked", "an intent"])
def test_confirmed_after_its_run_was_killed_the_timer_stays_for_the_run_that_completes_it(pushed, monkeypatch, left):
    stopped = []
    monkeypatch.setattr(recheck_timer, "stop", lambda: stopped.append(True))
    if left == "an intent":
        store.write_intent(store.Intent((), (), ()))
    else:
        store.save(store.load(ID)._replace(on_trial="{}"))
    assert confirmation.confirm(1.0) == Answer(pushed.pushing.run)
    assert stopped == []


def test_after_its_time_it_cannot_be_confirmed_even_if_no_run_has_come(pushed):
    pushed.now += 60.0
    assert confirmation.confirm(1.0).run == 0 and confirmation.confirm(1.0).too_late
    assert store.load(ID).provisional


def test_another_push_without_the_option_confirms_it_and_one_with_it_prolongs_it(pushed):
    pushed.now += 30.0
    pushed.run("push", patient=False, push=Push(SAME, 1.0, 60.0))
    held = provisional.read(store.load(ID).provisional)
    assert held.deadline == 1090.0 and held.truth._replace(counter=0) == pushed.before._replace(counter=0)
    pushed.run("push", patient=False, push=Push(SAME, 1.0))
    assert store.load(ID).provisional == ""


def test_without_a_timer_nothing_is_changed(server, monkeypatch):  # noqa: F811 - a fixture
    monkeypatch.setattr(recheck_timer, "_start", lambda seconds: False)
    before = store.load(ID)
    with pytest.raises(recheck_timer.NoTimer):
        server.run("push", patient=False, push=Push(SAME, 1.0, 60.0))
    assert store.load(ID) == before


def test_where_no_event_is_followed_it_is_taken_back_all_the_same_and_nobody_is_asked(pushed, monkeypatch):
    closed = Context("networkd", "", pushed.settings, {"network": {"when": ["boot-new-instance"]}})
    monkeypatch.setattr(pushed, "run_context", lambda push=False: RunContext(ID, closed, pushed.backend))
    pushed.now += 61.0
    asked = len(pushed.asked)
    pushed.run("timer")
    assert store.load(ID).provisional == "" and len(pushed.asked) == asked


@pytest.fixture
def switched_off(pushed, monkeypatch):
    """After its time, on a server whose network is not managed any more."""
    pushed.refusal = "switched off"
    monkeypatch.setattr(reconcile.instance, "instance_id", lambda: ID)
    pushed.now += 30.0
    with pytest.raises(NotManaged):
        pushed.run("timer")
    assert store.load(ID).provisional and pushed.timers[-1] == 30.0
    pushed.now += 31.0
    with pytest.raises(NotManaged):
        pushed.run("timer")
    return pushed


def test_where_nothing_is_managed_it_stays_and_a_timer_checks_whether_it_is_again(switched_off):
    assert store.load(ID).provisional and switched_off.timers[-1] == 900.0
    switched_off.refusal = None
    assert confirmation.confirm(1.0).too_late
    switched_off.now += 900.0
    switched_off.run("timer")
    assert store.load(ID).provisional == "" and "not confirmed in time" in store.load(ID).taken_back


def test_where_nothing_is_managed_it_is_never_too_late_to_confirm(switched_off, monkeypatch):
    monkeypatch.setattr(recheck_timer, "stop", lambda: None)
    assert confirmation.confirm(1.0) == Answer(switched_off.pushing.run)
    switched_off.refusal = None
    switched_off.run("timer")
    assert "push" in store.load(ID).truth.keys[KEY].statements and store.load(ID).taken_back == ""


@pytest.mark.parametrize("why", ["rebooted", "being taken back"])
def test_where_nothing_is_managed_what_is_over_stays_over(switched_off, monkeypatch, why):
    if why == "rebooted":
        monkeypatch.setattr(provisional_push, "boot_id", lambda: "another")
    else:
        held = provisional.read(store.load(ID).provisional)
        store.save(store.load(ID)._replace(provisional=provisional.write(held._replace(deadline=provisional.TAKING_BACK))))
    assert confirmation.confirm(1.0).too_late and store.load(ID).provisional


def test_without_a_push_that_waits_no_timer_is_left_where_nothing_is_managed(server, monkeypatch):  # noqa: F811
    stopped = []
    monkeypatch.setattr(reconcile.instance, "instance_id", lambda: ID)
    monkeypatch.setattr(recheck_timer, "stop", lambda: stopped.append(True))
    server.refusal = "switched off"
    with pytest.raises(NotManaged):
        server.run("timer")
    assert stopped == [True] and server.timers == []


def test_status_tells_of_it_where_nothing_is_managed(switched_off, monkeypatch):
    monkeypatch.setattr(status, "run_context", lambda **_options: switched_off.run_context())
    monkeypatch.setattr(status.instance, "datasource", lambda: "ConfigDrive")
    report = status.read()
    (trial,) = report["on_trial"]
    assert (trial["run"], trial["until"]) == (switched_off.pushing.run, 0.0)
    lines = "\n".join(screen(report, 2000.0, 80, 0))
    assert "unmanaged   switched off" in lines
    assert "on trial" in lines and "taken back once the network is managed again, unless" in lines
    monkeypatch.setattr(provisional_push, "boot_id", lambda: "another")
    assert "confirm" not in status.read()["on_trial"][0]["ends"]


def test_the_exit_statuses_of_confirm(pushed, capsys):
    from cloudinit_osnetd.commands import confirm as command

    args = SimpleNamespace(json=False, timeout=0.0)
    assert command.main(args) == 0
    assert "the push of run %d stays" % pushed.pushing.run in capsys.readouterr().out
    assert command.main(args) == 8
    store.save(store.load(ID)._replace(taken_back="gone"))
    assert command.main(args) == 9
    assert capsys.readouterr().err.splitlines()[-1] == "cloudinit-osnetd: too late: gone"
