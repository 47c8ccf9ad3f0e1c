# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The command that brings a NIC up, of ifupdown and of the network-scripts."""

import itertools
import os
import re
import time
from typing import List

from ..system import paths

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
