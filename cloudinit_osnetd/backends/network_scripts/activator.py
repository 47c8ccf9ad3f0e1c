# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The network-scripts of Enterprise Linux 8: `ifdown` while the old files are in place, `ifup` with the new ones.

They were not available for tests: the commands are tested with stand-ins of ifup and ifdown (docs/matrix.md).
"""

import logging
import os
import time
from typing import Dict, FrozenSet, List, Optional, Sequence

from ...core.records import Dns, Touch
from ...kernel import netlink
from ...system import files
from ...system.command import CommandError, run
from .. import ifup_command
from ..base import Activator
from ..ifcfg import ifcfg_file, profile
from ..ifcfg.resolv_conf import FILE
from ..networkmanager.keyfile import value
from ..networkmanager.profile_activator import dns_of

LOG = logging.getLogger(__name__)
_UP_SECONDS = 30.0
_ORDER = {"ethernet": 0, "bond": 1, "vlan": 2}


class ScriptsActivator(Activator):
    waits_for_lease = True

    def before(self, touches: Sequence[Touch]) -> None:
        """Takes NICs down by the files that brought them up, VLANs first.

        Also those that are gone: their DHCP client may still run.
        """
        for name in reversed(_in_order([touch.name for touch in touches])):
            _take_down(name)

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Brings NICs up: those without a parent at the same time, then bonds, then VLANs."""
        coming = {touch.name: touch for touch in touches if touch.action != "down"}
        for touch in coming.values():
            if touch.action == "kick" and _leases(touch.name):
                _take_down(touch.name)  # ifup would start a second DHCP client
        members = {name for name in coming if _bond_of(name) in coming}
        problems: Dict[str, str] = {}
        self.late = frozenset()
        deadline = time.monotonic() + _UP_SECONDS
        for kind in sorted(_ORDER, key=lambda kind: _ORDER[kind]):
            # ifup of a bond brings its members up.
            names = [name for name in _in_order(list(coming)) if _kind(name) == kind and name not in members]
            jobs, failed = ifup_command.start_all(names)
            problems.update(failed)
            failed, late = ifup_command.await_all(jobs, deadline)
            problems.update(failed)
            self.late |= late
        return problems

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        """Returns what resolv.conf has: ifup adds DNS1, DNS2, ... to it."""
        return dns_of(files.read(FILE))


def _in_order(names: Sequence[str]) -> List[str]:
    return sorted(names, key=lambda name: (_ORDER[_kind(name)], name))


def _kind(name: str) -> str:
    return value(profile.of_nic(name), "connection", "type", "ethernet")


def _values(name: str) -> ifcfg_file.Values:
    return ifcfg_file.parsed(files.read(ifcfg_file.path_of(name)) or "")


def _bond_of(name: str) -> str:
    return _values(name).get("MASTER", "")


def _leases(name: str) -> bool:
    return _values(name).get("BOOTPROTO", "").lower() in ("dhcp", "bootp")


def _take_down(name: str) -> None:
    if not os.path.exists(ifcfg_file.path_of(name)):
        return
    try:
        run(["ifdown", name])
    except CommandError as exc:
        # Of a NIC that is gone, or that was down: what matters is whether it comes up.
        known = netlink.snapshot().named(name)
        LOG.log(logging.WARNING if known is not None else logging.INFO, "not taken down: nic=%s error=%s", name, exc)
