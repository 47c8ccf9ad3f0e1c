# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Findings that no later check can see again: shown in `status` until the NIC is touched again.

Examples are a duplicate address, a lost address of other software, and a bridge member whose configuration applies at
the next boot. They are kept under /run.
"""

import json
from typing import Collection, Dict, Mapping, Tuple

from ..system import files, paths


def read() -> Dict[str, Tuple[str, ...]]:
    """Returns the findings by link."""
    noted = files.read_json(paths.FINDINGS)
    try:
        return {str(link): tuple(map(str, said)) for link, said in (noted or {}).items()}
    except (AttributeError, TypeError):
        return {}


def keep(touched: Collection[str], new: Mapping[str, Tuple[str, ...]]) -> None:
    """Keeps these findings. `touched`: the links whose earlier findings are dropped."""
    before = read()
    now = {link: said for link, said in before.items() if link not in touched}
    now.update({link: said for link, said in new.items() if said})
    if now == before:
        return
    if now:
        files.replace(paths.FINDINGS, json.dumps(now, sort_keys=True) + "\n", mode=0o600, sync=False)
    else:
        files.remove(paths.FINDINGS)
