# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Brings NICs up by `ifup`, that of ifupdown or of the network-scripts."""

import itertools
import os
import re
import time
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

from ..system import paths
from ..system.command import CommandError, Job, end, start

_started = itertools.count()
_UNIT = "osnetd-ifup-"


def ifup(name: str) -> List[str]:
    """Returns the command, in a scope unit of its own where systemd runs.

    The DHCP client that it starts stays in the caller's cgroup. In our service's cgroup the client would end with the
    service, and the lease would expire minutes later.
    """
    if not os.path.isdir(paths.SYSTEMD):
        return ["ifup", name]
    return ["systemd-run", "--quiet", "--scope", "--collect", "--unit", ifup_scope(name), "ifup", name]


def ifup_scope(name: str) -> str:
    """Returns a name that no other unit has: the scope of an earlier `ifup` lives as long as its DHCP client."""
    word = re.sub(r"[^A-Za-z0-9]", "-", name)
    return _UNIT + "%s-%d-%d-%d" % (word, os.getpid(), time.monotonic() * 1e3, next(_started))


def age_of(scope: str) -> Optional[float]:
    """Returns the seconds since `ifup` was started in this scope unit; None if it is not one of ours."""
    words = scope.partition(".")[0].rsplit("-", 2)
    if not scope.startswith(_UNIT) or len(words) != 3 or not words[1].isdigit():
        return None
    return time.monotonic() - int(words[1]) / 1e3


def start_all(names: Sequence[str]) -> Tuple[List[Tuple[str, Job]], Dict[str, str]]:
    """Starts `ifup` of these NICs in parallel. Returns the jobs by name, and by name why one was not started."""
    jobs: List[Tuple[str, Job]] = []
    problems: Dict[str, str] = {}
    for name in names:
        try:
            jobs.append((name, start(ifup(name))))
        except CommandError as exc:
            problems[name] = str(exc)
    return jobs, problems


def await_all(jobs: Sequence[Tuple[str, Job]], deadline: float) -> Tuple[Dict[str, str], FrozenSet[str]]:
    """Waits for these jobs, at least a second for each. Returns by name what failed, and what has not ended.

    That goes on, in its scope, and may still succeed: a DHCP client without an answer, a slow hook.
    """
    problems: Dict[str, str] = {}
    late = set()
    for name, job in jobs:
        try:
            end(job, max(1.0, deadline - time.monotonic()), kill=False)
        except CommandError as exc:
            problems[name] = str(exc)
            if exc.out_of_time:
                late.add(name)
    return problems, frozenset(late)
