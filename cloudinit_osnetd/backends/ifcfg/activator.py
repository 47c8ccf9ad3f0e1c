# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager with ifcfg files: its plugin ifcfg-rh reads the files of routes with the ifcfg file that is loaded."""

from typing import Dict, FrozenSet, Optional, Sequence

from ...core.desired import Item
from ...core.records import Dns, Touch
from ..networkmanager.keyfile import Values
from ..networkmanager.profile_activator import ProfileActivator
from . import ifcfg_file, profile, resolv_conf


class IfcfgActivator(ProfileActivator):
    def __init__(self) -> None:
        super().__init__()
        self._dns_before = resolv_conf.Words()

    def file_of(self, name: str) -> str:
        return ifcfg_file.path_of(name)

    def profile_of(self, name: str) -> Values:
        return profile.of_nic(name)

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        """Adds the name servers of NICs that came while the server was off. cloud-init writes them once only."""
        super().boot(items, left, changed)
        resolv_conf.of_items([item.name for item in items if item.name not in left])

    def before(self, touches: Sequence[Touch]) -> None:
        super().before(touches)
        self._dns_before = resolv_conf.words_of([touch.name for touch in touches])

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        problems = super().after(touches, changed)
        gone, self._dns_before = self._dns_before, resolv_conf.Words()
        resolv_conf.update(gone, resolv_conf.words_of(touch.name for touch in touches if touch.action != "down"))
        return problems

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        return resolv_conf.in_use() if resolv_conf.is_ours() else super().dns(name, ifindex)
