# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a touch found and no later look at the kernel shows: told in `status` until the NIC is touched again.

A duplicate, an address of others' that is lost, a bridge's member that waits for the next boot. Kept under /run.
"""

import json
from typing import Collection, Dict, Mapping, Tuple

from ..system import files, paths


def read() -> Dict[str, Tuple[str, ...]]:
    """By MAC."""
    noted = files.read_json(paths.FINDINGS)
    try:
        return {str(mac): tuple(map(str, said)) for mac, said in (noted or {}).items()}
    except (AttributeError, TypeError):
        return {}


def keep(touched: Collection[str], told: Mapping[str, Tuple[str, ...]]) -> None:
    """`touched`: the MACs of which what was found before counts no more."""
    before = read()
    now = {mac: said for mac, said in before.items() if mac not in touched}
    now.update({mac: said for mac, said in told.items() if said})
    if now == before:
        return
    if now:
        files.replace(paths.FINDINGS, json.dumps(now, sort_keys=True) + "\n", mode=0o600, sync=False)
    else:
        files.remove(paths.FINDINGS)
