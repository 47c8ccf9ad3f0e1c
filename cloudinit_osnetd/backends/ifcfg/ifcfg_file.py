# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifcfg files: nm-settings-ifcfg-rh(5), and initscripts' sysconfig.txt. Reads them, and sets values without changing
other lines. Pure.

They are shell assignments. Only plain and quoted words are read, which is what NetworkManager reads; a value that would
have to be run (`$(...)`) is kept as it is written.
"""

import ipaddress
import re
from typing import Dict, List, NamedTuple, Optional

DIRECTORY = "/etc/sysconfig/network-scripts"
PREFIX, PREFIX_ROUTE4, PREFIX_ROUTE6 = "ifcfg-", "route-", "route6-"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z")
_UNQUOTED = re.compile(r"(?:[^\s\\]|\\.)*")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:/%@+=-]*\Z")
_NUMBERED = re.compile(r"ADDRESS(\d+)\Z")
ADDRESS = re.compile(r"IPADDR\d*\Z")

Values = Dict[str, str]


def path_of(name: str, prefix: str = PREFIX) -> str:
    return "%s/%s%s" % (DIRECTORY, prefix, name)


def parsed(text: str) -> Values:
    """Returns the values by key; of several values of a key the last one."""
    matches = map(_ASSIGNMENT.match, text.splitlines())
    return {match.group(1): _unquoted(match.group(2)) for match in matches if match}


def _unquoted(word: str) -> str:
    word = word.strip()
    quote = word[:1]
    if quote == "'":
        return word[1:].partition("'")[0]
    if quote == '"':
        match = re.match(r'"((?:[^"\\]|\\.)*)"', word)
        return re.sub(r"\\(.)", r"\1", match.group(1)) if match else word
    match = _UNQUOTED.match(word)
    return re.sub(r"\\(.)", r"\1", match.group()) if match else word


def quoted(word: str) -> str:
    """Returns a word as it is written in an assignment. It has no quotes and no backslash: see network_data."""
    return word if _PLAIN.match(word) else '"%s"' % word


def with_values(text: str, changes: Dict[str, Optional[str]]) -> str:
    """Returns `text` with these values; None removes a key. New keys are added at the end."""
    left = dict(changes)
    lines = []
    for line in text.splitlines():
        match = _ASSIGNMENT.match(line)
        key = match.group(1) if match else ""
        if key not in changes:
            lines.append(line)
        elif left.get(key) is not None:
            new = left.pop(key)
            # A value that is the same already keeps its line and its quotes.
            same = match is not None and _unquoted(match.group(2)) == new
            lines.append(line if same else "%s=%s" % (key, quoted(str(new))))
    lines += ["%s=%s" % (key, quoted(new)) for key, new in left.items() if new is not None]
    return "\n".join(lines) + "\n"


def is_interface(text: str) -> bool:
    """True for an ifcfg file, False for one of routes."""
    return bool({"DEVICE", "TYPE", "BOOTPROTO", "HWADDR", "ONBOOT"}.intersection(parsed(text)))


def truth(values: Values, key: str, default: bool = False) -> bool:
    """Returns a truth value as NetworkManager and the scripts read it."""
    word = values.get(key, "").lower()
    return word in ("yes", "true", "t", "y", "1") if word else default


# -- addresses --------------------------------------------------------------------------------------


def addresses4(values: Values) -> List[str]:
    """Returns the IPv4 addresses with their prefix lengths: IPADDR, IPADDR0, IPADDR1, ..."""
    found = []
    for number in [""] + [str(n) for n in range(256)]:
        ip = values.get("IPADDR" + number)
        if ip:
            mask = values.get("PREFIX" + number) or values.get("NETMASK" + number) or "32"
            found.append("%s/%s" % (ip, _prefix(mask)))
    return found


def _prefix(mask: str) -> str:
    try:
        return mask if mask.isdigit() else str(ipaddress.ip_network("0.0.0.0/" + mask).prefixlen)
    except ValueError:
        return mask


def addresses6(values: Values) -> List[str]:
    return values.get("IPV6ADDR", "").split() + values.get("IPV6ADDR_SECONDARIES", "").split()


def numbered(values: Values, key: str) -> List[str]:
    """Returns the values of DNS1, DNS2, ... in the order of their numbers."""
    found = [(int(name[len(key) :]), word) for name, word in values.items() if re.match(key + r"\d+\Z", name) and word]
    return [word for _number, word in sorted(found)]


def search_domains(values: Values) -> List[str]:
    return list(dict.fromkeys(values.get("DOMAIN", "").split() + values.get("IPV6_DOMAIN", "").split()))


# -- routes -----------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A route of a file: destination ("default" or a network), next hop, metric, and further words of ip-route(8)."""

    to: str
    via: str = ""
    metric: str = ""
    more: str = ""


def routes(text: str) -> List[Line]:
    """Returns the routes of a route- or route6- file: numbered assignments, or the words of ip-route(8)."""
    values = parsed(text)
    numbers = sorted(int(match.group(1)) for match in map(_NUMBERED.match, values) if match)
    found = []
    for number in map(str, numbers):
        to = values["ADDRESS" + number]
        mask = values.get("PREFIX" + number) or values.get("NETMASK" + number) or ""
        to = "%s/%s" % (to, _prefix(mask)) if mask else to
        found.append(Line(to, *(values.get(key + number, "") for key in ("GATEWAY", "METRIC", "OPTIONS"))))
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words and not _ASSIGNMENT.match(line):
            found.append(_from_words(words))
    return found


def _from_words(words: List[str]) -> Line:
    if words[0] in ("to", "unicast"):
        words = words[1:]
    known: Dict[str, str] = {}
    more = []
    rest = words[1:]
    while rest:
        if rest[0] in ("via", "metric", "dev") and len(rest) > 1:
            known[rest[0]] = rest[1]
            rest = rest[2:]
        else:
            more.append(rest.pop(0))
    return Line(words[0] if words else "", known.get("via", ""), known.get("metric", ""), " ".join(more))


def words_of(one: Line, name: str) -> str:
    """Returns a route in the words of ip-route(8), which NetworkManager and the scripts read for both families."""
    words = [one.to] + (["via", one.via] if one.via else []) + ["dev", name]
    words += ["metric", one.metric] if one.metric else []
    return " ".join(words + one.more.split())


def routes_text(header: str, lines: List[Line], name: str) -> str:
    """Returns a file of routes; `header` is what precedes the routes, comments for people."""
    return header + "".join(words_of(one, name) + "\n" for one in lines)


def header_of(text: str) -> str:
    """Returns the comments at the beginning of a file."""
    kept = []
    for line in text.splitlines(True):
        if line.strip() and not line.startswith("#"):
            break
        kept.append(line if line.endswith("\n") else line + "\n")
    return "".join(kept)
