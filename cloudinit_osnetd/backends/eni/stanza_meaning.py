# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of interfaces(5) stanzas, written by any release of cloud-init's eni renderer or by a person."""

import ipaddress
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from ...core import meaning
from .interfaces_file import statements

_METHODS = {("inet", "dhcp"): "dhcp4", ("inet6", "dhcp"): "dhcp6", ("inet6", "auto"): "slaac"}
_UP, _DOWN = ("up", "post-up"), ("down", "pre-down", "post-down")
_ROUTE_VERBS = ("add", "replace", "append", "del", "delete")
_DNS = {"dns-nameservers": "dns", "dns-nameserver": "dns", "dns-search": "search", "dns-domain": "search"}


class _Stanza(NamedTuple):
    family: str  # inet or inet6; empty for lines outside of any stanza
    method: str
    options: List[List[str]]  # in words; the first one with hyphens


def of(text: str, name: str = "") -> meaning.Meaning:
    """Returns the meaning of all stanzas of the NIC `name`."""
    facts: Set[str] = set()
    in_order: Dict[Tuple[str, str], List[str]] = {}
    added: Set[str] = set()
    taken: Dict[str, str] = {}  # routes that are deleted, with the line that does it
    for stanza in _stanzas(text, facts):
        facts.update(_addresses(stanza))
        for words in stanza.options:
            if _is_default(words, stanza):
                continue
            topic = _DNS.get(words[0])
            found = _command_route(words, name)
            if topic:
                in_order.setdefault((topic, stanza.family), []).extend(map(meaning.address, words[1:]))
            elif found and words[0] in _UP and found[0] not in ("del", "delete"):
                added.add(found[1])
            elif words[0] in _UP and _command_address(words, name):
                facts.add("address " + _command_address(words, name))
            elif found and words[0] in _DOWN and found[0] in ("del", "delete"):
                taken[found[1]] = " ".join(words)
            else:
                facts.update(_option(words, stanza.family))
    for (topic, _family), servers in in_order.items():
        facts.update(meaning.in_order(topic, servers))
    facts |= added
    facts.update(line for route, line in taken.items() if route not in added)
    return frozenset(facts)


def _stanzas(text: str, facts: Set[str]) -> Iterator[_Stanza]:
    """Yields the stanzas. What their first lines mean is added to `facts`."""
    stanza = _Stanza("", "", [])
    for words in statements(text):
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "iface":
            yield stanza
            family, method = (words[2:4] + ["", ""])[:2]
            if method != "static":
                facts.add(_METHODS.get((family, method), "%s %s" % (family, method)))
            facts.update(" ".join(words[i : i + 2]) for i in range(4, len(words), 2))  # inherits
            stanza = _Stanza(family, method, [])
        elif words[0] == "auto" or words[0].startswith("allow-"):
            facts.add("start " + {"auto": "at boot"}.get(words[0], words[0][len("allow-") :]))
        else:
            stanza.options.append([words[0].replace("_", "-")] + words[1:])
    yield stanza


def _addresses(stanza: _Stanza) -> Iterator[str]:
    """Yields what several options mean together: an address with its netmask, a gateway with its metric.

    In a DHCP stanza ifupdown ignores a gateway. cloud-init writes one there if the document names it.
    """
    values = {words[0]: words[1] for words in stanza.options if len(words) > 1}
    for words in stanza.options:
        if words[0] == "address" and len(words) > 1:
            yield "address " + meaning.address(words[1], values.get("netmask", ""))
        elif words[0] == "gateway" and len(words) > 1 and stanza.method != "dhcp":
            yield meaning.route(meaning.network("default", "", words[1]), words[1], values.get("metric"))


def _is_default(words: List[str], stanza: _Stanza) -> bool:
    """True for what ifupdown does without this option too: cloud-init writes it where the document says it."""
    if stanza.family != "inet" or stanza.method != "static" or len(words) != 2:
        return False
    if words[0] == "scope":
        return words[1] == "global"
    if words[0] not in ("broadcast", "network"):
        return False
    values = {option[0]: option[1] for option in stanza.options if len(option) > 1}
    try:
        own = ipaddress.IPv4Interface(meaning.address(values.get("address", ""), values.get("netmask", ""))).network
    except ValueError:
        return False
    return words[1] in ("+", str(own.broadcast_address)) if words[0] == "broadcast" else words[1] == str(own[0])


def _option(words: List[str], family: str) -> Iterator[str]:
    key, value = words[0], " ".join(words[1:])
    if key in ("address", "netmask", "gateway") or (key == "metric" and family == "inet"):
        if key == "metric":
            yield "metric " + value  # the lease's routes get it too
    elif key == "mtu":
        yield ("mtu " if family == "inet" else "%s mtu " % family) + value
    elif key == "hwaddress":
        yield "mac " + words[-1].lower()
    elif key == "accept-ra":
        yield "accept-ra " + {"0": "no", "1": "yes"}.get(value, value)
    elif key in ("vlan-id", "vlan-raw-device"):
        yield "%s %s" % (key.replace("-", " "), value)
    elif key == "bond-master":
        yield "belongs to " + value
    elif key.startswith("bond-"):
        if key != "bond-slaves" or value != "none":
            yield meaning.bond_option(key[len("bond-") :], value)
    else:
        key = "post-up" if key == "up" else "pre-down" if key == "down" else key
        family_word = "inet6 " if family == "inet6" and not key.endswith(("-up", "-down")) else ""
        yield ("%s%s %s" % (family_word, key, value)).rstrip()


def _command_route(words: List[str], name: str) -> Optional[Tuple[str, str]]:
    """Returns (verb, line) of a command that adds or deletes a route, None for any other."""
    if words[0] not in _UP + _DOWN:
        return None
    command = words[1:-2] if words[-2:] == ["||", "true"] else words[1:]
    program = command[0].rpartition("/")[2] if command else ""
    try:
        if program == "route":
            return _by_route(command[1:], name)
        if program == "ip":
            return _by_ip(command[1:], name)
    except (IndexError, StopIteration):
        pass
    return None


def _command_address(words: List[str], name: str) -> str:
    """Returns the address that an `ip address add` command adds to this NIC, empty for any other command.

    We write IPv6 addresses so, and people second addresses.
    """
    command = [word for word in words[1:] if word not in ("-4", "-6")]
    command = command[:-2] if command[-2:] == ["||", "true"] else command
    if len(command) < 4 or command[0].rpartition("/")[2] != "ip" or command[2] not in ("add", "replace"):
        return ""
    if not "address".startswith(command[1]) or command[4:6] != ["dev", name]:
        return ""
    return meaning.address(command[3])


def _by_route(words: List[str], name: str) -> Optional[Tuple[str, str]]:
    """Reads route(8): [-A inet6] add [-net|-host] TARGET [netmask M] [gw G] [metric N] [dev D], flags anywhere."""
    rest = [word for word in words if word not in ("-A", "inet6", "-6", "-net", "-host", "inet", "-4")]
    if len(rest) < 2 or rest[0] not in _ROUTE_VERBS:
        return None
    verb, target = rest[:2]
    pairs = _pairs(rest[2:], {"gw": "gw", "netmask": "netmask", "metric": "metric", "dev": "dev"})
    if pairs is None:
        return None
    via, mask = pairs.get("gw", ""), pairs.get("netmask", "")
    if ("-A" in words or "-6" in words) and target == "default" and not via:
        target = "::/0"
    if "-net" in words and "/" not in target and not mask and target != "default":
        return None  # depends on the class of the address
    return verb, _line(meaning.network(target, mask, via), via, pairs, name)


def _by_ip(words: List[str], name: str) -> Optional[Tuple[str, str]]:
    """Reads ip(8): [-family inet6|-6] route add TARGET [via G] [dev D] [metric N] [onlink]."""
    six = False
    while words[0].startswith("-"):
        six = six or words[0] in ("-6", "-inet6") or words[:2] == [words[0], "inet6"]
        words = words[2:] if words[0] in ("-family", "-f") else words[1:]
    if words[0] not in ("route", "ro", "r") or words[1] not in _ROUTE_VERBS:
        return None
    verb, target = words[1:3]
    rest = [word for word in words[3:] if word != "onlink"]
    pairs = _pairs(rest, {"via": "gw", "dev": "dev", "metric": "metric", "preference": "metric"})
    if pairs is None:
        return None
    via = pairs.get("gw", "")
    to = "::/0" if six and target == "default" else meaning.network(target, "", via)
    return verb, _line(to, via, pairs, name, *(["onlink"] if len(rest) < len(words[3:]) else []))


def _line(to: str, via: str, pairs: Dict[str, str], name: str, *more: str) -> str:
    # A route that names its own NIC means the same as one for which the kernel looks up the gateway's NIC.
    device = pairs.get("dev", name)
    return meaning.route(to, via, pairs.get("metric"), *more, *(["dev " + device] if device != name else []))


def _pairs(words: List[str], known: Dict[str, str]) -> Optional[Dict[str, str]]:
    """Returns keywords with their values, None if there is an unknown one."""
    if len(words) % 2 or any(word not in known for word in words[::2]):
        return None
    return {known[word]: value for word, value in zip(words[::2], words[1::2])}
