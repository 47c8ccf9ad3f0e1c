# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The manual page of the settings beside the program that reads them."""

import os
import re

import pytest
import yaml

from cloudinit_osnetd.cloud_init.context import Settings, parse_settings

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/man/cloudinit-osnetd.5.rst")
pytestmark = pytest.mark.skipif(not os.path.exists(PAGE), reason="docs are not installed")
NAMES = sorted(set(Settings._fields) - {"invalid"})  # that one is what is wrong with another


def page():
    with open(PAGE, encoding="utf-8") as fh:
        return fh.read()


def examples():
    """The values below `osnetd:` of each literal block."""
    blocks = re.findall(r"::\n\n((?:    .*\n)+)", page())
    return [yaml.safe_load(block)["osnetd"] for block in blocks]


def test_every_setting_is_on_the_page_and_no_other():
    assert sorted(re.findall(r"^[*][*](\w+):[*][*] ", page(), re.MULTILINE)) == NAMES


def test_the_defaults_on_the_page_are_those_of_the_program(caplog):
    defaults = examples()[0]
    assert sorted(defaults) == NAMES
    for name, value in defaults.items():
        in_force = getattr(Settings(), name)
        assert (frozenset(value) if isinstance(value, list) else value) == in_force, name
    assert parse_settings(defaults) == Settings() and caplog.messages == []


def test_every_example_is_accepted(caplog):
    for one in examples():
        assert parse_settings(one).invalid == ""
    assert len(examples()) == 2 and caplog.messages == []
