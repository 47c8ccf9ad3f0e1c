# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The bus device of each NIC, noted while the NIC is present: when the NIC is gone, sysfs no longer tells which it was.

This is kept under /run: after a reboot a device may have another path.
"""

import json
import logging
import os
from typing import Container, Dict, Mapping

from ..core.records import Nic
from ..system import files, paths

LOG = logging.getLogger(__name__)


def read() -> Dict[str, str]:
    """Returns the paths in sysfs by MAC."""
    noted = files.read_json(paths.DEVICES)
    return {str(mac): str(path) for mac, path in noted.items()} if isinstance(noted, dict) else {}


def update(nics: Mapping[str, Nic], configured: Container[str]) -> Dict[str, str]:
    """Notes the device of each NIC, and returns all: those of NICs that are gone as long as they are `configured`."""
    known = read()
    now = {mac: path for mac, path in known.items() if mac in configured}
    now.update({mac: nic.device for mac, nic in nics.items() if nic.device})
    if now != known:
        try:
            files.replace(paths.DEVICES, json.dumps(now) + "\n", mode=0o600, sync=False)
        except OSError as exc:  # then removals are debounced
            LOG.warning("bus devices not noted: error=%s", exc)
    return now


def is_gone(path: str) -> bool:
    """True if a bus device is known and not there any more."""
    return bool(path) and not os.path.exists(path)
