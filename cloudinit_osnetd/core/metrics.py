# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Assigns route metrics. A link keeps its metric, so that with two gateways one default route is used.

The primary link has no metric of its own, as cloud-init alone would write it. The metrics of all other
links are higher than any metric of the primary's routes: a static route has 0 (IPv6: 1024), and
systemd-networkd gives routes of a lease or an advertisement 1024.
"""

from typing import Dict, Iterable, Mapping, Sequence

PRIMARY = 0
_FIRST, _STEP = 2100, 100


def assign(
    known: Mapping[str, int], settled: Iterable[str], arriving: Sequence[str], another: bool = False
) -> Dict[str, int]:
    """Returns the metrics by key: the `known` ones and those of the `arriving` keys (best candidate first).

    `settled` keys have a NIC and a configuration and keep their metric. An arriving key gets its old
    metric back, unless another key has it now. The first key on a server becomes the primary; a later
    one never does, so a working default route is not moved. `another` is True if the primary is a NIC
    that other software configures.
    """
    given = dict(known)
    taken = {given.get(key, PRIMARY) for key in settled} | ({PRIMARY} if another else set())
    for key in arriving:
        if key not in given or given[key] in taken:
            given[key] = PRIMARY if not taken else _free(given)
        taken.add(given[key])
    return given


def _free(given: Mapping[str, int]) -> int:
    used = set(given.values())
    metric = _FIRST
    while metric in used:
        metric += _STEP
    return metric
