# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What plan and reconcile print."""

from cloudinit_osnetd.commands import report
from cloudinit_osnetd.core.records import Touch

from .build import A, B


def test_a_nic_that_failed_is_named(capsys):
    touched = [Touch("reconfigure", A, "ens3", "its entry changed")]
    report.print_decided(report.decided([], touched, [], [], {A: "no carrier", B: "no NIC has this MAC"}, [], {}))
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["FAILED: ens3 (%s): no carrier" % A, "FAILED: %s: no NIC has this MAC" % B]
