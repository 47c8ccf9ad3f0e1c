# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The debounce of removals: a NIC that vanishes may come back within moments, when its driver is reloaded.

Its bus device stays then. If that is gone too, or if the NIC was a virtual one, which has none, nothing is waited for.
"""

import time
from typing import Callable, Dict, FrozenSet, Mapping, Sequence, Set, Tuple

from ..core.records import Nic, Owned
from ..state import bus_devices, event_queue


class RemovedNics:
    """When each configured NIC was first missed, during one run."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since: Dict[str, float] = {}  # by MAC, monotonic clock
        self._devices: Tuple[str, ...] = ()  # of the NICs that are waited for

    def debounced(
        self, ledger: Sequence[Owned], nics: Mapping[str, Nic], debounce: float
    ) -> Tuple[FrozenSet[str], float]:
        """Returns the MACs whose NIC vanished less than `debounce` seconds ago, and for how long that is still so.

        A MAC whose NIC's bus device is gone is left out. So is one whose NIC's name belongs to another NIC by now: the
        rest of the old configuration would be applied to the new NIC.
        """
        now = self._monotonic()
        names = {nic.name for nic in nics.values()}
        configured = {row.mac for row in ledger}
        devices = bus_devices.update(nics, configured)
        gone = configured - set(nics) - {row.mac for row in ledger if row.name in names}
        gone = {mac for mac in gone if not bus_devices.is_gone(devices.get(mac, ""))}
        gone_names: Dict[str, Set[str]] = {}  # by MAC
        for row in ledger:
            if row.mac in gone:
                gone_names.setdefault(row.mac, set()).add(row.name)
        # Counted from the event if there was one: starting a run takes a tenth of a second.
        self._since = {
            mac: self._since[mac] if mac in self._since else now - event_queue.ago("removed", its_names)
            for mac, its_names in gone_names.items()
        }
        left = {mac: since + debounce - now for mac, since in self._since.items()}
        waiting = {mac: seconds for mac, seconds in left.items() if seconds > 0}
        self._devices = tuple(devices[mac] for mac in waiting if mac in devices)
        return frozenset(waiting), max(waiting.values()) if waiting else 0.0

    def device_gone(self) -> bool:
        """True if the bus device of a NIC that is waited for has gone since: it goes after its NIC."""
        return any(bus_devices.is_gone(path) for path in self._devices)
