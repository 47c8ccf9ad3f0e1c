# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager: one keyfile per NIC, bond and VLAN, which root alone can read."""

import glob
import os
from typing import Dict, FrozenSet, List, Optional, Sequence

from ...core.desired import Item
from ...core.records import Part
from ...system import files
from ..base import Format
from . import finish_keyfile, other_profiles
from .keyfile import DIRECTORY, PREFIX, SUFFIX, parsed, value


class KeyfileFormat(Format):
    mode = 0o600  # NetworkManager ignores a keyfile that others can read
    finishes_at_boot = True
    directories = (DIRECTORY,)

    def staged(self, tree: str) -> List[Part]:
        """Returns the profiles. conf.d/30-cloud-init-ip6-addr-gen-mode.conf is left out: it is a setting of all NICs,
        and what it sets is in our profiles."""
        found = sorted(glob.glob(os.path.join(tree + DIRECTORY, PREFIX + "*" + SUFFIX)))
        return [
            Part(path[len(tree) :], "", os.path.basename(path)[len(PREFIX) : -len(SUFFIX)], files.read(path) or "")
            for path in found
        ]

    def link_names(self, parts: Sequence[Part]) -> Dict[str, str]:
        """A member refers to its bond, and a VLAN to its parent, by the UUID of the profile."""
        return {value(parsed(part.text), "connection", "uuid"): part.name for part in parts}

    def finish(self, text: str, item: Item) -> str:
        return finish_keyfile.finished(text, item)

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs for which NetworkManager uses a foreign profile, and those that it does not manage."""
        return other_profiles.claimed(items)

    def carried_over(self, written: str, found: str, new: str, name: str) -> Optional[str]:
        from . import keyfile_additions

        return keyfile_additions.carried_over(written, found, new, name)

    def normal(self, text: str) -> str:
        lines = [line.strip() for line in text.splitlines()]
        return "\n".join(line for line in lines if line and line[0] not in "#;")

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import keyfile_meaning  # only needed to compare meanings

        return keyfile_meaning.of(text) - {"match name " + name}  # as it is called, while it has this name

    def as_older_releases(self, meaning: FrozenSet[str]) -> Sequence[FrozenSet[str]]:
        from . import keyfile_meaning

        return keyfile_meaning.as_older_releases(meaning)
