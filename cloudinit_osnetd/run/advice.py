# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a person should do next, from what status found. Pure."""

import re
from typing import Any, Dict, List, Mapping

_BY_STATE = (
    ("drifted", "%s: see `cloudinit-osnetd plan --force --diff`; `reconcile --force` overwrites the edit"),
    ("pending", "%s: no source lists it yet; check that its port is attached to this server in OpenStack"),
    ("orphan", "%s: no longer listed; detach the port from the server, or attach it in OpenStack again"),
    ("doubted", "%s: wait, the sources are checked again soon"),
)
_FIELD = re.compile(r"\b(links|networks|services)\[\d+\]")  # of a network_data
_REJECTED = "%s: correct the port in OpenStack, or try the edit again with `cloudinit-osnetd reconcile --force`"
_PUSH_REJECTED = (
    "%s: push a corrected document, drop what was pushed with `cloudinit-osnetd apply --forget`, "
    "or try it again with `cloudinit-osnetd reconcile --force`"
)
_REFUSED = "%s: correct the port in OpenStack: its new entry cannot be used"
_SEE_STATUS = "%s: `cloudinit-osnetd status` says what to do"
_RUN_FAILED = "%s: `cloudinit-osnetd show` has what was run; try again with `cloudinit-osnetd reconcile`"
_FAILED = "%s: see `journalctl -u cloudinit-osnetd`, then try `cloudinit-osnetd reconcile`"


def next_steps(report: Mapping[str, Any]) -> List[str]:
    """Returns one sentence for each thing to do, the most urgent first; an empty list if there is nothing to do.

    `report` is the report of status.read().
    """
    if report.get("hands_off") and not report.get("backend"):
        return ["the network is not managed; `cloudinit-osnetd doctor` says what could be wrong"]
    rows = [row for row in report["nics"] if not row["reason"].startswith("a run is bringing it up")]
    failed = [row for row in rows if row["state"] == "failed"]
    rejected = [row for row in failed if row["reason"].startswith("rejected until")]
    refused = [row for row in failed if row not in rejected and _FIELD.search(row["reason"])]
    others = [row for row in failed if row not in rejected and row not in refused]
    pushed = [row for row in rejected if row["source"] == "push"]
    rejected = [row for row in rejected if row not in pushed]
    told = ((others, _FAILED), (pushed, _PUSH_REJECTED), (rejected, _REJECTED), (refused, _REFUSED))
    steps = [text % _names(some) for some, text in told if some]
    for state, text in _BY_STATE:
        some = [row for row in rows if row["state"] == state]
        steps += [text % _names(some)] if some else []
    if any(source["answered"] is False for source in report.get("sources", ()) if source["source"] == "metadata"):
        steps.append("the metadata service gave no valid answer: `cloudinit-osnetd doctor` asks it through each NIC")
    return steps


def after_run(report: Mapping[str, Any]) -> List[str]:
    """Returns what to do about the NICs that this run could not configure, or has left alone.

    `report` is the run's record as JSON.
    """
    names = {row["mac"]: row["nic"] for row in report["changes"]}
    names.update({touch["mac"]: touch["name"] for touch in report["touches"]}, **report.get("names", {}))
    problems = sorted((names.get(link) or link, text) for link, text in report["problems"].items())
    rejected = [{"name": name} for name, text in problems if text.startswith("rejected until")]
    others = [{"name": name} for name, text in problems if not text.startswith("rejected until")]
    told = _PUSH_REJECTED if "push" in report["reasons"] else _SEE_STATUS
    drifted = [{"name": drift["name"]} for drift in report["drifted"]]
    found = ((_RUN_FAILED, others), (told, rejected), (dict(_BY_STATE)["drifted"], drifted))
    return [text % _names(rows) for text, rows in found if rows]


def _names(rows: List[Dict[str, Any]]) -> str:
    return ", ".join(row["name"] or row["mac"] for row in rows)
