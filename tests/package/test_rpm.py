# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The .rpm of each distribution beside the .deb: the same files, where that distribution has them. See test_package.py too."""

from __future__ import annotations

import os
import re
import subprocess
from typing import List, Set

import pytest

from cloudinit_osnetd import __version__
from tests.lab import deb, roots, run
from tests.package import formats
from tests.package.conftest import Root

DISTRIBUTIONS = list(formats.PYTHONS)
# Where each has its own ways, and what belongs to Debian's dhclient-script alone.
PLACES = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/licenses/")
DEBIAN_ONLY = "/etc/dhcp/dhclient-exit-hooks.d/cloudinit-osnetd"
RC = "rpm/cloudinit-osnetd.rpmlintrc"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


def told(*argv: str) -> List[str]:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def names(paths: List[str], site: str, helpers: str) -> Set[str]:
    """Each file, with Python's and the helpers' directory by one name."""
    mine = [path for path in paths if not path.startswith(PLACES) and ".egg-info" not in path]
    return {path.replace(site, "SITE").replace(helpers, "HELPERS") for path in mine}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_brings_what_the_deb_brings(distribution: str) -> None:
    package = formats.of_distribution(formats.built(), distribution)
    listed = [line.split() for line in told("dpkg-deb", "--contents", str(deb.under_test()))]
    in_deb = [words[5].lstrip(".") for words in listed if not words[5].endswith("/")]
    described = [line.rsplit(" ", 1) for line in told("rpm", "-qp", "--qf", "[%{FILENAMES} %{FILEMODES:perms}\n]", str(package))]
    in_rpm = [path for path, mode in described if not mode.startswith("d")]
    site = formats.Rpm(distribution).site
    assert names(in_rpm, site, "/usr/libexec/cloudinit-osnetd") == names(
        in_deb, formats.Deb.site, "/usr/lib/cloudinit-osnetd"
    ) - {DEBIAN_ONLY}
    # Below /usr/lib SELinux would label them lib_t.
    assert not any(path.startswith("/usr/lib/cloudinit-osnetd") for path, _ in described)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_needs_the_python_that_cloud_init_runs_on_and_no_other(distribution: str) -> None:
    package = str(formats.of_distribution(formats.built(), distribution))
    needed = told("rpm", "-qp", "--requires", package)
    interpreter = "/usr/libexec/platform-python" if distribution == "el8" else "/usr/bin/python3"
    assert [name for name in needed if "python" in name and "(" not in name] == [interpreter]
    assert f"python(abi) = {formats.PYTHONS[distribution]}" in needed
    scriptlets = "\n".join(told("rpm", "-qp", "--scripts", package))
    assert set(re.findall(r"\S*python\S*(?= -I -B -m)", scriptlets)) == {interpreter}


def test_they_have_the_version_of_what_they_bring_and_a_source_package() -> None:
    (source,) = formats.built().glob(f"{formats.NAME}-{__version__}-*.src.rpm")
    for path in (source, *(formats.of_distribution(formats.built(), name) for name in DISTRIBUTIONS)):
        assert told("rpm", "-qp", "--qf", "%{VERSION}\n", str(path)) == [__version__]
    assert sorted(told("rpm", "-qpl", str(source))) == [f"cloudinit-osnetd-{__version__}.tar.gz", "cloudinit-osnetd.spec"]


def test_each_filter_of_rpmlint_is_needed() -> None:
    """rpmlint itself asks for each in each package, where one is of the spec and another of what is built.

    Asked of the oldest release that the filters are for: a later one has a dictionary, and finds manual pages by itself.
    """
    if not told("rpmlint", "--version")[-1].startswith("2.4"):
        pytest.skip("this release of rpmlint needs others of the filters")
    packages = [str(path) for path in formats.built().glob(f"{formats.NAME}*-{__version__}-*.rpm")]
    said = subprocess.run(["rpmlint", *packages], cwd=run.CHECKOUT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    filters = re.findall(r'^addFilter\(r"(.*)"\)$', (run.CHECKOUT / RC).read_text(), re.MULTILINE)
    filters.remove(" spelling-error ")
    assert len(filters) > 10
    assert [name for name in filters if not any(re.search(name, line) for line in said)] == []


def test_dnf_refuses_the_package_of_another_release() -> None:
    """Its modules would lie where no Python looks."""
    here, other = formats.Rpm("el9"), formats.of_distribution(formats.built(), "el10")
    with roots.tree("bullseye", "ifupdown").mounted() as path:
        root = Root(path)
        here.prepare(root)
        done = here.dnf(root, "install", str(other), check=False)
        assert done.returncode != 0
        assert "nothing provides python(abi) = 3.12" in done.stdout
        assert root.ours() == []
