# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The operator's settings: osnetd.json below ProgramData. There need be none."""

import json
import os
from typing import Any, Dict, FrozenSet, NamedTuple, Tuple

from . import store

FILE = "osnetd.json"
METADATA = "http://169.254.169.254"


class BadConfig(Exception):
    """The file cannot be used as it is; the text names the field."""


class Config(NamedTuple):
    rename: bool = False  # give each NIC its link's name
    ignore: FrozenSet[str] = frozenset()  # MACs and names of NICs that other software configures
    metadata_urls: Tuple[str, ...] = (METADATA,)


def load() -> Config:
    path = os.path.join(store.directory(), FILE)
    try:
        with open(path, encoding="utf-8-sig") as fh:
            raw = json.load(fh)
    except FileNotFoundError:
        return Config()
    except (OSError, ValueError) as exc:
        raise BadConfig("%s: %s" % (path, exc)) from exc
    if not isinstance(raw, dict):
        raise BadConfig("%s: not an object" % path)
    unknown = sorted(set(raw) - set(Config._fields))
    if unknown:
        raise BadConfig("%s: no setting is called %s" % (path, ", ".join(unknown)))
    found = Config()
    if "rename" in raw:
        if not isinstance(raw["rename"], bool):
            raise BadConfig("%s: rename is neither true nor false: %.60r" % (path, raw["rename"]))
        found = found._replace(rename=raw["rename"])
    ignore = frozenset(one.lower() if one.count(":") == 5 else one for one in _texts(path, raw, "ignore"))
    return found._replace(ignore=ignore, metadata_urls=_texts(path, raw, "metadata_urls") or found.metadata_urls)


def _texts(path: str, raw: Dict[str, Any], name: str) -> Tuple[str, ...]:
    value = raw.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadConfig("%s: %s is not a list of texts: %.60r" % (path, name, value))
    return tuple(value)


def names(document: bytes) -> Dict[str, str]:
    """Returns by MAC the name of each link in a document: `name`, else `id`. A name that two have is nobody's."""
    found: Dict[str, str] = {}
    for link in json.loads(document.decode("utf-8-sig")).get("links") or []:
        mac = link.get("ethernet_mac_address") if isinstance(link, dict) else None
        name = (link.get("name") or link.get("id")) if isinstance(link, dict) else None
        # No name of a connection may have these characters; a quote would end netsh's word.
        if isinstance(mac, str) and isinstance(name, str) and not set(name) & set('\\/:*?"<>|') and name.isprintable():
            found[mac.lower()] = name
    return {mac: name for mac, name in found.items() if list(found.values()).count(name) == 1}
