# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reapplying: a NIC is brought up again where it does not reach its wanted configuration by itself, once in a run.

The action of such a touch is called "kick" in the store.
"""

from typing import FrozenSet, List, Sequence, Set, Tuple

from ..core import plan
from ..core.records import Owned, Touch
from ..kernel import netlink
from ..planning.build_plan import PlanningResult

_GRACE_SECONDS = 2.0  # for a backend that is about to configure a NIC by itself


class Reapplying:
    """What a run has reapplied, and what an interrupted run left for it."""

    def __init__(self, unapplied: FrozenSet[str] = frozenset()) -> None:
        """`unapplied` as of Activator.unapplied."""
        self._unapplied = unapplied
        self.unfinished: Tuple[Touch, ...] = ()  # of NICs that an interrupted run may have left partly configured
        self._done: Set[str] = set()  # names

    def touches(self, planned: PlanningResult, ledger: Sequence[Owned]) -> Tuple[Touch, ...]:
        """Returns the plan's touches; of those that reapply only the ones that are needed.

        NICs in `unfinished` are reapplied as well, and those whose configuration waits to be applied. A NIC that was
        reapplied in this run is not reapplied again.
        """
        touches = planned.plan.touches
        names = {touch.name for touch in touches}
        left = [touch for touch in self.unfinished if touch.name not in names and touch.action != "down"]
        self.unfinished = ()
        left += self._waiting(planned, names | {touch.name for touch in left}, ledger) if self._unapplied else []
        asked = [touch for touch in touches if touch.action == "kick" and touch.name not in self._done]
        reapplied = _still_lacking(planned, asked, ledger) + [touch._replace(action="kick") for touch in left]
        self._done |= {touch.name for touch in reapplied}
        return tuple(touch for touch in touches if touch.action != "kick") + tuple(reapplied)

    def _waiting(self, planned: PlanningResult, names: Set[str], ledger: Sequence[Owned]) -> List[Touch]:
        """Returns touches of our NICs whose configuration waits to be applied, once in a run."""
        mac_of = {row.name: row.mac for row in ledger}
        left = {drift.name for drift in planned.plan.drifted} | names | self._done
        wanted = {item.name for want in planned.wants for item in want.items}
        return [
            Touch("kick", mac_of[name], name, "its configuration is not applied yet")
            for name in sorted(self._unapplied & wanted - left)
            if name in mac_of
        ]


def _still_lacking(planned: PlanningResult, asked: Sequence[Touch], ledger: Sequence[Owned]) -> List[Touch]:
    """Returns the touches of the NICs that still lack something after the grace period."""
    if not asked:
        return []
    from ..apply.verify import verify

    verify(planned.wants, asked, seconds=_GRACE_SECONDS, plain=plan.plain_keys(ledger))
    # What is said of the NIC alone is not all: a member lacks its bond.
    names = {lacking.name for lacking in plan.lacks(planned.wants, ledger, netlink.snapshot())}
    return [touch for touch in asked if touch.name in names]
