# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown's unit ifup@NIC.service, which its udev rule starts for a NIC that has `allow-hotplug` when it appears.

At boot the rule reads the stanzas before early boot corrects them, and the unit waits for network-pre.target. If the
NIC has no such stanza any more (the one on disk was of a NIC that had its name), the unit has nothing to do, and up to
ifupdown 0.8.36 (Debian 11) it then fails.
"""

import os
import re
from typing import Iterable

from ...system import paths
from ...system.command import CommandError, run
from ..eni import interfaces_file, sourced_files


def unit(name: str) -> str:
    """Returns the unit's name, escaped as by systemd-escape(1)."""
    return "ifup@%s.service" % re.sub(r"[^A-Za-z0-9:_.]", lambda found: "\\x%02x" % ord(found[0]), name)


def cancel(name: str) -> None:
    """Cancels a start that is queued."""
    try:
        run(["systemctl", "--no-block", "stop", unit(name)])
    except CommandError:
        pass  # run() has logged it; the NIC's network does not depend on it


def cancel_without_stanza(names: Iterable[str]) -> None:
    """Does the same for those of these NICs that are present and that the unit would not bring up."""
    here = [name for name in sorted(names) if os.path.exists(os.path.join(paths.KERNEL_NICS, name))]
    text = sourced_files.all_text() if here else ""
    for name in here:
        if not interfaces_file.is_hotplugged(text, name):
            cancel(name)
