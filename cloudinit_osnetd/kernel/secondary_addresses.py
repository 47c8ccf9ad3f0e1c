# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Keeps the other IPv4 addresses of a subnet when the one that was added first is removed.

The kernel removes the later ones ("secondary") with it unless promote_secondaries is set for the NIC
(Documentation/networking/ip-sysctl.rst). systemd sets it for new NICs; without systemd, or by an operator's sysctl, it
is not set.
"""

import logging
import os
from contextlib import contextmanager
from typing import Iterator

from ..system import files, paths

LOG = logging.getLogger(__name__)


@contextmanager
def promoting_secondaries(name: str) -> Iterator[None]:
    """Sets promote_secondaries of a NIC during the block. A run that is killed in between leaves it set."""
    path = os.path.join(paths.IPV4_SETTINGS, name, "promote_secondaries")
    before = (files.read(path) or "").strip()
    if before == "0":
        _set(path, "1")
    try:
        yield
    finally:
        if before == "0":
            _set(path, before)


def _set(path: str, value: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as fh:
            fh.write(value)
    except OSError as exc:
        LOG.warning("not set: file=%s value=%s error=%s", path, value, exc)
