# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What runs the network: one module for each backend, found by cloud-init's renderer name."""

import functools
import importlib
from typing import Optional

from .base import Backend

# Module and class. A server has one: the others are not imported.
_BY_RENDERER = {
    "eni": ("ifupdown.activator", "Ifupdown"),
    "networkd": ("networkd.activator", "Networkd"),
    "netplan": ("netplan.activator", "Netplan"),
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
