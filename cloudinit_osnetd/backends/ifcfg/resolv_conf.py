# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""/etc/resolv.conf where NetworkManager is told to leave it alone.

cloud-init's renderer sysconfig sets `dns = none` and writes the file at the first boot. The name servers of a NIC that
comes later then arrive by nobody, and those of one that has gone stay.
"""

import glob
import logging
import os
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ...core.records import Dns
from ...system import files
from ..networkmanager.keyfile import parsed, value
from ..networkmanager.profile_activator import dns_of
from . import ifcfg_file, profile

LOG = logging.getLogger(__name__)
FILE = "/etc/resolv.conf"
# In the order in which later ones override earlier ones: NetworkManager.conf(5).
_CONFIGURATION = (
    "/usr/lib/NetworkManager/conf.d/*.conf",
    "/run/NetworkManager/conf.d/*.conf",
    "/etc/NetworkManager/NetworkManager.conf",
    "/etc/NetworkManager/conf.d/*.conf",
)
_MOST_SERVERS = 3  # resolv.conf(5): MAXNS


class Words(NamedTuple):
    """The name servers and search domains of some NICs, each once, in the order of their files."""

    servers: Tuple[str, ...] = ()
    search: Tuple[str, ...] = ()


def is_ours() -> bool:
    """True if NetworkManager leaves the file alone, and no other program has made it a link."""
    return _mode() == "none" and not os.path.islink(FILE)


def _mode() -> str:
    chosen = ""
    for path in (path for pattern in _CONFIGURATION for path in sorted(glob.glob(pattern))):
        chosen = value(parsed(files.read(path) or ""), "main", "dns", chosen)
    return chosen


def words_of(names: Optional[Iterable[str]] = None) -> Words:
    """Returns what the ifcfg files of these NICs, or all ifcfg files, say of DNS."""
    paths = profile.paths() if names is None else [ifcfg_file.path_of(name) for name in names]
    servers: List[str] = []
    search: List[str] = []
    for path in paths:
        values = ifcfg_file.parsed(files.read(path) or "")
        servers += ifcfg_file.numbered(values, "DNS")
        search += ifcfg_file.search_domains(values)
    return Words(tuple(dict.fromkeys(servers)), tuple(dict.fromkeys(search)))


def update(gone: Words, coming: Words) -> None:
    """Adds the words of `coming`, and takes away those of `gone` that no ifcfg file has any more."""
    if not is_ours():
        return
    kept = words_of()
    gone = Words(*(tuple(w for w in of if w not in still) for of, still in zip(gone, kept)))
    old = files.read(FILE) or ""
    new = updated(old, gone, coming)
    if new == old:
        return
    try:
        files.replace(FILE, new)
    except OSError as exc:
        LOG.warning("not written: file=%s error=%s", FILE, exc.strerror)
        return
    there = dns_of(new)
    if there is not None and len(there.servers) > _MOST_SERVERS:
        LOG.info("only the first %d name servers are asked: file=%s", _MOST_SERVERS, FILE)


def updated(text: str, gone: Words, coming: Words) -> str:
    """Returns the text of a resolv.conf(5) with the changes; other lines are kept. Pure."""
    lines: List[str] = []
    servers: List[str] = []
    search: List[str] = []
    place = None  # of the search domains
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            if words[1] in gone.servers and words[1] not in coming.servers:
                continue
            servers.append(words[1])
        elif words[:1] == ["search"]:
            search = [word for word in words[1:] if word not in gone.search or word in coming.search]
            place = len(lines) if place is None else place
            continue  # the last one counts, and it is written anew
        lines.append(line)
    search += [word for word in coming.search if word not in search]
    if search:
        lines.insert(len(lines) if place is None else place, "search " + " ".join(search))
    lines += ["nameserver " + server for server in coming.servers if server not in servers]
    return "".join(line + "\n" for line in lines)


def in_use() -> Optional[Dns]:
    """Returns what the file says; None if there is none."""
    return dns_of(files.read(FILE))


def of_items(names: Sequence[str]) -> None:
    """Adds what the files of these NICs say, before anything has read them: at boot."""
    update(Words(), words_of(names))
