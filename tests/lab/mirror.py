# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Where guest roots are bootstrapped from, and by whose keys."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional

from tests.lab import run
from tests.lab.call import LabError, call
from tests.lab.progress import step

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # of the package debian-archive-keyring
OLDEST = "bullseye"  # its release is signed by keys of 2021 too, and its keyring has those of later suites
UNKNOWN_KEY = ("NO_PUBKEY", "Missing key")  # as apt passes on what gpgv, or sqv, says


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


def bootstrap(suite: str, target: Path, *options: str) -> None:
    """A suite's root by mmdebstrap, with these options.

    Ubuntu 22.04 has a keyring that is older than bookworm, and no key in it has signed what came later: then by the
    keyring of a suite that it does know.
    """
    try:
        _mmdebstrap(suite, target, KEYRING, *options)
    except LabError as error:
        if suite == OLDEST or not any(words in str(error) for words in UNKNOWN_KEY):
            raise
        shutil.rmtree(target, ignore_errors=True)
        _mmdebstrap(suite, target, _both_keyrings(), *options)


def _mmdebstrap(suite: str, target: Path, keys: Path, *options: str) -> None:
    # Said, because mmdebstrap finds them by itself only on a host that trusts them, or that has gpg.
    argv = ["mmdebstrap", "--mode=root", f"--keyring={keys}", *options]
    argv += ["--aptopt=Acquire::Check-Valid-Until false"]  # a mirror's snapshot of an unreleased suite may be stale
    mirror = debian_mirror()
    call([*argv, suite, str(target), *([f"deb {mirror} {suite} main"] if mirror else [])], f"bootstrapping {suite}")


def _both_keyrings() -> Path:
    """This host's and the oldest suite's, as far as this host's vouches for it, in one directory.

    Where mmdebstrap is not told of all of this host's keys, it has apt take those alone.
    """
    keys = run.lab_dir() / "roots" / "keys"
    with run.locked(keys.with_suffix(".lock")):
        if not keys.exists():
            root, unfinished = keys.with_suffix(".root"), keys.with_suffix(".unfinished")
            for path in (root, unfinished):
                shutil.rmtree(path, ignore_errors=True)
            with step(f"{KEYRING} is too old, getting {OLDEST}'s"):
                _mmdebstrap(OLDEST, root, KEYRING, "--variant=extract", "--include=debian-archive-keyring")
            unfinished.mkdir()
            shutil.copy(KEYRING, unfinished / "host.gpg")
            shutil.copy(root / KEYRING.relative_to("/"), unfinished / f"{OLDEST}.gpg")
            shutil.rmtree(root)
            unfinished.rename(keys)
    return keys
