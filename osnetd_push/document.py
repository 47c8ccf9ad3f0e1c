# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The document from a file or from standard input, as it is: plain JSON or base64. The guest checks what it says."""

import base64
import json
import sys
from typing import Any, FrozenSet, Sequence

from .errors import NoDocument

# The guest takes 1 MiB, and a third more, with line ends, in base64.
MAX_BYTES = (1 << 20) * 3 // 2


def read(path: str) -> bytes:
    """Returns the content of the file, or of standard input for "-". Raises NoDocument."""
    name = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise NoDocument("%s: it is closed" % name)
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as fh:
                data = fh.read(MAX_BYTES + 1)
    except OSError as exc:
        raise NoDocument("%s: %s" % (name, exc.strerror or exc)) from exc
    if len(data) > MAX_BYTES:
        raise NoDocument("%s: larger than a guest takes (1 MiB)" % name)
    if not data.strip():
        raise NoDocument("%s: empty" % name)
    return data


def macs(data: bytes) -> FrozenSet[str]:
    """Returns the MACs of the document's links, in lower case. Raises NoDocument for what is no network_data.json."""
    try:
        text = data.decode("utf-8").strip()
        if not text.startswith("{"):
            text = base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
        links = json.loads(text)["links"]
        return frozenset(_mac(link) for link in links) - {""}
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise NoDocument("no network_data.json: its links cannot be read (%s: %s)" % (type(exc).__name__, exc)) from exc


def _mac(link: Any) -> str:
    mac = link.get("ethernet_mac_address") if isinstance(link, dict) else None
    return mac.lower().replace("-", ":") if isinstance(mac, str) else ""


def check_names_a_nic_of(domain: str, data: bytes, of_domain: Sequence[str]) -> None:
    """Raises NoDocument if none of the document's MACs is one of the domain's: it is another server's document."""
    named = macs(data)
    if not named.intersection(of_domain):
        raise NoDocument(
            "%s: not sent: the document has no link with a MAC of this domain (%s). Name the domain with --domain to "
            "send it anyway." % (domain, ", ".join(of_domain) or "it has no NIC")
        )
