# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backend for netplan's files where `renderer: NetworkManager` is set for all of them."""

from ..base import Backend
from .activator_on_networkmanager import NetplanOnNetworkManagerActivator
from .format_for_networkmanager import NetplanForNetworkManager


class NetplanOnNetworkManager(NetplanForNetworkManager, NetplanOnNetworkManagerActivator, Backend):
    name = "netplan-networkmanager"
