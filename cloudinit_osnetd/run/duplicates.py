# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""IPv6 addresses that another host uses too: retried once in a run, and reported at its end."""

from typing import Container, Dict, List, Optional, Sequence

from ..core.desired import Want
from ..core.records import Snapshot
from ..state import event_queue
from .environment import Environment

_DETECTION_SECONDS = 3.0  # of duplicate addresses (RFC 4862: at most two)


def _is_detecting(snapshot: Snapshot) -> bool:
    """True while duplicate address detection runs on an address that is not link-local."""
    addresses = (address for nic in snapshot.nics for address in nic.addresses)
    return any(one.tentative and not one.duplicate and not one.address.startswith("fe80:") for one in addresses)


def _any_duplicate(snapshot: Snapshot) -> bool:
    return any(address.duplicate for nic in snapshot.nics for address in nic.addresses)


class Duplicates:
    """The duplicate addresses that a run has found."""

    def __init__(self, may_retry: bool, env: Environment) -> None:
        """`may_retry`: the run was forced, or started by the timer."""
        self.macs: List[str] = []  # of NICs with an address that another host uses
        self._may_retry = may_retry
        self._env = env

    def retry(self, wants: Sequence[Want], left: Container[str], snapshot: Snapshot) -> Optional[Dict[str, str]]:
        """Adds addresses again for which duplicate address detection failed, once in a run.

        `left`: names of NICs that are left alone. Returns, by name, the MACs of the NICs whose addresses are now
        unique; None if nothing was retried.
        """
        if not self._may_retry or not _any_duplicate(snapshot):
            return None
        from ..apply import duplicate_addresses

        ours = [one for one in duplicate_addresses.found(wants, snapshot) if one.name not in left]
        if not ours:
            return None
        self._may_retry = False
        return duplicate_addresses.probe(ours)

    def find(self, wants: Sequence[Want], touched: bool) -> Dict[str, str]:
        """Returns the problems by link; waits for the end of duplicate address detection if NICs were touched."""
        env = self._env
        deadline = env.monotonic() + _DETECTION_SECONDS
        while touched and _is_detecting(env.snapshot()) and env.monotonic() < deadline:
            if event_queue.waiting():
                break  # the next run will check
            env.sleep(0.05)
        snapshot = env.snapshot()
        self.macs = []
        problems: Dict[str, str] = {}
        if _any_duplicate(snapshot):
            from ..apply import duplicate_addresses

            for one in duplicate_addresses.found(wants, snapshot):
                self.macs.append(one.mac)
                problems.setdefault(one.link, "another host has %s too" % one.address)
        return problems
