# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The bounded history: the record of each run that changed something, one JSON object a line, oldest first.

Each record has a number, `run`, by which it is asked for; numbers of one instance ascend and are not used again.
"""

import json
import logging
import time
from typing import Any, Dict, List

from ..system import files, paths

LOG = logging.getLogger(__name__)
_LINES = 200


def remember(record: Dict[str, Any]) -> None:
    """Appends a record, with its number and the time (`when`, seconds since the epoch).

    The number is that of the run itself, by which the store keeps what it replaced (former.py). The next one is given
    to a record without a number (0), or with one that another record has.
    """
    kept = read()
    run = record.get("run", 0)
    if not run or any(one["run"] == run for one in kept):
        run = last_number(kept) + 1
    kept.append(dict(record, run=run, when=round(time.time(), 3)))
    text = "".join("%s\n" % json.dumps(one, sort_keys=True) for one in kept[-_LINES:])
    files.replace(paths.HISTORY, text, mode=0o600, sync=False)


def last_number(kept: List[Dict[str, Any]]) -> int:
    return max((one["run"] for one in kept), default=0)


def read() -> List[Dict[str, Any]]:
    """Returns the records, oldest first. A line that cannot be read is left out; 0.1.0 wrote no numbers."""
    kept: List[Dict[str, Any]] = []
    for line in (files.read(paths.HISTORY) or "").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            kept.append(record)
        else:
            LOG.warning("history: line left out: %.60r", line)
    # Those without a number are older than the first with one, and count back from it.
    numbered = [record["run"] - place for place, record in enumerate(kept) if isinstance(record.get("run"), int)]
    for place, record in enumerate(kept):
        if not isinstance(record.get("run"), int):
            record["run"] = (numbered[0] if numbered else 1) + place
    return kept
