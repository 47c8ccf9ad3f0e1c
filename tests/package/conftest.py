# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A root of each suite, without the package, and a way to run things inside it. Nothing boots."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, List, Optional, Set, Tuple

import pytest

from tests.lab import roots, run
from tests.package.formats import Deb, Format, Rpm

SUITES = {"bullseye": "ifupdown", "bookworm": "ifupdown", "trixie": "networkd"}
# The .deb in each suite; the .rpm of a distribution with the Python of that root.
DEBS = [(suite, Deb()) for suite in SUITES]
KINDS = [*DEBS, ("bullseye", Rpm("el9"))]
# And of the others: Fedora 42's Python is that of trixie, those of Enterprise Linux 8 and 10 are not in any suite.
EVERY_KIND = [*KINDS, ("bookworm", Rpm("el8")), ("trixie", Rpm("el10")), ("trixie", Rpm("fc42"))]


class Root:
    """A suite's root, and ways to run things in it and beside it."""

    def __init__(self, path: Path, before: Optional[Set[str]] = None) -> None:
        self.path = path
        self.before = self.named_like_us() if before is None else before

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        clean = ["env", "-i", "LC_ALL=C", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]
        return self.beside("chroot", str(self.path), *clean, *argv, check=check)

    def beside(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine, with what a chroot needs mounted in the root."""
        script = (
            'mount --make-rprivate / && mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys" && '
            'mount --rbind /dev "$1/dev" && shift && exec "$@"'
        )
        argv_inside = ["unshare", "--mount", "sh", "-c", script, "sh", str(self.path), *argv]
        done = subprocess.run(argv_inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}"
        return done

    def verify(self, *units: str) -> str:
        return self.run("systemd-analyze", "--man=no", "verify", *units, check=False).stdout

    def named_like_us(self) -> Set[str]:
        """Every path of this root with our name in it."""
        return set(self.run("find", "/", "-xdev", "-name", "*osnetd*", "-not", "-path", "/root/*").stdout.split())

    def ours(self) -> List[str]:
        """Those that were not there before the package came: the lab's own carry our name too."""
        return sorted(self.named_like_us() - self.before)


def named(kind: Tuple[str, Format]) -> str:
    return f"{getattr(kind[1], 'distribution', 'deb')}-{kind[0]}"


@pytest.fixture(params=KINDS, ids=named)
def kind(request: pytest.FixtureRequest) -> Tuple[str, Format]:
    return request.param


@pytest.fixture
def package(kind: Tuple[str, Format]) -> Format:
    return kind[1]


@functools.lru_cache(maxsize=None)
def _layers(suite: str, package: Format, installed: bool) -> roots.Tree:
    """A suite's root that the package may be installed in, or has been. Made once: a transaction takes seconds."""
    below = _layers(suite, package, False) if installed else roots.tree(suite, SUITES[suite])
    directory = Path(tempfile.mkdtemp(dir=run.current().dir))
    with roots.overlay(below.lowerdir, directory) as path:
        (package.install if installed else package.prepare)(Root(path))
    return roots.Tree((directory / "upper", *below.layers))


@pytest.fixture
def bare(kind: Tuple[str, Format]) -> Iterator[Root]:
    """A root that the package may be installed in. Each test has its own: changes are thrown away."""
    with _layers(*kind, False).mounted() as path:
        yield Root(path)


@pytest.fixture
def root(kind: Tuple[str, Format]) -> Iterator[Root]:
    """A root with the package."""
    with _layers(*kind, False).mounted() as path:
        before = Root(path).before
    with _layers(*kind, True).mounted() as path:
        yield Root(path, before)
