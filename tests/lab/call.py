# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The tools of this machine that the lab calls, and the error that says which of them failed."""

from __future__ import annotations

import subprocess
import time
from typing import List


class LabError(RuntimeError):
    """Something the lab needed did not work. The text says what, and ends with what the tool printed."""


def call(argv: List[str], doing: str) -> None:
    """Run a tool to its end; LabError where it failed."""
    began = time.monotonic()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise LabError(f"{doing} failed with {done.returncode} after {time.monotonic() - began:.0f} s:\n{tail}")
