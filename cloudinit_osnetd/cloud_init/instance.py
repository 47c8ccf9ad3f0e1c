# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What cloud-init has noted of the instance and its datasource.

cloud-init writes these files in place at each boot, and makes its link /var/lib/cloud/instance anew
(cloudinit/stages.py: Init._reflect_cur_instance), perhaps while we look. So nothing is read through
that link: the directory that it leads to does not move.
"""

import os
import time
from typing import Optional, Tuple

from ..system import files, paths

_CLOUD_CONFIGS = ("cloud-config.txt", "vendor-cloud-config.txt", "vendor2-cloud-config.txt")
# cloud-init empties a file of a line and writes it within a millisecond; on a boot that is busy it takes longer.
_WRITTEN_SECONDS = 0.5


def instance_id() -> str:
    """The instance id that cloud-init found, empty where it has not (yet) found any.

    That of this boot, else the last one's. cloud-init writes one file after the other, so one is always whole.
    """
    for path in paths.INSTANCE_ID:
        text = files.read(path)
        if text and text.strip():
            return text.strip()
    return ""


def directory() -> str:
    """Where cloud-init keeps what is this instance's; empty where there is no instance."""
    # As Init._get_ipath has it.
    name = instance_id().replace(os.sep, "_")
    return os.path.join(paths.INSTANCES, name) if name else ""


def cloud_config() -> str:
    """The instance's cloud-config, its user-data's; empty where there is no instance."""
    return os.path.join(directory(), _CLOUD_CONFIGS[0]) if directory() else ""


def cloud_configs() -> Tuple[str, ...]:
    """The same, and what its vendor-data says."""
    there = directory()
    return tuple(os.path.join(there, name) for name in _CLOUD_CONFIGS) if there else ()


def datasource() -> str:
    """The datasource in force: "ConfigDrive", "OpenStack", another's name, or empty."""
    text = _written(os.path.join(directory(), "datasource")) or "" if directory() else ""
    name = text.split(":", 1)[0].strip()
    for known in ("ConfigDrive", "OpenStack"):
        if name.startswith("DataSource" + known):
            return known
    return name[len("DataSource") :] if name.startswith("DataSource") else name


def _written(path: str) -> Optional[str]:
    """A file that is never empty but for the moment in which it is written; None where there is none."""
    deadline = time.monotonic() + _WRITTEN_SECONDS
    while True:
        text = files.read(path)
        if text is None or text.endswith("\n") or time.monotonic() > deadline:
            return text
        time.sleep(0.005)
