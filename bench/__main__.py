# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Measure, and print one table. See bench/__init__.py."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from bench import plot, report
from bench.contenders import CONTENDERS, Contender, Kind, Osnetd
from bench.report import Result, Scale
from bench.scenes import SCENES, Bench
from tests.lab import run
from tests.lab.progress import say

_NICS = (1, 8, 28)
_LINKS = (1, 10, 100, 1000)
_QUIET_LOAD = 2.0


def main() -> int:
    args = _parser().parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: the lab's guests need root")
    machine = _machine(args.repeats)
    if machine["load"] > _QUIET_LOAD:
        say(f"this machine is busy (load {machine['load']:.1f}): believe the CPU times and the ratios, not the seconds")
    results: List[Result] = []
    scales: List[Scale] = []
    for kind in args.guests:
        results += _compare(kind, args)
        if args.scaling:
            scales += _scale(kind, args.repeats)
    machine["load_after"] = os.getloadavg()[0]
    text = _page(machine, results, scales)
    print(text)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(report.to_json(machine, results, scales))
    if args.docs:
        docs = run.CHECKOUT / "docs"
        report.into_docs(docs / "performance.md", text)
        plot.draw(results, docs / "performance.svg")
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(prog="python3 -m bench", description="How fast a guest follows its ports.")
    parser.add_argument("-n", "--repeats", type=int, default=7, help="measurements of each scene (default: 7)")
    parser.add_argument(
        "--guests", type=_kinds, default=_kinds("bookworm/ifupdown,trixie/networkd"), help="suite/backend,..."
    )
    parser.add_argument("--scenes", type=lambda text: text.split(","), default=SCENES, help=",".join(SCENES))
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=names, help=",".join(names))
    parser.add_argument("--no-scaling", dest="scaling", action="store_false", help="not over numbers of NICs and links")
    parser.add_argument("--no-watch", dest="watch", action="store_false", help="no memory, no lost datagrams")
    parser.add_argument("--json", type=Path, default=run.CHECKOUT / "build/bench.json", help="where the numbers go")
    parser.add_argument("--docs", action="store_true", help="put table and plot into docs/performance.md")
    return parser


def _kinds(text: str) -> List[Kind]:
    return [Kind(*word.split("/")) for word in text.split(",")]


def _machine(repeats: int) -> Dict[str, Any]:
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": repeats,
        "load": os.getloadavg()[0],
    }


def _compare(kind: Kind, args: argparse.Namespace) -> List[Result]:
    """Every scene for every contender, in turn, so that all see the same weather."""
    results = []
    with contextlib.ExitStack() as stack:
        benches = []
        for make in CONTENDERS:
            if make.name in args.contenders:
                say(f"{kind}: booting the guest of {make.name}")
                benches.append(Bench(stack.enter_context(make(kind))))
        for bench in benches:
            bench.meter.settle(30)
        for scene in args.scenes:
            results += _measure(scene, kind, benches, args)
    return results


def _measure(scene: str, kind: Kind, benches: List[Bench], args: argparse.Namespace) -> List[Result]:
    found = {}
    for bench in benches:
        who = bench.contender
        takes_part = {"nothing": isinstance(who, Osnetd), "boot": bool(who.early_unit), "push": who.can_be_pushed}
        if takes_part.get(scene, True):
            wanted = 8 if scene.startswith("eight") else 1
            found[bench] = Result(str(kind), scene, bench.contender.name, wanted, [], None)
    for number in range(args.repeats):
        say(f"{kind}: {scene}, {number + 1} of {args.repeats}")
        for bench, result in found.items():
            if number < 2 or result.times or scene == "nothing":  # who never gets there need not show it seven times
                result.samples.append(getattr(bench, scene)())
    if args.watch and scene not in ("nothing", "boot"):
        for bench, result in found.items():
            found[bench] = result._replace(watched=bench.watched(getattr(bench, scene)))
    return list(found.values())


def _scale(kind: Kind, repeats: int) -> List[Scale]:
    """The agent's CPU time over the number of NICs that come at once, and of links that network_data lists."""
    scales = []
    with _fresh(kind) as contender:
        bench = Bench(contender)
        bench.meter.settle(30)
        for count in _NICS:
            say(f"{kind}: {count} NICs at once")
            scales.append(Scale(str(kind), "NICs", count, [bench.attach(count).cpu.agent for _ in range(repeats)]))
        listed = 1
        for count in _LINKS:
            say(f"{kind}: {count} links listed")
            contender.create_ports(count - listed)
            listed = count
            bench.nothing()  # hears of them
            scales.append(Scale(str(kind), "links", count, [bench.nothing().cpu.agent for _ in range(repeats)]))
    return scales


def _fresh(kind: Kind) -> Contender:
    return Osnetd(kind)


def _page(machine: Dict[str, Any], results: List[Result], scales: List[Scale]) -> str:
    where = (
        f"{machine['date']}, {machine['cores']} cores ({machine['cpu']}), Linux {machine['kernel']}, load "
        f"{machine['load']:.1f} before and {machine['load_after']:.1f} after; median (least-most) of {machine['repeats']}."
    )
    parts = [where, report.markdown(results)]
    if scales:
        parts.append(report.scaling(scales))
    return "\n\n".join(parts)


sys.exit(main())
