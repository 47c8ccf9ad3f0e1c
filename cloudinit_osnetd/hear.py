# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Hearing the sources: what each says now, taken into the truth."""

import time
from typing import FrozenSet, List, NamedTuple, Tuple

from . import kernel, network_data, reach, source, store, truth


class Heard(NamedTuple):
    state: store.State
    faults: Tuple[str, ...]
    answered: bool


def _name_faults(origin: str, data: network_data.NetworkData) -> List[str]:
    """In words; a link's number says little to whoever has to find the port, so its MAC as well."""
    macs = [fault.key.partition("/")[0] for fault in data.faults]
    return [
        "%s: %s%s: %s" % (origin, fault.path, mac and " of %s" % mac, fault.problem)
        for fault, mac in zip(data.faults, macs)
    ]


def hear_metadata(
    state: store.State,
    snapshot: kernel.Snapshot,
    pinned: str,
    may_open: bool = True,
    ignored: FrozenSet[str] = frozenset(),
) -> Heard:
    """Ask the metadata service; `pinned`, `may_open` and `ignored` as in reach.ask."""
    answer = reach.ask(snapshot, state.truth, state.answered, state.instance_id, pinned, may_open, ignored)
    faults = list(answer.problems)
    if answer.mac:
        state = state._replace(answered=answer.mac)
    if answer.data is None:
        return Heard(state, tuple(faults), False)
    faults += _name_faults("metadata", answer.data)
    known = truth.observe(state.truth, "metadata", answer.data, time.time())
    return Heard(state._replace(truth=known), tuple(faults), True)


def hear_push(state: store.State, data: network_data.NetworkData) -> Heard:
    """Take in what a host or an operator pushed: in force until another source's entry changes."""
    known = truth.observe(state.truth, "push", data, time.time())
    return Heard(state._replace(truth=known), tuple(_name_faults("push", data)), True)


def hear_drive(state: store.State) -> Heard:
    """Read the config drive where it is another one than last time."""
    drive = source.find_drive()
    if drive is None:
        return Heard(state, (), False)
    try:
        stamp = source.drive_stamp(drive)
        if stamp == state.drive_stamp:
            return Heard(state, (), True)
        data = source.read_drive(drive, state.instance_id)
    except (source.SourceError, network_data.Refused, OSError) as exc:
        return Heard(state, (str(exc),), False)
    known = truth.observe(state.truth, "drive", data, time.time())
    state = state._replace(truth=known, drive_stamp=stamp)
    return Heard(state, tuple(_name_faults("drive", data)), True)
