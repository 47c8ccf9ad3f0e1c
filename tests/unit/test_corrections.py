# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""osnetd: {drift: correct}: what was ours and was changed is written again, once an hour; nothing else is."""

import pytest

from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.core import plan
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.records import Owned
from cloudinit_osnetd.run import corrections
from cloudinit_osnetd.run.corrections import PAUSE_SECONDS, Corrections
from cloudinit_osnetd.system import files, paths

from .build import A, B, entry, static

KEY, OTHER = A + "/phy", B + "/phy"
PLACE = ("/etc/x", "")
ROW = Owned(KEY, A, "ens3", "networkd", "/etc/x", "", "as written", "d")
CORRECT = context.Settings(drift="correct")


def made(ledger, disk, correct, force=False):
    want = Want((Item(KEY, entry(static()), "ens3", ()),), "digest")
    staged = [plan.Staged(KEY, A, "ens3", "/etc/x", "", "text", "as wanted", want.digest)]
    return plan.make([want], staged, disk, ledger, None, "networkd", plan.Options(force=force, correct=frozenset(correct)))


@pytest.mark.parametrize(
    ("ledger", "there", "correct", "reasons"),
    [
        ([ROW], "edited", [], []),
        ([ROW], "edited", [KEY], ["changed externally, and corrected"]),
        ([ROW], "edited", [OTHER], []),
        ([ROW], None, [KEY], ["removed externally, and corrected"]),
        ([ROW], "as written", [KEY], ["its entry changed"]),
        ([], "somebody else's", [KEY], []),  # it was never ours
    ],
)
def test_only_what_was_ours_and_drifted_is_corrected(ledger, there, correct, reasons):
    found = made(ledger, {PLACE: there} if there else {}, correct)
    assert [change.reason for change in found.changes] == reasons
    assert bool(found.drifted) != bool(reasons)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def change(reason, key=KEY):
    return plan.Change("write", key, A, "ens3", "/etc/x", "", "text", ROW, reason)


def test_what_is_changed_again_within_an_hour_is_left_alone(guest):
    clock = Clock()
    ledger = [ROW, ROW._replace(key=OTHER)]
    run = Corrections(clock)
    assert run.keys(CORRECT, ledger) == {KEY, OTHER}
    assert run.keys(context.Settings(), ledger) == frozenset()
    run.note([change("its entry changed", OTHER)])
    run.note([change("changed externally, and corrected")])
    assert run.keys(CORRECT, ledger) == {OTHER}
    clock.now += PAUSE_SECONDS - 1
    assert Corrections(clock).keys(CORRECT, ledger) == {OTHER}, "another run"
    assert "changed again" in corrections.text_of(KEY, CORRECT, clock.now)
    clock.now += 1
    assert Corrections(clock).keys(CORRECT, ledger) == {KEY, OTHER}
    assert corrections.text_of(KEY, CORRECT, clock.now) == "it is corrected by the next run"
    assert corrections.text_of(KEY, context.Settings(), clock.now) == ""


def test_a_run_does_not_correct_twice_though_run_is_full(guest, monkeypatch):
    def full(*_args, **_fields):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    run = Corrections(Clock())
    run.note([change("removed externally, and corrected")])
    assert run.keys(CORRECT, [ROW]) == frozenset()


@pytest.mark.parametrize("text", ["", "[]", "7", '{"x": "y"}', "{"])
def test_a_note_that_cannot_be_read_is_none(guest, text):
    files.replace(paths.CORRECTED, text)
    assert Corrections(Clock()).keys(CORRECT, [ROW]) == {KEY}


@pytest.mark.parametrize(("value", "drift"), [("correct", "correct"), ("report", "report"), (True, "report"), ("x", "report")])
def test_the_setting(value, drift):
    assert context.parse_settings({"drift": value}).drift == drift
