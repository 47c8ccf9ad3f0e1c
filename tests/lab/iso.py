# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A config drive as Nova hands it to a server: an ISO 9660 volume labelled config-2, with Rock Ridge and Joliet names."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Mapping

from tests.lab.call import LabError

LABEL = "config-2"
# nova/virt/configdrive.py, ConfigDriveBuilder._make_iso9660, less -ldots, -allow-lowercase and -allow-multidot, which
# bend the plain ISO 9660 names that nobody reads where Rock Ridge ones are.
OPTIONS = ("-quiet", "-publisher", "OpenStack Nova", "-J", "-r", "-V", LABEL)


def write(files: Mapping[str, bytes], iso: Path) -> None:
    """Write the volume: `files` are paths inside it, and their contents. An older one is replaced when this is whole."""
    with tempfile.TemporaryDirectory(prefix="config-drive-", dir=iso.parent) as folder:
        content = Path(folder) / "content"
        for name, data in files.items():
            path = content / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        made = Path(folder) / "iso"
        done = subprocess.run(
            ["xorriso", "-as", "mkisofs", *OPTIONS, "-o", str(made), str(content)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise LabError(
                f"xorriso made no config drive (it ended with {done.returncode}):\n{done.stdout.strip()[-1000:]}"
            )
        made.replace(iso)
