# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The order in which NICs are brought up: bonds, then their members and NICs without dependencies, then VLANs.

ifenslave(8) does not wait: a member that is brought up while its bond is being created is not enslaved, and a bond's
mode cannot be set once it has a member. A VLAN's MTU cannot exceed the MTU that its parent has at that time.
"""

import time
from typing import Iterator, List, Sequence, Tuple

from ...system.command import Job
from ..eni import interfaces_file
from . import ifstate

_PAUSE = 0.01
_MASTER = ("bond-master", "bond_master")


def is_bond(text: str, name: str) -> bool:
    """True for a bond, not for its members, to which cloud-init's renderer gives the bond's options as well."""
    if interfaces_file.option(text, name, *_MASTER):
        return False
    return bool(interfaces_file.option(text, name, "bond-slaves", "bond-mode", "bond_mode", "slaves"))


def is_vlan(text: str, name: str) -> bool:
    return "." in name or bool(interfaces_file.option(text, name, "vlan-raw-device", "vlan_raw_device"))


def in_order(names: Sequence[str], text: str) -> Iterator[List[str]]:
    """Yields the names in groups that may be brought up in parallel."""
    bonds = [name for name in names if is_bond(text, name)]
    vlans = [name for name in names if name not in bonds and is_vlan(text, name)]
    yield from (group for group in (bonds, [n for n in names if n not in bonds + vlans], vlans) if group)


def depends_on(text: str, name: str) -> str:
    """Returns the NIC that must exist before this one, empty for none."""
    master = interfaces_file.option(text, name, *_MASTER)
    parent = interfaces_file.option(text, name, "vlan-raw-device", "vlan_raw_device") or name.rpartition(".")[0]
    return master or (parent if is_vlan(text, name) else "")


def await_ready(jobs: Sequence[Tuple[str, Job]], names: Sequence[str], text: str, deadline: float) -> None:
    """Waits until the NICs that these depend on are ready, if they are being brought up.

    A bond that waits for a lease is not completed without its members; it exists once its link is up. A VLAN's parent
    has its MTU when its `ifup` has ended.
    """
    for name in names:
        base = depends_on(text, name)
        enough = is_bond(text, base) and not is_vlan(text, name)
        for job in (job for other, job in jobs if other == base):
            while job.process.poll() is None and time.monotonic() < deadline:
                if enough and ifstate.link_is_up(base):
                    break
                time.sleep(_PAUSE)
