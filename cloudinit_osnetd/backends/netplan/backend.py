# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backend for the files that cloud-init's renderer netplan writes."""

from ..base import Backend
from .activator import NetplanActivator
from .format import NetplanFormat


class Netplan(NetplanFormat, NetplanActivator, Backend):
    name = "netplan"
