# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What we ship runs on Python 3.6: `python -m tests.py36`.

Three looks, each sees what the others do not: the parser with the 3.6 grammar; vermin, which knows in which version
each name of the library, each argument and each piece of syntax came; a real Python 3.6, where there is one, imports
it all.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Optional

TOP = Path(__file__).resolve().parent.parent

# Runs in the real 3.6. What needs cloud-init can only be compiled: it is not on PyPI.
_IMPORT_ALL = """
import importlib, pkgutil, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import cloudinit_osnetd, osnetd_push
imported = compiled = 0
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as file:
        compile(file.read(), path, "exec")
    compiled += 1
packages = [(package.__path__, package.__name__ + ".") for package in (cloudinit_osnetd, osnetd_push)]
for module in [module for package in packages for module in pkgutil.walk_packages(*package)]:
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
        imported += 1
    except ImportError as exc:
        if (exc.name or "").split(".")[0] != "cloudinit":
            raise
print("Python %d.%d.%d: %d files compiled, %d modules imported" % (sys.version_info[:3] + (compiled, imported)))
"""


def shipped() -> List[Path]:
    """Every Python file that gets into a guest or onto a host, and what builds it."""
    modules = [file for package in ("cloudinit_osnetd", "osnetd_push") for file in sorted((TOP / package).rglob("*.py"))]
    programs = [TOP / "bin" / name for name in ("cloudinit-osnetd", "cloudinit-osnetd-selftest", "osnetd-push")]
    return [*modules, *programs, TOP / "setup.py"]


def grammar_faults(files: List[Path]) -> Iterator[str]:
    for file in files:
        try:
            ast.parse(file.read_text(encoding="utf-8"), filename=str(file), feature_version=(3, 6))
        except SyntaxError as exc:
            yield f"{file.relative_to(TOP)}:{exc.lineno}: {exc.msg}"


def real_python36() -> Optional[str]:
    """A Python 3.6 that starts: on the PATH, or kept by pyenv."""
    candidates = [found] if (found := shutil.which("python3.6")) else []
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        candidates += map(str, Path(root).glob("versions/3.6.*/bin/python3.6"))
    for candidate in candidates:
        if subprocess.run([candidate, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return candidate
    return None


def main() -> int:
    files = shipped()
    faults = list(grammar_faults(files))
    print(f"3.6 grammar: {len(files)} files, {len(faults)} faults")
    for fault in faults:
        print("  " + fault)
    names = [str(file) for file in files]
    vermin = [str(Path(sys.executable).with_name("vermin")), "--no-tips", "--violations", "--target=3.6-"]
    failed = subprocess.run([*vermin, "--eval-annotations", *names], cwd=TOP, check=False).returncode != 0
    python36 = real_python36()
    if python36 is None:
        print("no Python 3.6 here: nothing was imported by one")
    else:
        real = [python36, "-W", "error", "-c", _IMPORT_ALL, str(TOP), *names]
        failed |= subprocess.run(real, check=False).returncode != 0
    return 1 if faults or failed else 0


if __name__ == "__main__":
    sys.exit(main())
