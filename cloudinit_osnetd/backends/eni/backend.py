# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backend for the files that cloud-init's renderer eni writes."""

from ..base import Backend
from ..ifupdown.activator import IfupdownActivator
from .format import EniFormat


class Ifupdown(EniFormat, IfupdownActivator, Backend):
    name = "ifupdown"
