# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The .deb under test: $OSNETD_DEB, or what `make deb` builds from this checkout."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from tests.lab import run
from tests.lab.call import LabError
from tests.lab.progress import step


@functools.lru_cache(maxsize=None)
def under_test() -> Path:
    given = os.environ.get("OSNETD_DEB")
    if given:
        return Path(given)
    with run.locked(run.lab_dir() / "deb.lock"), step("building the package"):
        made = subprocess.run(
            ["make", "deb"], cwd=run.CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if made.returncode != 0:
            raise LabError(f"`make deb` failed:\n{made.stdout[-3000:]}")
        built = sorted((run.CHECKOUT / "dist").glob("cloudinit-osnetd_*.deb"), key=lambda path: path.stat().st_mtime)
        if not built:
            raise LabError("`make deb` left no dist/cloudinit-osnetd_*.deb")
        return built[-1]
