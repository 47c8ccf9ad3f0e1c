# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A Python with Nova in it: made once, from the package index, in the lab's directory."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from tests.lab import run
from tests.lab.progress import step

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@pytest.fixture(scope="session")
def nova_python() -> Path:
    """The interpreter that has Nova. Where it cannot be had, the tests say that they did not run."""
    key = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:10]
    home = run.lab_dir() / f"nova-{key}"
    with run.locked(run.lab_dir() / "nova.lock"):
        if not (home / "complete").exists():
            problem = _install(home)
            if problem:
                pytest.skip(f"NOT RUN, the serializer was not compared with Nova's: {problem}")
            (home / "complete").touch()
    return home / "bin" / "python"


def _install(home: Path) -> Optional[str]:
    python = _new_enough_python()
    if python is None:
        return "Nova needs Python 3.11 or later, and there is none on the path"
    with step("installing Nova for its serializer"):
        for argv in (
            [python, "-m", "venv", "--clear", str(home)],
            [str(home / "bin" / "pip"), "install", "--quiet", "--requirement", str(_REQUIREMENTS)],
        ):
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                lines = done.stdout.strip().splitlines() or ["no message"]
                return f"`{' '.join(argv)}` failed: {lines[-1]}"
    return None


def _new_enough_python() -> Optional[str]:
    if sys.version_info >= (3, 11):
        return sys.executable
    return next((path for path in map(shutil.which, ("python3.13", "python3.12", "python3.11")) if path), None)
