# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs these tests inside a guest's root of each suite, side by side: `python -m tests.unit_cloudinit [SUITE...]`.

They need cloud-init, and write where cloud-init writes: never on the machine that this is started on.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Iterable, List

from tests.in_root import TOP
from tests.lab import recipe

SUITES = ("bullseye", "bookworm", "trixie")  # by default; any that the lab knows may be named
_PYTEST = ["env", "OSNETD_IN_ROOT=1", "python3", "-m", "pytest", "-q", "--no-header", "tests/unit_cloudinit"]
_WRITE = ["python3", "-m", "tests.unit_cloudinit.written_by"]
_MARK = "written: "  # as in written_by.py, which is for the root's Python


def main(argv: List[str]) -> int:
    suites = [word for word in argv if word in recipe.SUITES] or list(SUITES)
    options = [word for word in argv if word not in recipe.SUITES]
    collect({*SUITES, *suites})
    running = {}
    for suite in suites:
        command = [sys.executable, "-m", "tests.in_root", suite, *_PYTEST, *options]
        running[suite] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    failed = False
    for suite, process in running.items():
        said, _ = process.communicate()
        lines = said.rstrip().splitlines()
        if process.returncode != 0:
            failed = True
            print("\n".join(f"{suite}| {line}" for line in lines))
        print(f"{suite}:", flush=True)
        print(lines[-1] if lines else f"exit {process.returncode}, nothing said", flush=True)
    return 1 if failed else 0


def collect(suites: Iterable[str]) -> None:
    """Have the cloud-init of each suite write for test_upgraded.py, which sees the files below /src/build."""
    directory = TOP / "build" / "written"
    directory.mkdir(parents=True, exist_ok=True)
    writing = {}
    for suite in suites:
        command = [sys.executable, "-m", "tests.in_root", suite, *_WRITE]
        writing[suite] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for suite, process in writing.items():
        said, errors = process.communicate()
        (line,) = [line for line in said.splitlines() if line.startswith(_MARK)] or [""]
        if not line:
            raise SystemExit(f"{suite}: cloud-init wrote nothing\n{errors}")
        (directory / f"{suite}.json").write_text(line[len(_MARK) :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
