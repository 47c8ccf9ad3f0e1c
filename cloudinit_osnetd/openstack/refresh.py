# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads the sources and records in the truth what each says now."""

import time
from typing import Container, FrozenSet, NamedTuple, Tuple

from ..core import network_data, truth
from ..core.records import Snapshot
from ..state import store
from . import choose_nic, metadata


class RefreshResult(NamedTuple):
    state: store.State
    faults: Tuple[str, ...]
    answered: bool
    no_lease: str = ""  # as in choose_nic.Answer


def refresh_metadata(
    state: store.State,
    snapshot: Snapshot,
    pinned: str,
    may_open: bool = True,
    ignored: FrozenSet[str] = frozenset(),
    skip_lease: Container[str] = (),
) -> RefreshResult:
    """Asks the metadata service; `pinned`, `may_open`, `ignored` and `skip_lease` as in choose_nic.ask."""
    answer = choose_nic.ask(
        snapshot, state.truth, state.answered, state.instance_id, pinned, may_open, ignored, skip_lease
    )
    if answer.mac:
        state = state._replace(answered=answer.mac)
    if answer.data is None:
        return RefreshResult(state, answer.problems + state.truth.fault_texts("metadata"), False, answer.no_lease)
    state = _observed(state, "metadata", answer.data)
    faults = answer.problems + state.truth.fault_texts("metadata")
    return RefreshResult(state, faults, True, answer.no_lease)


def refresh_push(state: store.State, data: network_data.NetworkData) -> RefreshResult:
    """Records what a host or an operator pushed: in force until another source's entry changes.

    What was rolled back is tried again if it is pushed again.
    """
    state = _observed(state, "push", data)
    known = truth.with_global_dns(state.truth, data)
    rejections = tuple(one for one in state.rejections if one.key not in data.entries)
    return RefreshResult(state._replace(truth=known, rejections=rejections), known.fault_texts("push"), True)


def refresh_drive(state: store.State) -> RefreshResult:
    """Reads the config drive if its content is not that of the last time."""
    drive = metadata.find_drive()
    if drive is None:
        return RefreshResult(state, (), False)
    try:
        stamp = metadata.drive_stamp(drive)
        if stamp == state.drive_stamp:
            return RefreshResult(state, state.truth.fault_texts("drive"), True)
        data = metadata.read_drive(drive, state.instance_id)
    except (metadata.SourceError, network_data.Refused, OSError) as exc:
        return RefreshResult(state, (str(exc),), False)
    state = _observed(state, "drive", data)._replace(drive_stamp=stamp)
    return RefreshResult(state, state.truth.fault_texts("drive"), True)


def _observed(state: store.State, source: str, data: network_data.NetworkData) -> store.State:
    """Returns the state with a source's document, and the time if it is not the last one of this source."""
    now = time.time()
    known = truth.observe(state.truth, source, data, now)
    if known == state.truth:
        return state
    return state._replace(truth=known, changed=dict(state.changed, **{source: round(now, 3)}))
