# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan's whole configuration: which files it reads, and which foreign files configure our NICs."""

import fnmatch
import glob
import logging
import os
from typing import Any, Callable, Container, Dict, List, Optional, Sequence, Tuple

from ...core.desired import Item
from ...kernel.alternative_names import LinkNames
from ...system import files
from . import yaml_file

LOG = logging.getLogger(__name__)
TOP = ""  # of the machine; tests set their own
FILE = "/etc/netplan/50-cloud-init.yaml"
# Files in later directories replace those of the same name in earlier ones (netplan-generate(8)).
_DIRECTORIES = ("/lib/netplan", "/etc/netplan", "/run/netplan")


def paths() -> List[str]:
    """Returns netplan's files in the order in which it reads them."""
    found: Dict[str, str] = {}
    for directory in _DIRECTORIES:
        there = [path for path in glob.glob(TOP + directory + "/*.yaml") if os.path.isfile(path)]
        found.update({os.path.basename(path): path[len(TOP) :] for path in there})
    return [found[name] for name in sorted(found)]


def text_of(path: str) -> str:
    """Returns the text of one of netplan's files; empty if there is none."""
    return files.read(TOP + path) or ""


def chosen_renderer() -> Tuple[str, str]:
    """Returns netplan's renderer, and the file that sets it; empty if none does."""
    chosen, by = "networkd", ""
    for path in paths():
        text = text_of(path)
        if "renderer" in text:  # few files do, and importing YAML takes 15 ms
            try:
                chosen, by = str(yaml_file.load(text).get("renderer", chosen)), path
            except yaml_file.NotNetplan:
                continue  # netplan cannot read it either
    return chosen, by


def our_definitions() -> Dict[str, Tuple[str, Any]]:
    """Returns the group and the content of each definition in our file, by id."""
    return _definitions([FILE]).get(FILE, {})


def claimed(items: Sequence[Item]) -> Dict[str, str]:
    """Returns the NICs that another netplan file configures as well, or instead, by name, with that file."""
    return dict(configured_elsewhere(items), **_those(items, _applies_to))


def configured_elsewhere(items: Sequence[Item]) -> Dict[str, str]:
    """Returns the same for the NICs that have no definition in our file: they are configured already."""
    if not _others():
        return {}  # as on most servers; importing YAML takes 15 ms
    ours = our_definitions()
    return _those([item for item in items if item.name not in ours], lambda *of: _applies_to(*of) or _names(*of))


def referred(ours: Container[Tuple[str, str]]) -> Dict[str, str]:
    """Returns, by id, what a definition outside of `ours` (path and id) refers to, and which definition that is."""
    return {
        below: "%s of %s" % (name, path)
        for path, defined in _definitions(paths()).items()
        for name, (_group, body) in defined.items()
        if (path, name) not in ours
        for below in _refers_to(body)
    }


def _others() -> List[str]:
    return [path for path in paths() if path != FILE]


def _definitions(of: Sequence[str]) -> Dict[str, Dict[str, Tuple[str, Any]]]:
    """Returns, by path, the group and the content of each definition by id. A missing file has none."""
    found = {}
    for path in of:
        try:
            found[path] = yaml_file.definitions(yaml_file.load(text_of(path)))
        except yaml_file.NotNetplan as exc:
            LOG.warning("unreadable: file=%s error=%s", path, exc)
    return found


def _those(items: Sequence[Item], configures: Callable[[Item, LinkNames, str, str, Any], bool]) -> Dict[str, str]:
    """Returns the NICs that a definition of another file configures, by name, with that file."""
    names = LinkNames()
    return {
        item.name: path
        for path, defined in _definitions(_others()).items()
        for item in items
        if any(configures(item, names, name, group, body) for name, (group, body) in defined.items())
    }


def _applies_to(item: Item, names: LinkNames, name: str, group: str, body: Any) -> bool:
    """True if a definition of another file configures the NIC.

    One of the same id is merged with ours. If two match a NIC, networkd uses the one whose file sorts first.
    """
    if name == item.name:
        return True
    match = _match(item, name, group, body)
    # By the names of networkd's files: "ens4-x" sorts before "ens4" there.
    if match is None or name + ".network" > item.name + ".network":
        return False
    mac, pattern = match.get("macaddress"), match.get("name")
    if mac is not None and str(mac).lower() != item.entry.mac:
        return False
    return pattern is None or any(fnmatch.fnmatchcase(one, str(pattern)) for one in names.of(item.name))


def _names(item: Item, names: LinkNames, name: str, group: str, body: Any) -> bool:
    """True if a definition matches only this NIC, whatever its id is, and not others like it."""
    match = _match(item, name, group, body)
    if match is None or not {"macaddress", "name"} & set(match):
        return False
    mac, pattern = str(match.get("macaddress", item.entry.mac)).lower(), match.get("name", item.name)
    return mac == item.entry.mac and pattern in names.of(item.name)


def _match(item: Item, name: str, group: str, body: Any) -> Optional[Dict[str, Any]]:
    """Returns what the definition of this id matches; without `match` that is the id."""
    match = (body or {}).get("match", {"name": name}) if group == "ethernets" and isinstance(body or {}, dict) else None
    return match if isinstance(match, dict) and item.entry.kind == "phy" else None


def _refers_to(body: Any) -> List[str]:
    """Returns the ids that a definition refers to."""
    if not isinstance(body, dict):
        return []
    several = body.get("interfaces")
    return [str(one) for one in [body.get("link"), *(several if isinstance(several, list) else [])] if one is not None]
