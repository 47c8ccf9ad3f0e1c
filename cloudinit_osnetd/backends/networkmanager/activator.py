# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager with the keyfiles of cloud-init's renderer: one file is a NIC's whole profile."""

import functools
import logging
from typing import Callable, Dict, Mapping, Sequence

from ...core.records import Touch
from ...system import files
from ...system.command import CommandError
from . import nmcli, reapply
from .keyfile import Values, parsed, path_of, value
from .profile_activator import ProfileActivator

LOG = logging.getLogger(__name__)


class NetworkManagerActivator(ProfileActivator):
    def file_of(self, name: str) -> str:
        return path_of(name)

    def profile_of(self, name: str) -> Values:
        return parsed(files.read(path_of(name)) or "")

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """Reapplies what a device takes while it is up. What needs an activation is left to `after`."""
        found: Dict[str, Callable[[], bool]] = {}
        self._waiting.clear()
        for touch in touches:
            text = files.read(path_of(touch.name)) if touch.action == "reconfigure" else None
            if text is None or coming.get(touch.name) is None:
                continue
            old, new = parsed(text), parsed(coming[touch.name])
            if not (reapply.serves(old, new) and reapply.is_active(touch.name, value(old, "connection", "uuid"))):
                continue
            if reapply.loses_lease(touch.name, old, new):
                self._waiting.add(touch.name)
                continue
            found[touch.name] = functools.partial(_load_and_reapply, touch.name, old, new)
        return found


def _load_and_reapply(name: str, old: Values, new: Values) -> bool:
    path = path_of(name)
    try:
        nmcli.load([path])
        if nmcli.refused([path]):
            return False
        with reapply.ipv6_kept(name, old, new):
            reapply.make_way(name, old, new)
            nmcli.reapply(name)
        reapply.wait_no_more(name)
        return True
    except CommandError as exc:
        LOG.info("not reapplied, it is activated: nic=%s error=%s", name, exc)
        return False
