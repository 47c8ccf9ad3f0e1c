# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Follows the server's ports: what the sources say is put in force when a NIC comes or leaves, and now and then."""

import logging
import time
from typing import Callable, List, Sequence

from ..core import pushed_document, truth
from . import apply, config, sources, state, store
from .sources import Answer

LOG = logging.getLogger(__name__)

POLL = 5.0  # seconds between two looks at the NICs: on some systems the callbacks never fire
_LOCK = 120.0  # seconds
# Seconds until the sources are asked again: while a NIC has no entry or one failed, and otherwise.
_SOON, _LATER = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0), 600.0


def one_pass(settings: config.Config, answer: Answer) -> bool:
    """Puts an answer in force and logs what was done. Returns True if nothing is missing, to come, or failed.

    Raises Refused if the document cannot be used, Busy, and OSError.
    """
    data = pushed_document.parsed(answer.document, lambda: state.read().macs_by_name())
    names = config.names(answer.document) if settings.rename else {}
    with store.locked(_LOCK):
        known = store.load()
        if answer.instance and known.instance not in ("", answer.instance):
            # An image of another server. What is on the NICs is still ours to remove.
            known = store.Stored(owned=known.owned, search=known.search)
        before = truth.observe(known.truth, answer.source, data, time.time())
        known = known._replace(truth=before, instance=answer.instance or known.instance)
        outcomes = apply.run(known, apply.Options(False, settings.ignore, names))
    tell(pushed_document.fault_texts(data), outcomes)
    configured = {outcome.mac for outcome in outcomes if outcome.name and not outcome.problems}
    nics = {mac for mac, _index, name in state.present() if not {mac, name} & settings.ignore}
    return nics <= configured and not any(outcome.problems or outcome.waits for outcome in outcomes)


def tell(faults: Sequence[str], outcomes: Sequence[apply.Outcome]) -> None:
    for fault in faults:
        LOG.warning("bad link: %s", fault)
    for outcome in outcomes:
        if outcome.done or outcome.problems:
            LOG.info("link: key=%s name=%s done=%d problems=%d", outcome.key, outcome.name, *_counts(outcome))
        for line in outcome.done:
            LOG.info("run: %s", line)
        for problem in outcome.problems:
            LOG.warning("failed: key=%s %s", outcome.key, problem)


def _counts(outcome: apply.Outcome) -> List[int]:
    return [len(outcome.done), len(outcome.problems)]


def _attempt() -> bool:
    """One pass; False if it has to be tried again soon."""
    try:
        settings = config.load()
        return one_pass(settings, sources.ask(settings.metadata_urls))
    except sources.NoSource as exc:
        LOG.warning("no source answers: %s", exc)
    except pushed_document.Refused as refused:
        LOG.warning("the document is refused: %s", refused)
    except (config.BadConfig, store.Busy, OSError) as exc:
        LOG.warning("nothing was done: %s", exc)
    return False


def follow(wait: Callable[[float], bool]) -> None:
    """Runs until `wait`, which waits for so many seconds or for an event, returns True."""
    seen, due, failures = None, 0.0, 0
    while True:
        now = state.present()
        if now != seen:
            LOG.info("NICs: %s", ", ".join("%s %s" % (name, mac) for mac, _index, name in sorted(now)) or "none")
            failures = 0
        if now != seen or time.monotonic() >= due:
            complete = _attempt()
            # A rename is no change of ours to look after.
            seen = state.present() if complete else now
            due = time.monotonic() + (_LATER if complete else _SOON[min(failures, len(_SOON) - 1)])
            failures += 0 if complete else 1
        if wait(max(0.1, min(POLL, due - time.monotonic()))):
            return
