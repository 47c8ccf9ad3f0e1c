# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Where guest roots are bootstrapped from, and by whose keys."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, Optional

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
        with _both_keyrings() as keys:
            _mmdebstrap(suite, target, keys, *options)


def _mmdebstrap(suite: str, target: Path, keys: Path, *options: str) -> None:
    # Said, because mmdebstrap finds them by itself only on a host that trusts them, or that has gpg.
    argv = ["mmdebstrap", "--mode=root", f"--keyring={keys}", *options]
    argv += ["--aptopt=Acquire::Check-Valid-Until false"]  # a mirror's snapshot of an unreleased suite may be stale
    mirror = debian_mirror()
    call([*argv, suite, str(target), *([f"deb {mirror} {suite} main"] if mirror else [])], f"bootstrapping {suite}")


@contextlib.contextmanager
def _both_keyrings() -> Iterator[Path]:
    """This host's and the oldest suite's, as far as this host's vouches for it, in one directory.

    Where mmdebstrap is not told of all of this host's keys, it has apt take those alone. Not in the lab's own directory:
    apt reads keys as a user of its own, who may not enter the home in which that lies.
    """
    with tempfile.TemporaryDirectory(prefix="osnetd-lab-keys-") as directory:
        root, keys = Path(directory) / "root", Path(directory)
        keys.chmod(0o755)
        with step(f"{KEYRING} is too old, getting {OLDEST}'s"):
            _mmdebstrap(OLDEST, root, KEYRING, "--variant=extract", "--include=debian-archive-keyring")
        shutil.copy(KEYRING, keys / "host.gpg")
        shutil.copy(root / KEYRING.relative_to("/"), keys / f"{OLDEST}.gpg")
        shutil.rmtree(root)
        yield keys
