# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs these tests inside a guest's root of each suite, side by side: `python -m tests.unit_cloudinit [SUITE...]`.

They need cloud-init, and write where cloud-init writes: never on the machine that this is started on.
"""

from __future__ import annotations

import subprocess
import sys
from typing import List

from tests.lab import recipe

SUITES = ("bullseye", "bookworm", "trixie")  # by default; any that the lab knows may be named
_PYTEST = ["env", "OSNETD_IN_ROOT=1", "python3", "-m", "pytest", "-q", "--no-header", "tests/unit_cloudinit"]


def main(argv: List[str]) -> int:
    suites = [word for word in argv if word in recipe.SUITES] or list(SUITES)
    options = [word for word in argv if word not in recipe.SUITES]
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
