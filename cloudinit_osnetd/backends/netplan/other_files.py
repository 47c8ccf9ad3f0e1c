# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan's configuration as a whole: which files it reads, and what those of other people say of our NICs."""

import fnmatch
import glob
import logging
import os
from typing import Any, Callable, Container, Dict, List, Optional, Sequence, Tuple

from ...core.desired import Item
from ...system import files
from . import yaml_file

LOG = logging.getLogger(__name__)
TOP = ""  # of the machine; the tests have their own
FILE = "/etc/netplan/50-cloud-init.yaml"
# The later ones' files hide those of the same name in the earlier ones (netplan-generate(8)).
_DIRECTORIES = ("/lib/netplan", "/etc/netplan", "/run/netplan")


def paths() -> List[str]:
    """netplan's files, in the order in which it reads them."""
    found: Dict[str, str] = {}
    for directory in _DIRECTORIES:
        there = [path for path in glob.glob(TOP + directory + "/*.yaml") if os.path.isfile(path)]
        found.update({os.path.basename(path): path[len(TOP) :] for path in there})
    return [found[name] for name in sorted(found)]


def text_of(path: str) -> str:
    """The text of one of netplan's files; empty where there is none."""
    return files.read(TOP + path) or ""


def chosen_renderer() -> Tuple[str, str]:
    """Whom netplan hands the NICs to, and the file that says so; empty where none does."""
    chosen, by = "networkd", ""
    for path in paths():
        text = text_of(path)
        if "renderer" in text:  # few have one, and YAML takes 15 ms
            try:
                chosen, by = str(yaml_file.load(text).get("renderer", chosen)), path
            except yaml_file.NotNetplan:
                continue  # netplan does not read it either
    return chosen, by


def our_definitions() -> Dict[str, Tuple[str, Any]]:
    """The group and the content of each definition in our file, by its id."""
    return _definitions([FILE]).get(FILE, {})


def claimed(items: Sequence[Item]) -> Dict[str, str]:
    """By name: the NICs that another netplan file configures as well, or instead, and that file."""
    return dict(theirs(items), **_those(items, _speaks_of))


def theirs(items: Sequence[Item]) -> Dict[str, str]:
    """The same, of those that have no definition in our file: somebody has taken care of them already."""
    if not _others():
        return {}  # as on most servers; YAML takes its time
    ours = our_definitions()
    return _those([item for item in items if item.name not in ours], lambda *of: _speaks_of(*of) or _names(*of))


def referred(ours: Container[Tuple[str, str]]) -> Dict[str, str]:
    """By id: what a definition stands on that is not among `ours` (path and id), and which definition that is."""
    return {
        below: "%s of %s" % (name, path)
        for path, defined in _definitions(paths()).items()
        for name, (_group, body) in defined.items()
        if (path, name) not in ours
        for below in _stands_on(body)
    }


def _others() -> List[str]:
    return [path for path in paths() if path != FILE]


def _definitions(of: Sequence[str]) -> Dict[str, Dict[str, Tuple[str, Any]]]:
    """By path: the group and the content of each definition, by its id. A file that is not there has none."""
    found = {}
    for path in of:
        try:
            found[path] = yaml_file.definitions(yaml_file.load(text_of(path)))
        except yaml_file.NotNetplan as exc:
            LOG.warning("unreadable: file=%s error=%s", path, exc)
    return found


def _those(items: Sequence[Item], has_a_say: Callable[[Item, str, str, Any], bool]) -> Dict[str, str]:
    """By name: the NICs in which a definition of another file has a say, and that file."""
    return {
        item.name: path
        for path, defined in _definitions(_others()).items()
        for item in items
        if any(has_a_say(item, name, group, body) for name, (group, body) in defined.items())
    }


def _speaks_of(item: Item, name: str, group: str, body: Any) -> bool:
    """True where a definition of another file has a say in the NIC.

    One of the same id is merged with ours. Of two that match a NIC networkd takes the one whose file comes first.
    """
    if name == item.name:
        return True
    match = _match(item, group, body)
    # By the names of the files that networkd gets: "ens4-x" comes before "ens4" there.
    if match is None or name + ".network" > item.name + ".network":
        return False
    mac, pattern = match.get("macaddress"), match.get("name")
    if mac is not None and str(mac).lower() != item.entry.mac:
        return False
    return pattern is None or fnmatch.fnmatchcase(item.name, str(pattern))


def _names(item: Item, _id: str, group: str, body: Any) -> bool:
    """True where a definition is of this very NIC, whatever it is called, and not of any NIC like it."""
    match = _match(item, group, body)
    if match is None or not {"macaddress", "name"} & set(match):
        return False
    mac, pattern = str(match.get("macaddress", item.entry.mac)).lower(), match.get("name", item.name)
    return (mac, pattern) == (item.entry.mac, item.name)


def _match(item: Item, group: str, body: Any) -> Optional[Dict[str, Any]]:
    match = body.get("match") if group == "ethernets" and isinstance(body, dict) else None
    return match if isinstance(match, dict) and item.entry.kind == "phy" else None


def _stands_on(body: Any) -> List[str]:
    """The ids that a definition refers to."""
    if not isinstance(body, dict):
        return []
    several = body.get("interfaces")
    return [str(one) for one in [body.get("link"), *(several if isinstance(several, list) else [])] if one is not None]
