# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The result of a check."""

from typing import NamedTuple


class Result(NamedTuple):
    name: str
    state: str  # ok, warning, failed, skipped
    found: str
    advice: str = ""  # what to do; empty if nothing


def ok(name: str, found: str) -> Result:
    return Result(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Result:
    """Something that is not wrong by itself, or is meant so."""
    return Result(name, "warning", found, advice)


def failed(name: str, found: str, advice: str) -> Result:
    return Result(name, "failed", found, advice)


def skipped(name: str, found: str) -> Result:
    """A check that says nothing on this server."""
    return Result(name, "skipped", found)
