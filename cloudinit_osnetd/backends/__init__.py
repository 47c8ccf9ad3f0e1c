# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What runs the network: a pair of a format and an activator (base.py), found by the name of cloud-init's renderer.

A new one: a folder with format.py, activator.py or both, a backend.py that pairs them, and its line below.
"""

import functools
import importlib
from typing import Optional

from .base import Backend

# Module and class. A server has one: the others are not imported.
_BY_RENDERER = {
    "eni": ("eni.backend", "Ifupdown"),
    "networkd": ("networkd.backend", "Networkd"),
    "netplan": ("netplan.backend", "Netplan"),
}


@functools.lru_cache(maxsize=None)
def of_renderer(renderer: str) -> Optional[Backend]:
    """The backend that reads what cloud-init's renderer of that name writes."""
    if renderer not in _BY_RENDERER:
        return None
    module, name = _BY_RENDERER[renderer]
    backend: Backend = getattr(importlib.import_module("%s.%s" % (__name__, module)), name)()
    return backend


__all__ = ["Backend", "of_renderer"]
