# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd: a reload reads changed files only."""

import functools
import logging
import os
from typing import Callable, Dict, FrozenSet, Mapping, Optional, Sequence

from ...core.desired import Item
from ...core.records import Dns, Touch
from ...system import files, paths
from ...system.command import CommandError, run
from ..base import Activator, first_of
from . import dns_over_dbus, links, netdevs, unloaded_files
from .match_section import DIRECTORIES, DIRECTORY, PREFIX, SUFFIX

LOG = logging.getLogger(__name__)
_FILES = netdevs.Files(DIRECTORY, PREFIX)


class NetworkdActivator(Activator):
    lag, drops_foreign, waits_for_unique = links.LAG, True, True
    own_directories = (paths.NETWORKD_RUNTIME_FILES + "/*.network.d",)
    boot_outputs = (paths.NETWORKD_RUNTIME_FILES,)

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        """Makes the boot wait for the first NIC only: systemd-networkd-wait-online waits for all.

        Which NIC is the first may differ from boot to boot, so it is configured under /run. The NICs' own files do not
        change when the first NIC is removed, and without our package a server waits as before.
        """
        first = first_of(items)
        for item in items:
            if item is not first and item.name not in left and (item.entry.kind == "phy" or item.entry.networks):
                directory = os.path.join(paths.NETWORKD_RUNTIME_FILES, PREFIX + item.name + SUFFIX + ".d")
                drop_in = os.path.join(directory, "cloudinit-osnetd.conf")
                try:
                    files.replace(drop_in, "[Link]\nRequiredForOnline=no\n", sync=False)
                except OSError as exc:
                    LOG.warning("the boot will also wait for this NIC: nic=%s error=%s", item.name, exc)

    def boot_inputs(self) -> Sequence[str]:
        return DIRECTORIES

    def recover(self, boot: bool = False) -> None:
        unloaded_files.recover(DIRECTORY, boot)

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """Applies a difference in DNS only over D-Bus. For a NIC that is not touched, the new file is not loaded."""
        actions = {touch.name: touch.action for touch in touches}
        found: Dict[str, Callable[[], bool]] = {}
        for name, text in coming.items():
            path = _path(name)
            old = files.read(path) if actions.get(name, "") in ("", "reconfigure") else None
            if old is None:
                continue
            differs = dns_over_dbus.difference(old, text)
            if name not in actions:
                unloaded_files.keep(path)
            elif differs is not None and unloaded_files.keep(path):
                found[name] = functools.partial(dns_over_dbus.dns, name, *differs)
        return found

    def before(self, touches: Sequence[Touch]) -> None:
        netdevs.note(touches, _FILES)

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Reloads networkd, which reconfigures each link whose file changed by stat(2), and no other link.

        A NIC whose file did not change, but which the kernel shows unconfigured, is reconfigured by name.
        """
        # A NIC may be reapplied after a commit that was interrupted between its files and its reload.
        problems = {}
        if changed or any(touch.action == "kick" for touch in touches):
            try:
                with unloaded_files.held(DIRECTORY, [_path(touch.name) for touch in touches]):
                    problems = netdevs.reload(touches, _FILES, lambda: run(["networkctl", "reload"]))
            except (CommandError, OSError) as exc:
                return {touch.name: str(exc) for touch in touches}
        return dict(problems, **netdevs.after_reload(touches, _FILES))

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        return links.dns(ifindex)


def _path(name: str) -> str:
    return os.path.join(DIRECTORY, PREFIX + name + SUFFIX)
