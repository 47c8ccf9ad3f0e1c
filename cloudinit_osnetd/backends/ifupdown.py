# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: one interfaces(5) file for all NICs; a NIC's section is all of its stanzas."""

import functools
import glob
import logging
import os
import re
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set

from .. import files, kernel
from ..command import CommandError, end, ran, run, start
from ..desired import Item, wanted_metric
from ..network_data import link_routes, off_subnet_gateways
from . import fallback, ifupdown_file, ifupdown_finish
from .base import Backend, Dns, Part, Touch

LOG = logging.getLogger(__name__)
DIRECTORY = "/etc/network"
STATE = "/run/network/ifstate"
DEVICES = "/sys/class/net"
DHCLIENT_PID = "/run/dhclient.%s.pid"  # ifupdown's own name for it
_IFF_UP = 1  # linux/if.h
RESOLVCONF = "/run/resolvconf/interface"
_RESOLVCONF_PROGRAMS = ("/sbin/resolvconf", "/usr/sbin/resolvconf")
_CLOUD_INITS = "50-cloud-init"  # how its file's name begins
_SOURCED = re.compile(r"[A-Za-z0-9_-]+\Z")  # what interfaces(5) says of source-directory: no ens4.bak
_UP_SECONDS = 30


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
        for words in ifupdown_file.statements(text):
            if words[:1] == ["source"]:
                todo += [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word))]
            elif words[:1] == ["source-directory"]:
                inside = [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word, "*"))]
                todo += [one for one in inside if _SOURCED.match(os.path.basename(one))]
    return found


class Ifupdown(Backend):
    name = "ifupdown"
    finishes_at_boot = True
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
            stanzas = ifupdown_file.stanzas(text)
            names = {stanza.owner for stanza in stanzas if stanza.words[:1] == ["iface"]}
            if path == os.path.join(DIRECTORY, "interfaces"):
                # Older cloud images have these for eth0 to eth2, just in case, and mean them to be overridden.
                names -= {stanza.owner for stanza in stanzas if stanza.words[2:] == ["inet", "dhcp"]}
            if os.path.basename(path).startswith(_CLOUD_INITS):
                ours |= names
            else:
                found.update(dict.fromkeys(names, path))
        return {item.name: found[item.name] for item in items if item.name in found and item.name not in ours}

    def finish(self, text: str, item: Item) -> str:
        """Nothing in it that ends `ifup` where the kernel refuses it: see ifupdown_finish.py.

        Routes by ip(8), which is there where route(8) of net-tools is not, and nobody would hear of it. They name their
        NIC: with two NICs on one network the kernel would take the other. One through a gateway that no subnet of the
        port holds says that it is a neighbour. The MTU is the link's also where ifupdown gives it to IPv6 alone, or to
        nobody (DHCP). And the metric of a router that advertises itself, which any NIC hears: the kernel takes it from
        a setting (Linux 5.12 on), before the link is up; other kinds of link are made later. It is one more than our
        routes', for the kernel takes no two default routes of one metric.
        """
        when = "pre-up" if item.entry.kind == "phy" else "up"
        text = ifupdown_finish.finished(text, item.name, when, off_subnet_gateways(item.entry))
        for route in link_routes(item.entry):
            text = ifupdown_finish.with_link_route(text, item.name, route.network, wanted_metric(item, route))
        if item.metric:
            setting = ifupdown_finish.setting6(when, item.name, "ra_defrtr_metric", item.metric + 1)
            text = ifupdown_finish.with_first(text, setting)
        return text

    def split(self, text: str) -> Dict[str, str]:
        return ifupdown_file.split(text)

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        return ifupdown_file.join(old, template, changes)

    def normal(self, text: str) -> str:
        return ifupdown_file.meaning(text)

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import ifupdown_meaning  # of use where something has to be told from something else alone

        return ifupdown_meaning.of(text, name)

    def boot(self, items: Sequence[Item], left: FrozenSet[str] = frozenset()) -> None:
        for item in items:
            fallback.forestall(item.name)

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """NICs that are up, and as their stanzas have them: only so is the difference between two stanzas theirs."""
        changed = [t.name for t in touches if t.action == "reconfigure" and t.name in coming and _is_up(t.name)]
        if not changed:
            return {}
        from . import ifupdown_edit

        now, read = kernel.snapshot(), _sources(os.path.join(DIRECTORY, "interfaces"))
        found: Dict[str, Callable[[], bool]] = {}
        for name in changed:
            sections = [cut[name] for cut in map(self.split, read.values()) if name in cut]
            edit = ifupdown_edit.between(sections[0], coming[name], name) if len(sections) == 1 else None
            if edit is not None and ifupdown_edit.stands(sections[0], now.named(name)):
                found[name] = functools.partial(ifupdown_edit.make, edit)
        return found

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
            fallback.end(touch.name)
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
        servers, domains = (
            frozenset(word for line in words if line[:1] and line[0] in wanted for word in line[1:])
            for wanted in (("nameserver",), ("search", "domain"))
        )
        return Dns(servers, search=domains)


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
