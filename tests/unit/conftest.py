# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the unit tests share: every path of the guest below a temporary directory."""

import pytest

from cloudinit_osnetd.system import command, paths

from . import house  # noqa: F401 - it sets Hypothesis up


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """An empty guest: the constants of `paths` lead below tmp_path. Returns tmp_path."""
    for name, value in vars(paths).items():
        if name.isupper():
            moved = tuple(str(tmp_path) + v for v in value) if isinstance(value, tuple) else str(tmp_path) + value
            monkeypatch.setattr(paths, name, moved)
    monkeypatch.setattr(command, "ran", [])
    return tmp_path
