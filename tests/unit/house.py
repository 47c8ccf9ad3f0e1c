# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Hypothesis' settings for the unit tests. A module of its own: tests/windows runs some of them without conftest.py."""

import os

from hypothesis import HealthCheck, settings

# The same examples each time: a suite that fails by chance is not believed when it matters. No database: there is
# nothing to remember then.
settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    max_examples=int(os.environ.get("OSNETD_EXAMPLES", "100")),
)
settings.load_profile("house")
