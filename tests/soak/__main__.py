# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The soak's command line: `python -m tests.soak --help`, or `make soak`."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import List, Optional, Sequence

from tests.soak import plants
from tests.soak.generator import generate
from tests.soak.operations import KINDS, Operation, read
from tests.soak.runner import Kind, Result, soak
from tests.soak.shrink import shrunk
from tests.soak.world import NETWORKS

OUT = Path(__file__).resolve().parents[2] / "build" / "soak"
USUAL = "trixie-networkd,bookworm-ifupdown,bullseye-ifupdown"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.soak",
        description="Everything that may happen to a server, in an order drawn by lot, until something is wrong.",
        epilog="What failed lies in build/soak/: the operations that led there, to be done again by --replay, and what the guest looked like.",
    )
    add = parser.add_argument
    add("--kind", default=USUAL, metavar="SUITE-BACKEND[-vm],...", help=f"kinds of guest, one after the other ({USUAL})")
    add("--seed", type=int, help="else one drawn by lot, which is printed")
    add("--operations", type=int, default=300, metavar="N", help="of each seed (300)")
    add("--minutes", type=float, metavar="M", help="seed after seed, and on after a failure, for so long")
    add("--without", default="", metavar="KIND,...", help=f"none of these: {', '.join(KINDS)}")
    add("--single", default="", metavar="NETWORK,...", help=f"no two ports on one of these: {', '.join(NETWORKS)}")
    add("--avoid", default="", metavar="NETWORK,...", help="no port on one of these")
    add("--replay", type=Path, metavar="FILE", help="these operations, one a line")
    add("--steps", default="", metavar="1-5,9", help="of these operations only those")
    add("--shrink", action="store_true", help="after a failure, find the few operations that it takes")
    add("--plant", choices=plants.NAMES, help="put such a fault into the guest, at step --plant-at (1)")
    add("--plant-at", type=int, default=1, metavar="STEP", help=argparse.SUPPRESS)
    add("--list", action="store_true", help="print the operations and do none")
    add("--out", type=Path, default=OUT, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def chosen(operations: Sequence[Operation], steps: str) -> List[Operation]:
    """"1-5,9": those, counted from 1; "": all."""
    if not steps:
        return list(operations)
    numbers: List[int] = []
    for word in steps.split(","):
        first, _, last = word.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return [operations[number - 1] for number in numbers if 0 < number <= len(operations)]


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = arguments(sys.argv[1:] if argv is None else argv)
    first_seed = args.seed if args.seed is not None else random.randrange(1, 10**6)
    without = [word for word in args.without.split(",") if word]
    if set(without) - set(KINDS):
        print(f"soak: no operation {', '.join(sorted(set(without) - set(KINDS)))}", file=sys.stderr)
        return os.EX_USAGE
    args.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * args.minutes if args.minutes else 0.0
    bad, seed = 0, first_seed
    while True:
        operations = _operations(args, seed, without)
        if args.list:
            print("\n".join(map(str, operations)))
            return 0
        for word in args.kind.split(","):
            bad += not _soaked(Kind(*word.split("-")), seed, operations, args)
        seed += 1
        if time.monotonic() >= until:
            return int(bad > 0)


def _operations(args: argparse.Namespace, seed: int, without: Sequence[str]) -> List[Operation]:
    if args.replay:
        made = [read(line) for line in args.replay.read_text().splitlines() if line]
    else:
        single, avoid = ([word for word in words.split(",") if word] for words in (args.single, args.avoid))
        made = generate(seed, args.operations, without, single, avoid)
    return chosen(made, args.steps)


def _soaked(kind: Kind, seed: int, operations: Sequence[Operation], args: argparse.Namespace) -> bool:
    where = f"{kind}, {args.replay or f'seed {seed}'}, {len(operations)} operations"
    print(f"soak: {where}", flush=True)
    result = _once(kind, seed, operations, args)
    print(f"soak: {where}: {result.done} done, {result.skipped} skipped, {result.seconds:.0f} s", flush=True)
    _note(kind, seed, result, args.out)
    if result.failure is None:
        return True
    failure = result.failure
    print(f"soak: step {failure.step} FAILED: {failure.operation or 'the first boot'}")
    print("\n".join(f"  {finding}" for finding in failure.findings))
    name = f"{kind}-{seed}-{failure.step}"
    led = list(operations[: failure.step])
    _tell(args.out / f"{name}.operations", led)
    (args.out / f"{name}.guest").write_text("\n".join([*map(str, failure.findings), failure.evidence]))
    print(f"  the guest: {args.out / name}.guest")
    print(f"  again: make soak KIND={kind} REPLAY={args.out / name}.operations", flush=True)
    if args.shrink:
        _shrink(kind, seed, led, args, args.out / f"{name}.shrunk")
    return False


def _once(kind: Kind, seed: int, operations: Sequence[Operation], args: argparse.Namespace) -> Result:
    plant = plants.plant(args.plant, args.plant_at) if args.plant else None
    return soak(kind, operations, lambda line: print(line, flush=True), trusted=seed % 2 == 1, plant=plant)


def _shrink(kind: Kind, seed: int, led: Sequence[Operation], args: argparse.Namespace, path: Path) -> None:
    def fails(some: List[Operation]) -> bool:
        failure = soak(kind, some, lambda _line: None, trusted=seed % 2 == 1).failure
        print(f"soak: {len(some)} operations: {'fails' if failure else 'good'}", flush=True)
        return failure is not None

    few = shrunk(led, fails)
    _tell(path, few)
    print(f"soak: {len(few)} operations are enough: {path}")
    print("\n".join(f"  {operation}" for operation in few), flush=True)


def _tell(path: Path, operations: Sequence[Operation]) -> None:
    path.write_text("".join(f"{operation}\n" for operation in operations))


def _note(kind: Kind, seed: int, result: Result, out: Path) -> None:
    """For the record: how many operations were ever done here."""
    failure = result.failure
    line = {"kind": str(kind), "seed": seed, "done": result.done, "seconds": round(result.seconds), "failed": failure.step if failure else None}
    with (out / "record.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
