# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs a command inside a guest's root, on this checkout: `python -m tests.in_root SUITE COMMAND...`.

For what needs cloud-init, which is not on PyPI and has no place on a developer's machine. The checkout is bound to /src,
read-only; pytest and what it needs come from PyPI, made for the root's Python. Changes to the root are thrown away.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, List, Sequence

from tests.lab import roots, run

TOP = Path(__file__).resolve().parent.parent
# What these exclude does not start on the 3.9 of bullseye. The last three are there by name because pip judges "only
# before Python 3.11" by its own Python, not by the one it installs for.
_PACKAGES = ("pytest<9", "iniconfig<2.2", "hypothesis", "exceptiongroup", "tomli", "typing_extensions")
# As the scenarios have them, so that no root is bootstrapped twice.
_BACKENDS = {"trixie": "networkd", "sid": "networkd"}
# A mount namespace of its own: nothing is left behind, whatever happens inside. No network: cloud-init must not find any.
_INSIDE = """
mount --make-rprivate / && mount -t proc proc "$1/proc" && mount -t sysfs -o ro sys "$1/sys" && mount -t tmpfs run "$1/run" &&
mount --rbind /dev "$1/dev" && mkdir -p "$1/src" "$1/site" && mount --bind "$2" "$1/src" &&
mount -o remount,bind,ro "$1/src" && mount --bind "$3" "$1/site" || exit 99
root=$1; shift 3
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONPATH=/src:/site \
    PYTHONDONTWRITEBYTECODE=1 PYTEST_ADDOPTS=-pno:cacheprovider HYPOTHESIS_STORAGE_DIRECTORY=/run/hypothesis sh -c 'cd /src && exec "$@"' sh "$@"
"""


def main(argv: List[str]) -> int:
    if len(argv) < 2 or os.geteuid() != 0:
        print("usage, as root: python -m tests.in_root SUITE COMMAND...", file=sys.stderr)
        return 2
    return call(argv[0], argv[1:]).returncode


def call(
    suite: str,
    command: Sequence[str],
    packages: Sequence[str] = (),
    prepare: Callable[[Path], None] = lambda root: None,
    capture: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command inside, after `prepare` has had the root; `packages` come without what they depend on."""
    with roots.tree(suite, _BACKENDS.get(suite, "ifupdown")).mounted() as root:
        site = _site(_python_of(root), packages)
        prepare(root)
        inside = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", _INSIDE, "sh", str(root), str(TOP), str(site)]
        to = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if capture else {}
        return subprocess.run([*inside, *command], check=False, text=True, **to)


def _python_of(root: Path) -> str:
    """The version of the root's Python, as in 3.11."""
    return (root / "usr" / "bin" / "python3").readlink().name.replace("python", "")


def _site(version: str, more: Sequence[str]) -> Path:
    """A directory of pure Python packages for that version, made once."""
    name = f"{version}-{hashlib.sha256(repr((_PACKAGES, tuple(more))).encode()).hexdigest()[:10]}"
    site = run.lab_dir() / "site" / name
    with run.locked(site.with_name(name + ".lock")):
        if not site.exists():
            unfinished = site.with_name(name + ".unfinished")
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", f"--target={unfinished}"]
            pure = ["--only-binary=:all:", f"--python-version={version}", "--implementation=py", "--abi=none", "--platform=any"]
            subprocess.run([*pip, *pure, *_PACKAGES], check=True)
            if more:
                subprocess.run([*pip, *pure, "--no-deps", *more], check=True)
            unfinished.rename(site)
    return site


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
