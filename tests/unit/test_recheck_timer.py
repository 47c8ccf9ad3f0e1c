# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""recheck_timer: when a timer checks again what is pending or doubted, and when there is none."""

import os
import time

import pytest

from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.run import recheck_timer
from cloudinit_osnetd.system import paths

from .build import A, B
from .programs import programs

USUAL = context.Settings()


@pytest.mark.parametrize(
    ("ages", "doubted", "settings", "wait"),
    [
        ([], False, USUAL, None),
        ([0], False, USUAL, 15),
        ([40], False, USUAL, 40),
        ([400], False, USUAL, 400),
        ([4000], False, USUAL, 900),
        ([86000], False, USUAL, 400),  # to the limit, and not beyond
        ([86400], False, USUAL, None),
        ([86400, 60], False, USUAL, 60),
        ([4000, 20], False, USUAL, 20),
        ([], True, USUAL, 15),
        ([4000], True, USUAL, 15),
        ([0, 50], False, USUAL._replace(back_off=2.0), 2),
        ([0], False, USUAL._replace(back_off=0.0), 1),  # never at once
        ([0], False, USUAL._replace(look_until=0.0), None),
    ],
)
def test_the_pause_doubles_up_to_the_back_off_until_the_limit(ages, doubted, settings, wait):
    since = {"fa:16:3e:00:00:%02x" % n: 1000.0 - age for n, age in enumerate(ages)}
    assert recheck_timer.seconds_to_next(since, doubted, settings, 1000.0) == wait


@pytest.fixture
def systemd(guest, monkeypatch):
    """systemd-run and systemctl as far as a transient timer needs them; its unit file tells that it is there."""
    os.makedirs(paths.TRANSIENT_UNITS)
    os.makedirs(paths.SYSTEMD)
    return programs(guest, monkeypatch, stand_ins())


def stand_ins(refused="never"):
    """`refused`: the timer of this time cannot be started."""
    start = (
        "case $* in *--on-active=%s*) exit 1 ;; esac\n"
        "for word; do case $word in --unit=*) unit=%s/${word#--unit=}.timer ;; esac; done\n"
        "[ ! -e $unit ] && touch $unit" % (refused, paths.TRANSIENT_UNITS)
    )
    return {"systemd-run": start, "systemctl": "cd %s && shift && rm $*" % paths.TRANSIENT_UNITS}


def timers():
    return sorted(name for name in os.listdir(paths.TRANSIENT_UNITS) if name.endswith(".timer"))


def verbs(systemd):
    return [line.split()[0] for line in systemd.ran()]


def test_a_pending_nic_leaves_one_timer_that_queues_an_event(systemd):
    assert recheck_timer.update([A], False, USUAL) == pytest.approx(15, abs=0.1)
    (line,) = systemd.ran()
    assert "--on-active=15.0s" in line and line.endswith("/queue-event timer")


def test_a_timer_that_is_early_enough_stays_and_no_command_runs(systemd):
    recheck_timer.update([A], False, USUAL)
    recheck_timer.update([A, B], False, USUAL)
    assert verbs(systemd) == ["systemd-run"]
    assert sorted(recheck_timer.read().since) == [A, B]


def test_a_timer_that_is_too_late_is_replaced(systemd):
    recheck_timer.update([A], False, USUAL)
    recheck_timer.update([A], False, USUAL._replace(back_off=2.0))
    assert verbs(systemd) == ["systemd-run", "systemd-run", "systemctl"]
    assert len(timers()) == 1 and recheck_timer.read().due == pytest.approx(time.monotonic() + 2, abs=1)


@pytest.mark.parametrize("killed", ["before it is noted", "before the old one is stopped"])
@pytest.mark.parametrize("replace", [lambda: recheck_timer.update([], False, USUAL, 5.0), lambda: recheck_timer.by(time.monotonic() + 5.0)])
def test_a_run_that_is_killed_while_it_replaces_a_timer_leaves_one(systemd, monkeypatch, killed, replace):
    class Killed(Exception):
        pass

    def kill(*_args):
        raise Killed

    recheck_timer.by(time.monotonic() + 60.0)
    with monkeypatch.context() as during:
        during.setattr(recheck_timer, "_keep" if killed == "before it is noted" else "_stop", kill)
        with pytest.raises(Killed):
            replace()
    assert len(timers()) == 2
    assert recheck_timer.update([], False, USUAL, 5.0)
    assert recheck_timer.update([], False, USUAL, 1.0) == pytest.approx(1, abs=0.5) and len(timers()) == 1
    recheck_timer.stop()
    assert timers() == []


def test_the_timer_of_a_push_stays_while_its_run_goes_on(systemd):
    deadline = time.monotonic() + 60.0
    time.sleep(0.01)
    recheck_timer.by(deadline)
    assert recheck_timer.update([], False, USUAL, deadline - time.monotonic()) == pytest.approx(60, abs=1)
    assert verbs(systemd) == ["systemd-run"]


def test_a_timer_that_comes_before_the_end_of_a_push_stays_and_a_later_one_is_replaced(systemd):
    recheck_timer.update([A], False, USUAL)
    recheck_timer.by(time.monotonic() + 60.0)
    assert verbs(systemd) == ["systemd-run"]
    recheck_timer.by(time.monotonic() + 5.0)
    assert verbs(systemd) == ["systemd-run", "systemd-run", "systemctl"]


def test_a_push_that_gets_no_timer_does_not_cost_an_earlier_one_its_own(guest, monkeypatch):
    os.makedirs(paths.TRANSIENT_UNITS)
    os.makedirs(paths.SYSTEMD)
    systemd = programs(guest, monkeypatch, stand_ins("5.0s"))
    recheck_timer.by(time.monotonic() + 60.0)
    with pytest.raises(recheck_timer.NoTimer):
        recheck_timer.by(time.monotonic() + 5.0)
    assert len(timers()) == 1 and verbs(systemd) == ["systemd-run", "systemd-run"]
    assert recheck_timer.read().due == pytest.approx(time.monotonic() + 60, abs=5)


def test_a_timer_that_somebody_stopped_comes_back(systemd):
    recheck_timer.update([A], False, USUAL)
    os.remove(os.path.join(paths.TRANSIENT_UNITS, timers()[0]))
    recheck_timer.update([A], False, USUAL)
    assert verbs(systemd) == ["systemd-run", "systemd-run"]


def test_nothing_to_wait_for_leaves_no_timer_and_no_note(systemd):
    recheck_timer.update([A], False, USUAL)
    assert recheck_timer.update([], False, USUAL) == 0
    assert verbs(systemd) == ["systemd-run", "systemctl"]
    assert not os.path.exists(paths.WAITING)


def test_nothing_to_wait_for_and_no_timer_runs_no_command(systemd):
    assert recheck_timer.update([], False, USUAL) == 0
    recheck_timer.stop()
    assert systemd.ran() == []
    assert not os.path.exists(paths.WAITING)


def test_who_is_given_up_stays_known_so_that_the_search_does_not_begin_anew(systemd):
    recheck_timer.update([A], False, USUAL._replace(look_until=0.0))
    assert list(recheck_timer.read().since) == [A]
    assert systemd.ran() == []
    assert "only at events" in recheck_timer.text_of(A, USUAL._replace(look_until=0.0))


def test_another_init_has_no_timer(guest, monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert recheck_timer.update([A], False, USUAL) == 0
