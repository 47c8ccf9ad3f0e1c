# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the imports of a run that has nothing to do cost: `python -m bench.imports [REF]`, compares a commit with this tree.

Counted in instructions by valgrind (its callgrind), which come out the same within a percent however busy the machine is;
a clock does not. They are those of the system's Python, whose release is printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, List

PYTHON = "/usr/bin/python3"
# One after the other, each with all before it: what a line adds is what it costs.
STEPS = {
    "Python": "",
    "typing": "import contextlib, signal, typing",
    "logging, json": "import json, logging",
    "socket": "import socket, struct",
    "http.client, without TLS": "sys.modules['ssl'] = None\nimport http.client\ndel sys.modules['ssl']",
}
# As bin/cloudinit-osnetd and the command do it; and the modules of a backend that every run uses.
OURS = """
from cloudinit_osnetd.system import signals
from cloudinit_osnetd import cli
cli.lazy_imports.in_our_process()
words = ["reconcile", "--queue"]
getattr(cli, "_of_unit", lambda _words: None)(words) or cli.parser("reconcile").parse_args(words)
from cloudinit_osnetd.commands import reconcile
from cloudinit_osnetd.kernel import ethtool
"""
BACKENDS = {
    "networkd": "import cloudinit_osnetd.backends.networkd.backend",
    "ifupdown": "import cloudinit_osnetd.backends.eni.format, cloudinit_osnetd.backends.ifupdown.activator",
}


def count(code: str) -> float:
    """Returns the millions of instructions of a Python that runs this."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as fh:
        fh.write(f"import gc, os, sys\ngc.disable()\n{code}\nos._exit(0)\n")
        fh.flush()
        argv = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", PYTHON, "-I", fh.name]
        done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1]) / 1e6


def of_tree(top: str, backend: str) -> float:
    code = f"sys.path.insert(0, {top!r})\n{OURS}{BACKENDS[backend]}"
    subprocess.run([PYTHON, "-I", "-c", f"import sys\n{code}"], check=True)  # compiles what is not yet
    return count(code)


def main(argv: List[str]) -> int:
    if shutil.which("valgrind") is None:
        print("python -m bench.imports: valgrind is not installed (package valgrind)", file=sys.stderr)
        return 1
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run([PYTHON, "--version"], check=True)
    code, before = "", 0.0
    for name, line in STEPS.items():
        code += line + "\n"
        now = count(code)
        print(f"{name:32} {now - before:6.1f} million instructions", flush=True)
        before = now
    trees: Dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if argv:
            packed = subprocess.run(
                ["git", "-C", here, "archive", argv[0], "cloudinit_osnetd"], stdout=subprocess.PIPE, check=True
            )
            subprocess.run(["tar", "-x", "-C", scratch], input=packed.stdout, check=True)
            trees[argv[0]] = scratch
        trees["this tree"] = here
        for backend in BACKENDS:
            for name, top in trees.items():
                print(f"{'all of ' + name + ', ' + backend:32} {of_tree(top, backend):6.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
