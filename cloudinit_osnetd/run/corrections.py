# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`osnetd: {drift: correct}`: parts of ours that others changed are written again, but never in a loop.

If a part is changed again within an hour after it was corrected, something else writes it as well: a person, or a
configuration management. It is then left alone and reported, and corrected by the first run after that hour. The times
are kept under /run, by the monotonic clock.
"""

import json
import logging
from typing import Callable, Dict, FrozenSet, Sequence

from ..cloud_init.context import Settings
from ..core.plan import Change
from ..core.records import Owned
from ..system import files, paths

LOG = logging.getLogger(__name__)
PAUSE_SECONDS = 3600.0
_WORD = ", and corrected"  # the end of the reason of such a change: see plan.py


def _read() -> Dict[str, float]:
    noted = files.read_json(paths.CORRECTED)
    if not isinstance(noted, dict):
        return {}
    return {str(key): float(when) for key, when in noted.items() if isinstance(when, (int, float))}


class Corrections:
    """Which keys a run may correct, and which it has corrected."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._done: Dict[str, float] = {}  # in case /run is full

    def keys(self, settings: Settings, ledger: Sequence[Owned]) -> FrozenSet[str]:
        """Returns the keys whose parts are corrected if they drifted."""
        if settings.drift != "correct":
            return frozenset()
        return frozenset(row.key for row in ledger) - frozenset(self._recent())

    def _recent(self) -> Dict[str, float]:
        now = self._monotonic()
        noted = dict(_read(), **self._done)
        return {key: when for key, when in noted.items() if 0 <= now - when < PAUSE_SECONDS}

    def note(self, changes: Sequence[Change]) -> None:
        """Notes what is about to be corrected: before the commit, so that a run that is killed counts."""
        corrected = {change.key for change in changes if change.reason.endswith(_WORD)}
        if not corrected:
            return
        self._done.update(dict.fromkeys(corrected, self._monotonic()))
        try:
            files.replace(paths.CORRECTED, json.dumps(self._recent()) + "\n", mode=0o600, sync=False)
        except OSError as exc:
            LOG.warning("corrections not noted: error=%s", exc)


def text_of(key: str, settings: Settings, now: float) -> str:
    """Returns when a drifted part is corrected, for status; empty if it is not."""
    if settings.drift != "correct":
        return ""
    left = PAUSE_SECONDS - (now - _read().get(key, now - PAUSE_SECONDS))
    if 0 < left <= PAUSE_SECONDS:
        return "it was corrected and changed again: corrected after %d s at the earliest" % left
    return "it is corrected by the next run"
