# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: one interfaces(5) file for all NICs; a NIC's section is all of its stanzas."""

import glob
import ipaddress
import logging
import os
import re
from typing import Dict, FrozenSet, Iterator, List, Match, NamedTuple, Optional, Sequence, Set

from .. import files
from ..command import CommandError, end, ran, run, start
from ..desired import Item
from . import fallback
from .base import Backend, Dns, Part, Touch

LOG = logging.getLogger(__name__)
DIRECTORY = "/etc/network"
STATE = "/run/network/ifstate"
DEVICES = "/sys/class/net"
DHCLIENT_PID = "/run/dhclient.%s.pid"  # ifupdown's own name for it
_IFF_UP = 1  # linux/if.h
RESOLVCONF = "/run/resolvconf/interface"
_RESOLVCONF_PROGRAMS = ("/sbin/resolvconf", "/usr/sbin/resolvconf")
_STARTS = ("iface", "auto", "mapping", "source", "source-directory", "rename", "no-scripts", "no-auto-down")
# What cloud-init's eni renderer writes in the place of `auto`, where a stanza has none.
_NO_AUTO = re.compile(r"# control-\S+ (\S+)\n\Z")
_CLOUD_INITS = "50-cloud-init"  # how its file's name begins
_SOURCED = re.compile(r"[A-Za-z0-9_-]+\Z")  # what interfaces(5) says of source-directory: no ens4.bak
_IFACE = re.compile(r"^iface .*\n", re.MULTILINE)
_UP_SECONDS = 30
_ADVERTISED_METRIC = "/proc/sys/net/ipv6/conf/%s/ra_defrtr_metric"
# What cloud-init's eni renderer writes for a route up to 25 (cloudinit/net/eni.py: _render_route): a network with its
# prefix or, up to 19, with its netmask; from 22.1 on -host for a single address.
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


class _Block(NamedTuple):
    """A stanza; `owner` is empty where it is no one NIC's, as are comments between stanzas."""

    owner: str
    text: str


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


def _blocks(text: str) -> List[_Block]:
    """The file in blocks; their texts, joined, are the file again."""
    blocks: List[_Block] = []
    owner, stanza, blank, comments = "", "", "", ""
    for line in _lines(text):
        no_auto = _NO_AUTO.match(line)
        if no_auto:
            blocks += [_Block(owner, stanza + blank), _Block("", comments)]
            owner, stanza, blank, comments = no_auto.group(1), line, "", ""
        elif _is_comment(line) or (comments and not _words(line)):
            comments += line
        elif not _words(line):
            blank += line
        elif _starts(_words(line)):
            blocks += [_Block(owner, stanza + blank), _Block("", comments)]
            owner, stanza, blank, comments = _owner(_words(line)), line, "", ""
        else:
            stanza, blank, comments = stanza + blank + comments + line, "", ""
    blocks += [_Block(owner, stanza + blank), _Block("", comments)]
    return [block for block in blocks if block.text]


def _sources(path: str) -> Dict[str, str]:
    """The text of a file and of those that it sources, by path, but for the fragments of the cloud image's helper."""
    found: Dict[str, str] = {}
    todo = [path]
    while todo:
        path = os.path.join(DIRECTORY, todo.pop())
        text = files.read(path) if os.path.isfile(path) and os.path.dirname(path) != fallback.FRAGMENTS else None
        if text is None or path in found:
            continue
        found[path] = text
        for words in map(_words, _lines(text)):
            if words[:1] == ["source"]:
                todo += [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word))]
            elif words[:1] == ["source-directory"]:
                inside = [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word, "*"))]
                todo += [one for one in inside if _SOURCED.match(os.path.basename(one))]
    return found


def _mtu_families(text: str) -> Set[str]:
    """The families whose stanzas set an MTU."""
    families, family = set(), ""
    for words in (_words(line) for line in _lines(text)):
        if words[:1] == ["iface"] and len(words) > 2:
            family = words[2]
        elif words[:1] == ["mtu"]:
            families.add(family)
    return families


def _section(text: str) -> str:
    return text.rstrip("\n") + "\n"


class Ifupdown(Backend):
    name = "ifupdown"
    directories = (DIRECTORY, DIRECTORY + "/interfaces.d", os.path.dirname(STATE))

    def staged(self, tree: str) -> List[Part]:
        found = glob.glob(os.path.join(tree + DIRECTORY, "interfaces")) + sorted(
            glob.glob(os.path.join(tree + DIRECTORY, "interfaces.d", "*"))
        )
        return [
            Part(path[len(tree) :], section, section, text)
            for path in found
            for section, text in self.split(files.read(path) or "").items()
            if section != "lo"
        ]

    def theirs(self, items: Sequence[Item]) -> Dict[str, str]:
        """By name: the NICs that have a stanza in what ifupdown reads, and none in cloud-init's file."""
        ours: Set[str] = set()
        found: Dict[str, str] = {}
        read = _sources(os.path.join(DIRECTORY, "interfaces"))
        if not any(os.path.basename(path).startswith(_CLOUD_INITS) for path in read):
            return {}  # it writes to a file that others write to as well
        for path, text in read.items():
            names = {block.owner for block in _blocks(text) if _words(block.text)[:1] == ["iface"]}
            if path == os.path.join(DIRECTORY, "interfaces"):
                # Older cloud images have these for eth0 to eth2, just in case, and mean them to be overridden.
                bare = {block.owner for block in _blocks(text) if _words(block.text)[2:] == ["inet", "dhcp"]}
                names -= bare
            if os.path.basename(path).startswith(_CLOUD_INITS):
                ours |= names
            else:
                found.update(dict.fromkeys(names, path))
        return {item.name: found[item.name] for item in items if item.name in found and item.name not in ours}

    def finish(self, text: str, item: Item) -> str:
        """Routes by ip(8), which is there where route(8) of net-tools is not, and nobody would hear of it.

        They name their NIC: with two NICs on one network the kernel would take the other. And the MTU
        of a NIC that has static IPv6 only: ifupdown gives it to the protocol, and the link keeps 1500.
        And the metric of a router that advertises itself, which any NIC hears: the kernel takes it from
        a setting (Linux 5.12 on), before the link is up; other kinds of link are made later. It is one
        more than our routes', for the kernel takes no two default routes of one metric.
        """
        text = _ROUTE.sub(r"\1 dev %s\2" % item.name, _OLD_ROUTE.sub(_by_ip, text))
        mtu = item.entry.mtu
        if mtu is not None and _mtu_families(text) == {"inet6"}:
            text = _section(text) + "    pre-up ip link set dev %s mtu %d\n" % (item.name, mtu)
        if item.metric:
            when, setting = "pre-up" if item.entry.kind == "phy" else "up", _ADVERTISED_METRIC % item.name
            line = "    %s test ! -w %s || echo %d >%s\n" % (when, setting, item.metric + 1, setting)
            text = _IFACE.sub(lambda iface: iface.group() + line, text, count=1)
        return text

    def split(self, text: str) -> Dict[str, str]:
        sections: Dict[str, str] = {}
        for block in _blocks(text):
            if block.owner:
                sections[block.owner] = sections.get(block.owner, "") + block.text
        return {name: _section(stanzas) for name, stanzas in sections.items()}

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        if old is not None:
            blocks = _blocks(old)
        else:
            # A new file: what the renderer puts there besides NICs (a header, the loopback).
            blocks = [b for b in _blocks(template or "") if b.owner in ("", "lo")]
        todo = {name: _section(text) for name, text in changes.items() if text is not None}
        out, ours = "", False
        for block in blocks:
            if block.owner not in changes:
                # Byte for byte: it is another NIC's, or nobody's.
                out += ("\n" if ours and not block.text.startswith("\n") else "") + block.text
                ours = False
            elif block.owner in todo:
                out, ours = out + ("\n" if ours else "") + todo.pop(block.owner), True
        for added in todo.values():
            out += ("\n" if out and not out.endswith("\n\n") else "") + added
        # What went away at the end leaves no blank line that was not there before.
        return out if not out or (old or "").endswith("\n\n") else _section(out)

    def normal(self, text: str) -> str:
        lines = [" ".join(_words(line)) for line in _lines(text) if not _is_comment(line)]
        return "\n".join(line for line in lines if line)

    def boot(self, items: Sequence[Item], left: FrozenSet[str] = frozenset()) -> None:
        for item in items:
            fallback.forestall(item.name, self.split)

    def before(self, touches: Sequence[Touch]) -> None:
        """Take down with the old stanza in place: `ifdown` undoes what it reads there.

        A NIC that is gone is taken down too: its DHCP client ends, and it leaves ifstate, without
        which a later NIC of that name would count as configured.
        """
        for touch in touches:
            if _is_up(touch.name) or _half_down(touch.name):
                try:
                    run(["ifdown", "--force", touch.name])
                except CommandError:
                    pass  # the commands of a stanza fail on a device that is gone: that is the rule
            if _is_up(touch.name):
                _forget(touch.name)
            _forget_dns(touch.name)

    def after(self, touches: Sequence[Touch], files_changed: bool) -> Dict[str, str]:
        """Bring up side by side, each in a scope of its own.

        A DHCP client that `ifup` leaves behind stays in the caller's cgroup: in our service's it
        would die with it, and the lease would run out minutes later.
        """
        problems: Dict[str, str] = {}
        jobs = []
        for touch in touches:
            if touch.action == "down":
                continue
            fallback.end(touch.name, self.split)
            if _is_up(touch.name) or (touch.action == "kick" and _half_down(touch.name)):
                self.before([touch])
            try:
                jobs.append((touch.name, start(_ifup(touch.name))))
            except CommandError as exc:
                problems[touch.name] = str(exc)
        for name, job in jobs:
            try:
                # A DHCP client that nobody answers goes on in its scope, and may still succeed.
                end(job, _UP_SECONDS, kill=False)
            except CommandError as exc:
                problems[name] = str(exc)
        return problems

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        if not any(os.path.exists(program) for program in _RESOLVCONF_PROGRAMS):
            return Dns(frozenset(), "resolvconf is not installed")
        words = [
            line.split()
            for path in glob.glob(os.path.join(RESOLVCONF, glob.escape(name) + ".*"))
            for line in (files.read(path) or "").splitlines()
        ]
        return Dns(frozenset(line[1] for line in words if len(line) > 1 and line[0] == "nameserver"))


def _by_ip(route: Match[str]) -> str:
    network = route.group("network")
    if route.group("mask"):
        network = str(ipaddress.ip_network("%s/%s" % (network, route.group("mask")), strict=False))
    words = [route.group("when"), "ip -family inet6 route" if route.group("six") else "ip route", route.group("verb")]
    words += [network, "via", route.group("gateway")]
    words += ["metric", route.group("metric")] if route.group("metric") else []
    return " ".join(words) + (route.group("or_true") or "")


def _is_up(name: str) -> bool:
    """True where ifupdown believes so: by ifstate or, from 0.8 on, by the NIC's own file, which it writes first."""
    lines = (files.read(STATE) or "").splitlines()
    own = (files.read("%s.%s" % (STATE, name)) or "").strip()
    return bool(own) or name in [line.split("=", 1)[0].strip() for line in lines if "=" in line]


def _half_down(name: str) -> bool:
    """True where an `ifdown` that was killed left addresses or a client: it leaves ifstate first."""
    flags = (files.read(os.path.join(DEVICES, name, "flags")) or "0").strip()
    return bool(int(flags, 16) & _IFF_UP) or os.path.exists(DHCLIENT_PID % name)


def _forget(name: str) -> None:
    kept = [line for line in (files.read(STATE) or "").splitlines() if line.split("=", 1)[0] != name]
    own = "%s.%s" % (STATE, name)
    try:
        files.replace(STATE, "".join(line + "\n" for line in kept), sync=False)
        if os.path.exists(own):
            os.truncate(own, 0)  # in place: it is a lock as well
    except OSError as exc:
        LOG.error("still up for ifupdown: nic=%s error=%s", name, exc)


def _forget_dns(name: str) -> None:
    """A DHCP client whose NIC is gone ends without a word to resolvconf(8): its servers would stay."""
    for program in ("inet", "inet6", "dhclient", "ip6.dhclient"):
        record = "%s.%s" % (name, program)
        if os.path.exists(os.path.join(RESOLVCONF, record)):
            try:
                run(["resolvconf", "-d", record])
            except CommandError:
                pass  # run() has logged it; the NIC goes all the same


def _ifup(name: str) -> List[str]:
    if not os.path.isdir("/run/systemd/system"):
        return ["ifup", name]
    # A name of its own for each: the scope of an earlier one lives as long as its DHCP client.
    unit = "osnetd-ifup-%s-%d-%d" % (re.sub(r"[^A-Za-z0-9]", "-", name), os.getpid(), len(ran))
    return ["systemd-run", "--quiet", "--scope", "--collect", "--unit", unit, "ifup", name]
