# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Applies an edit to a NIC that is up, by ip(8) and without `ifdown` and `ifup`.

ifupdown can only take a NIC down and bring it up, which removes everything: also the addresses that do not change, and
what other software configured. If two sections differ only in static addresses, routes, MTU, DNS and the kernel's IPv6
settings, the difference is applied to the NIC. ifupdown's own state stays correct, and its next `ifdown` reads the new
section.
"""

import ipaddress
import logging
import os
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ...core.entry import DEFAULT4, DEFAULT6
from ...core.records import Nic, Snapshot
from ...kernel import netlink
from ...kernel.secondary_addresses import promoting_secondaries
from ...system import paths
from ...system.command import CommandError, run
from ..eni import finish_stanza, interfaces_file

LOG = logging.getLogger(__name__)
# The programs that take DNS servers from ifupdown: resolvconf(8), and systemd-resolved from Debian 12 on.
_UP_HOOKS = ("if-up.d/000resolvconf", "if-up.d/resolved")
_DOWN_HOOKS = ("if-down.d/resolvconf", "if-down.d/resolved")
_COMMAND = re.compile(r"(pre-up|up|post-up|pre-down|down|post-down)\s+(.*?)(?:\s*\|\|\s*true)?\s*\Z", re.DOTALL)
_ROUTE = re.compile(r"ip (?P<six>-family inet6 |-6 )?route (?P<verb>add|append|del) (?P<words>[\w.:/ -]+)\Z")
_ADDRESS6 = re.compile(r"ip -6 address add (\S+) dev \S+\Z")
_MTU = re.compile(r"ip link set dev \S+ mtu (\d+)\Z")
_SETTING = re.compile(r"test ! -w (/proc/sys/net/ipv6/conf/\S+/(\w+)) \|\| echo (\d+) >\1\Z")
_SETTLE = re.compile(r"IF_ADDRESS=\S+ IF_NETMASK=\S+ \S+/settle-dad\.sh\Z")
_SETTINGS = ("accept_ra", "autoconf")


class Route(NamedTuple):
    six: bool
    network: str
    words: Tuple[str, ...]  # of ip(8), without the device and the metric
    metric: str


class Facts(NamedTuple):
    """What a section configures."""

    addresses: Tuple[str, ...]
    routes: Tuple[Route, ...]
    mtu: str
    settings: Dict[str, str]
    dns: Dict[str, Dict[str, Tuple[str, ...]]]  # by family: option to words
    rest: Tuple[str, ...]  # what cannot be applied by ip(8)


class Edit(NamedTuple):
    name: str
    commands: Tuple[Tuple[str, ...], ...]
    addresses: Tuple[str, ...]  # of the NIC afterwards


def facts(section: str, name: str) -> Facts:
    """Reads a section as any version of cloud-init's renderer, or ours, writes it."""
    out = Facts((), (), "", {}, {}, ())
    for stanza in interfaces_file.stanzas(finish_stanza.routes_by_ip(section, name)):
        lines = list(interfaces_file.statements(stanza.text))
        words = lines[0] if lines else []
        static = words[:1] == ["iface"] and words[3:] in (["static"], ["manual"])
        # A static IPv6 address is set by a command in a "manual" stanza (finish_stanza.py).
        by_command = words[3:] == ["manual"] and any(_is_address6(line) for line in lines)
        # cloud-init has "# control-alias" before each further stanza of a NIC.
        if words and not words[0].startswith("#") and words[3:] != ["static"] and not by_command:
            out = out._replace(rest=out.rest + (" ".join(words),))
        family = words[2] if len(words) > 2 else ""
        options = {line[0]: line[1:] for line in lines[1:] if line}
        out = _with_options(out, family, options, static)
        for line in lines[1:]:
            found = _COMMAND.match(" ".join(line)) if line and not line[0].startswith("#") else None
            out = _with_command(out, found.group(1), found.group(2)) if found else out
    return out


def _is_address6(line: Sequence[str]) -> bool:
    return len(line) > 1 and _ADDRESS6.match(" ".join(line[1:]).replace(" || true", "")) is not None


def _with_options(out: Facts, family: str, options: Dict[str, List[str]], static: bool) -> Facts:
    for option, words in options.items():
        if option == "address" and static and words:
            mask = options.get("netmask", [""])[0]
            whole = words[0] if "/" in words[0] or not mask else "%s/%s" % (words[0], _prefix(mask))
            out = out._replace(addresses=out.addresses + (whole,))
        elif option == "netmask" and static:
            pass
        elif option == "gateway" and static:
            metric = options.get("metric", [""])[0]
            route = Route(family == "inet6", "default", ("via", words[0]), metric)
            out = out._replace(routes=out.routes + (route,))
        elif option == "metric" and static and "gateway" in options:
            pass
        elif option == "mtu" and static:
            out = out._replace(mtu=words[0])
        elif option in _SETTINGS:
            out.settings[option] = words[0]
        elif option in ("dns-nameservers", "dns-search", "dns-domain"):
            dns = out.dns.setdefault(family, {})
            dns[option] = dns.get(option, ()) + tuple(word for word in words if word not in dns.get(option, ()))
        elif not _COMMAND.match(option + " x") and not option.startswith("#"):
            out = out._replace(rest=out.rest + (" ".join([option] + words),))
    return out


def _prefix(mask: str) -> str:
    return str(sum(bin(int(byte)).count("1") for byte in mask.split("."))) if "." in mask else mask


def _with_command(out: Facts, when: str, command: str) -> Facts:
    route, address, mtu = _ROUTE.match(command), _ADDRESS6.match(command), _MTU.match(command)
    setting = _SETTING.match(command)
    if route is not None:
        if "down" in when:
            return out  # the counterpart of "add" in the same stanza
        return out._replace(routes=out.routes + (_route(bool(route.group("six")), route.group("words").split()),))
    if address is not None:
        return out._replace(addresses=out.addresses + (address.group(1),))
    if mtu is not None:
        return out._replace(mtu=mtu.group(1))
    if setting is not None:
        out.settings[setting.group(2)] = setting.group(3)
        return out
    return out if _SETTLE.match(command) else out._replace(rest=out.rest + (when + " " + command,))


def _route(six: bool, words: List[str]) -> Route:
    network, rest, metric = words[0], [], ""
    pairs = words[1:]
    while pairs:
        if pairs[0] == "dev":
            pairs = pairs[2:]
        elif pairs[0] == "metric":
            metric, pairs = pairs[1], pairs[2:]
        else:
            rest.append(pairs.pop(0))
    return Route(six, network, tuple(rest), metric)


def between(old: str, new: str, name: str, now: Optional[Snapshot] = None) -> Optional[Edit]:
    """Returns the edit from one section to the other; None if it needs `ifdown` and `ifup`.

    With `now`, the edit also adds a route that both sections have and the NIC lacks: its command may have failed.
    """
    was, will = facts(old, name), facts(new, name)
    nic = now.named(name) if now is not None else None
    if was.rest != will.rest:
        return None
    commands: List[Tuple[str, ...]] = []
    if will.mtu and will.mtu != was.mtu:
        commands.append(("ip", "link", "set", "dev", name, "mtu", will.mtu))
    for key, value in sorted(will.settings.items()):
        if was.settings.get(key) != value:
            path = os.path.join(paths.IPV6_SETTINGS, name, key)
            commands.append(("sh", "-c", 'test ! -w "$1" || echo "$2" >"$1"', "sh", path, value))
    gone = [address for address in was.addresses if address not in will.addresses]
    commands += [_address("add", one, name) for one in will.addresses if one not in was.addresses]
    replaced = {(route.six, route.network, route.metric) for route in was.routes if route not in will.routes}
    for route in will.routes:
        if route not in was.routes:
            # Added before the old one is deleted, so that there is always a route.
            there = (route.six, route.network, route.metric) in replaced
            commands.append(_by_ip("append" if there else _adding(route, will), route, name))
        elif now is not None and nic is not None and not _has(now, nic, route):
            commands.append(_by_ip(_adding(route, will), route, name))
    old_routes = [route for route in was.routes if route not in will.routes]
    commands += [_by_ip("del", there, name) for route in old_routes for there in _there(route, now, nic)]
    commands += [_address("del", one, name) for one in gone]
    if gone:
        # Deleting an address deletes the routes that name it, and the others of its subnet if they cannot be promoted.
        commands += [_address("replace", one, name) for one in will.addresses]
        commands += [_by_ip(_adding(route, will), route, name) for route in will.routes]
    commands += [hook for family in ("inet", "inet6") for hook in _dns(name, family, was, will)]
    return Edit(name, tuple(commands), will.addresses)


def _adding(route: Route, facts: Facts) -> str:
    """Returns the verb that adds a route; the kernel has one to the NIC's own subnet already, without a gateway."""
    return "append" if route.network in map(_subnet, facts.addresses) else "add"


def _subnet(address: str) -> str:
    return str(ipaddress.ip_interface(address).network) if ":" not in address else ""


def _there(route: Route, now: Optional[Snapshot], nic: Optional[Nic]) -> List[Route]:
    """Returns the route as the kernel has it; none if the NIC lacks it, because its command had failed.

    Without a metric `ip route del` deletes the first route to the same network: then that would be the new one.
    """
    if now is None or nic is None or route.metric:
        return [route]
    if not _has(now, nic, route):
        return []
    metrics = _metrics(now, nic, route)
    return [route._replace(metric=str(min(metrics)) if route.six and metrics else "")]


def _has(now: Snapshot, nic: Nic, route: Route) -> bool:
    """True where the main table has the route, or the route is of another table."""
    return "table" in route.words or bool(_metrics(now, nic, route))


def _metrics(now: Snapshot, nic: Nic, route: Route) -> List[int]:
    """Returns the metrics with which the main table has the route on the NIC."""
    words = dict(zip(route.words[::2], route.words[1::2]))
    network = (DEFAULT6 if route.six else DEFAULT4) if route.network == "default" else route.network
    wanted = (str(ipaddress.ip_network(network, strict=False)), words.get("via", ""))
    return [r.metric for r in now.routes if (r.network, r.gateway) == wanted and r.ifindex == nic.ifindex]


def _address(verb: str, cidr: str, name: str) -> Tuple[str, ...]:
    if ":" in cidr:
        return ("ip", "-6", "address", verb, cidr, "dev", name)
    # As ifupdown's inet.defn has it.
    more = () if verb == "del" else ("broadcast", "+", "label", name)
    return ("ip", "-4", "address", verb, cidr, "dev", name) + (() if cidr.endswith(("/31", "/32")) else more)


def _by_ip(verb: str, route: Route, name: str) -> Tuple[str, ...]:
    metric = ("metric", route.metric) if route.metric else ()
    words = tuple(word for word in route.words if verb != "del" or word != "onlink")
    return ("ip", "-6" if route.six else "-4", "route", verb, route.network) + words + metric + ("dev", name)


def _dns(name: str, family: str, was: Facts, will: Facts) -> List[Tuple[str, ...]]:
    """Returns the hooks that ifupdown itself would run, with the same environment."""
    if was.dns.get(family) == will.dns.get(family):
        return []
    options = will.dns.get(family) or {}
    mode, phase, hooks = ("start", "post-up", _UP_HOOKS) if options else ("stop", "pre-down", _DOWN_HOOKS)
    words = ["IFACE=" + name, "LOGICAL=" + name, "ADDRFAM=" + family, "METHOD=static", "MODE=" + mode, "PHASE=" + phase]
    words += ["IF_%s=%s" % (key.replace("-", "_").upper(), " ".join(value)) for key, value in sorted(options.items())]
    there = (os.path.join(paths.IFUPDOWN_HOOKS, hook) for hook in hooks)
    return [("env", *words, path) for path in there if os.path.exists(path)]


def matches(section: str, nic: Optional[Nic]) -> bool:
    """True if the NIC is up with the section's addresses. If not, it has to be brought up again."""
    return nic is not None and nic.up and not nic.master and all(map(nic.has, facts(section, nic.name).addresses))


def apply(edit: Edit) -> bool:
    """Applies the edit. Returns False if an address is missing afterwards.

    Anything else that the kernel refuses (an MTU, a route) is reported by the verification.
    """
    LOG.info("edited without ifdown: nic=%s", edit.name)
    with promoting_secondaries(edit.name):
        for command in edit.commands:
            try:
                run(command)
            except CommandError:
                pass  # run() has logged it
    nic = netlink.snapshot().named(edit.name)
    return nic is not None and all(nic.has(one) or (":" in one and not nic.ipv6) for one in edit.addresses)
