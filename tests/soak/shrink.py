# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The few operations that a failure takes: a list made shorter for as long as it still fails. Pure."""

from __future__ import annotations

from typing import Callable, List, Sequence, TypeVar

T = TypeVar("T")


def shrunk(items: Sequence[T], fails: Callable[[List[T]], bool], tries: int = 60) -> List[T]:
    """The shortest that is found in so many tries by leaving out ever smaller stretches (ddmin). `items` itself fails."""
    left, size = list(items), max(1, len(items) // 2)
    while size and tries > 0:
        begin = 0
        while begin < len(left) and tries > 0:
            shorter = left[:begin] + left[begin + size :]
            tries -= 1
            if shorter and fails(shorter):
                left = shorter
            else:
                begin += size
        size = min(size // 2, len(left) // 2) if size > 1 else 0
    return left
