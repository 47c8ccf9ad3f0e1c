# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the unit tests share: every path of the guest below a temporary directory."""

import pytest
from hypothesis import HealthCheck, settings

from cloudinit_osnetd.system import command, paths

# The same examples each time: a suite that fails by chance is not believed when it matters.
settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.load_profile("house")


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """An empty guest: the constants of `paths` lead below tmp_path. Returns tmp_path."""
    for name, value in vars(paths).items():
        if name.isupper():
            moved = tuple(str(tmp_path) + v for v in value) if isinstance(value, tuple) else str(tmp_path) + value
            monkeypatch.setattr(paths, name, moved)
    monkeypatch.setattr(command, "ran", [])
    return tmp_path
