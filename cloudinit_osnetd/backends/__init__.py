# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What runs the network: one module for each backend, found by cloud-init's renderer name."""

from typing import Optional

from .base import Backend, Dns, Part, Touch
from .ifupdown import Ifupdown
from .netplan import Netplan
from .networkd import Networkd

_BY_RENDERER = {"eni": Ifupdown(), "networkd": Networkd(), "netplan": Netplan()}


def of_renderer(renderer: str) -> Optional[Backend]:
    """The backend that reads what cloud-init's renderer of that name writes."""
    return _BY_RENDERER.get(renderer)


__all__ = ["Backend", "Dns", "Part", "Touch", "of_renderer"]
