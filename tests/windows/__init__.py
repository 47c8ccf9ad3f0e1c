# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The Windows part on a Windows Python, without a Windows: Wine shows it a Linux namespace's NICs. See docs/lab.md."""
