# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Servers on OpenStack follow their ports: a fork-free extension of cloud-init."""

__version__ = "0.2.0"
