# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The Python part of cloudinit-osnetd. What belongs to the system (units, udev rule, drop-in) is put in place by
``make install``, debian/ and rpm/, never from here: setuptools cannot take it away again."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
NAME = "cloudinit_osnetd"
# For Windows there is a wheel of its own, and the packages for Linux have nothing of it: scripts/build-windows-zip.
WINDOWS = bool(os.environ.get("OSNETD_WINDOWS"))
FOR_LINUX = find_packages(include=[NAME, NAME + ".*"], exclude=[NAME + ".windows"])
FOR_WINDOWS = [NAME, NAME + ".core", NAME + ".windows"]


def version() -> str:
    """Read, not imported: a build must not depend on what the package imports."""
    text = (HERE / "cloudinit_osnetd" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise SystemExit("setup.py: cloudinit_osnetd/__init__.py has no line __version__ = \"...\"")
    return match.group(1)


setup(
    name="cloudinit-osnetd",
    version=version(),
    description="A cloud-init extension that lets an OpenStack server follow its ports while it runs",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The cloudinit-osnetd developers",
    # cloud-init itself is not on PyPI: the distribution's package brings it.
    python_requires=">=3.6",
    packages=FOR_WINDOWS if WINDOWS else FOR_LINUX,
    package_data={} if WINDOWS else {"cloudinit_osnetd.sources": ["95_osnetd.cfg"]},
    scripts=[] if WINDOWS else ["bin/cloudinit-osnetd"],
    zip_safe=False,
)
