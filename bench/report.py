# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What came out: one table, one JSON file, one page of the documentation."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

from bench.scenes import Sample, Watched

_WHAT = {
    "one": "one NIC",
    "eight": "eight at once",
    "one_100ms": "one NIC, metadata at 100 ms",
    "eight_100ms": "eight at once, metadata at 100 ms",
    "removal": "removal, still listed",
    "push": "push of an edit",
    "veths": "NIC after 200 veth pairs",
    "nothing": "nothing to do",
    "boot": "boot, nothing changed",
}
# What is aimed at for this package. "The answer" is one answer of the metadata service.
_AIMS = {
    "one_100ms": "floor + 140 ms (the answer + 40)",
    "eight_100ms": "floor + 200 ms (the answer + 100)",
    "removal": "floor + 150 ms",
    "nothing": "45 ms of CPU",
    "boot": "30 ms",
}
_HEAD = ("guest", "what", "contender", "seconds", "floor +", "aim", "agent CPU ms", "guest CPU ms", "peak MiB", "lost")
_BEGIN, _END = "<!-- the table of `make bench`: begin -->", "<!-- the table of `make bench`: end -->"


class Result(NamedTuple):
    """All measurements of one scene, for one contender in one kind of guest."""

    guest: str
    scene: str
    contender: str
    wanted: int  # NICs
    samples: List[Sample]
    watched: Optional[Watched]

    @property
    def times(self) -> List[float]:
        return [sample.seconds for sample in self.samples if sample.seconds is not None]


class Scale(NamedTuple):
    """CPU seconds of the agent over a number of NICs or of links in network_data."""

    guest: str
    over: str  # "NICs" or "links"
    count: int
    agent: List[float]


def spread(values: Sequence[float], digits: int, factor: float = 1.0) -> str:
    """Median, and in brackets the least and the most."""
    if not values:
        return "-"
    numbers = [statistics.median(values), min(values), max(values)]
    middle, least, most = (f"{number * factor:.{digits}f}" for number in numbers)
    return f"{middle} ({least}-{most})"


def _seconds(result: Result) -> str:
    if result.scene == "nothing":
        return "-"
    missed = len(result.samples) - len(result.times)
    if not result.times:
        reached = max((sample.reached for sample in result.samples), default=0)
        return f"never ({reached} of {result.wanted})" if result.wanted > 1 else "never"
    return spread(result.times, 3) + (f", {missed} never" if missed else "")


def _over_floor(result: Result, results: Iterable[Result]) -> str:
    floor = [r for r in results if (r.guest, r.scene, r.contender) == (result.guest, result.scene, "floor")]
    if result.contender == "floor" or not floor or not floor[0].times or not result.times:
        return ""
    mine, least = statistics.median(result.times), statistics.median(floor[0].times)
    return f"{(mine - least) * 1000:.0f} ms, x{mine / least:.1f}"


def rows(results: Sequence[Result]) -> List[List[str]]:
    table = []
    for result in results:
        watched = result.watched
        what = _WHAT.get(result.scene, result.scene)
        if result.scene == "veths" and any(sample.started for sample in result.samples):
            what += " (started by them)"
        table.append(
            [
                result.guest,
                what,
                result.contender,
                _seconds(result),
                _over_floor(result, results),
                _AIMS.get(result.scene, "") if result.contender == "osnetd" else "",
                spread([sample.cpu.agent for sample in result.samples], 0, 1000),
                spread([sample.cpu.guest for sample in result.samples if sample.cpu.guest], 0, 1000),
                f"{watched.peak_mib:.0f}" if watched and watched.peak_mib else "",
                f"{watched.lost} of {watched.sent}" if watched else "",
            ]
        )
    return table


def markdown(results: Sequence[Result]) -> str:
    lines = [list(_HEAD), ["---"] * len(_HEAD), *rows(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def scaling(scales: Sequence[Scale]) -> str:
    lines = ["| guest | over | count | agent CPU ms | ms for each more |", "|---|---|---|---|---|"]
    for scale in scales:
        least = min((s for s in scales if (s.guest, s.over) == (scale.guest, scale.over)), key=lambda s: s.count)
        more = scale.count - least.count
        each = (statistics.median(scale.agent) - statistics.median(least.agent)) * 1000 / more if more else 0.0
        lines.append(
            f"| {scale.guest} | {scale.over} | {scale.count} | {spread(scale.agent, 0, 1000)} | "
            f"{f'{each:.2f}' if more else ''} |"
        )
    return "\n".join(lines)


def to_json(machine: Dict[str, Any], results: Sequence[Result], scales: Sequence[Scale]) -> str:
    found = []
    for result in results:
        samples = [
            {"seconds": s.seconds, "agent_cpu": s.cpu.agent, "guest_cpu": s.cpu.guest, "reached": s.reached, "started": s.started}
            for s in result.samples
        ]
        watched = result.watched._asdict() if result.watched else None
        found.append({**result._asdict(), "samples": samples, "watched": watched})
    said = {"machine": machine, "results": found, "scaling": [scale._asdict() for scale in scales]}
    return json.dumps(said, indent=1) + "\n"


def into_docs(page: Path, text: str) -> None:
    """Put the table between its marks; the rest of the page is written by people."""
    old = page.read_text()
    before, _, rest = old.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"{page} has no place for the table: {_BEGIN} ... {_END}")
    page.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")
