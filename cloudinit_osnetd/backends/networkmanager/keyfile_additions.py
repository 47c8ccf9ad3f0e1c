# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What others have added to a keyfile of ours, with nmcli or an editor. Pure.

Kept are addresses and routes besides ours, and settings that our profiles do not have (a firewall zone, dns-priority,
802-1x ...). A profile in which anything that we write was changed, or whether that has an effect, is drifted.
"""

from typing import Dict, FrozenSet, Iterator, NamedTuple, Optional

from . import keyfile_meaning
from .keyfile import Values, numbered, parsed, value, with_values

# They name the profile, or say when it is taken: nothing that a document says, so a change of these is kept as well.
_FREE = (("connection", "id"), ("connection", "autoconnect-priority"))
_FAMILIES = ("ipv4", "ipv6")
# Which NIC the profile is for, whether it is activated, and what may contradict the document.
_NOT_KEPT = {
    "connection": ("autoconnect", "interface-name", "master", "controller"),
    "ipv4": (
        "method", "gateway", "never-default", "ignore-auto-routes", "may-fail", "required-timeout", "route-metric",
        "route-table", "dad-timeout",
    ),
}  # fmt: skip
_NOT_KEPT["ipv6"] = (*_NOT_KEPT["ipv4"], "addr-gen-mode", "token")
_SECTIONS_NOT_KEPT = ("match", "vlan", "bond", "bond-port", "bridge-port", "team-port", "ovs-port", "vrf")


class _Setting(NamedTuple):
    section: str
    values: Dict[str, str]
    lines: FrozenSet[str]  # its meaning
    kind: str = ""  # "address" or "route" of a numbered one


def carried_over(written: str, found: str, new: str, name: str) -> Optional[str]:
    """As Format.carried_over."""
    called = {"match name " + name}  # as it is called, while it has this name
    was, now = (keyfile_meaning.of(text) - called for text in (written, found))
    if not written or was - now:
        return None
    text: Optional[str] = new
    left = now - was
    for setting in _settings(parsed(found)):
        added = setting.lines & left
        if added and text is not None:
            text = _with(text, setting) if added == setting.lines else None
            left -= added
    return None if text is None or left else _with_free(written, found, text)


def _settings(values: Values) -> Iterator[_Setting]:
    for section, keys in values.items():
        if section not in _FAMILIES:
            for key, word in keys.items():
                yield _Setting(section, {key: word}, frozenset(keyfile_meaning.of_section(section, {key: word})))
            continue
        several = set()
        for kind in ("address", "route"):
            for key, _text in numbered(keys, kind):
                own = {one: keys[one] for one in (key, key + "_options") if one in keys}
                several |= set(own)
                yield _Setting(section, own, frozenset(keyfile_meaning.of_family(section, own)), kind)
        for key, word in keys.items():
            if key not in several:
                yield _Setting(section, {key: word}, frozenset(keyfile_meaning.of_family(section, {key: word})))


def _with(text: str, setting: _Setting) -> Optional[str]:
    """Returns a profile with one more setting; None if that does not go with it."""
    there = parsed(text)
    section = setting.section
    if setting.kind:
        return _with_one_more(text, there, setting)
    (key,) = setting.values
    ours = key in _NOT_KEPT.get(section, ()) or section in _SECTIONS_NOT_KEPT or key in there.get(section, {})
    plain = all(line.startswith("%s.%s " % (section, key)) for line in setting.lines)  # not the MTU, a MAC, DNS ...
    return with_values(text, section, dict(setting.values)) if plain and not ours else None


def _with_one_more(text: str, there: Values, setting: _Setting) -> Optional[str]:
    """Returns a profile with one more address or route."""
    section, kind = setting.section, setting.kind
    if setting.lines <= keyfile_meaning.of(text):
        return text  # the port has it now
    plain = all(line.startswith(kind + " ") for line in setting.lines)  # a gateway may follow an address
    default = any(line.startswith(("route 0.0.0.0/0", "route ::/0")) for line in setting.lines)
    if default or not plain or value(there, section, "method") not in ("auto", "manual"):
        return None
    number = 1
    while any("%s%d" % (word, number) in there[section] for word in (kind, kind + "s", kind + "es")):
        number += 1
    changes: Dict[str, Optional[str]] = {}
    for key, word in setting.values.items():
        changes["%s%d%s" % (kind, number, "_options" * key.endswith("_options"))] = word
    return with_values(text, section, changes)


def _with_free(written: str, found: str, text: str) -> str:
    was, now = parsed(written), parsed(found)
    for section, key in _FREE:
        if value(was, section, key) != value(now, section, key):
            text = with_values(text, section, {key: value(now, section, key) or None})
    proxy: Dict[str, Optional[str]] = {key: word for key, word in now.get("proxy", {}).items() if word}
    return with_values(text, "proxy", proxy) if proxy else text

