# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The document from a file or from standard input, as it is: plain JSON or base64. The guest checks what it says."""

import sys

from .errors import NoDocument

# The guest takes 1 MiB, and a third more, with line ends, in base64.
MAX_BYTES = (1 << 20) * 3 // 2


def read(path: str) -> bytes:
    """Returns the content of the file, or of standard input for "-". Raises NoDocument."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as fh:
                data = fh.read(MAX_BYTES + 1)
    except OSError as exc:
        raise NoDocument("%s: %s" % (path, exc.strerror or exc)) from exc
    if len(data) > MAX_BYTES:
        raise NoDocument("%s: larger than a guest takes (1 MiB)" % path)
    if not data.strip():
        raise NoDocument("%s: empty" % path)
    return data
