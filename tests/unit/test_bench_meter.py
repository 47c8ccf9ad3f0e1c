# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The bench's meter, whose cgroups come and go while it looks: a unit that ends takes its own with it."""

import os
import shutil
import sys
import threading
import time

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 9), reason="the bench is for a newer Python")


@pytest.fixture
def meter(tmp_path):
    from bench import meter

    (tmp_path / "agent").mkdir()
    made = object.__new__(meter.Meter)
    made._guest, made._agent = tmp_path, tmp_path / "agent"
    return made


def test_a_unit_that_ends_while_the_meter_looks_ends_no_thread(meter):
    from bench.meter import Peak

    over, raised = threading.Event(), []
    threading.excepthook, before = (lambda args: raised.append(args.exc_value)), threading.excepthook

    def units():
        while not over.is_set():
            for n in range(20):
                os.makedirs(str(meter._agent / ("%d.service" % n) / "inner"))
                (meter._agent / ("%d.service" % n) / "inner/cgroup.procs").write_text("%d\n" % os.getpid())
            for n in range(20):
                shutil.rmtree(str(meter._agent / ("%d.service" % n)))

    thread = threading.Thread(target=units)
    try:
        with Peak(meter) as peak:
            thread.start()
            time.sleep(1.5)
        assert peak.mib > 0
    finally:
        over.set()
        thread.join()
        threading.excepthook = before
    assert raised == []


def test_what_has_gone_uses_nothing_and_runs_nothing(meter):
    assert meter.cpu() == (0.0, 0.0)
    assert not meter._busy() and meter.processes() == []
    (meter._agent / "cpu.stat").write_text("")
    assert meter.cpu().agent == 0.0
