# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The file is one for Python 2.6, 2.7 and 3.3 to 3.13: there is no 2.6 and no 3.3 to run it by, so it is looked at."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PROGRAM, VERSIONS, interpreter


def test_it_needs_nothing_that_came_after_2_6_or_3_3() -> None:
    """vermin knows in which version each module, name, argument and piece of syntax came."""
    vermin = [str(Path(sys.executable).with_name("vermin")), "--no-tips", "--target=2.6-", "--target=3.3-", "-vv"]
    done = subprocess.run([*vermin, str(PROGRAM)], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_speaks_the_grammar_that_2_6_and_3_3_share() -> None:
    """What vermin does not see, by the tree: forms that 2.6 has not, or reads otherwise."""
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        where = f"line {getattr(node, 'lineno', '?')}"
        assert not isinstance(node, (ast.SetComp, ast.DictComp, ast.Set)), f"a set or a comprehension of dicts, {where}"
        assert not isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal)), where
        assert not (isinstance(node, ast.With) and len(node.items) > 1), f"two managers in one with, {where}"
        assert not (isinstance(node, ast.Raise) and node.cause), f"raise from, {where}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            keywords = [keyword.arg for keyword in node.keywords]
            # 2.6's encode() and decode() take no keywords; its str.format() needs numbers.
            assert not (node.func.attr in ("encode", "decode") and keywords), f"keywords of encode or decode, {where}"
            assert node.func.attr not in ("format", "bit_length", "check_output", "total_seconds"), where
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            assert not node.args.kwonlyargs, f"keyword-only arguments, {where}"


def test_python_2_reads_it_by_its_own_grammar() -> None:
    """lib2to3's grammar is Python 2's; the module left in Python 3.13."""
    pgen = pytest.importorskip("lib2to3.pgen2.driver", reason="lib2to3 left Python in 3.13")
    from lib2to3 import pygram, pytree

    grammar = pygram.python_grammar_no_print_statement  # `from __future__ import print_function`
    pgen.Driver(grammar, convert=pytree.convert).parse_string(PROGRAM.read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", VERSIONS)
def test_it_starts_without_a_warning_on(version: str) -> None:
    argv = [interpreter(version), "-W", "error", "-B", str(PROGRAM), "--version"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "osnetd_legacy.py"), done.stdout


def test_it_has_the_version_of_the_package() -> None:
    from cloudinit_osnetd import __version__

    assert f'__version__ = "{__version__}"' in PROGRAM.read_text(encoding="utf-8")
