# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""In which order NICs are brought up: a bond, its members and whatever leans on nothing, then VLANs.

ifenslave(8) has a member wait for nothing: one that comes while its bond is being made is not enslaved, and a bond's
mode is not taken once it has a member. A VLAN takes no MTU above the one that its parent has by then.
"""

import time
from typing import Iterator, List, Sequence, Tuple

from ...system.command import Job
from ..eni import interfaces_file
from . import ifstate

_PAUSE = 0.01
_MASTER = ("bond-master", "bond_master")


def is_bond(text: str, name: str) -> bool:
    """Not a member of one: to those cloud-init's renderer gives the bond's options as well."""
    if interfaces_file.option(text, name, *_MASTER):
        return False
    return bool(interfaces_file.option(text, name, "bond-slaves", "bond-mode", "bond_mode", "slaves"))


def is_vlan(text: str, name: str) -> bool:
    return "." in name or bool(interfaces_file.option(text, name, "vlan-raw-device", "vlan_raw_device"))


def in_order(names: Sequence[str], text: str) -> Iterator[List[str]]:
    """The names, in groups of those that may come up side by side."""
    bonds = [name for name in names if is_bond(text, name)]
    vlans = [name for name in names if name not in bonds and is_vlan(text, name)]
    yield from (group for group in (bonds, [n for n in names if n not in bonds + vlans], vlans) if group)


def leans_on(text: str, name: str) -> str:
    """The NIC that must be there before this one, empty for none."""
    master = interfaces_file.option(text, name, *_MASTER)
    parent = interfaces_file.option(text, name, "vlan-raw-device", "vlan_raw_device") or name.rpartition(".")[0]
    return master or (parent if is_vlan(text, name) else "")


def await_ready(jobs: Sequence[Tuple[str, Job]], names: Sequence[str], text: str, deadline: float) -> None:
    """Until that on which these lean, where it was begun, is far enough.

    A bond is not done without its members where it waits for a lease; that its link is up says that it is made. A
    VLAN's parent has its MTU when it is done.
    """
    for name in names:
        base = leans_on(text, name)
        enough = is_bond(text, base) and not is_vlan(text, name)
        for job in (job for other, job in jobs if other == base):
            while job.process.poll() is None and time.monotonic() < deadline:
                if enough and ifstate.link_is_up(base):
                    break
                time.sleep(_PAUSE)
