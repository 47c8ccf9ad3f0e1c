# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backend for the files that cloud-init's renderer networkd writes."""

from ..base import Backend
from .activator import NetworkdActivator
from .format import NetworkdFormat


class Networkd(NetworkdFormat, NetworkdActivator, Backend):
    name = "networkd"
