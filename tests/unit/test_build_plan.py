# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""build_plan: for which new NICs something will be rendered."""

import pytest

from cloudinit_osnetd.core.records import Owned
from cloudinit_osnetd.planning import build_plan
from cloudinit_osnetd.state import store

from .build import A, B, nic, nics

ROW = Owned(A + "/phy", A, "ens3", "networkd", "/etc/x", "", "m", "d")


@pytest.mark.parametrize(
    ("ignored", "waited_for", "new"),
    [
        ((), (), [B]),
        ([B], (), []),
        (["ens4"], (), []),
        (["ens3"], (), [B]),
        ((), {B: 1.0}, []),
        ((), {A: 1.0}, [B]),
    ],
)
def test_a_nic_is_new_that_has_no_row_that_nobody_ignores_and_nobody_waited_for(ignored, waited_for, new):
    state = store.empty("i", (ROW,))
    here = nics(nic("ens3", A), nic("ens4", B))
    assert build_plan.new_macs(state, here, frozenset(ignored), waited_for) == new
