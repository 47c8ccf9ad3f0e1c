# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Hearing the sources: what each says now, taken into the truth."""

import time
from typing import Container, FrozenSet, NamedTuple, Tuple

from ..core import network_data, truth
from ..core.records import Snapshot
from ..state import store
from . import choose_nic, metadata


class Heard(NamedTuple):
    state: store.State
    faults: Tuple[str, ...]
    answered: bool
    unleased: str = ""  # as in reach.Answer


def hear_metadata(
    state: store.State,
    snapshot: Snapshot,
    pinned: str,
    may_open: bool = True,
    ignored: FrozenSet[str] = frozenset(),
    unleased: Container[str] = (),
) -> Heard:
    """Ask the metadata service; `pinned`, `may_open`, `ignored` and `unleased` as in choose_nic.ask."""
    answer = choose_nic.ask(
        snapshot, state.truth, state.answered, state.instance_id, pinned, may_open, ignored, unleased
    )
    if answer.mac:
        state = state._replace(answered=answer.mac)
    if answer.data is None:
        return Heard(state, answer.problems + state.truth.fault_texts("metadata"), False, answer.unleased)
    known = truth.observe(state.truth, "metadata", answer.data, time.time())
    faults = answer.problems + known.fault_texts("metadata")
    return Heard(state._replace(truth=known), faults, True, answer.unleased)


def hear_push(state: store.State, data: network_data.NetworkData) -> Heard:
    """Take in what a host or an operator pushed: in force until another source's entry changes."""
    known = truth.observe(state.truth, "push", data, time.time())
    return Heard(state._replace(truth=known), known.fault_texts("push"), True)


def hear_drive(state: store.State) -> Heard:
    """Read the config drive where it is another one than last time."""
    drive = metadata.find_drive()
    if drive is None:
        return Heard(state, (), False)
    try:
        stamp = metadata.drive_stamp(drive)
        if stamp == state.drive_stamp:
            return Heard(state, state.truth.fault_texts("drive"), True)
        data = metadata.read_drive(drive, state.instance_id)
    except (metadata.SourceError, network_data.Refused, OSError) as exc:
        return Heard(state, (str(exc),), False)
    known = truth.observe(state.truth, "drive", data, time.time())
    state = state._replace(truth=known, drive_stamp=stamp)
    return Heard(state, known.fault_texts("drive"), True)
