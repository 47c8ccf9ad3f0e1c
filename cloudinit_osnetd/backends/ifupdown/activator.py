# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: takes NICs down while the old stanza is in place, and brings them up with the new one."""

import functools
import glob
import logging
import os
import time
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ...core.desired import Item
from ...core.network_data import DHCP4
from ...core.records import Dns, Touch
from ...kernel import netlink
from ...system import files, paths
from ...system.command import Job
from .. import ifup_command
from ..base import Activator
from ..eni import interfaces_file, sourced_files
from . import dhcp_helper, hotplug_unit, ifstate, lease_metric, start_order

LOG = logging.getLogger(__name__)
_UP_SECONDS = 30.0
_LONGEST_SECONDS = 180.0  # an `ifup` that takes longer hangs, and is ended when the NIC is brought up again


class IfupdownActivator(Activator):
    own_directories = (os.path.dirname(paths.IFSTATE),)
    waits_for_lease = True
    boot_outputs = (paths.DHCP,)

    def __init__(self) -> None:
        self._also_down: List[str] = []  # NICs that went down with those that were taken down

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        hotplug_unit.cancel_without_stanza(changed)
        for item in items:
            dhcp_helper.remove_before_start(item.name)
            if item.name not in left:
                leases = any(net.type in DHCP4 for net in item.entry.networks)
                lease_metric.note(item.name, str(item.metric) if leases and item.metric else "")

    def boot_inputs(self) -> Optional[Sequence[str]]:
        if sourced_files.reads_elsewhere():
            return None
        return (sourced_files.DIRECTORY, paths.INTERFACES_FRAGMENTS, paths.DHCP)

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """Only for NICs that are up and match their old stanzas: then the stanzas' difference is what must change."""
        changed = [
            t.name for t in touches if t.action == "reconfigure" and t.name in coming and ifstate.is_up(t.name)
        ]
        if not changed:
            return {}
        from . import live_edit

        now, read = netlink.snapshot(), sourced_files.sources()
        found: Dict[str, Callable[[], bool]] = {}
        for name in changed:
            sections = [cut[name] for cut in map(interfaces_file.split, read.values()) if name in cut]
            edit = live_edit.between(sections[0], coming[name], name, now) if len(sections) == 1 else None
            if edit is not None and live_edit.matches(sections[0], now.named(name)):
                found[name] = functools.partial(live_edit.apply, edit)
        return found

    def before(self, touches: Sequence[Touch]) -> None:
        """Takes NICs down while the old stanza is in place: `ifdown` undoes what it reads there.

        A bond's members go down with it, and a NIC's VLANs with the NIC. They are brought up again together.
        """
        there = ifstate.up()
        text = sourced_files.all_text()
        for touch in touches:
            ifstate.take_down(touch.name, touch.mac, interfaces_file.addresses(text, touch.name))
        self._also_down += sorted(there - ifstate.up() - {touch.name for touch in touches})

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Brings NICs up in parallel; bonds before their members, and VLANs last."""
        text = sourced_files.all_text()
        wanted = {touch.name: touch for touch in touches if touch.action != "down"}
        for touch in touches:
            metric = interfaces_file.leased_metric(text, touch.name) if touch.name in wanted else ""
            lease_metric.note(touch.name, metric)
        problems: Dict[str, str] = {}
        for touch in wanted.values():
            self._free(touch, text)
        also_up = [name for name in self._also_down if name not in wanted and interfaces_file.has_stanza(text, name)]
        self._also_down = []
        jobs: List[Tuple[str, Job]] = []
        deadline = time.monotonic() + _UP_SECONDS
        for names in start_order.in_order([*wanted, *also_up], text):
            start_order.await_ready(jobs, names, text, deadline)
            started, failed = ifup_command.start_all(names)
            jobs += started
            problems.update(failed)
        failed, self.late = ifup_command.await_all(jobs, deadline)
        return dict(problems, **failed)

    def coming_up(self, names: Sequence[str]) -> FrozenSet[str]:
        """Returns the NICs whose `ifup` of an earlier run has not ended yet."""
        ages = {name: map(ifup_command.age_of, ifstate.scopes_at_work(name)) for name in names}
        return frozenset(name for name, of in ages.items() if any(a is not None and a < _LONGEST_SECONDS for a in of))

    def _free(self, touch: Touch, text: str) -> None:
        """Removes from the NIC whatever would make `ifup` fail, whoever put it there."""
        dhcp_helper.end(touch.name)
        again = touch.action == "kick" and ifstate.half_down(touch.name)
        if ifstate.is_up(touch.name) or again:
            self.before([touch])
        else:
            ifstate.clear(touch.name, touch.mac, interfaces_file.addresses(text, touch.name))

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        if not any(os.path.exists(program) for program in paths.RESOLVCONF_PROGRAMS):
            return Dns(frozenset(), "resolvconf is not installed")
        words = [
            line.split()
            for path in glob.glob(os.path.join(paths.RESOLVCONF_RECORDS, glob.escape(name) + ".*"))
            for line in (files.read(path) or "").splitlines()
        ]
        servers, domains = (
            frozenset(word for line in words if line[:1] and line[0] in wanted for word in line[1:])
            for wanted in (("nameserver",), ("search", "domain"))
        )
        return Dns(servers, search=domains)
