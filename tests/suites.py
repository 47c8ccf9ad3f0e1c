# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs the suites, those that can side by side, and ends with one table: `python -m tests.suites [SUITE...]`.

What a suite prints goes to build/tests/SUITE.log, and is shown at once if it fails.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build" / "tests"
BIN = Path(sys.executable).parent

Command = Sequence[str]

# Environments of tox.ini: the oldest and one of the newest; `make tox` takes all, and the guests have three between.
PYTHONS = "py36,py313"

SECOND_TRIES = 3  # so many tests may pass when they are run once more on their own
# Suites that are a part of others, and what `make test-all` has in addition.
BY_NAME_ONLY = ("quick", "windows")


class Suite(NamedTuple):
    name: str
    commands: Sequence[Command]
    after: Tuple[str, ...] = ()  # suites that must have passed
    directory: str = ""  # of tests; where it is not there, there is nothing to run
    limit: float = 300.0  # seconds
    again: bool = False  # run what failed once more, on its own; see `scenarios`


class Result(NamedTuple):
    outcome: str  # passed, failed, timed out, absent
    seconds: float
    told: str  # what pytest counted, or why it was not run
    failures: Tuple[str, ...] = ()  # the tests that failed, and failed again where they were run again
    second: Tuple[str, ...] = ()  # the tests that failed beside others and passed alone

    @property
    def good(self) -> bool:
        return self.outcome in ("passed", "absent")


def pytest(*words: str, python: str = sys.executable) -> Command:
    return [python, "-m", "pytest", "-v", "--no-header", *words]


def suites() -> List[Suite]:
    """In the order in which they are started when several could be."""
    python, bin_ = sys.executable, str(BIN)
    deb = _deb()
    return [
        Suite("deb", [["make", "-s", "deb"]]),
        # Four guests on two cores are late now and then, and no bound is loosened for that: what failed beside others is
        # run once more on its own, and the table names it. More than SECOND_TRIES of them are no matter of luck.
        Suite(
            "scenarios",
            [pytest("tests/scenarios", "-n", "4", "--maxschedchunk=1", "--durations=20", "-m", "not vm and not deep")],
            ("deb",),
            "tests/scenarios",
            limit=4800,
            again=True,
        ),
        # 25 operations by lot on two kinds of guest, and faults that are to be found; `make deep` does 300 a kind.
        Suite("soak", [pytest("tests/soak")], ("deb",), "tests/soak", limit=1800, again=True),
        Suite("quick", [pytest("tests/scenarios", "-n", "3", "-m", "quick")], ("deb",), "tests/scenarios", limit=900),
        Suite("rpm", [["scripts/build-rpm", "dist"]]),
        Suite("package", [pytest("tests/package")], ("deb", "rpm"), "tests/package", limit=1800),
        Suite("unit", [pytest("tests/unit")], (), "tests/unit", limit=1800),
        # Those that are here; a machine that has none but its own runs that one twice.
        Suite("pythons", [["scripts/all-pythons", bin_ + "/tox", "--skip-missing-interpreters", "true", "-e", PYTHONS]], limit=4200),
        # By each Python from 2.7 to 3.13 that is here, in network namespaces.
        Suite("legacy", [pytest("tests/legacy")], (), "tests/legacy", limit=900),
        # Bootstraps Wine and a Windows Python at its first run, which takes two minutes.
        Suite("windows", [pytest("tests/windows", "--durations=10")], (), "tests/windows", limit=1800, again=True),
        Suite("cloudinit", [[python, "-m", "tests.unit_cloudinit"]], (), "tests/unit_cloudinit", limit=2400),
        Suite("upstream", [[python, "-m", "tests.upstream"]], (), "tests/upstream", limit=1200),
        Suite("nova", [pytest("tests/nova")], (), "tests/nova", limit=900),
        Suite(
            "lint",
            [
                [bin_ + "/ruff", "check", "--quiet", "."],
                [bin_ + "/mypy", "--no-error-summary"],
                ["shellcheck", *_shell_scripts()],
                [*_RPMLINT, "rpm/cloudinit-osnetd.spec"],
            ],
        ),
        Suite("py36", [[python, "-m", "tests.py36"]]),
        Suite("lintian", [["sh", "-c", _LINTIAN, "sh", deb, *(deb.replace("osnetd_", f"osnetd-{name}_") for name in ("host", "selftest", "selinux"))]], ("deb",)),
        Suite("rpmlint", [["sh", "-c", f'exec "$@" dist/*-{_version()}-*.rpm', "sh", *_RPMLINT]], ("rpm",)),
        # Last: beside four containers an emulated machine takes ten times as long. Two at once, because each spends much of
        # a boot on one core.
        Suite(
            "machines",
            [pytest("tests/scenarios", "-n", "2", "--maxschedchunk=1", "-m", "vm and not deep")],
            ("deb",),
            "tests/scenarios",
            limit=4200,
            again=True,
        ),
    ]


_RPMLINT = ["rpmlint", "--strict", "--rpmlintrc", "rpm/cloudinit-osnetd.rpmlintrc", "--ignore-unused-rpmlintrc"]
_LINTIAN = 'said=$(lintian --allow-root --profile debian --pedantic "$@" 2>&1); echo "$said"; [ -z "$said" ]'


def _version() -> str:
    text = (TOP / "cloudinit_osnetd" / "__init__.py").read_text()
    version = re.search(r'^__version__ = "(.*)"', text, re.MULTILINE)
    assert version is not None, "cloudinit_osnetd/__init__.py has no __version__"
    return version[1]


def _deb() -> str:
    return f"dist/cloudinit-osnetd_{_version()}_all.deb"


def _shell_scripts() -> List[str]:
    """Every file that git knows and that starts as a shell script."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    files = [name for name in listed.stdout.split("\0") if name and (TOP / name).is_file()]
    return [name for name in files if (TOP / name).read_bytes()[:15].startswith((b"#!/bin/sh", b"#!/bin/bash"))]


def run_suite(suite: Suite) -> Result:
    began = time.monotonic()
    if suite.directory and not (TOP / suite.directory).is_dir():
        return Result("absent", 0.0, f"no {suite.directory}")
    log = LOGS / f"{suite.name}.log"
    outcome = _outcome(suite.commands, log, began + suite.limit)
    told, text = "", log.read_text(errors="replace")
    bad, second = failed_tests(text), []
    if suite.again and outcome == "failed" and bad:
        outcome = _outcome([pytest(*bad)], log, began + suite.limit)
        before, text = len(text), log.read_text(errors="replace")
        again = failed_tests(text[before:])
        second = [test for test in bad if test not in again] if outcome in ("passed", "failed") else []
        told = f"{len(second)} passed at the second try, " if second else ""
        bad = again
    return Result(outcome, time.monotonic() - began, told + _told(text), tuple(bad), tuple(second))


def _outcome(commands: Sequence[Command], log: Path, until: float) -> str:
    with log.open("a") as out:  # main() has removed the last one
        for command in commands:
            code = _call(command, out, until - time.monotonic())
            if code is None:
                return "timed out"
            if code != 0:
                return "failed"
    return "passed"


def _call(command: Command, out, limit: float) -> Optional[int]:
    """The exit code, or None when it took too long. The whole process group is ended then."""
    env = {**os.environ, "OSNETD_DEB": str(TOP / _deb()), "OSNETD_RPMS": str(TOP / "dist"), "PYTHONDONTWRITEBYTECODE": "1"}
    out.write(f"$ {' '.join(command)}\n")
    out.flush()
    process = subprocess.Popen(
        command, cwd=TOP, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
    )
    _running.add(process.pid)
    try:
        return process.wait(timeout=max(limit, 1.0))
    except subprocess.TimeoutExpired:
        # A guest wants to be taken down by the one who made it, so ask first.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return None
    finally:
        _running.discard(process.pid)


_running: set[int] = set()
_COUNTED = re.compile(r"^=*\s*((?:\d+ (?:passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?)(?:, )?)+) in ")


def counts(log: str) -> Dict[str, int]:
    """What the pytest runs in a log counted, added up."""
    total: Dict[str, int] = {}
    for line in log.splitlines():
        match = _COUNTED.match(line)
        for number, word in re.findall(r"(\d+) (\w+)", match[1]) if match else []:
            word = word.rstrip("s") if word in ("errors", "warnings") else word
            total[word] = total.get(word, 0) + int(number)
    return total


def failed_tests(log: str) -> List[str]:
    """The tests that a pytest run's summary names."""
    named = [line.split(" ", 1)[1].split(" - ")[0] for line in log.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))]
    return sorted(set(named))


def _told(log: str) -> str:
    return ", ".join(f"{number} {word}" for word, number in counts(log).items())


def run_all(chosen: List[Suite], say: Callable[[str], None], workers: int) -> Dict[str, Result]:
    """Two at a time here: most suites wait for a guest or for apt some of the time, and a guest has two CPUs' worth."""
    results: Dict[str, Result] = {}
    waiting = list(chosen)
    names = {suite.name for suite in chosen}
    changed = threading.Condition()

    def ready() -> Optional[Suite]:
        for suite in waiting:
            if all(name in results or name not in names for name in suite.after):
                return suite
        return None

    def work() -> None:
        while True:
            with changed:
                changed.wait_for(lambda: ready() is not None or not waiting)
                suite = ready()
                if suite is None:
                    return
                waiting.remove(suite)
                missing = [name for name in suite.after if name in results and not results[name].good]
            result = Result("failed", 0.0, f"needs {', '.join(missing)}") if missing else run_suite(suite)
            with changed:
                results[suite.name] = result
                changed.notify_all()
            report(suite, result)

    def report(suite: Suite, result: Result) -> None:
        line = f"{suite.name:<10} {result.outcome:<9} {result.seconds:6.1f} s  {result.told}".rstrip()
        log = LOGS / f"{suite.name}.log"
        if not result.good and log.exists():
            text = log.read_text(errors="replace").rstrip().splitlines()
            cut = [f"... all of it in {log.relative_to(TOP)}"] if len(text) > 400 else []
            line = "\n".join([*cut, *(f"{suite.name}| {row}" for row in text[-400:]), line])
        say(line)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work) for _ in range(workers)]:
            future.result()
    return results


def table(chosen: List[Suite], results: Dict[str, Result], seconds: float) -> str:
    rows = [(suite.name, results[suite.name]) for suite in chosen]
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, result in rows:
        lines.append(f"  {name:<{width}}  {result.outcome:<9}  {result.seconds:7.1f} s  {result.told}".rstrip())
        lines += [f"  {'':<{width}}    {failure}" for failure in result.failures]
        lines += [f"  {'':<{width}}    at the second try: {test}" for test in result.second]
    spent = sum(result.seconds for _, result in rows)
    return "\n".join(["", *lines, f"  {'':<{width}}  {'':<9}  {seconds:7.1f} s  ({spent:.1f} s of suites)"])


def closing_line(chosen: List[Suite], results: Dict[str, Result]) -> str:
    """'N passed, N failed', alone on a line. A suite that is no pytest run counts as one test."""
    passed = failed = skipped = 0
    for suite in chosen:
        log, result = LOGS / f"{suite.name}.log", results[suite.name]
        if result.outcome == "absent":
            skipped += 1
            continue
        counted = counts(log.read_text(errors="replace")) if log.exists() else {}
        bad = counted.get("failed", 0) + counted.get("error", 0)
        passed += counted.get("passed", 0) if counted else int(result.good)
        failed += 0 if result.good else max(bad, 1)
        skipped += counted.get("skipped", 0)
    return f"tests: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def _end(signum: int, frame: object) -> None:
    for pid in list(_running):
        os.killpg(pid, signal.SIGTERM)
    sys.exit(128 + signum)


def main(argv: List[str]) -> int:
    known = suites()
    unknown = set(argv) - {suite.name for suite in known}
    if unknown:
        print(f"no suite {', '.join(sorted(unknown))}; there are: {', '.join(suite.name for suite in known)}", file=sys.stderr)
        return 2
    chosen = [suite for suite in known if suite.name in (argv or {one.name for one in known} - set(BY_NAME_ONLY))]
    built = {name for suite in chosen for name in suite.after}
    chosen = [suite for suite in known if suite.name in built or suite in chosen]
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in LOGS.glob("*.log"):
        old.unlink()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    began = time.monotonic()
    results = run_all(chosen, lambda line: print(line, flush=True), workers=2)
    print(table(chosen, results, time.monotonic() - began))
    print(closing_line(chosen, results))
    second = sum(len(result.second) for result in results.values())
    if second > SECOND_TRIES:
        print(f"{second} tests passed at the second try only; at most {SECOND_TRIES} may", file=sys.stderr)
    return 0 if all(result.good for result in results.values()) and second <= SECOND_TRIES else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
