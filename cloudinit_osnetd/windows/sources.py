# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Where a Windows server's network_data comes from: the metadata service, else the config drive."""

import ctypes
import json
import os
import string
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, NamedTuple, Optional, Sequence

from ..core import network_data
from . import iphelper

_LATEST = "openstack/latest/"
_TIMEOUT = 10.0  # seconds; a cold Nova cell takes some for its first answer
_LABEL = "config-2"


class Answer(NamedTuple):
    source: str  # as in truth.RANK: metadata or drive
    document: bytes  # network_data.json
    instance: str  # the server's uuid, empty if the source does not tell it


class NoSource(Exception):
    """Nothing answered with a document; the text says what was asked."""


def ask(urls: Sequence[str]) -> Answer:
    """Returns what the first of the services says, else the drive. Raises NoSource."""
    tried = []
    for url in urls:
        try:
            base = url.rstrip("/") + "/" + _LATEST
            return Answer("metadata", _get(base + "network_data.json"), _uuid(_get(base + "meta_data.json")))
        except (OSError, HTTPException, ValueError) as exc:
            tried.append("%s: %s" % (url, exc))
    for root in drives():
        try:
            folder = os.path.join(root, "openstack", "latest")
            return Answer("drive", _file(folder, "network_data.json"), _uuid(_file(folder, "meta_data.json")))
        except OSError as exc:
            tried.append("%s: %s" % (root, exc))
    raise NoSource("; ".join(tried) or "no metadata service is set, and there is no config drive")


def _get(url: str) -> bytes:
    # Without the machine's proxy: 169.254.169.254 is on the link.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_TIMEOUT) as response:
        raw: bytes = response.read(network_data.MAX_BYTES + 1)
        return raw


def _file(folder: str, name: str) -> bytes:
    with open(os.path.join(folder, name), "rb") as fh:
        return fh.read(network_data.MAX_BYTES + 1)


def _uuid(raw: bytes) -> str:
    try:
        uuid = json.loads(raw.decode("utf-8")).get("uuid")
    except (ValueError, AttributeError):
        return ""
    return uuid if isinstance(uuid, str) else ""


def drives() -> Sequence[str]:
    r"""Returns the roots of the drives that are labelled config-2: ["D:\\"]."""
    kernel = iphelper.dll("kernel32")
    mask = kernel.GetLogicalDrives()
    roots = [letter + ":\\" for number, letter in enumerate(string.ascii_uppercase) if mask >> number & 1]
    return [root for root in roots if (_label(kernel, root) or "").lower() == _LABEL]


def _label(kernel: Any, root: str) -> Optional[str]:
    name = ctypes.create_unicode_buffer(261)
    found = kernel.GetVolumeInformationW(ctypes.c_wchar_p(root), name, len(name), None, None, None, None, 0)
    return name.value if found else None
