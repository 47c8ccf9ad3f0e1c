# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a touch has not helped: a NIC is not kicked again for what it lacked after the last one.

A kernel refuses a route that it has over another NIC, and a driver an MTU, however often they are
asked. Kept under /run: at the next boot the backend begins anew, and so does this.
"""

import json
from typing import FrozenSet

from . import files, paths
from .plan import Lacking


def read() -> FrozenSet[Lacking]:
    noted = files.read_json(paths.KICKS)
    try:
        return frozenset(Lacking(*one) for one in noted or [])
    except TypeError:
        return frozenset()


def keep(tried: FrozenSet[Lacking]) -> None:
    if tried == read():
        return
    if tried:
        files.replace(paths.KICKS, json.dumps(sorted(tried)) + "\n", mode=0o600, sync=False)
    else:
        files.remove(paths.KICKS)
