# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An interfaces(5) file, cut into stanzas and put together again: what is not ours stays, byte for byte."""

import ipaddress
import re
from typing import Container, Dict, Iterator, List, Match, NamedTuple, Optional, Set

_STARTS = ("iface", "auto", "mapping", "source", "source-directory", "rename", "no-scripts", "no-auto-down")
_IFACE = re.compile(r"^iface .*\n", re.MULTILINE)
# What cloud-init's eni renderer writes in the place of `auto`, where a stanza has none.
_NO_AUTO = re.compile(r"# control-\S+ (\S+)\n\Z")
# What it writes for a route up to 25 (cloudinit/net/eni.py: _render_route): a network with its prefix or, up to 19,
# with its netmask; from 22.1 on -host for a single address.
_OLD_ROUTE = re.compile(
    r"^(?P<when>\s*(?:post-up|pre-down)) route (?P<verb>add|del)(?P<six> -A inet6)?"
    r"(?: -net| -host)? (?P<network>\S+)(?: netmask (?P<mask>\S+))?"
    r" gw (?P<gateway>\S+)(?: metric (?P<metric>\d+))?(?P<or_true> \|\| true)?$",
    re.MULTILINE,
)
# From 26 on, as which we write those too.
_ROUTE = re.compile(
    r"^(\s*(?:post-up|pre-down) (?:ip (?:-family inet6 )?)?route (?:add|del) (?:(?! dev ).)*?)( \|\| true)?$",
    re.MULTILINE,
)
_ADDED_VIA = re.compile(r" add .* via (\S+)")
# Of the first NIC, whose routes are given no metric.
_DEFAULT6 = re.compile(
    r"^(\s*(?:post-up|pre-down) ip -family inet6 route (?:add|del) default via \S+)(?= dev |$| \|\|)", re.MULTILINE
)
_METRIC6 = 1023


class Stanza(NamedTuple):
    """A stanza; `owner` is empty where it is no one NIC's, as are comments between stanzas."""

    owner: str
    text: str

    @property
    def words(self) -> List[str]:
        return _words(self.text)


def stanzas(text: str) -> List[Stanza]:
    """The file in stanzas; their texts, joined, are the file again."""
    found: List[Stanza] = []
    owner, stanza, blank, comments = "", "", "", ""
    for line in _lines(text):
        no_auto = _NO_AUTO.match(line)
        if no_auto:
            found += [Stanza(owner, stanza + blank), Stanza("", comments)]
            owner, stanza, blank, comments = no_auto.group(1), line, "", ""
        elif _is_comment(line) or (comments and not _words(line)):
            comments += line
        elif not _words(line):
            blank += line
        elif _starts(_words(line)):
            found += [Stanza(owner, stanza + blank), Stanza("", comments)]
            owner, stanza, blank, comments = _owner(_words(line)), line, "", ""
        else:
            stanza, blank, comments = stanza + blank + comments + line, "", ""
    found += [Stanza(owner, stanza + blank), Stanza("", comments)]
    return [one for one in found if one.text]


def statements(text: str) -> Iterator[List[str]]:
    """The words of each line."""
    return map(_words, _lines(text))


def split(text: str) -> Dict[str, str]:
    """All stanzas of each NIC, its section, by its name."""
    sections: Dict[str, str] = {}
    for stanza in stanzas(text):
        if stanza.owner:
            sections[stanza.owner] = sections.get(stanza.owner, "") + stanza.text
    return {name: _section(text) for name, text in sections.items()}


def join(old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> str:
    """The file with these sections changed, or gone (None). Where there is none, it begins as the template does."""
    if old is not None:
        there = stanzas(old)
    else:
        # A new file: what the renderer puts there besides NICs (a header, the loopback).
        there = [stanza for stanza in stanzas(template or "") if stanza.owner in ("", "lo")]
    todo = {name: _section(text) for name, text in changes.items() if text is not None}
    out, ours = "", False
    for stanza in there:
        if stanza.owner not in changes:
            # Byte for byte: it is another NIC's, or nobody's.
            out += ("\n" if ours and not stanza.text.startswith("\n") else "") + stanza.text
            ours = False
        elif stanza.owner in todo:
            out, ours = out + ("\n" if ours else "") + todo.pop(stanza.owner), True
    for added in todo.values():
        out += ("\n" if out and not out.endswith("\n\n") else "") + added
    # What went away at the end leaves no blank line that was not there before.
    return out if not out or (old or "").endswith("\n\n") else _section(out)


def meaning(text: str) -> str:
    """What two sections that say the same have in common."""
    lines = [" ".join(_words(line)) for line in _lines(text) if not _is_comment(line)]
    return "\n".join(line for line in lines if line)


def mtu_families(text: str) -> Set[str]:
    """The families whose stanzas set an MTU."""
    families, family = set(), ""
    for words in statements(text):
        if words[:1] == ["iface"] and len(words) > 2:
            family = words[2]
        elif words[:1] == ["mtu"]:
            families.add(family)
    return families


def with_first(text: str, option: str) -> str:
    """A section with an option at the head of its first stanza."""
    return _IFACE.sub(lambda iface: "%s    %s\n" % (iface.group(), option), text, count=1)


def with_last(text: str, option: str) -> str:
    """A section with an option at its end."""
    return "%s    %s\n" % (_section(text), option)


def routes_by_ip(text: str, name: str, onlink: Container[str] = ()) -> str:
    """A section whose routes are set by ip(8), and name their NIC; `onlink`: the gateways that no subnet of it holds.

    An IPv6 default route has a metric, and it is not the one (1024) of a router that advertises itself: of two with the
    same one the kernel refuses the second. Where that is the advertised one of the same router, it drops the rest of
    the advertisement as well, addresses and all (net/ipv6/ndisc.c: ndisc_router_discovery).
    """

    def naming(route: Match[str]) -> str:
        added = _ADDED_VIA.search(route.group(1))
        flag = " onlink" if added and added.group(1) in onlink else ""
        return "%s dev %s%s%s" % (route.group(1), name, flag, route.group(2) or "")

    text = _ROUTE.sub(naming, _OLD_ROUTE.sub(_by_ip, text))
    return _DEFAULT6.sub(r"\1 metric %d" % _METRIC6, text)


def _by_ip(route: Match[str]) -> str:
    network = route.group("network")
    if route.group("mask"):
        network = str(ipaddress.ip_network("%s/%s" % (network, route.group("mask")), strict=False))
    words = [route.group("when"), "ip -family inet6 route" if route.group("six") else "ip route", route.group("verb")]
    words += [network, "via", route.group("gateway")]
    words += ["metric", route.group("metric")] if route.group("metric") else []
    return " ".join(words) + (route.group("or_true") or "")


def _owner(words: List[str]) -> str:
    if words[0] == "iface" and len(words) > 1:
        return words[1]
    if (words[0] == "auto" or words[0].startswith("allow-")) and len(words) == 2:
        return words[1]
    return ""


def _starts(words: List[str]) -> bool:
    return bool(words) and (words[0] in _STARTS or words[0].startswith("allow-"))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _lines(text: str) -> Iterator[str]:
    """The lines as ifupdown reads them: a backslash at the end goes on in the next, but for a comment's.

    Not splitlines(): to ifupdown a form feed or U+2028 ends no line.
    """
    joined = ""
    for line in text[: -1 if text.endswith("\n") else None].split("\n") if text else []:
        joined += line + "\n"
        if not line.endswith("\\") or _is_comment(joined):
            yield joined
            joined = ""
    if joined:
        yield joined


def _words(line: str) -> List[str]:
    return line.replace("\\\n", "").split()


def _section(text: str) -> str:
    return text.rstrip("\n") + "\n"
