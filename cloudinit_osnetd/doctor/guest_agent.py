# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Checks of the QEMU guest agent, by which a host pushes: installed, running, and what it refuses."""

import os
import re
from typing import List, Optional, Tuple

from ..system import files, paths
from .result import Result, ok, skipped, warning

_NEEDED = ("guest-exec", "guest-exec-status")
# Options of qemu-ga: --block-rpcs since 8.1, --blacklist before; --allow-rpcs since 8.2.
_BLOCKED = re.compile(
    r"(?:--block-rpcs|--blacklist|[\s\"']-b)[= ]*([a-z0-9_,-]+)|^(?:BLACKLIST_RPC|block-rpcs|blacklist)\s*=(.*)"
)
_ALLOWED = re.compile(r"(?:--allow-rpcs|[\s\"']-a)[= ]*([a-z0-9_,-]+)|^allow-rpcs\s*=(.*)")
_NAME = re.compile(r"guest-[a-z0-9-]+")


def guest_agent() -> List[Result]:
    """Whether a host can push through the guest agent."""
    name = "guest agent"
    program = next((path for path in paths.AGENT_PROGRAMS if os.path.exists(path)), None)
    if program is None:
        return [skipped(name, "not installed: a host cannot push (package qemu-guest-agent)")]
    blocked, where = refused()
    if blocked:
        found = "%s: %s blocked by %s" % (program, ", ".join(blocked), where)
        return [warning(name, found, "take them out of the list in %s, then restart the agent" % where)]
    if not os.path.exists(paths.AGENT_CHANNEL):
        found = "installed, and the host gives it no channel (%s)" % paths.AGENT_CHANNEL
        return [warning(name, found, "set hw_qemu_guest_agent=yes on the image, and create the server again")]
    if not _running():
        return [warning(name, "%s does not run" % program, "systemctl start qemu-guest-agent")]
    return [ok(name, "runs, and takes guest-exec")]


def refused() -> Tuple[List[str], str]:
    """Returns the commands that a push needs and the agent refuses, and the file or process that says so."""
    for path in paths.AGENT_CONFIGS:
        for line in (files.read(path) or "").splitlines():
            found = None if line.lstrip().startswith("#") else _refused_by(line.strip())
            if found:
                return found, path
    for pid in _running():
        found = _refused_by((files.read(os.path.join(paths.PROC, pid, "cmdline")) or "").replace("\0", " "))
        if found:
            return found, "the command line of pid %s" % pid
    return [], ""


def _refused_by(text: str) -> Optional[List[str]]:
    blocked = {name for match in _BLOCKED.finditer(text) for name in _NAME.findall(match[1] or match[2] or "")}
    allowed = [_NAME.findall(match[1] or match[2] or "") for match in _ALLOWED.finditer(text)]
    return [one for one in _NEEDED if one in blocked or any(names and one not in names for names in allowed)] or None


def _running() -> List[str]:
    """Returns the pids of the agent."""
    found = []
    for pid in os.listdir(paths.PROC) if os.path.isdir(paths.PROC) else ():
        if pid.isdigit():
            try:
                words = (files.read(os.path.join(paths.PROC, pid, "cmdline")) or "").split("\0")
            except (OSError, ValueError):
                continue
            if os.path.basename(words[0]) == "qemu-ga":
                found.append(pid)
    return found
