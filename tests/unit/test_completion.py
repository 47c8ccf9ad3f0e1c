# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The bash completion is what the parser takes, asked of a real bash."""

import os
import shutil
import subprocess
import sys

import pytest

import cloudinit_osnetd
from cloudinit_osnetd import cli

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(cloudinit_osnetd.__file__)), "scripts", "make-completion")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "cloudinit-osnetd"
    path.write_bytes(subprocess.check_output([sys.executable, "-B", SCRIPT]))
    return path


def completed(completion, *words, at=None):
    """What bash offers for the last of the words."""
    asked = (
        'source "$1"; shift; COMP_WORDS=(cloudinit-osnetd "$@"); COMP_CWORD=$#; _cloudinit_osnetd; '
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    out = subprocess.check_output(["bash", "-c", asked, "bash", str(completion), *words], cwd=at, universal_newlines=True)
    return sorted(out.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sta"], ["status"]),
        (["d"], ["datasource", "doctor"]),
        (["--v"], ["--verbose", "--version"]),
        (["-v", "rec"], ["reconcile"]),
        (["status", "--"], ["--help", "--json", "--watch"]),
        (["plan", "--di"], ["--diff"]),
        (["datasource", ""], ["--help", "-h", "adopt", "release"]),
        (["history", "-n", ""], []),
        (["nonsense", ""], []),
    ],
)
def test_commands_options_and_choices(completion, words, offered):
    assert completed(completion, *words) == offered


@pytest.mark.parametrize("words", [["plan", "--file"], ["apply", "--file"], ["doctor", "--bundle"]])
def test_an_option_that_takes_a_file_completes_to_files(completion, tmp_path, words):
    (tmp_path / "network_data.json").write_text("{}")
    assert completed(completion, *words, "netw", at=str(tmp_path)) == ["network_data.json"]


def test_the_help_fits_80_columns():
    text = cli.parser().format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert "examples:" in text and "doctor" in text
