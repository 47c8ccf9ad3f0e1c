# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A short soak on real guests, and one that has to fail: each fault that is put into the guest is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak import plants
from tests.soak.__main__ import main
from tests.soak.generator import generate
from tests.soak.operations import Operation
from tests.soak.runner import Kind, soak

SEED, OPERATIONS = 17, 25  # thirteen kinds of operation, two boots
KINDS = [Kind("trixie", "networkd"), Kind("bookworm", "ifupdown")]
# A minute each; test_oracle.py has each fault found in a picture of a guest.
_IN_GUESTS = pytest.mark.skipif(os.environ.get("OSNETD_STRIDE") != "1", reason="`make deep` puts each fault into a guest")
_QUIET = [Operation("look", {"via": "reconcile"}), Operation("look", {"via": "push"})]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="real guests need root")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_short_soak(kind: Kind) -> None:
    result = soak(kind, generate(SEED, OPERATIONS), print)
    assert result.failure is None, (result.failure.step, result.failure.operation, result.failure.findings)
    assert (result.done, result.skipped) == (OPERATIONS, 0)


@_IN_GUESTS
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", plants.NAMES)
def test_a_fault_that_is_put_into_the_guest_is_found(kind: Kind, name: str) -> None:
    result = soak(kind, _QUIET, print, plant=plants.plant(name, 1), seconds=3)
    assert result.failure is not None and result.failure.step == 1
    found = "\n".join(map(str, result.failure.findings))
    assert plants.found(name) in found, found
    print(found)


@_IN_GUESTS
def test_a_failure_says_the_step_and_how_to_do_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--kind", "trixie-networkd", "--seed", "3", "--operations", "2", "--out", str(tmp_path), "--plant", "failed"]
    assert main([*words, "--plant-at", "2"]) == 1
    said = capsys.readouterr().out
    second = generate(3, 2)[1]
    assert f"step 2 FAILED: {second}" in said and "soak-fails.service failed" in said
    led = tmp_path / "trixie-networkd-3-2.operations"
    assert f"make soak KIND=trixie-networkd REPLAY={led}" in said
    assert led.read_text().splitlines() == [str(operation) for operation in generate(3, 2)]
    assert "wanted:" in (tmp_path / "trixie-networkd-3-2.guest").read_text()
    assert main(["--kind", "trixie-networkd", "--replay", str(led), "--out", str(tmp_path)]) == 0
