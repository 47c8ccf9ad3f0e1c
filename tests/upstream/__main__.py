# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloud-init's own unit tests of both datasources, against our override: `python -m tests.upstream [SUITE...]`.

The tests are those of the very package that is in the suite's root; its source comes from the mirror that the root came
from, and stays in .lab. Each suite runs them twice, with the built-in classes and with ours in their place: what passes
with the former has to pass with the latter.
"""

from __future__ import annotations

import concurrent.futures
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Dict, FrozenSet, List, NamedTuple

from tests import in_root
from tests.lab import mirror, run

# Not bullseye: its cloud-init's tests need httpretty, which comes as no wheel. Its own classes pass bookworm's tests, 42 of
# them that its root can run, and so do ours. Not sid by default: a root for this alone.
SUITES = ("bookworm", "trixie")
_NOT_RUN = 77  # as in automake
HERE = Path(__file__).resolve().parent
_INSIDE = """
cd /upstream && tests=$(find tests -name test_configdrive.py -o -name test_openstack.py | grep -v /helpers/) &&
exec python3 -m pytest -q --no-header -p osnetd_stand_in -rpfEs --tb=short $tests
"""
# What cloud-init's tests import and cloud-init does not, in versions that go with the oldest of these roots.
_PACKAGES = ("responses<0.23", "pytest-mock<3.15", "toml")
_RESULT = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED) (\S+)", re.MULTILINE)


class NotThere(Exception):
    """The mirror does not have it."""


class Outcome(NamedTuple):
    passed: FrozenSet[str]
    said: str


class Verdict(NamedTuple):
    """Of one suite: `passed` with ours, `lost` with ours, not with the built-in ones; neither where nothing was run."""

    passed: int
    lost: int
    lines: List[str]


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise NotThere(f"{url}: {error}") from None


def source(version: str) -> Path:
    """The unpacked source of a version of Debian's package, with Debian's patches: what is installed was built from it."""
    tree = run.lab_dir() / "upstream" / version
    with run.locked(tree.with_name(version + ".lock")):
        if not tree.exists():
            unfinished = tree.with_name(version + ".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            archive = mirror.debian_mirror()
            if archive is None:
                raise NotThere("apt here knows no Debian mirror: name one in OSNETD_MIRROR")
            pool = f"{archive}/pool/main/c/cloud-init/"
            description = f"cloud-init_{version.rsplit(':', maxsplit=1)[-1]}.dsc"
            text = fetch(pool + urllib.parse.quote(description))
            (unfinished / description).write_bytes(text)
            for name in re.findall(r"^ [0-9a-f]{64} \d+ (\S+)$", text.decode(), re.MULTILINE):
                (unfinished / name).write_bytes(fetch(pool + urllib.parse.quote(name)))
            argv = [
                "dpkg-source",
                "--no-check",
                "-x",
                description,
                "source",
            ]  # sizes and digests are checked all the same
            subprocess.run(argv, cwd=unfinished, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            unfinished.rename(tree)
    return tree / "source"


def run_tests(suite: str, overridden: bool) -> Outcome:
    def prepare(root: Path) -> None:
        found = ["chroot", str(root), "dpkg-query", "-W", "-f", "${source:Version}", "cloud-init"]
        version = subprocess.run(found, check=True, stdout=subprocess.PIPE, text=True).stdout
        shutil.copytree(source(version), root / "upstream", symlinks=True)
        # The package under test is the installed one, not the copy beside its tests.
        shutil.rmtree(root / "upstream" / "cloudinit")
        (root / "path").mkdir()
        shutil.copy(HERE / "stand_in.py", root / "path" / "osnetd_stand_in.py")
        (root / "path" / "cloudinit_osnetd").symlink_to("/src/cloudinit_osnetd")

    # Not /src itself: cloud-init's `tests` would be ours.
    path = ["PYTHONPATH=/path:/site", f"OSNETD_STAND_IN={int(overridden)}"]
    done = in_root.call(suite, ["env", *path, "sh", "-c", _INSIDE], packages=_PACKAGES, prepare=prepare, capture=True)
    results: Dict[str, str] = {name: word for word, name in _RESULT.findall(done.stdout)}
    return Outcome(frozenset(name for name, word in results.items() if word == "PASSED"), done.stdout)


def compare(suite: str) -> Verdict:
    """Whether the override is as good as the built-in classes, and what to print."""
    try:
        builtin, ours = run_tests(suite, False), run_tests(suite, True)
    except NotThere as missing:
        return Verdict(0, 0, [f"{suite}: not run, its source cannot be had: {missing}"])
    lost = sorted(builtin.passed - ours.passed)
    used = re.findall(r"^stand-in: .*$", ours.said, re.MULTILINE)
    lines = [
        f"{suite}: {len(builtin.passed)} pass with the built-in classes, {len(builtin.passed - set(lost))} of them with ours"
    ]
    lines += [f"{suite}: with the built-in class only: {name}" for name in lost]
    lines += [f"{suite}: {line}" for line in used]
    if not builtin.passed or not used:
        lines += [f"{suite}: so nothing is shown"]
    if lost or not builtin.passed or not used:
        lines = [f"{suite}| {line}" for line in (ours if builtin.passed else builtin).said.splitlines()] + lines
        return Verdict(len(builtin.passed) - len(lost), max(len(lost), 1), lines)
    return Verdict(len(builtin.passed), 0, lines)


def main(argv: List[str]) -> int:
    began = time.monotonic()
    verdicts = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for verdict in pool.map(compare, argv or SUITES):
            verdicts.append(verdict)
            print("\n".join(verdict.lines), flush=True)
    passed, lost = sum(v.passed for v in verdicts), sum(v.lost for v in verdicts)
    if not passed and not lost:
        return _NOT_RUN
    told = f"{passed} passed" + (f", {lost} failed" if lost else "")
    print(f"{told} in {time.monotonic() - began:.2f}s")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
