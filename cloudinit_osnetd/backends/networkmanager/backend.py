# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backend for the keyfiles that cloud-init's renderer network-manager writes."""

from ..base import Backend
from .activator import NetworkManagerActivator
from .format import KeyfileFormat


class NetworkManager(KeyfileFormat, NetworkManagerActivator, Backend):
    name = "network-manager"
