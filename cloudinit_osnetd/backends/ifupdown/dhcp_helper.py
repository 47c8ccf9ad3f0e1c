# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The helper of Debian's cloud images (10 and 11) that starts DHCP on any NIC that ifupdown does not know.

A udev rule calls it for a new NIC. It writes `iface NIC inet dhcp` to a fragment under /run, which interfaces(5)
sources, and ifupdown's own rule then starts ifup@NIC.service. Once the NIC has stanzas in /etc/network, the fragment
would be read as well: that means a second DHCP client, and on a static port an address that the port does not have. So
the fragment is removed. The helper itself writes none for a NIC that is already configured.
"""

import glob
import logging
import os
from typing import List

from ...system import files, paths
from ...system.command import CommandError, run
from ..eni import interfaces_file
from . import hotplug_unit

LOG = logging.getLogger(__name__)
_CONFIGURATION = ("/etc/network/interfaces", "/etc/network/interfaces.d/*")


def _fragment(name: str) -> str:
    return os.path.join(paths.INTERFACES_FRAGMENTS, name)


def end(name: str) -> None:
    """Ends what the helper started for the NIC: the unit, its DHCP client, and what that has configured."""
    if not _is_fragment(name):
        return
    LOG.info("the cloud image's DHCP fragment is removed: nic=%s file=%s", name, _fragment(name))
    _try(["systemctl", "stop", hotplug_unit.unit(name)])
    _try(["ifdown", "--force", name])
    _try(["ip", "-4", "address", "flush", "dev", name, "scope", "global"])
    files.remove(_fragment(name))


def remove_before_start(name: str) -> None:
    """Does the same before the network starts, but only if the NIC has stanzas: without any, DHCP is the fallback."""
    texts = [files.read(path) or "" for pattern in _CONFIGURATION for path in glob.glob(pattern)]
    known = {nic for text in texts for nic in interfaces_file.split(text)}
    if name in known and _is_fragment(name):
        LOG.info("the cloud image's DHCP fragment is removed: nic=%s file=%s", name, _fragment(name))
        files.remove(_fragment(name))
        # Its job is queued, and would fail because the fragment is gone.
        hotplug_unit.cancel(name)


def _is_fragment(name: str) -> bool:
    """True for a file that the helper wrote and that contains nothing else. Other files are not touched."""
    text = files.read(_fragment(name)) if os.path.exists(paths.IFUPDOWN_HELPER) else None
    return text is not None and set(interfaces_file.split(text)) == {name}


def _try(argv: List[str]) -> None:
    try:
        run(argv)
    except CommandError:
        pass  # run() has logged it; only the result of ifup matters
