# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The metric of a lease's routes, in a small file per NIC under /run, for the DHCP client's hook.

It is written before `ifup` starts, also at boot, so that it applies to the first lease. The store is written later.
"""

import logging
import os

from ...system import files, paths

LOG = logging.getLogger(__name__)


def note(name: str, metric: str) -> None:
    """Keeps the metric of a NIC; empty if it has none or is gone."""
    path = os.path.join(paths.DHCP, name)
    try:
        if metric:
            files.replace(path, metric + "\n", sync=False)
        else:
            files.remove(path)
    except OSError as exc:
        LOG.error("metric not kept, the lease's routes get none: nic=%s error=%s", name, exc)
