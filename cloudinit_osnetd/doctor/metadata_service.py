# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Asks the metadata service through each NIC that has a path to it, all at once; nothing is set up for that."""

import threading
import time
from typing import Dict, List, Tuple

from ..cloud_init import instance
from ..core import truth
from ..core.network_data import Refused
from ..kernel import netlink
from ..openstack import choose_nic
from ..openstack.metadata import SourceError, fetch
from ..state import store
from .result import Result, failed, ok, skipped, warning

_SLOW_SECONDS = 2.0
_LONGEST_SECONDS = 45.0


def metadata() -> List[Result]:
    """Which NICs reach the metadata service, and in what time."""
    name = "metadata"
    here = instance.instance_id()
    state = store.load(here) if here else store.empty("")
    existing, _temporary = choose_nic.candidates(netlink.snapshot(), state.answered, {})
    if instance.datasource() not in ("ConfigDrive", "OpenStack"):
        return [skipped(name, "the datasource is not OpenStack's")]
    told: Dict[Tuple[str, bool], Tuple[bool, str, float]] = {}
    threads = [threading.Thread(target=_ask, args=(access, here, told), daemon=True) for access in existing]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _LONGEST_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answers = dict(told)
    lines = ["%s%s: %s" % (nic, " (IPv6)" if six else "", text) for (nic, six), (_, text, _) in sorted(answers.items())]
    good = [seconds for reached, _text, seconds in answers.values() if reached]
    found = "; ".join(lines) or "no NIC has a route to 169.254.169.254 or a link-local IPv6 address"
    drive = truth.RANK[-1] in state.truth.services
    if not good:
        advice = "check the route to 169.254.169.254, the security groups and the network's metadata agent"
        if drive:
            return [warning(name, found, advice + "; without it the config drive is used, which is never updated")]
        return [failed(name, found, advice)]
    if min(good) > _SLOW_SECONDS:
        return [warning(name, found, "the service is slow: NICs follow their ports so much later")]
    return [ok(name, found)]


def _ask(access: choose_nic.Access, instance_id: str, told: Dict[Tuple[str, bool], Tuple[bool, str, float]]) -> None:
    began = time.monotonic()
    six = access.kind == "ipv6"
    try:
        fetch(access.nic.name, instance_id, six)
        reached, text = True, ""
    except (OSError, Refused, SourceError) as exc:
        reached, text = False, _without_nic(str(exc))
    seconds = time.monotonic() - began
    told[access.nic.name, six] = reached, text or "answers in %d ms" % (1000 * seconds), seconds


def _without_nic(text: str) -> str:
    """Returns an error without the `metadata via NIC: ` that it begins with: its line begins with the NIC."""
    return text.partition(": ")[2] if text.startswith("metadata via ") else text
