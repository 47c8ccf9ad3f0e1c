# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""announce: what cloud-init's reporting framework is told of a run, which runs it has not heard of, and who starts it."""

import importlib
import json
import os
import time

import pytest

from cloudinit_osnetd.cloud_init import instance
from cloudinit_osnetd.state import history
from cloudinit_osnetd.system import command, files, paths

from .build import A

announce = importlib.import_module("cloudinit_osnetd.commands.announce")
reconcile = importlib.import_module("cloudinit_osnetd.commands.reconcile")

TOUCH = {"action": "up", "mac": A, "name": "ens4", "reason": "a new NIC"}


def record(**fields):
    return dict({"run": 7, "when": 100.5, "seconds": 0.5, "reasons": ["added"], "touches": [TOUCH], "problems": {}}, **fields)


@pytest.mark.parametrize(
    ("fields", "result", "told"),
    [
        ({}, "SUCCESS", "run 7 (added): ens4: done"),
        ({"problems": {A: "no lease"}}, "FAIL", "run 7 (added): ens4: failed: ens4"),
        ({"touches": [dict(TOUCH, reason="rolled back")]}, "WARN", "run 7 (added): ens4: rolled back: ens4"),
    ],
)
def test_the_start_and_the_finish_of_a_run(fields, result, told):
    start, finish = announce.events_of(record(**fields))
    assert (start["type"], start["time"], start["description"]) == ("start", 100.0, "run 7 (added)")
    assert (finish["type"], finish["time"], finish["result"], finish["description"]) == ("finish", 100.5, result, told)


def test_a_record_that_lacks_everything_is_reported_too():
    _start, finish = announce.events_of({"run": 1})
    assert finish["description"] == "run 1 (unknown): no NIC: done"


def test_runs_are_told_once_and_old_ones_not_at_the_first_time(guest, monkeypatch):
    monkeypatch.setattr(instance, "instance_id", lambda: "i")
    assert announce.untold() == []
    for _number in range(3):
        history.remember({"changes": []})
    old = [dict(one, when=time.time() - 7200) if one["run"] == 1 else one for one in history.read()]
    files.replace(paths.HISTORY, "".join(json.dumps(one) + "\n" for one in old))
    assert [one["run"] for one in announce.untold()] == [2, 3]
    files.replace(paths.REPORTED, json.dumps({"instance": "i", "run": 2}))
    assert [one["run"] for one in announce.untold()] == [3]
    files.replace(paths.REPORTED, json.dumps({"instance": "another", "run": 99}))
    assert [one["run"] for one in announce.untold()] == [2, 3]


@pytest.mark.parametrize(
    ("reports", "changes", "starts"),
    [(True, [1], True), (False, [1], False), (None, [1], False), (True, [], False)],
)
def test_the_unit_is_started_only_if_a_run_changed_something_and_somebody_listens(guest, monkeypatch, reports, changes, starts):
    started = []
    monkeypatch.setattr(command, "run", lambda argv, timeout: started.append(argv))
    os.makedirs(paths.SYSTEMD)
    if reports is not None:
        files.replace(paths.CONTEXT, json.dumps({"reports": reports}))
    reconcile.announce({"changes": changes, "touches": []})
    assert bool(started) == starts


def test_runs_that_were_reported_do_not_use_up_the_tries_of_the_next_one(guest, monkeypatch):
    """systemd counts each start towards StartLimitBurst= (systemd.unit(5)); reset-failed sets that to zero."""
    ran = []

    def run(argv, timeout):
        ran.append(argv[1])
        if argv[1] == "reset-failed":
            raise command.CommandError("not loaded")

    monkeypatch.setattr(command, "run", run)
    os.makedirs(paths.SYSTEMD)
    files.replace(paths.CONTEXT, json.dumps({"reports": True}))
    reconcile.announce({"changes": [1], "touches": []})
    assert ran == ["reset-failed", "start"]


def test_a_unit_that_cannot_be_started_costs_nothing(guest, monkeypatch):
    def fails(_argv, timeout):
        raise command.CommandError("no such unit")

    monkeypatch.setattr(command, "run", fails)
    os.makedirs(paths.SYSTEMD)
    files.replace(paths.CONTEXT, json.dumps({"reports": True}))
    reconcile.announce({"changes": [1], "touches": []})
