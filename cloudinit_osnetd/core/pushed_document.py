# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A network_data.json that is handed over by a host or an operator: plain or in base64. Pure."""

import base64
import binascii
from typing import List

from . import network_data, truth
from .document_links import MacsByName

# In base64 a document is a third longer, and may be broken into lines.
MAX_INPUT = network_data.MAX_BYTES * 3 // 2


class Refused(Exception):
    """The input is no network_data that can be taken as it is; nothing was changed."""

    def __init__(self, problems: List[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def decoded(raw: bytes) -> bytes:
    """Returns the JSON text of a document that is plain or in base64. Raises Refused."""
    if len(raw) > MAX_INPUT:
        raise Refused(["the document is larger than %d bytes" % network_data.MAX_BYTES])
    text = raw.strip()
    if not text:
        raise Refused(["the document is empty"])
    if text[:1] in b"{[" or text.startswith(b"\xef\xbb\xbf"):
        return text
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Refused(["the document is neither JSON nor base64: %s" % exc]) from exc


def parsed(raw: bytes, macs: MacsByName) -> network_data.NetworkData:
    """Returns the document, with its errors in `faults`; `macs` as in network_data.parse.

    Raises Refused if it cannot be read, or has no link.
    """
    try:
        data = network_data.parse_bytes(decoded(raw), macs)
    except network_data.Refused as exc:
        raise Refused([str(exc)]) from exc
    if not data.entries:
        raise Refused(fault_texts(data) or ["links: the document has none"])
    return data


def fault_texts(data: network_data.NetworkData) -> List[str]:
    """Returns the errors of a pushed document, for people."""
    return list(truth.observe(truth.EMPTY, "push", data, 0.0).fault_texts("push"))
