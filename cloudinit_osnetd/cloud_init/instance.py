# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads what cloud-init has recorded about the instance and its datasource.

cloud-init writes these files in place at each boot and replaces its link /var/lib/cloud/instance
(cloudinit/stages.py: Init._reflect_cur_instance), possibly during a read. So nothing is read through
that link; the directory that it points to does not move.
"""

import os
import time
from typing import Optional, Tuple

from ..system import files, paths

_CLOUD_CONFIGS = ("cloud-config.txt", "vendor-cloud-config.txt", "vendor2-cloud-config.txt")
# cloud-init truncates a file of one line and writes it within a millisecond; during a busy boot it takes longer.
_WRITTEN_SECONDS = 0.5


def instance_id() -> str:
    """Returns the instance id that cloud-init found, empty if it has not found one (yet).

    It is that of this boot, or else that of the last boot. cloud-init writes the files one after the
    other, so one of them is always complete.
    """
    for path in paths.INSTANCE_ID:
        text = files.read(path)
        if text and text.strip():
            return text.strip()
    return ""


def is_off() -> bool:
    """True if cloud-init will not run at this boot: its generator has run, and has not enabled it."""
    return os.path.exists(paths.CLOUD_BEGAN) and not os.path.exists(paths.CLOUD_ON)


def directory() -> str:
    """Returns cloud-init's directory of this instance; empty if there is no instance."""
    # The same rule as in Init._get_ipath.
    name = instance_id().replace(os.sep, "_")
    return os.path.join(paths.INSTANCES, name) if name else ""


def cloud_config() -> str:
    """Returns the path of the cloud-config from the instance's user-data; empty if there is no instance."""
    return os.path.join(directory(), _CLOUD_CONFIGS[0]) if directory() else ""


def cloud_configs() -> Tuple[str, ...]:
    """Returns that path and those of the cloud-configs from the vendor-data."""
    parent = directory()
    return tuple(os.path.join(parent, name) for name in _CLOUD_CONFIGS) if parent else ()


def datasource_file() -> str:
    """Returns the path of the file in which cloud-init names the datasource; empty if there is no instance."""
    return os.path.join(directory(), "datasource") if directory() else ""


def datasource() -> str:
    """Returns the datasource in use: "ConfigDrive", "OpenStack", the name of another one, or an empty string."""
    text = _written(datasource_file()) or "" if directory() else ""
    name = text.split(":", 1)[0].strip()
    for known in ("ConfigDrive", "OpenStack"):
        if name.startswith("DataSource" + known):
            return known
    return name[len("DataSource") :] if name.startswith("DataSource") else name


def _written(path: str) -> Optional[str]:
    """Returns the text of a file that is empty only while it is being written; None if there is no such file."""
    deadline = time.monotonic() + _WRITTEN_SECONDS
    while True:
        text = files.read(path)
        if text is None or text.endswith("\n") or time.monotonic() > deadline:
            return text
        time.sleep(0.005)
