# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Which .network file systemd-networkd uses for a link, and which foreign files configure our NICs.

networkd uses the first matching file by name (systemd.network(5)). A [Match] section is evaluated here for name, MAC
and type. For other keys (Driver=, Path=, Property=, KernelVersion= ...) networkd's state of the link is read,
which names the file.
"""

import fnmatch
import glob
import os
import re
import time
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ...core.desired import Item
from ...kernel.alternative_names import LinkNames
from ...system import files, paths
from . import links
from .netdev_file import parsed

DIRECTORY = "/etc/systemd/network"
DIRECTORIES = ("/usr/lib/systemd/network", "/usr/local/lib/systemd/network", paths.NETWORKD_RUNTIME_FILES, DIRECTORY)
PREFIX = "10-cloud-init-"  # the beginning of the names of the files that cloud-init and we write
SUFFIX = ".network"
_ESCAPE = "\\\\"
OUR_DROP_INS = "cloudinit-osnetd*"
_MAC_KEYS = ("MACAddress", "PermanentMACAddress")
_JUDGED = frozenset(("Name", "Type") + _MAC_KEYS)
# networkd matches a link after udev has processed it; a run for the same event may get here earlier.
_MATCH_SECONDS = 2.0
_UNMATCHED = ("pending", "initialized", "")
# The keys by which a drop-in changes what the port configures.
_SECTIONS = frozenset(["Match", "Address", "Route"])
_KEYS = frozenset(
    [
        ("Link", "MTUBytes"),
        ("Link", "MACAddress"),
        ("Link", "Unmanaged"),
        ("Link", "ActivationPolicy"),
        ("Network", "Address"),
        ("Network", "Gateway"),
        ("Network", "DHCP"),
        ("Network", "Bond"),
        ("Network", "Bridge"),
        ("Network", "VRF"),
        ("Network", "VLAN"),
    ]
)

Match = Mapping[str, Sequence[str]]


class Ours(NamedTuple):
    """Where our files are: `directory`, and the beginning of their names, which is followed by the NIC's name."""

    directory: str
    prefix: str

    def file(self, name: str) -> str:
        return self.prefix + name + SUFFIX


def literal(name: str) -> str:
    """Returns the value of [Match] Name= that matches only this name.

    The value is a list of glob patterns, which a leading `!` inverts. Backslashes are unescaped twice: in the words and
    in the patterns.
    """
    escaped = "".join(_ESCAPE + char if char in "*?[" else char.replace("\\", _ESCAPE * 2) for char in name)
    return _ESCAPE + escaped if escaped.startswith("!") else escaped


def bracketed(name: str) -> str:
    """Returns the same for netplan, which passes it to networkd and also matches by it itself: backslashes do not work.

    Raises ValueError for a name that cannot be expressed without backslashes.
    """
    if name.startswith("!") or "\\" in name:
        raise ValueError("netplan cannot match a NIC of this name: %s" % name)
    return "".join("[%s]" % char if char in "*?[" else char for char in name)


def claimed(items: Sequence[Item], ours: Ours) -> Dict[str, str]:
    """Returns the NICs for which networkd uses a foreign file or drop-in, by name, with that file.

    A file that sorts after ours counts if it matches only this NIC: then a person wrote it for the NIC. If it matches
    many NICs it is a default of the image.
    """
    found = {item.name: path for item in items for path in _drop_ins(ours.file(item.name)) if _changes_port(path)}
    names = LinkNames()
    for name, path in sorted(by_name("*" + SUFFIX).items(), reverse=True):  # the first one last
        if name.startswith(ours.prefix):
            continue
        match = _match(name, path)
        for item in items:
            our_file = ours.file(item.name)
            if name < our_file:
                fits = _fits(match, item, names)
                if _taken(item, path) if fits is None else fits:
                    found[item.name] = path
            elif not os.path.exists(os.path.join(ours.directory, our_file)) and _names_just(match, item, names):
                found[item.name] = path
    return found


def by_name(pattern: str) -> Dict[str, str]:
    """Returns files by name; files in later directories replace those of the same name in earlier ones."""
    found: Dict[str, str] = {}
    for directory in DIRECTORIES:
        for path in glob.glob(os.path.join(glob.escape(directory), pattern)):
            if not os.path.isdir(path):
                found[os.path.basename(path)] = path
    return found


def _drop_ins(name: str) -> List[str]:
    """Returns the drop-ins of a file in the order in which they are read, without ours."""
    found = by_name(os.path.join(glob.escape(name) + ".d", "*.conf"))
    return [path for base, path in sorted(found.items()) if not fnmatch.fnmatch(base, OUR_DROP_INS)]


def _changes_port(path: str) -> bool:
    """True for a drop-in that changes what a port configures. One that adds, say, LLDP or DNSSEC does not."""
    lines = parsed(files.read(path) or "")
    return any(section in _SECTIONS or (section, key) in _KEYS for section, key, _value in lines)


def _match(name: str, path: str) -> Match:
    """Returns the words of each [Match] key in a file and its drop-ins; an empty value clears the earlier ones."""
    match: Dict[str, List[str]] = {}
    for each in [path] + _drop_ins(name):
        for section, key, value in parsed(files.read(each) or ""):
            if section == "Match":
                words = match.setdefault(key, [])
                words.extend(value.split())
                if not value:
                    del words[:]
    return {key: words for key, words in match.items() if words}


def _fits(match: Match, item: Item, names: LinkNames) -> Optional[bool]:
    """True if it matches the NIC; None if its name, MAC and type do not decide that."""
    if not match or not all(_judged(match, item, names)):
        return False
    return True if set(match) <= _JUDGED else None


def _judged(match: Match, item: Item, names: LinkNames) -> Iterator[bool]:
    if "Type" in match:
        yield _any(match["Type"], lambda word: fnmatch.fnmatchcase(_type(item), word))
    macs = [word.lower().replace("-", ":") for key in _MAC_KEYS for word in match.get(key, ())]
    if macs:
        yield item.entry.kind == "phy" and item.entry.mac in macs  # a VLAN has its parent's MAC
    if "Name" in match:
        # One name is enough, also of an inverted list: `!ens3` matches ens3 if that is also called enp0s3.
        yield any(_is_named(name, match["Name"]) for name in names.of(item.name))


def _is_named(name: str, words: Sequence[str]) -> bool:
    return _any(words, lambda word: fnmatch.fnmatchcase(name, _pattern(word)))


def _any(words: Sequence[str], fits: Callable[[str], bool]) -> bool:
    """True if one of the words matches; a leading `!` inverts the list."""
    inverted = words[0].startswith("!")
    return any(fits(word.lstrip("!") if inverted else word) for word in words) != inverted


def _pattern(word: str) -> str:
    """Translates networkd's pattern to Python's, which has no backslashes: a bracket holds a literal."""
    return re.sub(r"\\{1,2}(.)", lambda found: "[%s]" % found[1], word)


def _type(item: Item) -> str:
    """Returns the link's type as networkctl shows it."""
    return "ether" if item.entry.kind == "phy" else item.entry.kind


def _names_just(match: Match, item: Item, names: LinkNames) -> bool:
    """True if it matches only this NIC, and not others like it."""
    if set(match) - {"Name", *_MAC_KEYS} or not all(_judged(match, item, names)):
        return False
    words = match.get("Name", ())
    return any(key in match for key in _MAC_KEYS) or any(name in words for name in names.of(item.name))


def _taken(item: Item, path: str) -> bool:
    """True if networkd uses this file for the NIC. Waits if networkd has not processed a new NIC yet."""
    ifindex = _ifindex(item.name)
    deadline = time.monotonic() + _MATCH_SECONDS
    while ifindex and os.path.exists(paths.NETWORKD_STATE):
        state = links.note(ifindex)
        if state.get("ADMIN_STATE", "") not in _UNMATCHED or time.monotonic() > deadline:
            return os.path.basename(state.get("NETWORK_FILE", "")) == os.path.basename(path)
        time.sleep(0.02)
    return False


def _ifindex(name: str) -> int:
    text = files.read(os.path.join(paths.KERNEL_NICS, name, "ifindex"))
    return int(text) if text else 0
