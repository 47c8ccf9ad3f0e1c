# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`announce`: reports to cloud-init's reporting framework the runs that were not reported yet.

cloudinit-osnetd-report.service calls it after a run that changed something. A run counts as reported once all handlers
have taken its events; until then each later call tries again: a webhook that was down gets it late, and perhaps twice.
"""

import argparse
import json
import logging
import time
from typing import Any, Dict, List

from ..cloud_init import instance
from ..state import history
from ..system import files, paths
from .history import nics_of, result_of, time_of

LOG = logging.getLogger(__name__)
EXIT_NOT_TOLD, EXIT_INVALID = 1, 78
NAME = "cloudinit-osnetd"
_FIRST_SECONDS = 600.0  # the first call tells of the runs of so long ago, not of all that is kept


def events_of(record: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Returns the start and the finish of a run, as compat.report takes them."""
    took = record.get("seconds") if isinstance(record.get("seconds"), (int, float)) else 0.0
    ended, result = float(record.get("when") or 0), result_of(record)
    begins = "run %d (%s)" % (record["run"], ", ".join(record.get("reasons", ())) or "unknown")
    word = "SUCCESS" if result == "done" else "WARN" if result.startswith("rolled back") else "FAIL"
    start = {"type": "start", "name": NAME, "description": begins, "time": ended - float(took or 0)}
    told = "%s: %s: %s" % (begins, nics_of(record) or "no NIC", result)
    return [start, {"type": "finish", "name": NAME, "description": told, "time": ended, "result": word}]


def untold() -> List[Dict[str, Any]]:
    """Returns the runs of which the framework has not heard, oldest first."""
    noted = files.read_json(paths.REPORTED)
    last = noted.get("run") if isinstance(noted, dict) and noted.get("instance") == instance.instance_id() else None
    records = history.read()
    if isinstance(last, int):
        return [record for record in records if record["run"] > last]
    return [record for record in records if time.time() - float(record.get("when") or 0) < _FIRST_SECONDS]


def main(_args: argparse.Namespace) -> int:
    """Ends with 1 if a handler did not take an event, 78 if `reporting:` is invalid."""
    from ..cloud_init import compat

    while True:
        records = untold()
        if not records:
            return 0
        for record in records:
            try:
                compat.report(events_of(record))
            except compat.NotReported as exc:
                LOG.warning("not told, tried again: run=%d (%s) error=%s", record["run"], time_of(record), exc)
                return EXIT_NOT_TOLD
            except ValueError as exc:
                LOG.error("%s", exc)
                return EXIT_INVALID
            noted = {"instance": instance.instance_id(), "run": record["run"]}
            files.replace(paths.REPORTED, json.dumps(noted) + "\n", mode=0o600, sync=False)
