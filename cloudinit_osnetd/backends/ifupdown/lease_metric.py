# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a DHCP client's hook is told of a NIC: the metric of its lease's routes, in a small file of its own under /run.

It is there before `ifup` begins, at a boot as well: it holds from the first lease on. The store is written later.
"""

import logging
import os

from ...system import files, paths

LOG = logging.getLogger(__name__)


def note(name: str, metric: str) -> None:
    """Keep the metric of a NIC; an empty one: it has none, or is gone."""
    path = os.path.join(paths.DHCP, name)
    try:
        if metric:
            files.replace(path, metric + "\n", sync=False)
        else:
            files.remove(path)
    except OSError as exc:
        LOG.error("a lease's routes get no metric: nic=%s error=%s", name, exc)
