# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backends for the files that cloud-init's renderer netplan writes: systemd-networkd, or NetworkManager."""

from ..base import Backend
from . import other_files
from .activator import NetplanActivator
from .format import NetplanFormat


class Netplan(NetplanFormat, NetplanActivator, Backend):
    name = "netplan"


def chosen() -> Backend:
    """Returns the backend of the renderer that netplan's files choose."""
    if other_files.chosen_renderer()[0] != "NetworkManager":
        return Netplan()
    from .backend_on_networkmanager import NetplanOnNetworkManager

    return NetplanOnNetworkManager()
