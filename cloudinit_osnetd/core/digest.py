# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Digests of texts and values, to compare contents. They are not used for security."""

import json
from typing import Any

from .sha256 import sha256


def of_text(text: str) -> str:
    """Returns 32 hexadecimal digits for a text; bytes that are not UTF-8 are as os.fsdecode() returns them."""
    return str(sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32])


def of_value(value: Any) -> str:
    """Returns the same for a JSON value; the order of its keys does not matter."""
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
