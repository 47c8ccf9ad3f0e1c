# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Digests of texts and values, to compare contents. They are not used for security."""

import json
from typing import Any

# The interpreter's own implementation: hashlib loads OpenSSL, which costs each run 3 ms.
try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:  # an interpreter built without it
        from hashlib import sha256


def of_text(text: str) -> str:
    """Returns 32 hexadecimal digits for a text; bytes that are not UTF-8 are as os.fsdecode() returns them."""
    return str(sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32])


def of_value(value: Any) -> str:
    """Returns the same for a JSON value; the order of its keys does not matter."""
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
