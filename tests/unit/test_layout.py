# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The folders: which may import which, and that none imports in a circle. docs/architecture.md draws them."""

import ast
import os
import re
import subprocess
import sys

import pytest

import cloudinit_osnetd

PACKAGE = os.path.dirname(os.path.abspath(cloudinit_osnetd.__file__))
NAME = "cloudinit_osnetd"
# Each imports itself and those before it, late imports included.
ORDER = ("core", "system", "kernel", "backends", "state", "cloud_init", "openstack", "planning", "apply", "run", "doctor", "sources", "commands", "windows")
# cloud-init's cached datasource is re-classed to ours and back; what ours finds missing it asks itself.
UPWARD = {("cloud_init.datasource_cache", "sources.DataSourceConfigDrive")}
STANDARD_LIBRARY = frozenset(getattr(sys, "stdlib_module_names", ()))  # Python 3.10


def modules():
    """Every module of the package by its name without the package's: "core.plan"."""
    found = {}
    for directory, _subdirectories, files in os.walk(PACKAGE):
        for file in files:
            if file.endswith(".py"):
                path = os.path.join(directory, file)
                name = os.path.relpath(path, PACKAGE)[:-3].replace(os.sep, ".")
                found[re.sub(r"\.__init__\Z", "", name)] = path
    return found


MODULES = modules()


def imports(name):
    """(module of ours or None, name of the module as it stands, whether at import time) of each import of a module."""
    path = MODULES[name]
    package = ([NAME] + name.split("."))[: None if path.endswith("__init__.py") else -1]
    with open(path, encoding="utf-8") as fh:
        tree = ast.parse(fh.read())
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.Lambda))
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(None, alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                inner = ".".join([*base, alias.name][1:]) if base[0] == NAME else None
                outer = ".".join(base[1:])
                ours = None if inner is None else inner if inner in MODULES else outer
                found.append((ours, ".".join(base), id(node) not in late))
    return found


def folder(name):
    return name.split(".")[0]


ARROWS = [(name, to, early) for name in MODULES for to, _base, early in imports(name) if to]


def test_the_modules_are_found():
    # No package for Linux has windows/, and debian/tests/unit looks at what is installed.
    assert {folder(name) for name in MODULES} >= set(ORDER) - ({"windows"} if "dist-packages" in os.path.realpath(PACKAGE) else set())
    assert len(ARROWS) > 200
    assert not {folder(name) for name in MODULES} - {*ORDER, "cli", "__main__", "__init__"}


def test_no_arrow_goes_up():
    """A late import is an arrow as well."""
    inside = [(name, to) for name, to, _early in ARROWS if folder(name) in ORDER and folder(to) in ORDER]
    assert {arrow for arrow in inside if ORDER.index(folder(arrow[1])) > ORDER.index(folder(arrow[0]))} == UPWARD


def test_no_module_imports_itself_by_way_of_others():
    after = {}
    for name, to, _early in ARROWS:
        if name != to and (name, to) not in UPWARD:
            after.setdefault(name, set()).add(to)
    done, trail = set(), []

    def walk(name):
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        trail.append(name)
        for to in sorted(after.get(name, ())):
            walk(to)
        trail.pop()
        done.add(name)

    for name in sorted(after):
        walk(name)


@pytest.mark.skipif(not STANDARD_LIBRARY, reason="this Python does not tell its standard library's names")
def test_the_core_imports_the_standard_library_and_itself():
    arrows = [(name, ours, base) for name in MODULES if folder(name) == "core" for ours, base, _early in imports(name)]
    assert not [(n, base) for n, ours, base in arrows if ours is None and base.split(".")[0] not in {*STANDARD_LIBRARY, "_sha2", "_sha256"}]
    assert {folder(ours) for _name, ours, _base in arrows if ours} == {"core"}


def test_the_core_runs_where_there_is_no_unix():
    """As on Windows: without fcntl, and all that only Unix has."""
    names = sorted(NAME + "." + name for name in MODULES if folder(name) == "core")
    script = (
        "import sys\n"
        "for name in ('fcntl', 'pwd', 'grp', 'termios', 'resource', 'syslog'):\n"
        "    sys.modules[name] = None\n"
        "sys.path.insert(0, %r)\n"
        "for name in %r:\n"
        "    __import__(name)\n" % (os.path.dirname(PACKAGE), names)
    )
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 0, done.stderr
