# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Brings NICs up by `ifup`, that of ifupdown or of the network-scripts."""

import itertools
import os
import re
import time
from typing import Dict, List, Sequence, Tuple

from ..system import paths
from ..system.command import CommandError, Job, end, start

_started = itertools.count()


def ifup(name: str) -> List[str]:
    """Returns the command, in a scope unit of its own where systemd runs.

    The DHCP client that it starts stays in the caller's cgroup. In our service's cgroup the client would end with the
    service, and the lease would expire minutes later.
    """
    if not os.path.isdir(paths.SYSTEMD):
        return ["ifup", name]
    # A name that no other has: the scope of an earlier one, of this process or of another, lives as long as its client.
    word = re.sub(r"[^A-Za-z0-9]", "-", name)
    unit = "osnetd-ifup-%s-%d-%d-%d" % (word, os.getpid(), time.monotonic() * 1e3, next(_started))
    return ["systemd-run", "--quiet", "--scope", "--collect", "--unit", unit, "ifup", name]


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


def await_all(jobs: Sequence[Tuple[str, Job]], deadline: float) -> Dict[str, str]:
    """Waits for these jobs, at least a second for each. Returns by name what failed.

    A DHCP client without an answer continues after that, in its scope, and may still succeed.
    """
    problems: Dict[str, str] = {}
    for name, job in jobs:
        try:
            end(job, max(1.0, deadline - time.monotonic()), kill=False)
        except CommandError as exc:
            problems[name] = str(exc)
    return problems
