# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The identity of this boot."""

from . import files, paths


def boot_id() -> str:
    return (files.read(paths.BOOT_ID) or "").strip()
