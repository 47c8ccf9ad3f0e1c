# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backends: pairs of a format and an activator (base.py), selected by the name of cloud-init's renderer.

To add one: a folder with format.py, activator.py or both, a backend.py that pairs them, and a line below. Where a
format has several activators, its backend.py chooses one of the pairs.
"""

import functools
import importlib
from typing import Optional

from .base import Backend

# Module, and the class or the function that chooses one. A server uses one; the others are not imported.
_BY_RENDERER = {
    "eni": ("eni.backend", "Ifupdown"),
    "networkd": ("networkd.backend", "Networkd"),
    "netplan": ("netplan.backend", "chosen"),
    "network-manager": ("networkmanager.backend", "NetworkManager"),
    "sysconfig": ("ifcfg.backend", "chosen"),
}


@functools.lru_cache(maxsize=None)
def of_renderer(renderer: str) -> Optional[Backend]:
    """Returns the backend for what cloud-init's renderer of that name writes.

    What netplan and ifcfg files are read by is the choice of the server, made once for each process.
    """
    if renderer not in _BY_RENDERER:
        return None
    module, name = _BY_RENDERER[renderer]
    backend: Backend = getattr(importlib.import_module("%s.%s" % (__name__, module)), name)()
    return backend


__all__ = ["Backend", "of_renderer"]
