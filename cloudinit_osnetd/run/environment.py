# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a run depends on outside itself: the clock, the kernel, the sources and cloud-init's configuration."""

import time
from typing import Callable, NamedTuple

from ..cloud_init.eligibility import RunContext, run_context
from ..core.records import Snapshot
from ..kernel import netlink
from ..openstack.refresh import RefreshResult, refresh_drive, refresh_metadata


class Environment(NamedTuple):
    """A unit test passes its own, so that a run of minutes takes milliseconds."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    snapshot: Callable[[], Snapshot] = netlink.snapshot
    refresh_metadata: Callable[..., RefreshResult] = refresh_metadata
    refresh_drive: Callable[..., RefreshResult] = refresh_drive
    run_context: Callable[..., RunContext] = run_context


REAL = Environment()
