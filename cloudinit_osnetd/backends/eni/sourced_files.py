# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The files that ifupdown reads: /etc/network/interfaces and what it sources."""

import glob
import os
import re
from typing import Dict

from ...system import files, paths
from . import interfaces_file

DIRECTORY = "/etc/network"
_SOURCED = re.compile(r"[A-Za-z0-9_-]+\Z")  # what interfaces(5) says of source-directory: no ens4.bak


def sources() -> Dict[str, str]:
    """Returns the text of /etc/network/interfaces and of what it sources, by path.

    The fragments of the cloud image's DHCP helper are left out.
    """
    found: Dict[str, str] = {}
    todo = [os.path.join(DIRECTORY, "interfaces")]
    while todo:
        path = os.path.join(DIRECTORY, todo.pop())
        fragment = os.path.dirname(path) == paths.INTERFACES_FRAGMENTS
        text = files.read(path) if os.path.isfile(path) and not fragment else None
        if text is None or path in found:
            continue
        found[path] = text
        for words in interfaces_file.statements(text):
            if words[:1] == ["source"]:
                todo += [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word))]
            elif words[:1] == ["source-directory"]:
                inside = [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word, "*"))]
                todo += [one for one in inside if _SOURCED.match(os.path.basename(one))]
    return found


def reads_elsewhere() -> bool:
    """True if a file outside of /etc/network may be read, now or when it is there; DHCP fragments do not count."""
    own = (DIRECTORY + "/", paths.INTERFACES_FRAGMENTS + "/")
    for text in sources().values():
        for words in interfaces_file.statements(text):
            if words[:1] in (["source"], ["source-directory"]):
                named = [os.path.normpath(os.path.join(DIRECTORY, word)) + "/" for word in words[1:]]
                if not all(name.startswith(own) for name in named):
                    return True
    return False


def all_text() -> str:
    """Returns the text of all files that ifupdown reads."""
    return "\n".join(text.rstrip("\n") for text in sources().values()) + "\n"
