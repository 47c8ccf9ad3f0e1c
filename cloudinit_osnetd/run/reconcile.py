# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The loop of a run: pass after pass, until nothing is left that settles soon."""

from typing import IO, Callable, List, Optional, Sequence

from ..cloud_init import instance
from ..cloud_init.context import Settings
from ..cloud_init.eligibility import NotManaged, RunContext, permit
from ..state import event_queue, run_lock, store
from ..system import command
from . import recheck_timer
from .environment import REAL, Environment
from .passes import Passes
from .record import Push, Record, Undo


def run(
    reasons: Sequence[str],
    force: bool = False,
    patient: bool = True,
    note: Callable[[Record], None] = lambda _record: None,
    keep: Callable[[Record], None] = lambda _record: None,
    env: Environment = REAL,
    push: Optional[Push] = None,
    undo: Optional[Undo] = None,
) -> Record:
    """Reconciles until settled. With `patient`, pending NICs are waited for, up to the configured patience.

    A timer's event does one pass only: the patience of an earlier run was used up when the timer was set. `note` is
    called with the record so far before each wait; `keep` stores the final record. The events are removed last, so that
    a run that is interrupted is repeated. Raises NotManaged if the server is not managed,
    run_lock.Busy if another run does not end in time.
    """
    began = env.monotonic()
    reasons = list(reasons)
    command.ran.clear()
    asked = push or undo
    with run_lock.locked(asked.timeout if asked else None) as lock:
        passes = Passes(_permitted_context(reasons, env), force, env, retry=force or "timer" in reasons)
        if push is not None:
            passes.push = push
        passes.undo = undo
        try:
            served = _until_settled(passes, lock, reasons, patient, note, env)
            passes.report_duplicates()
        except SystemExit:  # see signals.py
            passes.stop()
            raise
        # The timer's command is not in the record: it does not change the network.
        record = passes.record(reasons, env.monotonic() - began, 0.0)
        record = record._replace(next_check=passes.set_timer())
        keep(record)
        event_queue.done(served)
    return record


def _until_settled(
    passes: Passes,
    lock: IO[str],
    reasons: List[str],
    patient: bool,
    note: Callable[[Record], None],
    env: Environment,
) -> List[str]:
    """Does passes until there is nothing left to wait for. Returns the names of the events that are served.

    The reasons of events that arrive meanwhile are added to `reasons`.
    """
    began = env.monotonic()
    while True:
        served = event_queue.taken()  # by whichever run; an event that arrives during the pass is not served by it
        soon, others = passes.next()
        left = passes.on.context.settings.patience - (env.monotonic() - began)
        if set(reasons) == {"timer"} or not patient:
            left = 0.0
        due = [seconds for seconds in (soon, min(others, left)) if seconds > 0]
        if not due:
            return served
        note(passes.record(reasons, env.monotonic() - began, min(due)))
        with run_lock.lent(lock):
            _sleep(min(due), env, passes.removed.device_gone)
        passes.reload()
        reasons += [event.reason for event in event_queue.take() if event.reason not in reasons]


def _permitted_context(reasons: Sequence[str], env: Environment) -> RunContext:
    try:
        on = env.run_context(push=not {"push", "rollback"}.isdisjoint(reasons))
        return _permitted(on, reasons)
    except NotManaged:
        _leave_alone(env)
        raise


def _leave_alone(env: Environment) -> None:
    """Removes the timer. A push that waits for its confirmation keeps one: it is taken back once this is managed again.

    Its own expires at the deadline, and later ones check whether that is so, at the longest interval.
    """
    instance_id = instance.instance_id()
    state = store.load(instance_id) if instance_id else None
    if state is None or not state.provisional:
        recheck_timer.stop()
        return
    from ..apply import provisional_push

    settings = Settings()
    left = provisional_push.seconds_left(state, env.monotonic()) or 0.0
    recheck_timer.update((), False, settings, left if left > 0 else settings.back_off)


def _permitted(on: RunContext, reasons: Sequence[str]) -> RunContext:
    """Returns the context; while a push is not confirmed yet, other events do no more than take it back in time."""
    try:
        permit(on, reasons)
    except NotManaged:
        if not store.load(on.instance_id).provisional:
            raise
        return on._replace(asks_openstack=False)
    return on


def _sleep(seconds: float, env: Environment, is_over: Callable[[], bool]) -> None:
    """Sleeps, and returns early if an event arrives, or if there is nothing to wait for any more."""
    deadline = env.monotonic() + seconds
    while env.monotonic() < deadline and not event_queue.waiting() and not is_over():
        env.sleep(min(0.1, max(0.0, deadline - env.monotonic())))
