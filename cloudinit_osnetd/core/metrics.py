# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Route metrics: given once per link and kept, so that two gateways mean one default route.

The primary has none of its own, as cloud-init alone would write it. Every other link's are above
whatever the primary's routes can have: a static route has 0 (IPv6: 1024), systemd-networkd gives
what a lease or an advertisement brings 1024.
"""

from typing import Dict, Iterable, Mapping, Sequence

PRIMARY = 0
_FIRST, _STEP = 2100, 100


def give(
    known: Mapping[str, int], settled: Iterable[str], arriving: Sequence[str], another: bool = False
) -> Dict[str, int]:
    """The metrics by key, `known` and those of `arriving` keys (best candidate first) included.

    `settled` keys have a NIC and a configuration: theirs stay. An arriving key gets back what it
    had, unless another took it meanwhile. The first one on a server that has none is the primary;
    one that arrives beside others never is: a default route that works is not moved. `another`:
    the primary is a NIC that others configure.
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
