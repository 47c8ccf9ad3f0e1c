# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is asked of a run, and its record: what it saw, decided and did. `status` shows it, and the history keeps it."""

from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from ..core import plan
from ..core.network_data import NetworkData
from ..core.records import Touch


class Push(NamedTuple):
    """What `apply` asks of a run."""

    data: Optional[NetworkData]  # None: what was pushed before is forgotten
    timeout: float  # seconds to wait for another run
    confirm_within: float = 0.0  # seconds after which it is taken back if it is not confirmed; 0: it stays


class Undo(NamedTuple):
    """What `rollback` asks of a run."""

    run: Optional[int]  # None: the last one
    timeout: float  # seconds to wait for another run


class Record(NamedTuple):
    reasons: Tuple[str, ...]
    changes: Tuple[plan.Change, ...]
    touches: Tuple[Touch, ...]
    drifted: Tuple[plan.Drift, ...]
    commands: Tuple[str, ...]
    faults: Tuple[str, ...]
    problems: Dict[str, str]  # by link: a NIC's MAC, the key of a bond or a VLAN
    findings: Dict[str, Tuple[str, ...]]  # by link: what may still be resolved by itself
    pending: Tuple[str, ...]  # MACs
    doubted: Tuple[str, ...]  # keys
    passes: int
    seconds: float
    next_check: float  # seconds until the timer starts the next run, 0 without a timer
    run: int = 0  # its number; 0 if it changed nothing
    answered: Mapping[str, bool] = {}  # by source: True if the last pass could read it
    confirm_by: float = 0.0  # seconds since the epoch, by which its push must be confirmed; 0 if it need not be
    names: Mapping[str, str] = {}  # by link: the names of those with a problem
