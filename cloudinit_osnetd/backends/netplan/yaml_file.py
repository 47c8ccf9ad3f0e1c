# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Splits a netplan file by NIC and joins it again. What is not ours is kept byte for byte.

A NIC's definition is one key of one group (`network: {ethernets: {ens3: ...}}`). In a file in block style, as netplan
and cloud-init write it, lines are cut out and inserted. A file in any other style is written again from its YAML tree,
which loses the comments and keeps every scalar as written.
"""

import copy
import errno
import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

# netplan-yaml(5): the keys of `network:` that hold definitions, each by its id.
GROUPS = (
    "ethernets",
    "modems",
    "wifis",
    "bridges",
    "bonds",
    "tunnels",
    "vlans",
    "vrfs",
    "dummy-devices",
    "virtual-ethernets",
    "nm-devices",
)
EMPTY = "network:\n  version: 2\n"


class NotNetplan(OSError):
    """The file is not a readable netplan file."""

    def __init__(self, problem: str) -> None:
        super().__init__(errno.EINVAL, "not a netplan file: " + problem)


def _yaml() -> Any:
    """Imports PyYAML, which cloud-init depends on; late, because that takes 15 ms."""
    import yaml

    return yaml


def load(text: str) -> Dict[str, Any]:
    """Returns what the file has below `network:`. Raises NotNetplan."""
    yaml = _yaml()
    try:
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except (yaml.YAMLError, ValueError) as exc:
        raise NotNetplan(" ".join(str(exc).split())) from exc
    network = (found or {}).get("network") if isinstance(found or {}, dict) else None
    if network is None and not found:
        return {}
    if not isinstance(network, dict):
        raise NotNetplan("no mapping below network:")
    return network


def dump(data: Dict[str, Any]) -> str:
    return str(_yaml().safe_dump(data, default_flow_style=False))


def definitions(network: Dict[str, Any]) -> Dict[str, Tuple[str, Any]]:
    """Returns the group and the content of each definition, by id."""
    return {
        str(name): (group, body)
        for group in GROUPS
        if isinstance(network.get(group), dict)
        for name, body in network[group].items()
    }


def split(text: str) -> Dict[str, str]:
    """Returns each definition as a text of its own, by id. Raises NotNetplan."""
    return {name: dump({group: {name: body}}) for name, (group, body) in definitions(load(text)).items()}


def only(text: str) -> Tuple[str, str, Dict[str, Any]]:
    """Returns group, id and content of a part, as split() returns them."""
    ((group, named),) = _yaml().safe_load(text).items()
    ((name, body),) = named.items()
    return group, name, body or {}


def dns_difference(old: str, new: str) -> Optional[Tuple[List[str], List[str], List[str]]]:
    """Returns (DNS servers, search domains, the servers before) if two parts differ in nothing else.

    Returns None if they do, or if a lease may bring DNS servers as well: networkd would not use those any more.
    """
    was, will = only(old), only(new)
    before, after = (dict(one[2].pop("nameservers", None) or {}) for one in (was, will))
    if was != will or any(was[2].get(family) for family in ("dhcp4", "dhcp6")):
        return None
    servers, search = (list(map(str, after.get(key) or [])) for key in ("addresses", "search"))
    return servers, search, list(map(str, before.get("addresses") or []))


def part(group: str, name: str, body: Dict[str, Any]) -> str:
    return dump({group: {name: body}})


def meaning(text: str) -> str:
    """Returns a normal form: equal for parts that mean the same."""
    return json.dumps(_yaml().safe_load(text), sort_keys=True, default=str)


def join(old: Optional[str], changes: Dict[str, Optional[str]]) -> str:
    """Returns the file with `changes` applied: parts by id, None to remove one. Raises NotNetplan."""
    text = old if old and old.strip() else EMPTY
    wanted = _with(load(text), changes)
    for way in (_spliced, _rebuilt):
        try:
            new = way(text, changes)
        except (_NotInBlocks, _yaml().YAMLError):
            continue
        if _same(new, wanted):
            return new
    raise NotNetplan("unsupported YAML style")


# -- what the result must mean ------------------------------------------------------------------------------------


def _with(network: Dict[str, Any], changes: Dict[str, Optional[str]]) -> Dict[str, Any]:
    """Returns `network` with the changes applied, without groups that they left empty."""
    new = copy.deepcopy(network)
    for name in changes:
        for group in GROUPS:
            if isinstance(new.get(group), dict) and name in new[group]:
                del new[group][name]
                if not new[group]:
                    del new[group]
    for text in changes.values():
        if text is not None:
            group, name, body = only(text)
            new[group] = dict(new.get(group) or {}, **{name: body})
    return new


def _same(text: str, network: Dict[str, Any]) -> bool:
    try:
        return load(text) == network
    except NotNetplan:
        return False


# -- by lines ---------------------------------------------------------------------------------------------------


class _NotInBlocks(Exception):
    """The file is not in block style: lines cannot be cut out of it."""


class _Child(NamedTuple):
    """One key of a block mapping: its column, and its lines from `first` to before `end`."""

    name: str
    column: int
    first: int
    end: int
    value: Any  # the YAML node


def _children(node: Any, lines: List[str]) -> List[_Child]:
    yaml = _yaml()
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise _NotInBlocks
    found = []
    for key, value in node.value:
        is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        # A block ends where the next token begins, and so does a literal; anything else on a line of its own.
        ends_before = is_block or (value.end_mark.column == 0 and value.end_mark.line > key.start_mark.line)
        end = value.end_mark.line if ends_before else value.end_mark.line + 1
        while end > key.start_mark.line + 1 and _is_filling(lines[end - 1]):
            end -= 1
        found.append(_Child(str(key.value), key.start_mark.column, key.start_mark.line, end, value))
    return found


def _is_filling(line: str) -> bool:
    """True for a blank line or a comment. After a definition it does not belong to it."""
    return not line.strip() or line.lstrip().startswith("#")


def _network_of(text: str, lines: List[str]) -> List[_Child]:
    yaml = _yaml()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return _children(next(child.value for child in _children(root, lines) if child.name == "network"), lines)


def _spliced(text: str, changes: Dict[str, Optional[str]]) -> str:
    text = text if text.endswith("\n") else text + "\n"
    for name, new in changes.items():
        group = only(new)[0] if new is not None else ""
        text = _without(text, name, keep_in=group)
        if new is not None:
            text = _put(text, *only(new))
    return text


def _without(text: str, name: str, keep_in: str) -> str:
    """Removes the definition, and its group if that is then empty; not the group `keep_in`."""
    lines = text.split("\n")
    for group in _network_of(text, lines):
        if group.name not in GROUPS or group.name == keep_in or group.value.tag.endswith(":null"):
            continue
        members = _children(group.value, lines)
        for member in members:
            if member.name == name:
                goes = group if len(members) == 1 else member
                return "\n".join(lines[: goes.first] + lines[goes.end :])
    return text


def _put(text: str, group_name: str, name: str, body: Dict[str, Any]) -> str:
    lines = text.split("\n")
    network = _network_of(text, lines)
    for group in network:
        if group.name != group_name:
            continue
        members = _children(group.value, lines)
        new = _indented({name: body}, members[0].column)
        for member in members:
            if member.name == name:
                return "\n".join(lines[: member.first] + new + lines[member.end :])
        return "\n".join(lines[: members[-1].end] + new + lines[members[-1].end :])
    at = network[-1].end
    return "\n".join(lines[:at] + _indented({group_name: {name: body}}, network[0].column) + lines[at:])


def _indented(data: Dict[str, Any], column: int) -> List[str]:
    return [" " * column + line for line in dump(data).rstrip("\n").split("\n")]


# -- from the tree ----------------------------------------------------------------------------------------------


def _rebuilt(text: str, changes: Dict[str, Optional[str]]) -> str:
    yaml = _yaml()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    network = next(value for key, value in root.value if key.value == "network")
    for name, new in changes.items():
        _take_out(network, name)
        if new is not None:
            _put_in(network, yaml.compose(new, Loader=yaml.SafeLoader))
    return str(yaml.serialize(root))


def _take_out(network: Any, name: str) -> None:
    kept = []
    for key, group in network.value:
        if key.value in GROUPS and isinstance(group.value, list):
            before = len(group.value)
            group.value = [(k, v) for k, v in group.value if k.value != name]
            if before and not group.value:
                continue
        kept.append((key, group))
    network.value = kept


def _put_in(network: Any, addition: Any) -> None:
    ((new_key, new_group),) = addition.value
    for index, (key, group) in enumerate(network.value):
        if key.value == new_key.value:
            if isinstance(group.value, list):
                group.value.extend(new_group.value)
            else:  # `ethernets:` with nothing behind it
                network.value[index] = (key, new_group)
            return
    network.value.append((new_key, new_group))
