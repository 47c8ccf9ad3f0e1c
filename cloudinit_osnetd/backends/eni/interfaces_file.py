# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Splits an interfaces(5) file into stanzas and joins them again. What is not ours is kept byte for byte."""

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

_STARTS = ("iface", "auto", "mapping", "source", "source-directory", "rename", "no-scripts", "no-auto-down")
# What cloud-init's eni renderer writes in place of `auto`, for a stanza without it.
_NO_AUTO = re.compile(r"# control-\S+ (\S+)\n\Z")


class Stanza(NamedTuple):
    """A stanza; `owner` is empty if it does not belong to one NIC, as comments between stanzas."""

    owner: str
    text: str

    @property
    def words(self) -> List[str]:
        return _words(self.text)


def stanzas(text: str) -> List[Stanza]:
    """Splits a file into stanzas. Their texts joined give the file again."""
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
    """Yields each line in words."""
    return map(_words, _lines(text))


def is_hotplugged(text: str, name: str) -> bool:
    """True if `allow-hotplug` names the NIC. A pattern ("/ens*") is taken to match."""
    named = [words[1:] for words in statements(text) if words[:1] == ["allow-hotplug"]]
    return any(word == name or word.startswith("/") for words in named for word in words)


def split(text: str) -> Dict[str, str]:
    """Returns each NIC's section by name: all of its stanzas."""
    sections: Dict[str, str] = {}
    for stanza in stanzas(text):
        if stanza.owner:
            sections[stanza.owner] = sections.get(stanza.owner, "") + stanza.text
    return {name: section(text) for name, text in sections.items()}


def join(old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> str:
    """Returns the file with these sections changed, or removed (None). A new file begins as the template does."""
    if old is not None:
        there = stanzas(old)
    else:
        # A new file: what the renderer writes besides NICs (a header, the loopback).
        there = [stanza for stanza in stanzas(template or "") if stanza.owner in ("", "lo")]
    todo = {name: section(text) for name, text in changes.items() if text is not None}
    out, ours = "", False
    for stanza in there:
        if stanza.owner not in changes:
            # Byte for byte: it belongs to another NIC, or to none.
            out += ("\n" if ours and not stanza.text.startswith("\n") else "") + stanza.text
            ours = False
        elif stanza.owner in todo:
            out, ours = out + ("\n" if ours else "") + todo.pop(stanza.owner), True
    for added in todo.values():
        out += ("\n" if out and not out.endswith("\n\n") else "") + added
    # Removing the last section leaves no additional blank line.
    return out if not out or (old or "").endswith("\n\n") else section(out)


def meaning(text: str) -> str:
    """Returns a section without comments and spacing: equal for sections that mean the same."""
    lines = [" ".join(_words(line)) for line in _lines(text) if not _is_comment(line)]
    return "\n".join(line for line in lines if line)


def iface_stanzas(text: str, name: str) -> Iterator[List[List[str]]]:
    """Yields a NIC's `iface` stanzas, each as a list of lines in words, beginning with the `iface` line."""
    for stanza in stanzas(text):
        if stanza.owner == name and stanza.words[:1] == ["iface"]:
            yield [words for words in statements(stanza.text) if words and not words[0].startswith("#")]


def addresses(text: str, name: str) -> Set[str]:
    """Returns the addresses that a NIC's stanzas set, without prefix length."""
    found = [words[1] for lines in iface_stanzas(text, name) for words in lines if words[0] == "address" and words[1:]]
    return {address.partition("/")[0].lower() for address in found}


def option(text: str, name: str, *keys: str) -> str:
    """Returns the value of the first of these options in a NIC's stanzas, empty if there is none."""
    return next((" ".join(words[1:]) for lines in iface_stanzas(text, name) for words in lines if words[0] in keys), "")


def has_stanza(text: str, name: str) -> bool:
    return any(True for _lines in iface_stanzas(text, name))


def leased_metric(text: str, name: str) -> str:
    """Returns the metric that a NIC's stanzas set for the routes of a lease, empty if none."""
    leases = [lines for lines in iface_stanzas(text, name) if lines[0][2:4] == ["inet", "dhcp"]]
    return next((words[1] for lines in leases for words in lines if words[0] == "metric" and words[1:]), "")


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
    """Yields the lines as ifupdown reads them: a backslash at the end continues a line, except in a comment.

    splitlines() is not used: for ifupdown a form feed or U+2028 does not end a line.
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


def section(text: str) -> str:
    """Removes blank lines at the end."""
    return text.rstrip("\n") + "\n"
