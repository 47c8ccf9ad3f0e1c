# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Completes a section of interfaces(5): adds what cloud-init's renderer cannot express, and tolerates failures. Pure.

`ifup` ends at its first command that fails: the rest is not done, the NIC counts as down, and its addresses remain, so
that the next `ifup` fails as well. So whatever a kernel may refuse is set by a command that may fail: an MTU above the
device's maximum (`inet static` sets it in one command with the link's state, which then stays down), a route, an IPv6
address if IPv6 is disabled, and the wait for duplicate address detection if there is no carrier yet. conformance.py
checks the result.
"""

import ipaddress
import re
from typing import Container, Dict, List, Match, Optional, Sequence

from .interfaces_file import section, stanzas

# What cloud-init writes for a route up to 25 (cloudinit/net/eni.py: _render_route): a network with its prefix or, up to
# 19, with its netmask; from 22.1 on -host for a single address.
_OLD_ROUTE = re.compile(
    r"^(?P<when>\s*(?:post-up|pre-down)) route (?P<verb>add|del)(?P<six> -A inet6)?"
    r"(?: -net| -host)? (?P<network>\S+)(?: netmask (?P<mask>\S+))?"
    r" gw (?P<gateway>\S+)(?: metric (?P<metric>\d+))?(?P<or_true> \|\| true)?$",
    re.MULTILINE,
)
# From 26 on. We write the older ones in this form too.
_ROUTE = re.compile(
    r"^(\s*(?:post-up|pre-down) (?:ip (?:-family inet6 )?)?route (?:add|del) (?:(?! dev ).)*?)(?: \|\| true)?$",
    re.MULTILINE,
)
_ADDED4 = re.compile(r"^(\s*post-up ip route )add (\S+)(?= via )", re.MULTILINE)
_ADDED_VIA = re.compile(r" add .* via (\S+)")
# Of the first NIC, whose routes get no metric.
_DEFAULT6 = re.compile(
    r"^(\s*(?:post-up|pre-down) ip -family inet6 route (?:add|del) default via \S+)(?= dev |$| \|\|)", re.MULTILINE
)
_METRIC6 = 1023
_IFACE = re.compile(r"^iface .*\n", re.MULTILINE)
_STATIC6 = re.compile(r"^(\s*iface\s+\S+\s+inet6\s+)static\b", re.MULTILINE)
_OPTION = r"^[ \t]*%s[ \t]+(\S+)[ \t]*\n"
_TARGETS = re.compile(r"^\s*bond[-_]arp[-_]ip[-_]target .*$", re.MULTILINE)  # ifenslave expects words
_DNS = re.compile(r"^[ \t]*(dns-(?:nameservers|search))[ \t]+(\S.*)\n", re.MULTILINE)
_COMMAND = re.compile(r"\s*(?:pre-up|up|post-up|pre-down|down|post-down)\s")
_SETTINGS6 = "/proc/sys/net/ipv6/conf"
# Waits for the end of duplicate address detection, at most 6 s, as `inet6 static` does: for services that bind the
# address.
_SETTLE = "/lib/ifupdown/settle-dad.sh"


def finished(text: str, name: str, when: str, onlink: Container[str] = ()) -> str:
    """Returns a NIC's section with MTU, routes and static IPv6 addresses set by commands that may fail.

    `when`: "pre-up" if the device exists by itself, "up" if `ifup` creates it. `onlink`: as for routes_by_ip.
    """
    parts = _with_dns_last([one.text for one in stanzas(text)])
    static6 = [number for number, part in enumerate(parts) if _STATIC6.match(part)]
    done = [_by_commands(part, name, when, number == max(static6, default=-1)) for number, part in enumerate(parts)]
    text = routes_by_ip(_TARGETS.sub(lambda found: found.group().replace(",", " "), "".join(done)), name, onlink)
    return _beside_own(text, {_own_subnet(part) for part in parts})


def _with_dns_last(parts: Sequence[str]) -> List[str]:
    """Moves the DNS options of each family to its last stanza.

    `ifup` runs resolvconf's hook for each stanza, and what the hook is told replaces what it was told before for this
    NIC and family: servers of an earlier stanza would be lost.
    """
    done = list(parts)
    for family in ("inet", "inet6"):
        places = [n for n, part in enumerate(parts) if _IFACE.match(part) and part.split(None, 3)[2] == family]
        found: Dict[str, List[str]] = {}
        for place in places:
            for option, words in _DNS.findall(parts[place]):
                found.setdefault(option, []).extend(words.split())
        if len(places) > 1 and found:
            for place in places:
                done[place] = _DNS.sub("", done[place])
            lines = ["%s %s" % (option, " ".join(dict.fromkeys(words))) for option, words in found.items()]
            done[places[-1]] = _with(done[places[-1]], lines)
    return done


def _own_subnet(stanza: str) -> str:
    """Returns the network of a stanza's IPv4 address; empty if it has none."""
    address, _slash, prefix = (_value(stanza, "address") or "").partition("/")
    try:
        own = "%s/%s" % (address, prefix or _value(stanza, "netmask") or "24")
        return str(ipaddress.IPv4Interface(own).network)
    except ValueError:
        return ""


def _beside_own(text: str, subnets: Container[str]) -> str:
    """Rewrites the route to a subnet of the NIC itself by way of a gateway (Ironic's documents have such).

    The kernel has a route to it without a gateway already, and refuses another one that is added and not appended.
    """

    def appending(route: Match[str]) -> str:
        return route.group(1) + ("append " if route.group(2) in subnets else "add ") + route.group(2)

    return _ADDED4.sub(appending, text)


def with_link_route(text: str, name: str, network: str, metric: Optional[int]) -> str:
    """Adds an on-link route to a section, at the end of the last stanza of its family."""
    family, command = ("inet6", "ip -family inet6 route") if ":" in network else ("inet", "ip route")
    parts = [one.text for one in stanzas(text)]
    ifaces = [number for number, part in enumerate(parts) if _IFACE.match(part)]
    of_family = [number for number in ifaces if _IFACE.match(parts[number]).group().split()[2] == family]  # type: ignore[union-attr]
    place = (of_family or ifaces or [len(parts) - 1])[-1]
    tail = "%s%s dev %s || true" % (network, " metric %d" % metric if metric else "", name)
    body = section(parts[place])
    lines = "    post-up %s add %s\n    pre-down %s del %s\n" % (command, tail, command, tail)
    parts[place] = body + lines + parts[place][len(body) :]
    return "".join(parts)


def with_first(text: str, option: str) -> str:
    """Adds an option at the head of a section's first stanza."""
    return _IFACE.sub(lambda iface: "%s    %s\n" % (iface.group(), option), text, count=1)


def setting6(when: str, name: str, key: str, value: int) -> str:
    """Returns the option that sets one of the kernel's IPv6 settings of a NIC, if the setting exists."""
    path = "%s/%s/%s" % (_SETTINGS6, name, key)
    return "%s test ! -w %s || echo %d >%s || true" % (when, path, value, path)


def routes_by_ip(text: str, name: str, onlink: Container[str] = ()) -> str:
    """Rewrites a section's routes to ip(8) commands that name their NIC. `onlink`: gateways outside of its subnets.

    An IPv6 default route gets a metric other than 1024, the metric of advertised routers: of two default routes with
    the same metric the kernel refuses the second. If that is the advertised one of the same router, it also drops the
    rest of the advertisement, addresses included (net/ipv6/ndisc.c: ndisc_router_discovery).
    """

    def naming(route: Match[str]) -> str:
        added = _ADDED_VIA.search(route.group(1))
        flag = " onlink" if added and added.group(1) in onlink else ""
        return "%s dev %s%s || true" % (route.group(1), name, flag)

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


def _by_commands(stanza: str, name: str, when: str, settles: bool) -> str:
    head = _IFACE.match(stanza)
    if head is None:
        return stanza
    body = section(stanza)
    blank = stanza[len(body) :]
    method = head.group().split()[2:4]
    mtu = "    %s ip link set dev %s mtu \\1 || true\n" % (when, name)
    body = re.sub(_OPTION % "mtu", mtu, body, flags=re.MULTILINE)
    accept = _value(body, "accept_ra") or ("0" if _value(body, "gateway") else None)
    if method in (["inet", "static"], ["inet6", "static"]):
        body = _gateway_by_route(body, method[0])
    if method == ["inet6", "static"]:
        body = _manual(body, name, when, accept, settles)
    return body + blank


def _gateway_by_route(stanza: str, family: str) -> str:
    """Replaces a `gateway` by a route command, as cloud-init writes a default route."""
    gateway, metric = _value(stanza, "gateway"), _value(stanza, "metric")
    if gateway is None:
        return stanza
    route = "ip -family inet6 route" if family == "inet6" else "ip route"
    tail = "default via %s%s || true" % (gateway, " metric %s" % metric if metric else "")
    stanza = re.sub(_OPTION % "gateway", "", stanza, flags=re.MULTILINE)
    return _with(stanza, ["post-up %s add %s" % (route, tail), "pre-down %s del %s" % (route, tail)])


def _manual(stanza: str, name: str, when: str, accept: Optional[str], settles: bool) -> str:
    """Returns an equivalent stanza for a static IPv6 address (ifupdown's inet6.defn) that does not end at a failure."""
    stanza = _STATIC6.sub(r"\1manual", stanza)
    commands = [setting6(when, name, "accept_ra", int(accept))] if accept in ("0", "1", "2") else []
    commands.append(setting6(when, name, "autoconf", int(_value(stanza, "autoconf") == "1")))
    address, _slash, prefix = (_value(stanza, "address") or "").partition("/")
    if not address:  # a stanza that has only routes
        return _with(stanza, commands)
    prefix = prefix or _value(stanza, "netmask") or "64"
    commands.append("up ip -6 address add %s/%s dev %s || true" % (address, prefix, name))
    stanza = _with(stanza, commands)
    settle = "    up IF_ADDRESS=%s IF_NETMASK=%s %s || true\n" % (address, prefix, _SETTLE)
    return stanza + settle if settles else stanza  # once, for all of them


def _with(stanza: str, commands: List[str]) -> str:
    """Inserts commands into a stanza, after its options and before its own commands."""
    lines = stanza.splitlines(True)
    place = next((n for n, line in enumerate(lines) if _COMMAND.match(line)), len(lines))
    return "".join(lines[:place] + ["    %s\n" % command for command in commands] + lines[place:])


def _value(stanza: str, option: str) -> Optional[str]:
    found = re.search(_OPTION % option, stanza, re.MULTILINE)
    return found.group(1) if found else None
