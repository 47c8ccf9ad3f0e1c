# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a touch has not helped: a NIC is not kicked again for what it lacked after the last one.

A kernel refuses a route that it has over another NIC, and a driver an MTU, however often they are
asked. Kept under /run: at the next boot the backend begins anew, and so does this.
"""

import json
from typing import FrozenSet

from ..core import encoding
from ..core.plan import Lacking
from ..system import files, paths

_LACKING = ("key", "mac", "name", "ifindex", "lacks")  # as many as 0.1.0 knows


def read() -> FrozenSet[Lacking]:
    noted = files.read_json(paths.KICKS)
    try:
        return frozenset(encoding.read_rows(Lacking, _LACKING, noted or []))
    except TypeError:  # what has not helped is tried once more
        return frozenset()


def keep(tried: FrozenSet[Lacking]) -> None:
    if tried == read():
        return
    if tried:
        files.replace(paths.KICKS, json.dumps(encoding.rows(sorted(tried), _LACKING)) + "\n", mode=0o600, sync=False)
    else:
        files.remove(paths.KICKS)
