# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""systemd-networkd: one .network file a NIC, and a reload that looks at changed files only."""

import glob
import os
from typing import Dict, List, Optional, Sequence

from .. import files
from ..command import CommandError, run
from .base import Backend, Part, Touch

DIRECTORY = "/etc/systemd/network"
_PREFIX, _SUFFIX = "10-cloud-init-", ".network"


class Networkd(Backend):
    name = "networkd"

    def staged(self, tree: str) -> List[Part]:
        pattern = os.path.join(tree + DIRECTORY, _PREFIX + "*" + _SUFFIX)
        return [
            Part(
                path=path[len(tree) :],
                section="",
                name=os.path.basename(path)[len(_PREFIX) : -len(_SUFFIX)],
                text=files.read(path) or "",
            )
            for path in sorted(glob.glob(pattern))
        ]

    def split(self, text: str) -> Dict[str, str]:
        return {"": text}

    def join(
        self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]
    ) -> Optional[str]:
        return changes[""]

    def normal(self, text: str) -> str:
        lines = [line.strip() for line in text.splitlines()]
        return "\n".join(line for line in lines if line and line[0] not in "#;")

    def after(self, touches: Sequence[Touch], files_changed: bool) -> Dict[str, str]:
        """A reload reconfigures each link whose file changed by stat, and no other link.

        A NIC whose file is as it was, but which the kernel shows unconfigured, has to be named.
        """
        problems = {}  # type: Dict[str, str]
        if files_changed:
            try:
                run(["networkctl", "reload"])
            except CommandError as exc:
                return {touch.name: str(exc) for touch in touches}
        for touch in touches:
            if touch.action == "kick":
                try:
                    run(["networkctl", "reconfigure", touch.name])
                except CommandError as exc:
                    problems[touch.name] = str(exc)
        return problems
