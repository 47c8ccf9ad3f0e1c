# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Short names for contents, of texts and of values: they guard nothing, they tell one from another."""

import json
from typing import Any

# The interpreter's own, of which hashlib is the front: that one loads OpenSSL, which costs a run 3 ms.
try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:  # built without
        from hashlib import sha256


def of_text(text: str) -> str:
    """32 hexadecimal digits for a text; bytes that are no UTF-8 are as os.fsdecode() leaves them."""
    return str(sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32])


def of_value(value: Any) -> str:
    """The same for what JSON can say, whatever the order of its keys."""
    return of_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
