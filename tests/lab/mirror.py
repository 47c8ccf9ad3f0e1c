# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Where guest roots are bootstrapped from."""

from __future__ import annotations

import os
import subprocess
from typing import List, Optional

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def debian_mirror() -> Optional[str]:
    """$OSNETD_MIRROR, else the Debian mirror that this host's own apt uses, else None: mmdebstrap's default."""
    if os.environ.get("OSNETD_MIRROR"):
        return os.environ["OSNETD_MIRROR"]
    form = "$(ORIGIN) $(LABEL) $(REPO_URI)"  # a security or a third party's archive has another label or origin
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", form], stdout=subprocess.PIPE, text=True, check=True
    )
    for line in targets.stdout.splitlines():
        if line.startswith("Debian Debian http"):
            return line.split()[-1].rstrip("/")
    return None


def sources(suite: str) -> List[str]:
    """The arguments of mmdebstrap that say where to get a suite from."""
    mirror = debian_mirror()
    return [f"deb [signed-by={KEYRING}] {mirror} {suite} main"] if mirror else []
