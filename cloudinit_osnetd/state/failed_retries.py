# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What bringing a NIC up did not fix: a NIC is not reapplied again for what it still lacked after the last time.

A kernel refuses a route that it has through another NIC, and a driver refuses an MTU, however often they are set. This
is kept under /run: after a reboot the backend starts again, and the retries do too.
"""

import json
from typing import FrozenSet

from ..core import encoding
from ..core.plan import Lacking
from ..system import files, paths

_LACKING = ("key", "mac", "name", "ifindex", "lacks")  # the fields that 0.1.0 knows


def read() -> FrozenSet[Lacking]:
    noted = files.read_json(paths.FAILED_RETRIES)
    try:
        return frozenset(encoding.read_rows(Lacking, _LACKING, noted or []))
    except TypeError:  # tried once more
        return frozenset()


def keep(tried: FrozenSet[Lacking]) -> None:
    if tried == read():
        return
    if tried:
        text = json.dumps(encoding.rows(sorted(tried), _LACKING)) + "\n"
        files.replace(paths.FAILED_RETRIES, text, mode=0o600, sync=False)
    else:
        files.remove(paths.FAILED_RETRIES)
