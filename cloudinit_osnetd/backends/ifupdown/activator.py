# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: one interfaces(5) file for all NICs; a NIC's section is all of its stanzas."""

import functools
import glob
import itertools
import logging
import os
import re
import time
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

from ...core.desired import Item, wanted_metric
from ...core.network_data import DHCP4, link_routes, off_subnet_gateways
from ...core.records import Dns, Part, Touch
from ...kernel import netlink
from ...system import files
from ...system.command import CommandError, Job, end, start
from ..base import Backend
from ..eni import finish_stanza, interfaces_file
from . import dhcp_helper, ifstate, lease_metric, start_order

LOG = logging.getLogger(__name__)
DIRECTORY = "/etc/network"
_RESOLVCONF_PROGRAMS = ("/sbin/resolvconf", "/usr/sbin/resolvconf")
_CLOUD_INITS = "50-cloud-init"  # how its file's name begins
_SOURCED = re.compile(r"[A-Za-z0-9_-]+\Z")  # what interfaces(5) says of source-directory: no ens4.bak
_UP_SECONDS = 30.0
# What a shell, ifup and interfaces(5) take as it stands. The kernel takes nearly any name.
_NAMEABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*\Z")
_started = itertools.count()


def _sources(path: str) -> Dict[str, str]:
    """The text of a file and of those that it sources, by path, but for the fragments of the cloud image's helper."""
    found: Dict[str, str] = {}
    todo = [path]
    while todo:
        path = os.path.join(DIRECTORY, todo.pop())
        text = files.read(path) if os.path.isfile(path) and os.path.dirname(path) != dhcp_helper.FRAGMENTS else None
        if text is None or path in found:
            continue
        found[path] = text
        for words in interfaces_file.statements(text):
            if words[:1] == ["source"]:
                todo += [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word))]
            elif words[:1] == ["source-directory"]:
                inside = [one for word in words[1:] for one in glob.glob(os.path.join(DIRECTORY, word, "*"))]
                todo += [one for one in inside if _SOURCED.match(os.path.basename(one))]
    return found


def _all_text() -> str:
    """All that ifupdown reads."""
    texts = _sources(os.path.join(DIRECTORY, "interfaces")).values()
    return "\n".join(text.rstrip("\n") for text in texts) + "\n"


class Ifupdown(Backend):
    name = "ifupdown"
    finishes_at_boot = True
    directories = (DIRECTORY, DIRECTORY + "/interfaces.d", os.path.dirname(ifstate.STATE))

    def __init__(self) -> None:
        self._fell: List[str] = []  # what went down with what was taken down

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
        """By name: the NICs that have a stanza in what ifupdown reads, and none in cloud-init's file.

        Also where it is an image's, just in case, as older ones have for a few names: `ifup` does what all stanzas of a
        name say, and would run a DHCP client beside a static address, which is there when that has given up.
        """
        ours: Set[str] = set()
        found: Dict[str, str] = {}
        read = _sources(os.path.join(DIRECTORY, "interfaces"))
        if not any(os.path.basename(path).startswith(_CLOUD_INITS) for path in read):
            return {}  # it writes to a file that others write to as well
        for path, text in read.items():
            stanzas = interfaces_file.stanzas(text)
            names = {stanza.owner for stanza in stanzas if stanza.words[:1] == ["iface"]}
            if os.path.basename(path).startswith(_CLOUD_INITS):
                ours |= names
            else:
                found.update(dict.fromkeys(names, path))
        return {item.name: found[item.name] for item in items if item.name in found and item.name not in ours}

    def finish(self, text: str, item: Item) -> str:
        """Nothing in it that ends `ifup` where the kernel refuses it: see finish_stanza.py.

        Routes by ip(8), which is there where route(8) of net-tools is not, and nobody would hear of it. They name their
        NIC: with two NICs on one network the kernel would take the other. One through a gateway that no subnet of the
        port holds says that it is a neighbour. The MTU is the link's also where ifupdown gives it to IPv6 alone, or to
        nobody (DHCP). And the metric of a router that advertises itself, which any NIC hears: the kernel takes it from
        a setting (Linux 5.12 on), before the link is up; other kinds of link are made later. It is one more than our
        routes', for the kernel takes no two default routes of one metric.
        """
        when = "pre-up" if item.entry.kind == "phy" else "up"
        text = finish_stanza.finished(text, item.name, when, off_subnet_gateways(item.entry))
        for route in link_routes(item.entry):
            text = finish_stanza.with_link_route(text, item.name, route.network, wanted_metric(item, route))
        if item.metric:
            setting = finish_stanza.setting6(when, item.name, "ra_defrtr_metric", item.metric + 1)
            text = finish_stanza.with_first(text, setting)
        return text

    def split(self, text: str) -> Dict[str, str]:
        return interfaces_file.split(text)

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        return interfaces_file.join(old, template, changes)

    def normal(self, text: str) -> str:
        return interfaces_file.meaning(text)

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from ..eni import stanza_meaning  # of use where something has to be told from something else alone

        return stanza_meaning.of(text, name)

    def unnameable(self, name: str) -> str:
        if _NAMEABLE.match(name):
            return ""
        return "ifupdown takes the name %r for something else: its commands are a shell's" % name

    def boot(self, items: Sequence[Item], left: FrozenSet[str] = frozenset()) -> None:
        for item in items:
            dhcp_helper.forestall(item.name)
            if item.name not in left:
                leases = any(net.type in DHCP4 for net in item.entry.networks)
                lease_metric.note(item.name, str(item.metric) if leases and item.metric else "")

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """NICs that are up, and as their stanzas have them: only so is the difference between two stanzas theirs."""
        changed = [
            t.name for t in touches if t.action == "reconfigure" and t.name in coming and ifstate.is_up(t.name)
        ]
        if not changed:
            return {}
        from . import live_edit

        now, read = netlink.snapshot(), _sources(os.path.join(DIRECTORY, "interfaces"))
        found: Dict[str, Callable[[], bool]] = {}
        for name in changed:
            sections = [cut[name] for cut in map(self.split, read.values()) if name in cut]
            edit = live_edit.between(sections[0], coming[name], name) if len(sections) == 1 else None
            if edit is not None and live_edit.stands(sections[0], now.named(name)):
                found[name] = functools.partial(live_edit.make, edit)
        return found

    def before(self, touches: Sequence[Touch]) -> None:
        """Take down with the old stanza in place: `ifdown` undoes what it reads there.

        With a bond go its members, with any NIC its VLANs: those are brought up again with it.
        """
        there = ifstate.up()
        text = _all_text()
        for touch in touches:
            ifstate.take_down(touch.name, touch.mac, interfaces_file.addresses(text, touch.name))
        self._fell += sorted(there - ifstate.up() - {touch.name for touch in touches})

    def after(self, touches: Sequence[Touch], files_changed: bool) -> Dict[str, str]:
        """Bring up side by side, but for bonds, which come before their members, and VLANs, which come after all.

        Each in a scope of its own: a DHCP client that `ifup` leaves behind stays in the caller's cgroup: in our
        service's it would die with it, and the lease would run out minutes later.
        """
        text = _all_text()
        wanted = {touch.name: touch for touch in touches if touch.action != "down"}
        for touch in touches:
            metric = interfaces_file.leased_metric(text, touch.name) if touch.name in wanted else ""
            lease_metric.note(touch.name, metric)
        problems: Dict[str, str] = {}
        for touch in wanted.values():
            self._free(touch, text)
        with_them = [name for name in self._fell if name not in wanted and interfaces_file.is_said(text, name)]
        self._fell = []
        jobs: List[Tuple[str, Job]] = []
        deadline = time.monotonic() + _UP_SECONDS
        for names in start_order.in_order([*wanted, *with_them], text):
            start_order.await_ready(jobs, names, text, deadline)
            for name in names:
                try:
                    jobs.append((name, start(_ifup(name))))
                except CommandError as exc:
                    problems[name] = str(exc)
        for name, job in jobs:
            try:
                # A DHCP client that nobody answers goes on in its scope, and may still succeed.
                end(job, max(1.0, deadline - time.monotonic()), kill=False)
            except CommandError as exc:
                problems[name] = str(exc)
        return problems

    def _free(self, touch: Touch, text: str) -> None:
        """Nothing on the NIC on which `ifup` would stumble, whoever has put it there."""
        dhcp_helper.end(touch.name)
        again = touch.action == "kick" and ifstate.half_down(touch.name)
        if ifstate.is_up(touch.name) or again:
            self.before([touch])
        else:
            ifstate.clear(touch.name, touch.mac, interfaces_file.addresses(text, touch.name))

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        if not any(os.path.exists(program) for program in _RESOLVCONF_PROGRAMS):
            return Dns(frozenset(), "resolvconf is not installed")
        words = [
            line.split()
            for path in glob.glob(os.path.join(ifstate.RESOLVCONF, glob.escape(name) + ".*"))
            for line in (files.read(path) or "").splitlines()
        ]
        servers, domains = (
            frozenset(word for line in words if line[:1] and line[0] in wanted for word in line[1:])
            for wanted in (("nameserver",), ("search", "domain"))
        )
        return Dns(servers, search=domains)


def _ifup(name: str) -> List[str]:
    if not os.path.isdir("/run/systemd/system"):
        return ["ifup", name]
    # A name that no other has: the scope of an earlier one, of this process or of another, lives as long as its client.
    word = re.sub(r"[^A-Za-z0-9]", "-", name)
    unit = "osnetd-ifup-%s-%d-%d-%d" % (word, os.getpid(), time.monotonic() * 1e3, next(_started))
    return ["systemd-run", "--quiet", "--scope", "--collect", "--unit", unit, "ifup", name]
