# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Confirms a push that would be taken back otherwise."""

import logging
import os
import time
from typing import NamedTuple

from ..apply import provisional_push
from ..cloud_init import instance
from ..cloud_init.eligibility import NotManaged, run_context
from ..core import provisional, rejections
from ..state import run_lock, store
from ..system import paths
from . import recheck_timer

LOG = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The run whose push is confirmed now; or 0, and why not (empty: nothing is to be confirmed)."""

    run: int
    too_late: str = ""


def confirm(timeout: float) -> Answer:
    """Confirms the push, in one write. Raises run_lock.Busy if a run does not end within `timeout` seconds."""
    instance_id = instance.instance_id()
    if not instance_id:
        return Answer(0)
    with run_lock.locked(timeout):
        state = store.load(instance_id)
        if not state.provisional:
            return Answer(0, state.taken_back)
        held = provisional.read(state.provisional)
        if held is None or (provisional_push.is_due(state, time.monotonic()) and not _is_left_alone(state)):
            why = provisional_push.reason(state)
            return Answer(0, "the push of run %d is being taken back: %s" % (held.run if held else 0, why))
        store.save(state._replace(provisional=""))
        LOG.info("confirmed: run=%d", held.run)
        # The timer stays for what else is waited for, and for what a run that was killed has left: nothing else starts
        # the run that completes it.
        left = bool(state.on_trial) or os.path.exists(paths.INTENT)
        doubted = any(one.doubted for one in state.truth.keys.values())
        retry = rejections.seconds_to_retry(state.truth, state.rejections, time.time())
        if not (recheck_timer.read().since or doubted or left) and retry is None:
            recheck_timer.stop()
    return Answer(held.run)


def _is_left_alone(state: store.State) -> bool:
    """True if no run takes the push back, and none has begun to, because the network is not managed at the moment."""
    held = provisional.read(state.provisional)
    if held is None or held.deadline == provisional.TAKING_BACK:
        return False
    if provisional_push.reason(state) == provisional_push.REBOOTED:
        return False
    try:
        run_context(remember=False)
    except NotManaged:
        return True
    return False
