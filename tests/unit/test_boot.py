# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Early boot: what it waits for, and for how long."""

import time

import pytest

from cloudinit_osnetd import boot, files, paths


@pytest.fixture
def naps(guest, monkeypatch):
    """Seconds slept so far, on a clock of our own."""
    slept = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)
    files.replace(paths.CLOUD_RAN, "{}\n")
    files.replace(paths.INSTANCE_ID[0], "uuid\n")
    return slept


def test_a_link_that_comes_back_is_waited_for(naps, monkeypatch):
    def comes_back(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            files.replace(paths.DATASOURCE, "DataSourceConfigDrive: x\n", sync=False)

    monkeypatch.setattr(time, "sleep", comes_back)
    boot._await_link()
    assert len(naps) == 3


def test_one_that_stays_away_delays_no_boot(naps):
    boot._await_link()
    assert 0.4 < sum(naps) < 0.6


def test_where_it_is_there_or_this_boot_has_no_instance_nothing_is_waited_for(naps):
    files.remove(paths.INSTANCE_ID[0])
    boot._await_link()
    files.replace(paths.INSTANCE_ID[0], "uuid\n")
    files.replace(paths.DATASOURCE, "DataSourceNone\n")
    boot._await_link()
    assert naps == []
