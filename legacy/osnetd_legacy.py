#!/usr/bin/env python
# -*- coding: utf-8 -*-
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The network of an OpenStack server whose Python or cloud-init is too old for cloudinit-osnetd.

    osnetd_legacy.py apply [--dry-run] BASE64 | - | --file FILE     make the server's NICs what a network_data.json says
    osnetd_legacy.py follow --event add|remove|boot|look            look at the metadata or the config drive, and do so
    osnetd_legacy.py early                                          before the network starts: the files fit the NICs
    osnetd_legacy.py install | uninstall [--restore]                put that in place, or take it away

One file, standard library only, the same for Python 2.6, 2.7 and 3.3 to 3.13; iproute2 of any age or busybox. NICs are
known by their MAC. Only NICs that differ are touched. docs/legacy.md is its manual.

Exit status, as of `cloudinit-osnetd apply`: 0 done or nothing to do, 1 a NIC failed, 2 wrong usage, 3 the document was
refused, 5 no network configuration that it knows is here, 6 another run did not end in time, 70 it broke off. Where it
is 2, 3, 5 or 6, nothing was changed; 4 (rolled back) is the package's alone.

Written for Python 2.6 as well as 3.13, so no set or dict comprehension, no `with` of two, no numbered-by-itself format,
no argparse, no unicode_literals (struct of 2.6 takes no unicode format). Texts of a document are unicode on Python 2;
what passes the checks below is ASCII.
"""

from __future__ import print_function

import base64
import binascii
import collections
import difflib
import errno
import fcntl
import glob
import json
import optparse
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import syslog
import tempfile
import time

__version__ = "0.2.0"

# Those of `cloudinit-osnetd apply`: who pushes to a fleet of both reads one table.
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_NOT_MANAGED, EXIT_BUSY, EXIT_BROKE_OFF = 0, 1, 2, 3, 5, 6, 70
MARK = "osnetd-legacy"

if sys.version_info[0] == 2:
    TEXT, NUMBERS, STRINGS = unicode, (int, long), (str, unicode)  # noqa: F821 # novm
else:
    TEXT, NUMBERS, STRINGS = str, (int,), (str,)


# -- places ----------------------------------------------------------------------------------------


class Places(object):
    """Where files are; everything but /proc and /sys is below `root`, which is for tests and for images."""

    def __init__(self, root="/"):
        self.root = root

    def __call__(self, path):
        return os.path.join(self.root, path.lstrip("/")) if self.root != "/" else path

    @property
    def is_real(self):
        """False for an image, and for a test's tree: no program of the system is told of it."""
        return self.root == "/"

    @property
    def state(self):
        return self("/var/lib/osnetd-legacy")

    @property
    def run_path(self):
        """Enterprise Linux 6 has no /run."""
        return "/run/osnetd-legacy" if os.path.isdir(self("/run")) else "/var/run/osnetd-legacy"

    @property
    def run(self):
        return self(self.run_path)


# -- texts: bytes outside, text inside -------------------------------------------------------------


def to_text(data):
    """Bytes of a file or a program as text that becomes the same bytes again."""
    return data if isinstance(data, TEXT) else data.decode("latin-1")


def told(text):
    """A text for a stream or a log that may know ASCII alone (LANG=C): bytes."""
    text = text if isinstance(text, TEXT) else text.decode("utf-8", "replace")
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        return text.encode(encoding, "backslashreplace")
    except LookupError:
        return text.encode("ascii", "backslashreplace")


def write_line(stream, text):
    raw = getattr(stream, "buffer", stream)
    try:
        stream.flush()
        raw.write(told(text) + b"\n")
        raw.flush()
    except (IOError, OSError):
        pass  # nobody listens; the exit status still tells


class Log(object):
    """Lines to stderr, and to syslog where nobody reads that (a program of udev's, a boot script)."""

    to_syslog = False
    verbose = False

    def __call__(self, text, priority=syslog.LOG_WARNING):
        if priority <= syslog.LOG_NOTICE or self.verbose or self.to_syslog:
            write_line(sys.stderr, text)
        if self.to_syslog:
            line = told(text)
            syslog.syslog(priority, line if sys.version_info[0] == 2 else line.decode("ascii", "replace"))

    def info(self, text):
        self(text, syslog.LOG_INFO)


log = Log()


def shown(value):
    """A value of a document as it may stand in a line: JSON, ASCII, short."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shown_id(value):
    """A link's id as a person reads it, unless it could make a line look like another one."""
    if isinstance(value, STRINGS) and 0 < len(value) <= 60:
        odd = [c for c in value if ord(c) < 32 or 127 <= ord(c) < 160 or 0x2028 <= ord(c) <= 0x202E]
        if not odd:
            return value
    return shown(value)


# -- IP addresses: (family, number), as there is no ipaddress before Python 3.3 --------------------

_FAMILIES = {4: (socket.AF_INET, 32), 6: (socket.AF_INET6, 128)}


def parse_ip(text):
    """(4 or 6, number), or None. No zone, no leading zeros, nothing that inet_pton(3) does not take."""
    if not isinstance(text, STRINGS):
        return None
    for family, (af, _bits) in _FAMILIES.items():
        try:
            return family, int(binascii.hexlify(socket.inet_pton(af, str(text))), 16)
        except (socket.error, ValueError, TypeError):  # ValueError: a NUL, or not ASCII
            continue
    return None


def ip_text(family, number):
    af, bits = _FAMILIES[family]
    return socket.inet_ntop(af, binascii.unhexlify(("%0*x" % (bits // 4, number)).encode("ascii")))


def mask_of(family, length):
    bits = _FAMILIES[family][1]
    return ((1 << length) - 1) << (bits - length)


def network_of(cidr):
    """The network of `ip/prefix`, in the one form."""
    ip, _slash, length = cidr.partition("/")
    family, number = parse_ip(ip)
    return "%s/%s" % (ip_text(family, number & mask_of(family, int(length))), length)


def is_in(ip, cidr):
    """True where the address `ip` is in the network of `cidr`."""
    family, number = parse_ip(ip)
    base, _slash, length = cidr.partition("/")
    other, start = parse_ip(base)
    mask = mask_of(other, int(length))
    return family == other and number & mask == start & mask


def is6(text):
    return ":" in text


def is_link_local(ip):
    return is6(ip) and is_in(ip, "fe80::/10")


def netmask_text(cidr):
    return ip_text(4, mask_of(4, int(cidr.partition("/")[2])))


def broadcast_of(cidr):
    """The broadcast address of an IPv4 network, empty where it has none."""
    ip, _slash, length = cidr.partition("/")
    if is6(ip) or int(length) > 30:
        return ""
    return ip_text(4, parse_ip(ip)[1] | (0xFFFFFFFF ^ mask_of(4, int(length))))


# -- network_data.json: checked, and then plain records --------------------------------------------
#
# The same reading as the main package's (cloudinit_osnetd.core.network_data), but bonds and VLANs are refused.

Route = collections.namedtuple("Route", "network gateway metric")  # gateway "": on the link; metric None: not said
Network = collections.namedtuple("Network", "kind address routes dns search")  # address "": by DHCP or advertisement
Fault = collections.namedtuple(
    "Fault", "mac path problem link_id costs"
)  # costs: False where the link is configured all the same
# dns, search: those of its networks, or the global ones where they serve it.
Link = collections.namedtuple("Link", "mac mtu networks dns search link_id")
Document = collections.namedtuple("Document", "links faults alone")  # alone: MACs that are left to others

DHCP4 = ("ipv4_dhcp",)
DHCP6 = ("ipv6_dhcp", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless")
SLAAC = ("ipv6_slaac",)
STATIC = ("ipv4", "ipv6", "static", "static6")
DEFAULT4, DEFAULT6 = "0.0.0.0/0", "::/0"
LEAST_MTU_IPV6 = 1280  # the kernel removes all IPv6 of a device that gets less
MAX_BYTES = 1 << 20
_WORD = re.compile(r"^[A-Za-z0-9_.+-]{1,253}\Z")  # \Z: "$" is also true before a last newline
_DIGITS = re.compile(r"^[0-9]{1,10}\Z")
_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2})*\Z")


class DataError(ValueError):
    """A value that cannot be used, and where it stands."""

    def __init__(self, path, problem):
        ValueError.__init__(self, "%s: %s" % (path, problem))
        self.path, self.problem = path, problem


class Refused(DataError):
    """The whole document says nothing."""


def needed(obj, name, path):
    if obj.get(name) is None:
        raise DataError("%s.%s" % (path, name), "missing")
    return obj[name]


def json_object(value, path):
    if not isinstance(value, dict):
        raise DataError(path, "not an object")
    return value


def json_list(value, path):
    if value in (None, "", {}):
        return []
    if not isinstance(value, list):
        raise DataError(path, "not a list")
    return value


def number(value, path, low, high):
    if isinstance(value, STRINGS) and _DIGITS.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, NUMBERS) or not low <= value <= high:
        raise DataError(path, "not a number from %d to %d: %s" % (low, high, shown(value)))
    return int(value)


def mac_address(value, path):
    """Lower case; of InfiniBand's twenty octets those that OpenStack has."""
    mac = value.lower() if isinstance(value, STRINGS) else ""
    if not _MAC.match(mac) or len(mac) not in (17, 59):
        raise DataError(path, "not a MAC address: %s" % shown(value))
    return short_mac(str(mac))


def short_mac(mac):
    octets = mac.lower().split(":")
    return ":".join(octets if len(octets) == 6 else octets[12:15] + octets[17:])


def ip_address(value, path):
    found = parse_ip(value)
    if found is None:
        raise DataError(path, "not an IP address: %s" % shown(value))
    return ip_text(*found)


def is_mapped(ip):
    """True for an IPv4 address in the form of an IPv6 one: ::ffff:192.0.2.1."""
    return is6(ip) and parse_ip(ip)[1] >> 32 == 0xFFFF


def may_be_of_a_nic(ip):
    """False for a multicast address, the limited broadcast, the unspecified address, ::1 and an IPv4-mapped address."""
    if is6(ip):
        if ip == "::1" or is_mapped(ip):
            return False
        return ip != "::" and int(ip.split(":")[0] or "0", 16) >> 8 != 0xFF
    return not 224 <= int(ip.split(".")[0]) < 240 and ip.strip("0.") != "" and ip != "255.255.255.255"


def prefix_length(ip, netmask, path):
    """From a netmask or a number; where there is none, cloud-init's /24 and /64."""
    family = 6 if is6(ip) else 4
    bits = _FAMILIES[family][1]
    if netmask is None or netmask == "":
        return 64 if family == 6 else 24
    if isinstance(netmask, NUMBERS) or (isinstance(netmask, STRINGS) and _DIGITS.match(netmask)):
        return number(netmask, path, 0, bits)
    found = parse_ip(netmask)
    if found is None:
        raise DataError(path, "not a netmask: %s" % shown(netmask))
    for length in range(bits + 1):
        if found == (family, mask_of(family, length)):
            return length
    raise DataError(path, "not a netmask of its address family: %s" % shown(netmask))


def split_words(value):
    if value is None or value == {}:
        return []
    if isinstance(value, STRINGS):
        return [part for part in value.replace(",", " ").split(" ") if part]
    # A template whose variable is empty gives [""].
    return [part for part in value if part != ""] if isinstance(value, list) else [value]


def domains(value, path):
    parts = split_words(value)
    for part in parts:
        if not isinstance(part, STRINGS) or not _WORD.match(part) or part.startswith("-"):
            raise DataError(path, "not a domain: %s" % shown(part))
    return [str(part) for part in parts]


def once(items):
    """In their order, each once."""
    kept = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept


def gateway_address(value, path, destination, own):
    """A neighbour's address, empty where there is none. `own`: the address of its network, or empty."""
    if value is None or value == "":
        return ""
    ip = ip_address(value, path)
    if is6(ip) != is6(destination):
        raise DataError(path, "a gateway of the other address family: %s for %s" % (ip, destination))
    broadcast = own and broadcast_of(own)
    if ip in ("255.255.255.255", broadcast) or is_in(ip, "ff00::/8" if is6(ip) else "224.0.0.0/4"):
        raise DataError(path, "no neighbour's address: %s" % ip)
    if ip == "::1" or is_mapped(ip) or (not is6(ip) and is_in(ip, "127.0.0.0/8")):
        raise DataError(path, "no neighbour's address: %s" % ip)
    return "" if ip in ("0.0.0.0", "::") else ip  # noqa: S104


def parse_route(raw, path, own):
    obj = json_object(raw, path)
    target = obj.get("network") if obj.get("destination") in (None, "") else obj["destination"]
    if target == "default":
        target = "::" if is6(TEXT(obj.get("gateway"))) else "0.0.0.0"  # noqa: S104
    base, slash, mask = target.partition("/") if isinstance(target, STRINGS) else (target, "", "")
    if slash and not mask:
        raise DataError(path + ".network", "not a network: %s" % shown(target))
    base = ip_address(base, path + ".network")
    if mask:
        length = prefix_length(base, mask, path + ".network")
    elif obj.get("netmask") in (None, "") and base in ("0.0.0.0", "::"):  # noqa: S104
        length = 0
    else:
        length = prefix_length(base, obj.get("netmask"), path + ".netmask")
    network = network_of("%s/%d" % (base, length))
    metric = obj.get("metric")
    metric = None if metric is None else number(metric, path + ".metric", 0, 0xFFFFFFFF)
    return Route(network, gateway_address(obj.get("gateway"), path + ".gateway", network, own), metric)


def says_nothing(route, own):
    """True for a default route without a gateway, and for the subnet's own."""
    if route.gateway:
        return False
    return route.network in (DEFAULT4, DEFAULT6) or bool(own and route.network == network_of(own))


def dns_service(raw, path, lenient):
    """([server], [domain]) of a service. `lenient`: one of the document's own, whose type may be any."""
    obj = json_object(raw, path)
    if obj.get("type") != "dns" and not lenient:
        return [], []
    try:
        servers = [ip_address(one, path + ".address") for one in split_words(needed(obj, "address", path))]
        if not servers:
            raise DataError(path + ".address", "not an IP address: %s" % shown(obj["address"]))
        return servers, domains(obj.get("search"), path + ".search")
    except DataError:
        if obj.get("type") == "dns":
            raise
        return [], []


def own_services(raw, raw_routes, path):
    servers, search = [], []
    lists = [(route.get("services"), "%s.routes[%d].services" % (path, i)) for i, route in enumerate(raw_routes)]
    for services, where in lists + [(raw.get("services"), path + ".services")]:
        for i, service in enumerate(json_list(services, where)):
            more, found = dns_service(service, "%s[%d]" % (where, i), False)
            servers, search = servers + more, search + found
    where = path + ".dns_nameservers"
    beside = [ip_address(one, where) for one in split_words(raw.get("dns_nameservers"))]
    search += domains(raw.get("dns_search"), path + ".dns_search")
    return tuple(once(servers or beside)), tuple(once(search))


def parse_network(raw, path):
    kind = needed(raw, "type", path)
    if kind not in DHCP4 + DHCP6 + SLAAC + STATIC:
        raise DataError(path + ".type", "unknown network type %s" % shown(kind))
    address = ""
    if kind in STATIC:
        value = needed(raw, "ip_address", path)
        ip, slash, mask = value.partition("/") if isinstance(value, STRINGS) else (value, "", "")
        if slash and not mask:
            raise DataError(path + ".ip_address", "not an IP address: %s" % shown(value))
        ip = ip_address(ip, path + ".ip_address")
        if not may_be_of_a_nic(ip):
            raise DataError(path + ".ip_address", "not an address that a NIC can have: %s" % ip)
        address = "%s/%d" % (ip, prefix_length(ip, mask or raw.get("netmask"), path + ".netmask"))
    raw_routes = json_list(raw.get("routes"), path + ".routes")
    routes = [parse_route(one, "%s.routes[%d]" % (path, i), address) for i, one in enumerate(raw_routes)]
    if raw.get("gateway") not in (None, "") and kind not in DHCP4 + DHCP6:
        default = DEFAULT6 if is6(ip_address(raw["gateway"], path + ".gateway")) else DEFAULT4
        routes.append(Route(default, gateway_address(raw["gateway"], path + ".gateway", default, address), None))
    dns, search = own_services(raw, raw_routes, path)
    return Network(str(kind), address, tuple(once([r for r in routes if not says_nothing(r, address)])), dns, search)


def doubts(raw, net, path):
    """What contradicts itself in a network that can be used all the same, as cloud-init uses it."""
    ip, _slash, length = net.address.partition("/")
    netmask = raw.get("netmask")
    if length == "0":
        return [DataError(path + ".netmask", "no netmask of an address: every address would be a neighbour")]
    if net.address and "/" in raw["ip_address"] and netmask not in (None, ""):
        try:
            told = prefix_length(ip, netmask, path + ".netmask")
        except DataError as exc:
            return [exc]
        if str(told) != length:
            return [DataError(path + ".netmask", "/%d, but the address says %s" % (told, net.address))]
    return []


class _Reader(object):
    """One pass over a document; a fault costs its link and no other."""

    def __init__(self, document):
        self.document = document
        self.faults = []
        self.macs, self.refused, self.bad, self.alone = {}, set(), set(), set()
        self.order, self.mtus, self.networks = [], {}, {}

    def fault(self, exc, link_id="", mac=""):
        self.faults.append(Fault(mac, exc.path, exc.problem, link_id, True))
        if mac:
            self.bad.add(mac)

    def links(self):
        raw_links = self.document["links"]
        for i, raw in enumerate(raw_links):
            self._link(raw, "links[%d]" % i)
        for raw in raw_links:
            if isinstance(raw, dict) and raw.get("type") == "bond":
                members = raw.get("bond_links")
                for named in members if isinstance(members, list) else []:
                    self.alone.update([self.macs[TEXT(named)]] if TEXT(named) in self.macs else [])

    def _link(self, raw, path):
        link_id, mac = "", ""
        try:
            value = needed(json_object(raw, path), "id", path)
            if isinstance(value, bool) or not isinstance(value, STRINGS + NUMBERS):
                raise DataError(path + ".id", "not a string: %s" % shown(value))
            link_id = TEXT(value)
            if raw.get("type") in ("bond", "vlan"):
                raise DataError(path + ".type", "a %s is not set up by this program" % str(raw["type"]))
            mac = mac_address(needed(raw, "ethernet_mac_address", path), path + ".ethernet_mac_address")
            if mac in self.order:
                raise DataError(path, "a second link with this MAC")
            self.order.append(mac)
            if link_id in self.macs:
                raise DataError(path + ".id", "the id %s is taken" % shown_id(link_id))
            self.macs[link_id] = mac
            mtu = raw.get("mtu")
            unsaid = mtu is None or (mtu in (0, "0", "") and mtu is not False)
            self.mtus[mac] = None if unsaid else number(mtu, path + ".mtu", 68, 65535)
        except DataError as exc:
            self.fault(exc, link_id, mac)
            if link_id and link_id not in self.macs:
                self.refused.add(link_id)

    def read_networks(self):
        for i, raw in enumerate(self.document.get("networks") or []):
            path = "networks[%d]" % i
            mac, link_id = "", ""
            try:
                named = needed(json_object(raw, path), "link", path)
                is_id = isinstance(named, STRINGS + NUMBERS) and not isinstance(named, bool)
                link_id = TEXT(named) if is_id else ""
                if link_id in self.macs:
                    mac = self.macs[link_id]
                elif link_id in self.refused:
                    continue
                else:
                    raise DataError(path + ".link", "no link has the id %s" % shown(named))
                net = parse_network(raw, path)
                self.networks.setdefault(mac, []).append(net)
                for exc in doubts(raw, net, path):
                    self.faults.append(Fault(mac, exc.path, exc.problem, link_id, False))
            except DataError as exc:
                self.fault(exc, link_id, mac)

    def mtu(self, mac, link_id):
        """The link's MTU; None where IPv6 would be lost with it."""
        mtu = self.mtus[mac]
        if mtu is None or mtu >= LEAST_MTU_IPV6:
            return mtu
        if not [n for n in self.networks.get(mac, []) if is6(n.address) or n.kind in DHCP6 + SLAAC]:
            return mtu
        problem = "%d is less than IPv6 needs (%d): the kernel would take the link's IPv6 away" % (mtu, LEAST_MTU_IPV6)
        self.faults.append(Fault(mac, "links.mtu", problem, link_id, False))
        return None

    def services(self):
        servers, search = [], []
        try:
            listed = json_list(self.document.get("services"), "services")
        except DataError as exc:
            self.fault(exc)
            listed = []
        for i, service in enumerate(listed):
            try:
                more, found = dns_service(service, "services[%d]" % i, True)
                servers, search = servers + more, search + found
            except DataError as exc:
                self.fault(exc)
        return once(servers), once(search)


def parse_document(document):
    """A Document; Refused where it says nothing as a whole."""
    if not isinstance(document, dict):
        raise Refused("network_data", "not an object")
    if document.get("links") is None:
        raise Refused("network_data", "has no links")
    for name in ("links", "networks"):
        if document.get(name) is not None and not isinstance(document[name], list):
            raise Refused("network_data." + name, "not a list")
    reader = _Reader(document)
    reader.links()
    reader.read_networks()
    servers, search = reader.services()
    ids = dict((mac, link_id) for link_id, mac in reader.macs.items())
    links = {}
    for mac in reader.order:
        if mac not in reader.bad and mac not in reader.alone:
            links[mac] = _serve(
                Link(mac, reader.mtu(mac, ids[mac]), tuple(once(reader.networks.get(mac, []))), (), (), ids[mac]),
                servers,
                search,
            )
    return Document(_without_own_hops(links, reader.faults), reader.faults, reader.alone)


def _serve(link, servers, search):
    """The DNS of its networks; the global one where they bring none of their own, by a lease say."""
    dns = once([one for net in link.networks for one in net.dns])
    found = once([one for net in link.networks for one in net.search])
    if link.networks and not dns and not [net for net in link.networks if net.kind in DHCP4 + DHCP6]:
        dns = servers
    if link.networks and not found:
        found = search
    # By the unspecified address Neutron says that a subnet has no server; nor is it served by the global ones then.
    dns = [server for server in dns if server not in ("0.0.0.0", "::")]  # noqa: S104
    return link._replace(dns=tuple(dns), search=tuple(found))


def _without_own_hops(links, faults):
    """A server that is its own next hop (a router): such a route can go nowhere, and is left out and told."""
    own = set(net.address.partition("/")[0] for link in links.values() for net in link.networks if net.address)
    for mac, link in list(links.items()):
        networks = []
        for net in link.networks:
            for route in net.routes:
                if route.gateway in own:
                    text = "%s via this server itself, left out" % route.network
                    faults.append(Fault("", "routes", text, link.link_id, False))
            networks.append(net._replace(routes=tuple(r for r in net.routes if r.gateway not in own)))
        links[mac] = link._replace(networks=tuple(networks))
    return links


def parse_bytes(raw):
    """The bytes of a push: JSON, or base64 of it, told apart by themselves."""
    data = raw.strip()
    if not data.startswith(b"{"):
        data = b"".join(data.split())
        if not data or len(data) % 4 or re.match(r"^[A-Za-z0-9+/]*={0,2}\Z", to_text(data)) is None:
            raise Refused("network_data", "neither JSON nor base64")
        try:
            data = base64.b64decode(data)
        except (TypeError, ValueError) as exc:
            raise Refused("network_data", "not base64: %s" % exc)
    if len(data) > MAX_BYTES:
        raise Refused("network_data", "larger than %d bytes" % MAX_BYTES)
    try:
        return parse_document(json.loads(data.decode("utf-8")))
    except (ValueError, RuntimeError) as exc:  # RuntimeError: nested too deeply (RecursionError from 3.5 on)
        if isinstance(exc, DataError):
            raise
        raise Refused("network_data", "not JSON: %s" % shown(str(exc)))


def fault_text(fault):
    names = ["link %s" % shown_id(fault.link_id)] if fault.link_id else []
    names += ["MAC %s" % fault.mac] if fault.mac else []
    return "%s%s: %s" % (fault.path, " (%s)" % ", ".join(names) if names else "", fault.problem)


def link_to_json(link):
    """In an order that is always the same: Nova's means nothing."""
    networks = [
        [n.kind, n.address, sorted([list(r) for r in n.routes], key=repr), n.dns, n.search] for n in link.networks
    ]
    return json.loads(json.dumps([link.mac, link.mtu, sorted(networks, key=repr), link.dns, link.search]))


def link_from_json(said):
    mac, mtu, networks, dns, search = said
    nets = [
        Network(
            str(kind), str(address), tuple(Route(str(n), str(g), m) for n, g, m in routes), _strs(servers), _strs(found)
        )
        for kind, address, routes, servers, found in networks
    ]
    return Link(str(mac), mtu, tuple(nets), _strs(dns), _strs(search), "")


def _strs(items):
    return tuple(str(item) for item in items)


# -- what a NIC should have: a Link with the kernel's name of this moment, in a backend's words ----

# addresses: "ip/prefix"; routes: Route, in the order in which they can be added; onlink: gateways that no subnet holds.
Config = collections.namedtuple("Config", "mac name mtu addresses routes onlink dhcp4 dhcp6 slaac dns search metric")

FIRST_METRIC, METRIC_STEP = 2100, 100  # of NICs beside the primary; above what a lease's or an advertised route has


def config_of(link, name, metric):
    """`metric`: 0 for the primary, which is written as cloud-init alone would write it."""
    addresses = once([net.address for net in link.networks if net.address])
    routes, onlink = [], []
    for route in [route for net in link.networks for route in net.routes]:
        given = route.metric if route.metric is not None else metric
        routes.append(route._replace(metric=given))
        gateway = route.gateway
        if gateway and not is_link_local(gateway) and not [a for a in addresses if is_in(gateway, a)]:
            onlink.append(gateway)
    kinds = [net.kind for net in link.networks]
    dhcp6 = "stateful" if set(kinds) & set(DHCP6[:2]) else "stateless" if DHCP6[2] in kinds else ""
    # The routes on the link first: others may go by them.
    routes = once([r for r in routes if not r.gateway] + [r for r in routes if r.gateway])
    lease = bool(set(kinds) & set(DHCP4))
    if lease:  # a gateway may be in the subnet that the lease tells
        onlink = [gateway for gateway in onlink if is6(gateway)]
    return Config(
        link.mac, name, link.mtu, tuple(addresses), tuple(routes), tuple(once(onlink)), lease, dhcp6,
        "ipv6_slaac" in kinds,
        link.dns, link.search, metric,
    )  # fmt: skip


def host_route(gateway):
    """The way to a gateway that no subnet holds. Kernels before 4.16 know no onlink for IPv6, busybox none at all."""
    return Route("%s/%d" % (gateway, 128 if is6(gateway) else 32), "", 0)


def all_routes(config):
    """The routes of a NIC as the kernel needs them: the ways to gateways before what goes through those."""
    return tuple(once([host_route(gateway) for gateway in config.onlink] + list(config.routes)))


def wants_client(config):
    return config.dhcp4 or bool(config.dhcp6)


def takes_default(link):
    return bool(
        [n for n in link.networks if not n.address or [r for r in n.routes if r.network in (DEFAULT4, DEFAULT6)]]
    )


def give_metrics(known, links, primary):
    """A metric for each MAC, `known` ones kept; the first NIC with a way out, or `primary`, has none of its own."""
    given = dict(known)
    outside = primary and primary not in links and primary not in known  # it is configured by others, and stays so
    for mac in sorted(links, key=lambda one: (one != primary, not takes_default(links[one]), one)):
        if mac not in given:
            taken = set([given[other] for other in given] + ([0] if outside else []))
            metric = 0
            while metric in taken:
                metric = FIRST_METRIC if metric == 0 else metric + METRIC_STEP
            given[mac] = metric
    return given


# -- the kernel: NICs by sysfs, addresses and routes by rtnetlink ----------------------------------
#
# Not by what ip(8) prints: `ip -json` came with iproute2 4.16, and the columns of older ones and of busybox differ.

Nic = collections.namedtuple("Nic", "name mac index mtu up hardware master")
Address = collections.namedtuple("Address", "cidr permanent")
Held = collections.namedtuple("Held", "addresses routes")  # routes: Route -> protocol

SYS_NET = "/sys/class/net"
_GETADDR, _GETROUTE, _DONE, _ERROR, _DUMP, _INTERRUPTED = 22, 26, 3, 2, 0x301, 0x10
_MAIN_TABLE, _UNICAST, _BY_KERNEL = 254, 1, 2
_STATIC = 4  # RTPROT_STATIC: NetworkManager's routes
_VIRTUAL = ("vlan", "bridge", "bond", "macvlan", "macvtap", "ipvlan", "vxlan", "wlan", "gre", "team")


def read_file(path):
    """A file's text, None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return to_text(file.read())
    except (IOError, OSError):
        return None


def _attribute(name, what, default=""):
    return (read_file(os.path.join(SYS_NET, name, what)) or default).strip()


def nics():
    """The network devices that may be a port's, by MAC: lists, as two may share one."""
    found = {}
    for name in sorted(os.listdir(SYS_NET) if os.path.isdir(SYS_NET) else []):
        here = os.path.join(SYS_NET, name)
        if _attribute(name, "type") not in ("1", "32") or re.search(
            "^DEVTYPE=(%s)$" % "|".join(_VIRTUAL), _attribute(name, "uevent"), re.M
        ):
            continue
        if [kind for kind in ("bridge", "bonding", "tun_flags") if os.path.exists(os.path.join(here, kind))]:
            continue
        try:
            index, mtu = int(_attribute(name, "ifindex")), int(_attribute(name, "mtu"))
            up = bool(int(_attribute(name, "flags", "0"), 16) & 1)
        except ValueError:
            continue  # it went this moment
        master = os.path.join(here, "master")
        master = os.path.basename(os.readlink(master)) if os.path.islink(master) else ""
        if not master and os.path.isdir(os.path.join(here, "brport")):
            master = os.path.basename(os.path.realpath(os.path.join(here, "brport", "bridge")))
        mac = short_mac(_attribute(name, "address"))
        nic = Nic(name, mac, index, mtu, up, os.path.exists(os.path.join(here, "device")), master)
        found.setdefault(mac, []).append(nic)
    return found


def by_mac(found):
    """({MAC: NIC}, {MAC: why none can be told}). Of several with one MAC the one that has hardware behind it."""
    single, unclear = {}, {}
    for mac, several in found.items():
        real = [nic for nic in several if nic.hardware] or several
        if len(real) == 1:
            single[mac] = real[0]
        else:
            unclear[mac] = "several NICs have this MAC: %s" % ", ".join(nic.name for nic in real)
    return single, unclear


def _dump(kind, header, parse):
    """Ask the kernel for all of a kind of thing; `parse` takes (header's fields, attributes) of each."""
    size = struct.calcsize(header)
    for _attempt in range(5):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        try:
            sock.settimeout(10)
            sock.bind((0, 0))
            body = b"\0" * ((size + 3) // 4 * 4)
            sock.send(struct.pack("=IHHII", 16 + len(body), kind, _DUMP, 1, 0) + body)
            rows = _answers(sock, header, parse)
        finally:
            sock.close()
        if rows is not None:
            return rows
    raise OSError(errno.EAGAIN, "the kernel's tables change too fast to be read")


def _answers(sock, header, parse):
    """The rows of a dump, None where a change interrupted it."""
    rows = []
    while True:
        data = sock.recv(1 << 18)
        while len(data) >= 16:
            length, kind, flags = struct.unpack("=IHH", data[:8])
            if flags & _INTERRUPTED:
                return None
            if kind == _DONE:
                return rows
            if kind == _ERROR:
                code = -struct.unpack("=i", data[16:20])[0]
                raise OSError(code, "rtnetlink: %s" % os.strerror(code))
            start = 16 + (struct.calcsize(header) + 3) // 4 * 4
            fields = struct.unpack(header, data[16 : 16 + struct.calcsize(header)])
            row = parse(fields, _attributes(data[start:length]))
            if row is not None:
                rows.append(row)
            data = data[(length + 3) // 4 * 4 :]


def _attributes(data):
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack("=HH", data[:4])
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) // 4 * 4 :]
    return found


def _ip_of(data):
    return ip_text(6 if len(data) == 16 else 4, int(binascii.hexlify(data), 16))


def _address_row(fields, attributes):
    family, prefix, flags, _scope, index = fields
    raw = attributes.get(2) or attributes.get(1)  # IFA_LOCAL, IFA_ADDRESS
    if family not in (socket.AF_INET, socket.AF_INET6) or raw is None:
        return None
    return index, Address("%s/%d" % (_ip_of(raw), prefix), bool(flags & 0x80))


def _route_row(fields, attributes):
    family, length, _src, _tos, table, protocol, _scope, kind, flags = fields
    if flags & 0x200:  # RTM_F_CLONED: old kernels tell of each IPv6 peer in their cache as well
        return None
    if (
        family not in (socket.AF_INET, socket.AF_INET6)
        or (table, kind) != (_MAIN_TABLE, _UNICAST)
        or 4 not in attributes
    ):
        return None
    index = struct.unpack("=i", attributes[4])[0]  # RTA_OIF
    empty = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104
    network = "%s/%d" % (_ip_of(attributes[1]) if 1 in attributes else empty, length)
    gateway = _ip_of(attributes[5]) if 5 in attributes else ""
    metric = struct.unpack("=I", attributes[6])[0] if 6 in attributes else 0
    return index, Route(network, gateway, metric), protocol


def held(index):
    """The addresses and routes of a NIC."""
    addresses = [row[1] for row in _dump(_GETADDR, "=BBBBI", _address_row) if row[0] == index]
    routes = dict(row[1:] for row in _dump(_GETROUTE, "=BBBBBBBBI", _route_row) if row[0] == index)
    return Held(addresses, routes)


def way_out():
    """The index of the NIC by which the best default route goes, 0 where there is none."""
    routes = [
        (row[1].metric, is6(row[1].network), row[0])
        for row in _dump(_GETROUTE, "=BBBBBBBBI", _route_row)
        if row[1].network in (DEFAULT4, DEFAULT6)
    ]
    return min(routes)[2] if routes else 0


def uptime(places=None):
    """Seconds since the kernel started; of the tree that stands for a machine, where one says."""
    text = read_file(places("/proc/uptime")) if places is not None else None
    return float((text or read_file("/proc/uptime") or "0").split()[0])


# -- programs --------------------------------------------------------------------------------------

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def which(program):
    for directory in PATH.split(":"):
        path = os.path.join(directory, program)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def run(argv, timeout=60, text=""):
    """(exit status, what it printed). Never raises: a program that is not there is status 127, a slow one 124."""
    log.info("+ " + " ".join(argv))  # noqa: G003
    env = dict(os.environ, LC_ALL="C", PATH=PATH)
    try:
        # Into a file: a client that the program leaves behind would keep a pipe open for ever.
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, env=env, close_fds=True
            )
            _feed(process, text)
            status = _wait(process, timeout)
            out.seek(0)
            return status, to_text(out.read()).strip()
    except (IOError, OSError) as exc:
        return 127, "%s: %s" % (argv[0], exc.strerror)


def _feed(process, text):
    try:
        process.stdin.write(text.encode("ascii"))
        process.stdin.close()
    except (IOError, OSError):
        pass  # it did not want to hear it


def _wait(process, timeout):
    until = time.time() + timeout
    pause = 0.002
    while process.poll() is None:
        if time.time() > until:
            process.kill()
            process.wait()
            return 124
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return process.returncode


def clients(name):
    """The processes of DHCP clients of a NIC, by its name on their command lines."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        words = (read_file(path) or "").split("\0")
        program = os.path.basename(words[0])
        if program in ("dhclient", "dhcpcd", "udhcpc") and name in words[1:]:
            pid = int(path.split("/")[2])
            if _same_network(pid):
                found.append(pid)
    return found


def _same_network(pid):
    """False for a container's: its NICs are others of the same names."""
    try:
        return os.readlink("/proc/%d/ns/net" % pid) == os.readlink("/proc/self/ns/net")
    except OSError:
        return True  # kernels before 3.0 have no such file


def end_clients(name):
    """End the DHCP clients of a NIC; True where there were any."""
    pids = clients(name)
    for number_, pause in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 1.0)):
        until = time.time() + pause
        for pid in clients(name):
            try:
                os.kill(pid, number_)
            except OSError:
                pass  # it ended by itself
        while clients(name) and time.time() < until:
            time.sleep(0.05)
    return bool(pids)


# -- live: what a NIC has becomes what it should have, by ip(8) ------------------------------------
#
# Only `add` and `del`, each with the device and the metric: `replace` takes another NIC's route away on old kernels,
# and `ip -batch` is not busybox's.

# needed: where it is refused the NIC is taken back to what it had. adds, thing: a cidr, a Route or None, to look for.
Step = collections.namedtuple("Step", "argv needed adds thing")


def _ip(route_or_cidr):
    return ["ip", "-6"] if is6(route_or_cidr) else ["ip"]


def link_step(name, words, needed):
    return Step(["ip", "link", "set", "dev", name] + words, needed, True, None)


def address_step(verb, cidr, name):
    broadcast = broadcast_of(cidr) if verb == "add" else ""
    words = ["addr", verb, cidr, "dev", name] + (["brd", broadcast] if broadcast else [])
    return Step(_ip(cidr) + words, verb == "add", verb == "add", cidr)


def route_words(route):
    target = "default" if route.network in (DEFAULT4, DEFAULT6) else route.network
    return [target] + (["via", route.gateway] if route.gateway else [])


def route_arguments(route, name):
    """What stands behind `ip route add`."""
    return route_words(route) + ["dev", name] + (["metric", "%d" % route.metric] if route.metric else [])


def route_step(verb, route, name, own=()):
    """`own`: the NIC's addresses. The kernel has a route to their subnets already, and takes others after it alone."""
    subnets = [network_of(cidr) for cidr in own if not is6(cidr)]
    beside = verb == "add" and route.gateway and route.network in subnets
    words = ["route", "append" if beside else verb] + route_arguments(route, name)
    return Step(_ip(route.network) + words, False, verb == "add", in_kernel(route))


def in_kernel(route):
    """A route as the kernel shows it: IPv6 has no metric 0."""
    return route._replace(metric=route.metric or (1024 if is6(route.network) else 0))


def answering(route, routes):
    """Those of the kernel's routes (with their protocols) that are a wanted one: of its metric.

    NetworkManager gives a route for which no metric is said one of its own, 100 or a little more.
    """
    exact = in_kernel(route)
    if exact in routes or route.metric:
        return [exact] if exact in routes else []
    same = [r for r in routes if (r.network, r.gateway) == (route.network, route.gateway) and r.metric < FIRST_METRIC]
    return [r for r in same if routes[r] == _STATIC]


def missing(config, nic, now):
    """What a NIC lacks, for people; empty where it is as wanted."""
    lacks = []
    if config.mtu is not None and nic.mtu != config.mtu:
        lacks.append("MTU %d (has %d)" % (config.mtu, nic.mtu))
    if not nic.up:
        lacks.append("is down")
    here = [address.cidr for address in now.addresses]
    lacks += ["address " + cidr for cidr in config.addresses if cidr not in here]
    for route in all_routes(config):
        if not answering(route, now.routes):
            lacks.append("route " + " ".join(route_words(route)))
    return lacks


def surplus(config, now, ours):
    """What a NIC has of what we, or the files that we replace, gave it, and should not have: (addresses, routes).

    And a wanted address with another prefix, whoever gave it: of IPv6 the kernel takes no second one.
    """
    ips = [cidr.partition("/")[0] for cidr in config.addresses]
    spare = [a.cidr for a in now.addresses if a.cidr not in config.addresses]
    addresses = [cidr for cidr in spare if cidr in ours.addresses or cidr.partition("/")[0] in ips]
    wanted = [there for route in all_routes(config) for there in answering(route, now.routes)]
    gone = [
        route
        for route in now.routes
        if _is_ours(route, ours) and route not in wanted and now.routes[route] != _BY_KERNEL
    ]
    return addresses, sorted(gone)


def _is_ours(route, ours):
    """By network and gateway: who gave it may have said no metric."""
    return [one for one in ours.routes if (one.network, one.gateway) == (route.network, route.gateway)] != []


def steps(config, nic, now, ours):
    """The commands that make a NIC what it should be: first what is added, then what goes."""
    found = []
    if config.mtu is not None and nic.mtu != config.mtu:
        found.append(link_step(nic.name, ["mtu", "%d" % config.mtu], False))
    if not nic.up:
        found.append(link_step(nic.name, ["up"], True))
    here = [address.cidr for address in now.addresses]
    addresses, routes = surplus(config, now, ours)
    ips = [cidr.partition("/")[0] for cidr in config.addresses]
    changed = [cidr for cidr in addresses if cidr.partition("/")[0] in ips]  # by their prefix
    found += [address_step("del", cidr, nic.name) for cidr in changed]
    found += [address_step("add", cidr, nic.name) for cidr in config.addresses if cidr not in here]
    # Of two routes to one place with one metric the kernel takes no second one: the old one goes first.
    wanted = [in_kernel(route) for route in all_routes(config) if not answering(route, now.routes)]
    places = [(route.network, route.metric) for route in wanted]
    first = [route for route in routes if (route.network, route.metric) in places]
    found += [route_step("del", route, nic.name) for route in first]
    added = [route for route in all_routes(config) if in_kernel(route) in wanted]
    found += [route_step("add", route, nic.name, config.addresses) for route in added]
    found += [route_step("del", route, nic.name) for route in routes if route not in first]
    return found + [address_step("del", cidr, nic.name) for cidr in addresses if cidr not in changed]


SETTINGS6 = "/proc/sys/net/ipv6/conf/%s/%s"


def settings6(config):
    """The kernel's settings by which a NIC takes what a router advertises, [(file, value)]; only what differs."""
    wanted = [("accept_ra", "1"), ("autoconf", "1")] if config.slaac else []
    # Linux 5.12 and later: one more than our routes have, as of two with one metric the kernel takes no second one.
    wanted += [("ra_defrtr_metric", "%d" % (config.metric + 1))] if config.metric else []
    found = []
    for what, value in wanted:
        path = SETTINGS6 % (config.name, what)
        now = (read_file(path) or value).strip()
        if now != value and (what == "ra_defrtr_metric" or now == "0"):
            found.append((path, value))
    return found


def fit(config, ours, refused):
    """Carry the steps out until none is left; `refused` collects what ip(8) said. False where the NIC is as it was.

    Three rounds at most: an address that goes takes its subnet's other addresses with it, unless promote_secondaries.
    """
    tried = set()
    for _round in range(3):
        nic = _this_moment(config)
        todo = [step for step in steps(config, nic, held(nic.index), ours) if tuple(step.argv) not in tried]
        done = []
        for step in todo:
            status, said = run(step.argv)
            if status == 0:
                done.append(step)
                continue
            tried.add(tuple(step.argv))
            if not _came(config, step):
                refused.append("%s: %s" % (" ".join(step.argv), said))
                if step.needed:
                    _take_back(done, nic.name)
                    return False
        for path, value in settings6(config):
            write_setting(path, value)
        if not todo:
            break
    return True


def _came(config, step):
    """True where what a command was for has come otherwise: a route by a router's word, an address that went first."""
    now = held(_this_moment(config).index)
    there = step.thing in now.routes or step.thing in [address.cidr for address in now.addresses]
    return step.thing is not None and there == step.adds


def _take_back(done, name):
    """What commands gave or took, the other way round, the last one first. An MTU stays."""
    for step in reversed(done):
        if step.thing is not None:
            make = route_step if isinstance(step.thing, Route) else address_step
            run(make("del" if step.adds else "add", step.thing, name).argv)


def _this_moment(config):
    single, unclear = by_mac(nics())
    if config.mac not in single:
        raise Gone(unclear.get(config.mac, "it went meanwhile"))
    return single[config.mac]


class Gone(Exception):
    """The NIC left while it was being configured."""


def write_setting(path, value):
    try:
        with open(path, "w") as file:
            file.write(value)
    except (IOError, OSError) as exc:
        log("%s: %s" % (path, exc.strerror))


# -- files -----------------------------------------------------------------------------------------


def write_whole(path, text, mode=0o644):
    """A file whole or not at all, with the mode and the owner that it had, and through a symbolic link."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.makedirs(directory, 0o755)
    try:
        was = os.stat(path)
    except OSError:
        was = None
    # A leading dot: neither ifupdown, initscripts, NetworkManager nor netplan reads such a file.
    beside = os.path.join(directory, ".%s.%s" % (os.path.basename(path), MARK))
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("latin-1"))
            file.flush()
            os.fchmod(file.fileno(), was.st_mode & 0o7777 if was else mode)
            if was:
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fsync(file.fileno())
        os.rename(beside, path)
    except (IOError, OSError):
        _remove(beside)
        raise
    _sync(directory)
    if os.path.exists("/sys/fs/selinux/enforce") or os.path.exists("/selinux/enforce"):
        run(["restorecon", path])


def _remove(path):
    try:
        os.unlink(path)
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise


def _sync(directory):
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # not every file system does that for a directory
    finally:
        os.close(handle)


def locked(file, seconds, lock=fcntl.flock):
    """Take a file's lock within so many seconds; False where it is not to be had."""
    until = time.time() + seconds
    while True:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (IOError, OSError) as exc:
            if exc.errno not in (errno.EAGAIN, errno.EACCES) or time.time() > until:
                return False
        time.sleep(0.05)


class State(object):
    """What is remembered: /var/lib/osnetd-legacy/state.json.

    links    MAC -> what is wanted: {"link": as link_to_json, "heard": {source: what it said last}}
    applied  MAC -> the link that the files were made of
    names    MAC -> the NIC's name in the files
    metrics  MAC -> its routes' metric
    kept     path -> the name of the one backup, or null where the file is ours alone
    uuid     the server's, by DMI: what is remembered of another one is nobody's
    """

    def __init__(self, places):
        self.path = os.path.join(places.state, "state.json")
        self.backups = os.path.join(places.state, "backup")
        self.places = places
        text = read_file(self.path)
        try:
            said = json.loads(text) if text is not None else {}
            self.links = dict(said.get("links", {}))
            self.applied = dict((str(mac), link_from_json(link)) for mac, link in said.get("applied", {}).items())
        except (ValueError, TypeError, AttributeError) as exc:
            log("%s cannot be read (%s): nothing is remembered" % (self.path, exc))
            said, self.links, self.applied = {}, {}, {}
        self.names = dict((str(mac), str(name)) for mac, name in said.get("names", {}).items())
        self.metrics = dict((str(mac), int(metric)) for mac, metric in said.get("metrics", {}).items())
        self.kept = dict(said.get("kept", {}))
        self.uuid = said.get("uuid", "")
        self._before = self._text() if text is not None else ""

    def _text(self):
        said = {
            "links": self.links,
            "applied": dict((mac, link_to_json(link)) for mac, link in self.applied.items()),
            "names": self.names,
            "metrics": self.metrics,
            "kept": self.kept,
            "uuid": self.uuid,
        }
        return json.dumps(said, indent=1, sort_keys=True) + "\n"

    def save(self):
        text = self._text()
        if text != self._before:
            write_whole(self.path, text, 0o600)
            self._before = text

    def keep(self, path):
        """The one backup of a file, made before it is changed for the first time."""
        if path in self.kept:
            return
        name = path.strip("/").replace("/", "%")
        text = read_file(self.places(path))
        if text is not None:
            write_whole(os.path.join(self.backups, name), text, os.stat(self.places(path)).st_mode & 0o7777)
        self.kept[path] = name if text is not None else None
        self.save()

    def wanted(self, mac):
        return link_from_json(self.links[mac]["link"]) if mac in self.links else None


# -- backends: what the distribution reads at the next boot ----------------------------------------
#
# Each says whether it is here, makes its files out of all that is configured (text in, text out), reads what a file
# that is replaced gave a NIC, and gets a lease for a NIC in its own way.

Ours = collections.namedtuple("Ours", "addresses routes")  # what we, or what we replace, gave a NIC

_COMMENTED = "#%s# " % MARK
_INSTEAD = "#%s: instead" % MARK
_BEGIN, _END = "# %s: begin (what stands in here is made of the server's ports)" % MARK, "# %s: end" % MARK
_HOOKS = ("pre-up", "up", "post-up", "pre-down", "down", "post-down")
_STARTS = ("iface", "auto", "mapping", "source", "source-directory", "no-auto-down", "no-scripts", "rename", "template")


def _lines(text):
    """Lines with their continuations, which end in a backslash, joined to them."""
    joined = []
    for line in text.splitlines(True):
        if joined and re.search(r"\\\n\Z", joined[-1]) and not joined[-1].lstrip().startswith("#"):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def _words(line):
    return line.replace("\\\n", " ").split()


def eni_stanzas(text):
    """interfaces(5) in stanzas: [(its first words, its lines)]; what comes before the first has no words."""
    found = [([], [])]
    for line in _lines(text):
        words = _words(line)
        if words and (words[0] in _STARTS or words[0].startswith("allow-")):
            found.append((words, []))
        found[-1][1].append(line)
    return found


def eni_plain(text):
    """A file without what we made of it."""
    text = re.sub(r"(?ms)^%s$.*?^%s$\n?" % (re.escape(_BEGIN), re.escape(_END)), "", text)
    text = re.sub(r"(?m)^%s\n.*\n" % re.escape(_INSTEAD), "", text)
    return re.sub(r"(?m)^%s" % re.escape(_COMMENTED), "", text)


def eni_without(text, names):
    """A file in which the stanzas of NICs are comments, and can be taken back."""
    made = []
    for words, lines in eni_stanzas(text):
        of = (
            words[1:2]
            if words[:1] == ["iface"]
            else words[1:]
            if words and (words[0] == "auto" or words[0].startswith("allow-"))
            else []
        )
        if not set(of) & set(names):
            made += lines
            continue
        for line in lines:
            plain = not line.strip() or line.lstrip().startswith("#")
            made += [line] if plain else [_COMMENTED + part for part in line.splitlines(True)]
        left = [name for name in of if name not in names]
        if made and not made[-1].endswith("\n"):
            made[-1] += "\n"
        if left:
            made += [_INSTEAD + "\n", " ".join(words[:1] + left) + "\n"]
    return "".join(made)


def eni_said(text, name):
    """(what the stanzas of a NIC give it, the commands of theirs that are no addresses or routes)."""
    addresses, routes, hooks = set(), set(), []
    for words, lines in eni_stanzas(text):
        if words[:2] != ["iface", name]:
            continue
        options = {}
        for said in [_words(line) for line in lines[1:]]:
            if said and not said[0].startswith("#"):
                options.setdefault(said[0], []).append(said[1:])
        _eni_address(options, addresses, routes)
        for hook in _HOOKS:
            for command in options.get(hook, []):
                route = _route_command(command)
                if route is not None:
                    routes.update([route] if route else [])
                elif _sets_nic(command):
                    _note_command(addresses, command)
                else:
                    hooks.append("%s %s" % (hook, " ".join(command)))
    return Ours(addresses, routes), hooks


def _eni_address(options, addresses, routes):
    value = dict((key, said[0][0]) for key, said in options.items() if said[0])
    try:
        if "address" in value:
            ip, _slash, mask = value["address"].partition("/")
            ip = ip_address(ip, "")
            addresses.add("%s/%d" % (ip, prefix_length(ip, mask or value.get("netmask"), "")))
        if "gateway" in value:
            gateway = ip_address(value["gateway"], "")
            routes.add(Route(DEFAULT6 if is6(gateway) else DEFAULT4, gateway, 0))
    except DataError:
        pass  # somebody else's words, which the kernel will not have understood either


def _sets_nic(command):
    """True for a command of cloud-init's, or of ours, that sets an address, an MTU or the link's state."""
    words = [os.path.basename(word) for word in command if word not in ("-4", "-6")]
    return words[:1] == ["ifconfig"] or words[:2] in (["ip", "link"], ["ip", "addr"], ["ip", "address"])


def _note_command(addresses, command):
    """The address of `ip addr add`."""
    words = [os.path.basename(command[0])] + [word for word in command[1:] if word not in ("-4", "-6")]
    if words[0] == "ip" and words[1][:4] == "addr" and words[2:3] in (["add"], ["replace"]) and len(words) > 3:
        _note_address(addresses, words[3] if "/" in words[3] else words[3] + ("/128" if is6(words[3]) else "/32"))


def _route_command(command):
    """The Route of `ip route add`, `route add`; "" for another of their commands; None for any other program."""
    words = [
        word
        for word in command
        if word not in ("||", "true", "-net", "-host", "-A", "inet6", "inet", "-6", "-4", "-family")
    ]
    if not words or os.path.basename(words[0]) not in ("ip", "route"):
        return None
    words = words[1:] if os.path.basename(words[0]) == "route" else words[2:] if words[1:2] == ["route"] else None
    if words is None:
        return None
    if len(words) < 2 or words[0] not in ("add", "replace", "append"):
        return ""
    pairs = dict(zip(words[2::2], words[3::2])) if words[1] != "default" or "gw" in words or "via" in words else {}
    gateway = pairs.get("via", pairs.get("gw", ""))
    try:
        gateway = ip_address(gateway, "") if gateway else ""
        if words[1] == "default":
            return Route(DEFAULT6 if is6(gateway) else DEFAULT4, gateway, 0)
        base, _slash, mask = words[1].partition("/")
        base = ip_address(base, "")
        length = prefix_length(base, mask or pairs.get("netmask") or (128 if is6(base) else 32), "")
        return Route(network_of("%s/%d" % (base, length)), gateway, 0)
    except DataError:
        return ""


def eni_section(configs, hooks, hotplug):
    """The stanzas of all NICs; `hooks`: other people's commands by MAC. A NIC's order is that of its name.

    What a kernel may refuse (an MTU, a route, IPv6 where it is switched off) is said by a command that may fail: the
    first command that fails ends `ifup`, and the NIC would have no network at the next boot.
    """
    return "".join("\n".join(_eni_nic(config, hooks.get(config.mac, []), hotplug)) + "\n" for config in configs)


def _eni_nic(config, hooks, hotplug):
    name = config.name
    # A boot must not wait for a second NIC's lease: udev has that one brought up.
    start = "allow-hotplug" if hotplug and wants_client(config) and config.metric else "auto"
    before = [] if config.mtu is None else ["pre-up ip link set dev %s mtu %d || true" % (name, config.mtu)]
    four = [cidr for cidr in config.addresses if not is6(cidr)]
    six = [cidr for cidr in config.addresses if is6(cidr)]
    has6 = bool(six or config.dhcp6 or config.slaac)
    stanzas = []
    if four or config.dhcp4 or not has6:
        stanzas.append((False, _eni_four(config, four, before)))
    if has6:
        stanzas.append((True, _eni_six(config, six, [] if stanzas else before)))
    for route in all_routes(config):
        of_family = [stanza for family6, stanza in stanzas if family6 == is6(route.network)]
        (of_family or [stanzas[0][1]])[0].extend(_eni_route(route, name, config.addresses))
    serving = stanzas[0][1]
    if config.metric:
        path = SETTINGS6 % (name, "ra_defrtr_metric")
        serving.insert(1, "pre-up test ! -w %s || echo %d >%s || true" % (path, config.metric + 1, path))
    serving += ["dns-nameservers " + " ".join(config.dns)] if config.dns else []
    serving += ["dns-search " + " ".join(config.search)] if config.search else []
    serving += hooks
    made = ["# MAC %s" % config.mac, "%s %s" % (start, name)]
    for _family6, stanza in stanzas:
        made += [stanza[0]] + ["    " + option for option in stanza[1:]] + [""]
    return made


def _eni_four(config, cidrs, before):
    name = config.name
    if config.dhcp4:
        metric = ["metric %d" % config.metric] if config.metric else []
        stanza = ["iface %s inet dhcp" % name] + metric
    elif cidrs:
        stanza = [
            "iface %s inet static" % name,
            "address " + cidrs[0].partition("/")[0],
            "netmask " + netmask_text(cidrs[0]),
        ]
        cidrs = cidrs[1:]
    else:
        stanza = ["iface %s inet manual" % name, "pre-up ip link set dev %s up || true" % name]
    return stanza + before + _eni_more(cidrs, name)


def _eni_six(config, cidrs, before):
    name = config.name
    method = "dhcp" if config.dhcp6 == "stateful" else "auto" if config.slaac or config.dhcp6 else "manual"
    stanza = ["iface %s inet6 %s" % (name, method)] + before
    stanza += ["dhcp 1"] if config.dhcp6 == "stateless" else []
    stanza += ["pre-up ip link set dev %s up || true" % name] if method == "manual" else []
    return stanza + _eni_more(cidrs, name)


def _eni_more(cidrs, name):
    return ["up %s || true" % " ".join(address_step("add", cidr, name).argv) for cidr in cidrs]


def _eni_route(route, name, own):
    add, remove = (" ".join(route_step(verb, route, name, own).argv) for verb in ("add", "del"))
    return ["post-up %s || true" % add, "pre-down %s || true" % remove]


class Ifupdown(object):
    """interfaces(5): one section of ours, marked, in the file that cloud-init wrote or in /etc/network/interfaces."""

    MAIN = "/etc/network/interfaces"
    OWN = ("/etc/network/interfaces.d/50-cloud-init.cfg", "/etc/network/interfaces.d/50-cloud-init")
    STATE, HELPERS = "/run/network/ifstate", "/run/network/interfaces.d/%s"

    def __init__(self, places):
        self.places = places

    def is_here(self):
        return os.path.exists(self.places(self.MAIN))

    def sources(self):
        """The files that ifup reads, the first one first, without those in /run."""
        found, waiting = [], [self.MAIN]
        while waiting:
            path = waiting.pop(0)
            text = read_file(self.places(path))
            if path in found or text is None:
                continue
            found.append(path)
            for words, _ in eni_stanzas(text):
                if words[:1] in (["source"], ["source-directory"]) and len(words) > 1:
                    waiting += self._sourced(words)
        return found

    def _sourced(self, words):
        pattern = words[1] if words[1].startswith("/") else os.path.join("/etc/network", words[1])
        if words[0] == "source-directory":
            pattern = os.path.join(pattern, "*")
        root = self.places("/").rstrip("/")
        paths = sorted(path[len(root) :] for path in glob.glob(self.places(pattern)))
        if words[0] == "source-directory":  # interfaces(5): other names are not read
            paths = [path for path in paths if re.match(r"^[A-Za-z0-9_-]+$", os.path.basename(path))]
        return [path for path in paths if not path.startswith("/run/") and os.path.isfile(self.places(path))]

    def home(self):
        """The file for our section: cloud-init's where there is one that is read (Ubuntu 16.04, Debian 9)."""
        return ([path for path in self.sources() if path in self.OWN] + [self.MAIN])[0]

    @staticmethod
    def without(text, _names, _path):
        return eni_plain(text)

    def _traps(self, text, present):
        """NICs that are not here, and that an image has udev give a DHCP client when they come: two minutes each."""
        hot = [name for words, _ in eni_stanzas(text) if words and words[0] == "allow-hotplug" for name in words[1:]]
        leased = [
            words[1] for words, _ in eni_stanzas(text) if words[:1] == ["iface"] and words[2:4] == ["inet", "dhcp"]
        ]
        return [name for name in hot if name in leased and name not in present]

    def files(self, configs, present):
        """{path: text} of all files that matter; `present`: the names of all NICs that the kernel has."""
        made, home = {}, self.home()
        plain = dict((path, eni_plain(read_file(self.places(path)) or "")) for path in self.sources())
        names = [config.name for config in configs]
        for path, text in plain.items():
            taken = names + self._traps("".join(plain.values()), present) if configs else []
            made[path] = eni_without(text, taken)
        hooks = {}
        for config in configs:
            for path in sorted(plain):
                hooks.setdefault(config.mac, []).extend(eni_said(plain[path], config.name)[1])
        if configs:
            text = made[home]
            gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
            made[home] = "%s%s%s\n%s%s\n" % (text, gap, _BEGIN, eni_section(configs, hooks, self._has_hotplug()), _END)
        return made

    def _has_hotplug(self):
        paths = [
            "/lib/udev/rules.d/80-ifupdown.rules",
            "/lib/udev/ifupdown-hotplug",
            "/lib/systemd/system/ifup@.service",
        ]
        return [path for path in paths if os.path.exists(self.places(path))] != []

    def said(self, name, mac):
        """What the files that we replace give a NIC."""
        addresses, routes = set(), set()
        for path in self.sources():
            text = read_file(self.places(path)) or ""
            for words in (text, eni_plain(text)):
                ours, _hooks = eni_said(words, name)
                addresses |= ours.addresses
                routes |= ours.routes
        return Ours(addresses, routes)

    def settle(self, configs, _changed):
        """ifup's own list of what is up: a NIC of ours that is missing there would be configured twice by it.

        And what the helper of Debian's cloud images (75-cloud-ifupdown.rules) has written for a NIC that came goes.
        """
        for config in configs:
            _remove(self.places(self.HELPERS % config.name))
        if os.path.exists(self.places(self.STATE)):
            for config in configs:
                _edit_ifstate(self.places(self.STATE), config.name, True)

    def departed(self, name):
        if os.path.exists(self.places(self.STATE)):
            _edit_ifstate(self.places(self.STATE), name, False)
        if self.places.is_real and which("resolvconf"):
            for family in ("inet", "inet6"):
                run(["resolvconf", "-d", "%s.%s" % (name, family)])

    def lease(self, config):
        """Have ifup bring a NIC up that needs a client; what it says where it fails."""
        end_clients(config.name)
        run(["ifdown", "--force", config.name], timeout=30)
        status, said = run(["ifup", "--force", config.name], timeout=100)
        return "ifup %s: %s" % (config.name, said[-300:]) if status else ""

    def dns(self, configs):
        """Name servers live, where resolvconf(8) keeps them; else they go to /etc/resolv.conf."""
        program = which("resolvconf") if self.places.is_real else None
        if not program:
            return False
        for config in configs:
            text = "".join(["nameserver %s\n" % server for server in config.dns])
            text += "search %s\n" % " ".join(config.search) if config.search else ""
            family = "inet" if [c for c in config.addresses if not is6(c)] or config.dhcp4 else "inet6"
            noted = "/run/resolvconf/interface/%s.%s" % (config.name, family)
            if not wants_client(config) and (read_file(noted) or "").strip() != text.strip():
                run([program, "-a", "%s.%s" % (config.name, family)], text=text)
        return True


def _edit_ifstate(path, name, is_up):
    """Lines `NAME=NAME`, under the lock that ifup takes; from ifupdown 0.8 on each NIC has a file beside it, too."""
    with open(path, "r+b") as file:
        if not locked(file, 10, fcntl.lockf):
            log("%s is locked by another program: %s is not noted in it" % (path, name))
            return
        text = to_text(file.read())
        kept = [line for line in text.splitlines() if line.split("=", 1)[0] != name]
        kept += ["%s=%s" % (name, name)] if is_up else []
        made = "".join(line + "\n" for line in kept)
        if sorted(made.split()) != sorted(text.split()):
            file.seek(0)
            file.truncate()
            file.write(made.encode("latin-1"))
    own = "%s.%s" % (path, name)
    if not is_up:
        _remove(own)
    elif glob.glob(path + ".*") and not (read_file(own) or "").strip():
        with open(own, "w") as file:
            file.write(name + "\n")


class Sysconfig(object):
    """ifcfg-NAME, route-NAME and route6-NAME (Enterprise Linux 6 to 8), one set a NIC, known by HWADDR.

    What the initscripts of 6 read, NetworkManager's plugin reads as well: routes as arguments of `ip route add`. A
    gateway stands there too, unless it is the primary's and in its subnet: initscripts give no other one a way.
    """

    DIRECTORY = "/etc/sysconfig/network-scripts"
    OURS = (
        "DEVICE HWADDR TYPE ONBOOT BOOTPROTO MTU NETMASK PREFIX GATEWAY DEFROUTE METRIC IPV4_ROUTE_METRIC IPV6INIT "
        "IPV6ADDR IPV6ADDR_SECONDARIES IPV6_AUTOCONF IPV6_DEFAULTGW IPV6_DEFROUTE IPV6_ROUTE_METRIC DHCPV6C "
        "DHCPV6C_OPTIONS IPV6_MTU PEERDNS DOMAIN NETWORK BROADCAST STARTMODE DHCLIENT_SET_DEFAULT_ROUTE"
    ).split()

    def __init__(self, places):
        self.places = places

    def is_here(self):
        return os.path.isdir(self.places(self.DIRECTORY))

    def path(self, kind, name):
        return "%s/%s-%s" % (self.DIRECTORY, kind, name)

    def read(self, kind, name):
        return read_file(self.places(self.path(kind, name)))

    def files(self, configs, _present):
        made = {}
        for config in configs:
            before = self._before(config)
            made[self.path("ifcfg", config.name)] = ifcfg_text(config, ifcfg_kept(before))
            for kind, six in (("route", False), ("route6", True)):
                routes = [r for r in all_routes(config) if is6(r.network) == six and r not in _plain_gateways(config)]
                text = "".join(" ".join(route_arguments(route, config.name)) + "\n" for route in routes)
                if text or self.read(kind, config.name) is not None:
                    made[self.path(kind, config.name)] = "# Written by %s\n" % MARK + text
        for name in self._strays(configs):
            for kind in ("ifcfg", "route", "route6"):
                if self.read(kind, name) is not None:
                    made[self.path(kind, name)] = None
        return made

    @staticmethod
    def without(text, _names, _path):
        return text

    def _before(self, config):
        """The ifcfg file of this NIC as it is: of its MAC, whatever the name, or else of its name."""
        names = [os.path.basename(path)[6:] for path in sorted(glob.glob(self.places(self.DIRECTORY + "/ifcfg-*")))]
        own = [name for name in names if ifcfg_value(self.read("ifcfg", name) or "", "HWADDR").lower() == config.mac]
        text = self.read("ifcfg", (own or [config.name])[0]) or ""
        other = ifcfg_value(text, "HWADDR").lower()
        return "" if other and other != config.mac else text

    def _strays(self, configs):
        """Names under which we, or cloud-init, wrote a NIC that has another name now, or is not here any more."""
        macs, names = set(config.mac for config in configs), set(config.name for config in configs)
        found = []
        for path in sorted(glob.glob(self.places(self.DIRECTORY + "/ifcfg-*"))):
            name, text = os.path.basename(path)[6:], read_file(path) or ""
            mac = ifcfg_value(text, "HWADDR").lower()
            if (
                name not in names
                and mac
                and re.match(r"^[A-Za-z0-9_.]+$", name)
                and (mac in macs or text.startswith("# Written by " + MARK))
            ):
                found.append(name)
        return found

    def said(self, name, _mac):
        text = self.read("ifcfg", name) or ""
        addresses, routes = set(), set()
        for number_ in [""] + ["%d" % n for n in range(256)]:
            ip = ifcfg_value(text, "IPADDR" + number_)
            mask = ifcfg_value(text, "PREFIX" + number_) or ifcfg_value(text, "NETMASK" + number_)
            _note_address(addresses, ip + ("/" + mask if mask else ""))
        for cidr in [ifcfg_value(text, "IPV6ADDR")] + ifcfg_value(text, "IPV6ADDR_SECONDARIES").split():
            _note_address(addresses, cidr)
        for key, network in (("GATEWAY", DEFAULT4), ("IPV6_DEFAULTGW", DEFAULT6)):
            found = parse_ip(ifcfg_value(text, key).partition("%")[0])
            routes.update([Route(network, ip_text(*found), 0)] if found else [])
        for kind in ("route", "route6"):
            for line in (self.read(kind, name) or "").splitlines():
                command = ["ip", "route", "add"] + line.split() if line.split() and not line.startswith("#") else []
                routes.update([route for route in [_route_command(command)] if route])
        return Ours(addresses, routes)

    def settle(self, _configs, changed):
        """NetworkManager has to know, where it manages a NIC: it would go on asking for a lease, and then flush it."""
        for config in changed if self._network_manager() else []:
            file = self.path("ifcfg", config.name)
            run(["nmcli", "connection", "load", file])
            if self._manages(config.name):
                used = run(["nmcli", "-t", "-f", "DEVICE,FILENAME", "connection"])[1].splitlines()
                words = ["device", "reapply", config.name] if "%s:%s" % (config.name, file) in used else []
                run(["nmcli", "--wait", "30"] + (words or ["connection", "up", "filename", file]), timeout=40)

    def _network_manager(self):
        return self.places.is_real and os.path.isdir("/run/NetworkManager") and which("nmcli") is not None

    @staticmethod
    def _manages(name):
        lines = run(["nmcli", "-t", "-f", "DEVICE,STATE", "device"])[1].splitlines()
        return [line for line in lines if line.startswith(name + ":") and not line.endswith(":unmanaged")] != []

    def departed(self, name):
        pass  # files() takes its files away

    def lease(self, config):
        if self._network_manager() and self._manages(config.name):
            return _wait_for_lease(config, "NetworkManager")  # which settle() has told
        end_clients(config.name)
        run(["ifdown", config.name], timeout=30)
        status, said = run(["ifup", config.name], timeout=100)
        return "ifup %s: %s" % (config.name, said[-300:]) if status else ""

    def dns(self, _configs):
        return False


def _note_address(addresses, text):
    ip, _slash, mask = text.partition("/")
    try:
        if ip:
            ip = ip_address(ip, "")
            addresses.add("%s/%d" % (ip, prefix_length(ip, mask, "")))
    except DataError:
        pass  # somebody else's words


def ifcfg_value(text, key):
    """The last value that a shell would give a variable of an ifcfg file; quotes taken off."""
    found = re.findall(r"(?m)^[ \t]*%s=(.*?)[ \t]*$" % key, text)
    value = found[-1] if found else ""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def ifcfg_kept(text):
    """The lines of an ifcfg file that are other people's (ZONE, ETHTOOL_OPTS, NM_CONTROLLED, UUID)."""
    kept = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        if (
            "=" in line
            and not line.startswith("#")
            and key not in Sysconfig.OURS
            and not re.match(r"(IPADDR|PREFIX|NETMASK|DNS)\d*$", key)
        ):
            kept.append(line)
    return kept


def _plain_gateways(config):
    """The default routes that initscripts set by GATEWAY: the primary's, through a neighbour in its subnet."""
    found = [
        r
        for r in config.routes
        if r.network in (DEFAULT4, DEFAULT6) and r.gateway and not r.metric and r.gateway not in config.onlink
    ]
    return [
        r
        for r in found
        if r in ([f for f in found if not is6(f.network)][:1] + [f for f in found if is6(f.network)][:1])
    ]


def ifcfg_text(config, kept):
    four = [cidr for cidr in config.addresses if not is6(cidr)]
    six = [cidr for cidr in config.addresses if is6(cidr)]
    said = [("DEVICE", config.name), ("HWADDR", config.mac), ("TYPE", "Ethernet"), ("ONBOOT", "yes")]
    said += [("BOOTPROTO", "dhcp" if config.dhcp4 else "none")]
    said += [("MTU", "%d" % config.mtu)] if config.mtu is not None else []
    # Beside a lease initscripts set IPADDR1 and on; the first of static ones has no number.
    for number_, cidr in enumerate(four, 1 if config.dhcp4 else 0):
        ip, _slash, length = cidr.partition("/")
        suffix = "%d" % number_ if number_ else ""
        said += [("IPADDR" + suffix, ip), ("PREFIX" + suffix, length)]
    gateways = _plain_gateways(config)
    said += [("GATEWAY", r.gateway) for r in gateways if not is6(r.network)]
    if config.dhcp4 and config.metric:
        said += [("METRIC", "%d" % config.metric), ("IPV4_ROUTE_METRIC", "%d" % config.metric)]
    advertised = config.slaac or bool(config.dhcp6)
    if six or advertised:
        said += [("IPV6INIT", "yes"), ("IPV6_AUTOCONF", "yes" if advertised else "no")]
        said += [("IPV6ADDR", six[0])] if six else []
        said += [("IPV6ADDR_SECONDARIES", '"%s"' % " ".join(six[1:]))] if six[1:] else []
        said += [("DHCPV6C", "yes")] if config.dhcp6 else []
        said += [("DHCPV6C_OPTIONS", "-S")] if config.dhcp6 == "stateless" else []
        said += [
            ("IPV6_DEFAULTGW", r.gateway + ("%" + config.name if is_link_local(r.gateway) else ""))
            for r in gateways
            if is6(r.network)
        ]
    said += [("DNS%d" % (n + 1), server) for n, server in enumerate(config.dns)]
    said += [("DOMAIN", '"%s"' % " ".join(config.search))] if config.search else []
    return (
        "# Written by %s\n" % MARK + "".join("%s=%s\n" % pair for pair in said) + "".join(line + "\n" for line in kept)
    )


class Netplan(object):
    """Netplan (Ubuntu 18.04): the NIC's own block of the file that cloud-init wrote; other blocks stay as they are.

    There is no YAML in the standard library, so blocks are cut by their indentation, as cloud-init and people write
    them. A file that is written otherwise (all in braces) is left alone and named.
    """

    DIRECTORY, OWN = "/etc/netplan", "/etc/netplan/50-cloud-init.yaml"
    GENERATED = "/run/systemd/network/10-netplan-%s.network"

    def __init__(self, places):
        self.places = places

    def is_here(self):
        return os.path.isdir(self.places(self.DIRECTORY)) and (which("netplan") is not None or not self.places.is_real)

    def sources(self):
        root = self.places("/").rstrip("/")
        return sorted(path[len(root) :] for path in glob.glob(self.places(self.DIRECTORY + "/*.yaml")))

    def files(self, configs, _present):
        made = dict((path, read_file(self.places(path)) or "") for path in self.sources())
        names = [config.name for config in configs]
        made = dict((path, netplan_without(text, names, path)) for path, text in made.items())
        if configs:
            made[self.OWN] = netplan_with(made.get(self.OWN) or "network:\n    version: 2\n", configs, self.OWN)
        return made

    @staticmethod
    def without(text, names, path):
        return netplan_without(text, names, path)

    def said(self, name, _mac):
        """By what netplan generated of it, which is plain to read."""
        text = read_file(self.places(self.GENERATED % name)) or ""
        addresses, routes, route = set(), set(), {}
        for line in text.splitlines() + ["["]:
            key, _equals, value = line.strip().partition("=")
            if line.startswith("["):
                routes.update(_generated_route(route))
                route = {}
            elif key == "Address":
                _note_address(addresses, value)
            elif key in ("Gateway", "Destination"):
                route[key] = value
        return Ours(addresses, routes)

    def settle(self, _configs, changed):
        """networkd has to know: it would set a NIC's old addresses again when its carrier comes back."""
        if not changed or not self.places.is_real:
            return
        run(["netplan", "generate"])
        # From systemd 244 on, and only what changed is touched.
        if run(["networkctl", "reload"])[0] != 0 and [c for c in changed if wants_client(c) or c.dns]:
            run(["systemctl", "restart", "systemd-networkd.service"])

    def departed(self, name):
        pass  # files() takes its block away

    def lease(self, config):
        return _wait_for_lease(config, "networkd")  # which settle() has told

    def dns(self, _configs):
        return True  # networkd's and resolved's


def _wait_for_lease(config, who):
    """Another program's lease; what to say where it does not come."""
    until = time.time() + 20
    while time.time() < until:
        nic = by_mac(nics())[0].get(config.mac)
        if nic is not None and [a for a in held(nic.index).addresses if not a.permanent]:
            return ""
        time.sleep(0.2)
    return "%s got no lease in 20 s" % who


def _generated_route(said):
    found = parse_ip(said.get("Gateway"))
    if not found:
        return []
    gateway = ip_text(*found)
    target = said.get("Destination", "")
    if target in ("", "0.0.0.0/0", "::/0"):
        return [Route(DEFAULT6 if is6(gateway) else DEFAULT4, gateway, 0)]
    try:
        return [
            Route(network_of(target if "/" in target else "%s/%d" % (target, 128 if is6(target) else 32)), gateway, 0)
        ]
    except (TypeError, ValueError):
        return []


class NotReadable(Exception):
    """A file that somebody wrote in a way that this program does not read; it stays as it is."""


def _indent(line):
    return len(line) - len(line.lstrip(" "))


def _netplan_blocks(text, path):
    """(lines, index of `ethernets:` or None, [(name, first line, line after the last)])."""
    lines = text.splitlines(True)
    plain = [(n, line) for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    if [line for _n, line in plain if "\t" in line[: _indent(line) + 1]] or (
        plain and not re.match(r"^network:\s*(#.*)?$", plain[0][1])
    ):
        raise NotReadable("%s is not written as cloud-init writes it" % path)
    place = [n for n, line in plain if re.match(r"^ +ethernets:", line)]
    if not place:
        return lines, None, []
    if not re.match(r"^ +ethernets:\s*(\{\}\s*)?(#.*)?$", lines[place[0]]):
        raise NotReadable("%s has its NICs in braces" % path)
    outer, blocks, inner = _indent(lines[place[0]]), [], None
    for n, line in plain:
        if n <= place[0]:
            continue
        if _indent(line) <= outer:
            break
        inner = _indent(line) if inner is None else inner
        if _indent(line) == inner:
            blocks.append([line.strip().partition(":")[0].strip("\"'"), n, n + 1])
        else:
            blocks[-1][2] = n + 1
    return lines, place[0], blocks


def netplan_without(text, names, path):
    """A file without the blocks of NICs, and without those that we wrote."""
    if not text.strip():
        return text
    lines, place, blocks = _netplan_blocks(text, path)
    mark = "# " + MARK
    gone = [block for block in blocks if block[0] in names or mark in lines[block[1]]]
    for block in reversed(gone):
        del lines[block[1] : block[2]]
    if place is not None and gone and len(gone) == len(blocks):
        lines[place] = "%sethernets: {}\n" % (" " * _indent(lines[place]))
    return "".join(lines)


def netplan_with(text, configs, path):
    """A file with a block for each NIC, before what else stands below `ethernets:`."""
    lines, place, blocks = _netplan_blocks(text, path)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if place is None:
        below = [line for line in lines if line.startswith(" ") and line.strip() and not line.lstrip().startswith("#")]
        lines.append("%sethernets:\n" % (" " * (_indent(below[0]) if below else 4)))
        place = len(lines) - 1
    outer = _indent(lines[place])
    lines[place] = "%sethernets:\n" % (" " * outer)
    inner = _indent(lines[blocks[0][1]]) if blocks else outer + 4
    made = []
    for config in configs:
        made.append("%s%s:  # %s\n" % (" " * inner, json.dumps(config.name), MARK))
        made += [" " * (inner + 4) + line + "\n" for line in _yaml(netplan_nic(config))]
    return "".join(lines[: place + 1] + made + lines[place + 1 :])


def netplan_nic(config):
    nic = {"match": {"macaddress": config.mac}, "dhcp4": config.dhcp4, "dhcp6": bool(config.dhcp6)}
    if config.addresses:
        nic["addresses"] = list(config.addresses)
    if config.mtu is not None:
        nic["mtu"] = config.mtu
    if config.slaac or config.dhcp6:
        nic["accept-ra"] = True
    if config.dhcp4 and config.metric:
        nic["dhcp4-overrides"] = {"route-metric": config.metric}
    routes = []
    for route in config.routes:
        said = {"to": route.network}
        said.update({"via": route.gateway} if route.gateway else {"scope": "link"})
        said.update({"on-link": True} if route.gateway in config.onlink else {})
        said.update({"metric": route.metric} if route.metric else {})
        routes.append(said)
    if routes:
        nic["routes"] = routes
    servers = dict((key, list(said)) for key, said in (("addresses", config.dns), ("search", config.search)) if said)
    if servers:
        nic["nameservers"] = servers
    return nic


def _yaml(said):
    """Block style for the dict, one line of JSON, which is YAML, for each of its lists' items and leaves."""
    lines = []
    for key in sorted(said):
        value = said[key]
        if isinstance(value, list):
            lines.append(key + ":")
            lines += ["- " + json.dumps(item, sort_keys=True) for item in value]
        else:
            lines.append("%s: %s" % (key, json.dumps(value, sort_keys=True)))
    return lines


def backend_of(places):
    """What configures the network at a boot, or None."""
    for kind in (Netplan, Sysconfig, Ifupdown):
        backend = kind(places)
        if backend.is_here():
            return backend
    return None


# -- /etc/resolv.conf, where nobody else keeps it --------------------------------------------------


def resolv_text(text, servers, search):
    """The file with our servers first; other lines stay, but a search list, of which only the last one counts."""
    text = eni_plain(text)
    if not servers and not search:
        return text
    if search:
        text = re.sub(r"(?m)^(search|domain)\b", _COMMENTED + r"\1", text)
    said = [["nameserver", server] for server in servers]
    kept = [(_COMMENTED if line.split()[:2] in said else "") + line for line in text.splitlines(True)]
    block = ["nameserver " + server for server in servers] + (["search " + " ".join(search)] if search else [])
    return "\n".join([_BEGIN] + block + [_END, ""]) + "".join(kept)


# -- one look: from what is wanted to what is there ------------------------------------------------


class Look(object):
    """What is wanted of the NICs that are here, live and on disk. `lines` and `failed` tell what came of it."""

    def __init__(self, places, backend, state, dry_run=False, live=True):
        self.places, self.backend, self.state = places, backend, state
        self.dry_run, self.live = dry_run, live
        self.lines, self.failed = [], False
        self.present, self.unclear = by_mac(nics())
        self.changed = []  # configs of NICs that were touched

    def tell(self, config_or_mac, text, failed=False):
        name, mac = (
            (config_or_mac.name, config_or_mac.mac) if isinstance(config_or_mac, Config) else ("-", config_or_mac)
        )
        self.lines.append("%-15s %s  %s" % (name, mac, text))
        self.failed = self.failed or failed

    def go(self, macs):
        """Configure those of `macs` that are here; the files are made of all that is configured."""
        wanted = dict((mac, self.state.wanted(mac)) for mac in macs)
        configs = self._configs(wanted)
        clients_of = []
        for config in configs:
            link = wanted[config.mac]
            if wants_client(config):
                clients_of += [(config, self._ours(config))] if self._lacks_lease(config, link) else []
                self._settled(config, link)
            elif not self.live or self._fit(config):
                self._settled(config, link)
        self._departed()
        wrote = self._write()
        if self.live and not self.dry_run:
            touched = self.changed + [config for config, _ours in clients_of]
            note_metrics(self.places, self.all_configs())
            self.backend.settle(self.all_configs(), touched if wrote else [])
            for config, ours in clients_of if self.places.is_real else []:
                self._lease(config, ours)
            self._resolv()
        if not self.dry_run:
            self.state.save()
        return wrote

    def _configs(self, wanted):
        here, links = [], {}
        for mac in sorted(wanted):
            nic = self.present.get(mac)
            if nic is None:
                failed = mac in self.unclear
                self.tell(mac, "failed: " + self.unclear[mac] if failed else "absent: no NIC has this MAC", failed)
            elif nic.master:
                self.tell(mac, "left alone: %s belongs to %s" % (nic.name, nic.master))
            elif re.match(r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*\Z", nic.name) is None:
                self.tell(mac, "failed: %s is a name that files of the network cannot hold" % shown(nic.name), True)
            else:
                links[mac] = wanted[mac]
                here.append(mac)
        first = way_out()
        primary = [mac for mac, nic in self.present.items() if nic.index == first and first]
        self.state.metrics = give_metrics(self.state.metrics, links, (primary or [""])[0])
        return [config_of(links[mac], self.present[mac].name, self.state.metrics[mac]) for mac in here]

    def _ours(self, config):
        said = self.backend.said(config.name, config.mac)
        addresses, routes = set(said.addresses), set(said.routes)
        applied = self.state.applied.get(config.mac)
        if applied is not None:
            before = config_of(applied, config.name, 0)
            addresses.update(before.addresses)
            routes.update(all_routes(before))
        return Ours(addresses, routes)

    def _fit(self, config):
        """Live: True where the NIC is as wanted, or would be but for what the kernel refused."""
        try:
            nic = _this_moment(config)
            ours = self._ours(config)
            if clients(config.name):
                ours = _with_lease(ours, config.name)
                if not self.dry_run:
                    end_clients(config.name)
            before = held(nic.index)
            differs = missing(config, nic, before) + ["not " + what for what in _texts(surplus(config, before, ours))]
            if self.dry_run:
                for step in steps(config, nic, before, ours):
                    self.lines.append("would run: " + " ".join(step.argv))
                self.tell(config, "would be configured: " + ", ".join(differs) if differs else "ok")
                return True
            if not differs:
                self.tell(config, "ok")
                return True
            self.changed.append(config)
            return self._carry_out(config, ours, differs)
        except Gone as exc:
            self.tell(config.mac, "absent: %s" % exc)
            return False

    def _carry_out(self, config, ours, differs):
        refused = []
        fits = fit(config, ours, refused)
        lacks = missing(config, _this_moment(config), held(_this_moment(config).index))
        if lacks or not fits:
            self.tell(
                config, "failed: lacks %s (%s)" % (", ".join(lacks), "; ".join(refused) or "nothing was refused"), True
            )
        else:
            self.tell(config, "configured: " + ", ".join(differs))
        return fits

    def _lacks_lease(self, config, link):
        """True where a client has to be started: the NIC is new, edited, or has none."""
        if not self.live:
            return False
        applied = self.state.applied.get(config.mac)
        same = (
            applied is not None
            and link_to_json(applied) == link_to_json(link)
            and self.state.names.get(config.mac) == config.name
        )
        leased = [a for a in held(self.present[config.mac].index).addresses if not a.permanent]
        if self.dry_run or (same and self.present[config.mac].up and (leased or clients(config.name))):
            self.tell(config, "ok" if same else "would be given a lease")
            return False
        return True

    def _lease(self, config, ours):
        addresses, routes = surplus(config, held(self.present[config.mac].index), ours)
        for step in [route_step("del", r, config.name) for r in routes] + [
            address_step("del", a, config.name) for a in addresses
        ]:
            run(step.argv)
        said = self.backend.lease(config)
        for path, value in settings6(config):
            write_setting(path, value)
        self.tell(config, "failed: " + said if said else "configured: by a lease", bool(said))

    def _settled(self, config, link):
        self.state.applied[config.mac] = link
        self.state.names[config.mac] = config.name

    def _departed(self):
        """NICs that are not here any more leave the files, whatever a source still says of them."""
        names = set(nic.name for nic in self.present.values())
        for mac, name in sorted(self.state.names.items()):
            if mac in self.present or mac in self.unclear:
                continue
            self.tell(mac, "gone: %s leaves the files" % name)
            del self.state.names[mac]
            if self.live and not self.dry_run and name not in names:
                end_clients(name)
                self.backend.departed(name)

    def all_configs(self):
        found = []
        for mac, link in self.state.applied.items():
            nic = self.present.get(mac)
            if nic is not None and not nic.master and mac in self.state.names:
                self.state.names[mac] = nic.name
                found.append(config_of(link, nic.name, self.state.metrics.get(mac, 0)))
        return sorted(found, key=lambda config: config.name)

    def _write(self):
        """The files, those that differ; True where any did."""
        try:
            made = self.backend.files(self.all_configs(), [nic.name for nic in self.present.values()])
        except NotReadable as exc:
            self.tell("-", "failed: %s; nothing is written for the next boot" % exc, True)
            return False
        wrote = [self._write_one(path, made[path]) for path in sorted(made)]
        return True in wrote

    def _write_one(self, path, text):
        before = read_file(self.places(path))
        if before == text or (before is None and not text):
            return False
        if self.dry_run:
            for line in difflib.unified_diff(
                (before or "").splitlines(), (text or "").splitlines(), path, path, lineterm="", n=1
            ):
                self.lines.append(line)
            return True
        self.state.keep(path)
        if text is None:
            _remove(self.places(path))
        else:
            write_whole(self.places(path), text)
        self.lines.append("%s %s" % ("removed" if text is None else "wrote", path))
        return True

    def _resolv(self):
        """/etc/resolv.conf where it is a plain file and no client writes it."""
        configs = self.all_configs()
        path = self.places("/etc/resolv.conf")
        if self.backend.dns(configs) or os.path.islink(path) or [c for c in configs if wants_client(c)]:
            return
        servers = once([server for config in sorted(configs, key=lambda c: c.metric) for server in config.dns])
        search = once([domain for config in sorted(configs, key=lambda c: c.metric) for domain in config.search])
        self._write_one("/etc/resolv.conf", resolv_text(read_file(path) or "", servers, search))


def note_metrics(places, configs):
    """For the hook of dhclient-script, which is asked before anybody else can set a route."""
    directory = os.path.join(places.run, "dhcp")
    wanted = dict((config.name, "%d\n" % config.metric) for config in configs if config.dhcp4 and config.metric)
    for path in glob.glob(directory + "/*"):
        if os.path.basename(path) not in wanted:
            _remove(path)
    for name, text in wanted.items():
        if read_file(os.path.join(directory, name)) != text:
            write_whole(os.path.join(directory, name), text)


def _texts(surplus_):
    addresses, routes = surplus_
    return ["address " + cidr for cidr in addresses] + ["route " + " ".join(route_words(route)) for route in routes]


def _with_lease(ours, name):
    """With what a DHCP client of this NIC set, by the leases that it keeps."""
    addresses, routes = set(ours.addresses), set(ours.routes)
    for path in glob.glob("/var/lib/dhcp*/*.lease*") + glob.glob("/var/lib/dhclient/*.lease*"):
        for lease in re.findall(r"(?s)lease \{(.*?)\n\}", read_file(path) or ""):
            if 'interface "%s"' % name not in lease:
                continue
            said = dict(
                (key, value)
                for key, value in re.findall(r"(fixed-address|option subnet-mask|option routers) ([0-9.]+)", lease)
            )
            _note_address(addresses, "%s/%s" % (said.get("fixed-address", ""), said.get("option subnet-mask", "24")))
            if parse_ip(said.get("option routers")):
                routes.add(Route(DEFAULT4, said["option routers"], 0))
    return Ours(addresses, routes)


def hear(state, source, document):
    """Take in what a source says, per MAC: what changed in it is in force, its first word beats no entry in force.

    So a push holds until the metadata says something new of that port, and a config drive, which says for ever what was
    on the day it was made, matters only for ports that nobody else has told of.
    """
    for mac, link in document.links.items():
        said = link_to_json(link)
        known = state.links.setdefault(mac, {"link": said, "heard": {}})
        heard = known["heard"]
        changed = source in heard and heard[source] != said
        first_of_rank = source not in heard and (
            source == "push" or (source == "metadata" and list(heard) == ["drive"])
        )
        if changed or first_of_rank:
            known["link"] = said
        heard[source] = said


def forget_gone(state, document, present):
    """Drop what nobody lists and nobody has. A link that could not be told may be any."""
    if [fault for fault in document.faults if fault.path.startswith("links") and not fault.mac]:
        return
    listed = set(document.links) | set(fault.mac for fault in document.faults)
    for mac in [mac for mac in state.links if mac not in listed and mac not in present]:
        del state.links[mac]
        state.applied.pop(mac, None)
        state.metrics.pop(mac, None)


def dmi_uuid(places):
    """The server's by its firmware; empty in a container."""
    return (read_file(places("/sys/class/dmi/id/product_uuid")) or "").strip().lower()


class Busy(Exception):
    """Another run did not end in time."""


class Lock(object):
    """One run at a time. `with Lock(places, seconds):`"""

    def __init__(self, places, seconds):
        self.directory, self.seconds = places.run, seconds

    def __enter__(self):
        _make_directory(self.directory)
        self.file = open(os.path.join(self.directory, "lock"), "a")
        # Not for our children: a DHCP client that ifup leaves behind would hold it for ever.
        fcntl.fcntl(self.file, fcntl.F_SETFD, fcntl.fcntl(self.file, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
        if not locked(self.file, self.seconds):
            self.file.close()
            raise Busy("another run did not end in %d s" % self.seconds)
        return self

    def __exit__(self, *_exc):
        self.file.close()


def _make_directory(path):
    try:
        os.makedirs(path, 0o755)
    except OSError as exc:
        if exc.errno != errno.EEXIST:
            raise


# -- apply -----------------------------------------------------------------------------------------


def apply(places, raw, dry_run=False, live=True, timeout=60):
    """Take a document as a push: the exit status."""
    document = parse_bytes(raw)
    backend = backend_of(places)
    if backend is None:
        log("not managed: none of /etc/netplan, %s, %s is here" % (Sysconfig.DIRECTORY, Ifupdown.MAIN))
        return EXIT_NOT_MANAGED
    if dry_run:
        return _apply(places, backend, document, dry_run, live)
    with Lock(places, timeout):
        return _apply(places, backend, document, dry_run, live)


def _apply(places, backend, document, dry_run, live):
    state = State(places)
    _own_server(places, backend, state)
    hear(state, "push", document)
    look = Look(places, backend, state, dry_run, live)
    look.go(sorted(document.links))
    for mac in sorted(document.alone):
        look.tell(mac, "left alone: a member of a bond")
    for fault in document.faults:
        look.lines.append("%s: %s" % ("refused" if fault.costs else "note", fault_text(fault)))
    for line in look.lines:
        write_line(sys.stdout, line)
    if not dry_run:
        quiet_cloud_init(places, state)
    return EXIT_FAILED if look.failed or [fault for fault in document.faults if fault.costs] else EXIT_OK


def _own_server(places, backend, state):
    """Forget what is another server's: this is a copy of its disk. True where it was so."""
    uuid = dmi_uuid(places)
    another = bool(state.uuid and uuid and state.uuid != uuid)
    if another:
        log("this server is not the one that these files were written for: they are taken back")
        _take_files_back(places, backend, state)
        state.links, state.applied, state.names, state.metrics = {}, {}, {}, {}
    state.uuid = uuid or state.uuid
    return another


def _take_files_back(places, backend, state):
    """The files without our parts; what a part had replaced comes back, unless somebody has edited around it since."""
    _remove(places(CLOUD_INIT_OFF))
    made = backend.files([], [])
    made["/etc/resolv.conf"] = eni_plain(read_file(places("/etc/resolv.conf")) or "") or None
    for path, text in sorted(made.items()):
        kept = state.kept.get(path)
        before = read_file(os.path.join(state.backups, kept)) if kept else None
        if before is not None and (text is None or backend.without(before, list(state.names.values()), path) == text):
            text = before
        if text is None and path in state.kept:
            _remove(places(path))
        elif text is not None and text != read_file(places(path)):
            write_whole(places(path), text)


# -- follow: what a port is now, by the metadata service or the config drive -----------------------

METADATA = "http://169.254.169.254/openstack/latest/"
METADATA_IP = "169.254.169.254"
PENDING_SECONDS, FIRST_PAUSE, LONGEST_PAUSE = 90.0, 1.0, 15.0
CLOUD_INIT_SECONDS = 300.0
CLOUD_INIT_OFF = "/etc/cloud/cloud.cfg.d/99-osnetd-legacy.cfg"


def fetch(name, timeout=5):
    """A file of the metadata service as bytes; IOError where it is not to be had. No proxy."""
    if sys.version_info[0] == 2:
        import urllib2 as requests  # novm
    else:
        import urllib.request as requests  # novm
    opener = requests.build_opener(requests.ProxyHandler({}))
    answer = opener.open(METADATA + name, timeout=timeout)
    try:
        return answer.read(MAX_BYTES + 1)
    finally:
        answer.close()


def ask_metadata(places):
    """A Document, or None where nobody answers, or not for this server."""
    try:
        uuid = str(json.loads(fetch("meta_data.json").decode("utf-8")).get("uuid", "")).lower()
        mine = dmi_uuid(places)
        # An old firmware shows the first three parts of it with their bytes the other way round.
        if uuid and mine and uuid.split("-")[3:] != mine.split("-")[3:]:
            log("the metadata service speaks of another server (%s, not %s)" % (shown(uuid), mine))
            return None
        return parse_bytes(fetch("network_data.json"))
    except Refused as exc:
        log("metadata: %s" % exc)
    except Exception as exc:  # noqa: BLE001 - urllib has some dozen kinds, which differ between 2.6 and 3.13
        log("metadata: no answer: %s" % exc)
    return None


def metadata(state):
    """As ask_metadata, by a way for a moment where there is no route: the primary NIC left with the default route."""
    if _has_way():
        return ask_metadata(state.places)
    present, _unclear = by_mac(nics())
    for mac in sorted(present):
        nic = present[mac]
        if not nic.up or not [a for a in held(nic.index).addresses if not is6(a.cidr)]:
            continue
        link = state.wanted(mac)
        gateways = [
            r.gateway for net in (link.networks if link else ()) for r in net.routes if r.gateway and not is6(r.gateway)
        ]
        for gateway in gateways[:1] + [""]:
            way = Route(METADATA_IP + "/32", gateway, 0)
            if run(route_step("add", way, nic.name).argv)[0] != 0:
                continue
            try:
                document = ask_metadata(state.places)
            finally:
                run(route_step("del", way, nic.name).argv)
            if document is not None:
                return document
    return None


def _has_way():
    """True where the kernel has a route to the metadata service; a UDP socket asks without sending anything."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.connect((METADATA_IP, 80))
        return True
    except (socket.error, OSError):
        return False
    finally:
        sock.close()


def drive(places):
    """The Document of a config drive, None where there is none."""
    seed = places("/var/lib/cloud/seed/config_drive")
    if os.path.isdir(seed):
        return _read_drive(seed)
    if not places.is_real:
        return None
    devices = [path for path in ("/dev/disk/by-label/config-2", "/dev/disk/by-label/CONFIG-2") if os.path.exists(path)]
    if not devices:
        for label in ("config-2", "CONFIG-2"):
            status, said = run(["blkid", "-t", "LABEL=" + label, "-o", "device"])
            devices += said.split()[:1] if status == 0 else []
    return _mounted(devices[0], _read_drive) if devices else None


def _mounted(device, read):
    for line in (read_file("/proc/mounts") or "").splitlines():
        if os.path.realpath(line.split()[0]) == os.path.realpath(device):
            return read(line.split()[1])
    place = tempfile.mkdtemp(prefix=MARK)
    try:
        status, said = run(["mount", "-o", "ro", device, place])
        if status:
            log("config drive %s: %s" % (device, said))
            return None
        try:
            return read(place)
        finally:
            run(["umount", place])
    finally:
        os.rmdir(place)


def _read_drive(directory):
    for path in [os.path.join(directory, "openstack/latest")] + sorted(
        glob.glob(directory + "/openstack/20*"), reverse=True
    ):
        text = read_file(os.path.join(path, "network_data.json"))
        if text is not None:
            try:
                return parse_bytes(text.encode("latin-1"))
            except Refused as exc:
                log("config drive: %s" % exc)
                return None
    return None


def _no_cloud_init(places):
    there = [path for path in ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init") if os.path.exists(places(path))]
    off = [
        path for path in ("/etc/cloud/cloud-init.disabled", "/run/cloud-init/disabled") if os.path.exists(places(path))
    ]
    return not there or bool(off)


def wait_for_cloud_init(places):
    """Until cloud-init has run all of its stages at this boot, where there is one. Later no NIC waits for it."""
    while not _no_cloud_init(places) and not _cloud_init_done(places) and uptime(places) < CLOUD_INIT_SECONDS:
        time.sleep(0.5)


def _cloud_init_done(places):
    if [
        path
        for path in ("/run/cloud-init/result.json", "/var/run/cloud-init/result.json")
        if os.path.exists(places(path))
    ]:
        return True
    try:  # before 0.7.6 there is no result.json
        return os.stat(places("/var/lib/cloud/instance/boot-finished")).st_mtime > time.time() - uptime()
    except OSError:
        return False


def quiet_cloud_init(places, _state):
    """cloud-init's own network off, once ours is on disk: it would write the drive's, of the day it was made."""
    directory = os.path.dirname(places(CLOUD_INIT_OFF))
    if os.path.isdir(directory) and os.path.exists(places(PROGRAM)) and not os.path.exists(places(CLOUD_INIT_OFF)):
        write_whole(
            places(CLOUD_INIT_OFF),
            "# %s configures the network from the server's ports.\nnetwork: {config: disabled}\n" % MARK,
        )


def _served(places):
    try:
        return float(read_file(os.path.join(places.run, "served")) or 0)
    except ValueError:
        return 0.0


def look_once(places, backend, since):
    """One look under the lock; None where another run has looked since.

    Else (exit status, the MACs of which nobody tells, whether nobody answered).
    """
    with Lock(places, 600):
        if _served(places) > since:
            return None
        write_whole(os.path.join(places.run, "served"), "%.3f\n" % uptime())
        state = State(places)
        _own_server(places, backend, state)
        document, source = metadata(state), "metadata"
        if document is None:
            document, source = drive(places), "drive"
        if document is not None:
            for fault in document.faults:
                log("%s: %s" % (source, fault_text(fault)))
            hear(state, source, document)
        look = Look(places, backend, state)
        if document is not None:
            forget_gone(state, document, look.present)
        look.go(sorted(mac for mac in state.links if mac in look.present or mac in look.unclear))
        for line in look.lines:
            quiet = line.endswith("  ok")
            log(line, syslog.LOG_INFO if quiet else syslog.LOG_WARNING if "  failed" in line else syslog.LOG_NOTICE)
        if state.applied:
            quiet_cloud_init(places, state)
        pending = [mac for mac in sorted(look.present) if _is_pending(look, mac)]
        return (EXIT_FAILED if look.failed else EXIT_OK), pending, document is None


def _is_pending(look, mac):
    """True for a NIC that the metadata may yet tell of."""
    nic = look.present[mac]
    # By udev's note an administrator, or the lab, claims a virtual one, as in the rule.
    claimed = "E:OSNETD_MANAGE=1" in (read_file("/run/udev/data/n%d" % nic.index) or "")
    return mac not in look.state.links and (nic.hardware or claimed) and not nic.master


def follow(places, event):
    """Look, and look again for a while where a NIC is here that nobody tells of: metadata lag. The exit status."""
    backend = backend_of(places)
    if backend is None:
        log("not managed: no network configuration that is known here")
        return EXIT_NOT_MANAGED
    _make_directory(places.run)
    since = uptime()
    if event == "boot":
        # From here on udev's events count; before, this look sees whatever came.
        write_whole(os.path.join(places.run, "listening"), "")
    wait_for_cloud_init(places)
    if event in ("add", "remove"):
        # A burst is one look, and a driver that reloads is not gone.
        time.sleep(0.3 if event == "add" else 1.5)
    until, pause, status = uptime() + PENDING_SECONDS, FIRST_PAUSE, EXIT_OK
    while True:
        found = look_once(places, backend, since)
        if found is None:
            return status  # another run looked after our event, and waits for what is pending
        status, pending, deaf = found
        since = uptime()
        if not (pending or deaf or status) or since > until:
            break
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
    for mac in pending:
        log("%s: nobody tells of this NIC" % mac)
    return status


def early(places):
    """Before the network starts: the files fit the names that the NICs have at this boot. Nothing live."""
    backend = backend_of(places)
    if backend is None:
        return EXIT_NOT_MANAGED
    if which("udevadm"):
        run(["udevadm", "settle", "--timeout=20"], timeout=30)
    with Lock(places, 30):
        state = State(places)
        if _own_server(places, backend, state):
            state.save()
            return EXIT_OK
        if not state.applied:
            return EXIT_OK  # nothing of ours is on disk; cloud-init does its own
        present, _unclear = by_mac(nics())
        if [mac for mac in present if mac not in state.links]:
            document = drive(places)
            if document is not None:
                hear(state, "drive", document)
        look = Look(places, backend, state, live=False)
        look.go(sorted(mac for mac in state.links if mac in look.present and _fits_files(state, mac)))
        note_metrics(places, look.all_configs())
        for line in look.lines:
            log.info(line)
        return EXIT_FAILED if look.failed else EXIT_OK


def _fits_files(state, mac):
    """False for what failed live: its last good files stay."""
    applied = state.applied.get(mac)
    return applied is None or link_to_json(applied) == state.links[mac]["link"]


# -- install, uninstall ----------------------------------------------------------------------------

PROGRAM = "/usr/local/lib/osnetd-legacy/osnetd_legacy.py"
RULE = "/etc/udev/rules.d/90-osnetd-legacy.rules"
HOOK = "/etc/dhcp/dhclient-exit-hooks.d/osnetd-legacy"
ENTRY_POINT = "/scripts/apply-network-config"  # what hosts of openstack-networkd call through the guest agent

RULE_TEXT = """\
# Written by osnetd-legacy. A NIC came or went: have a look started, and nothing more. Not in udev: it lets nobody wait,
# has no network, and ends the children that stay. Before the first look of a boot nobody needs to be told.
SUBSYSTEM!="net", GOTO="osnetd_legacy_end"
ACTION!="add|remove", GOTO="osnetd_legacy_end"
TEST!="%(program)s", GOTO="osnetd_legacy_end"
TEST!="%(run)s/listening", GOTO="osnetd_legacy_end"
ENV{OSNETD_MANAGE}=="1", GOTO="osnetd_legacy_look"
DEVPATH=="*/devices/virtual/*", GOTO="osnetd_legacy_end"
LABEL="osnetd_legacy_look"
# An instance an event: a start of a unit that runs already would be no start.
TEST!="/run/systemd/system", GOTO="osnetd_legacy_spawn"
RUN+="%(systemctl)s --no-block start osnetd-legacy@$env{ACTION}-$env{SEQNUM}.service"
GOTO="osnetd_legacy_end"
LABEL="osnetd_legacy_spawn"
RUN+="%(python)s %(program)s spawn --event $env{ACTION}"
LABEL="osnetd_legacy_end"
"""

# KillMode: a DHCP client that ifup started stays.
UNITS = {
    "osnetd-legacy-early.service": """\
[Unit]
Description=Network files of OpenStack ports, by the names that NICs have at this boot
DefaultDependencies=no
After=systemd-remount-fs.service systemd-udevd.service
Before=network-pre.target cloud-init-local.service ifupdown-pre.service networking.service network.service
Before=systemd-networkd.service NetworkManager.service
Wants=network-pre.target
RequiresMountsFor=/usr /var /etc
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=60
ExecStart=%(python)s %(program)s early

[Install]
WantedBy=multi-user.target
""",
    "osnetd-legacy.service": """\
[Unit]
Description=NICs of OpenStack ports, first look of this boot
After=network.target network-online.target cloud-init.service

[Service]
Type=simple
KillMode=process
ExecStart=%(python)s %(program)s follow --event boot

[Install]
WantedBy=multi-user.target
""",
    "osnetd-legacy@.service": """\
[Unit]
Description=NICs of OpenStack ports, look after %%i

[Service]
Type=simple
KillMode=process
# A NIC failed, which the journal tells: no failed unit for each event is left.
SuccessExitStatus=1
ExecStart=%(python)s %(program)s follow --event %%i
""",
}

INIT = "/etc/init.d/osnetd-legacy"
INIT_TEXT = """\
#!/bin/sh
# Written by osnetd-legacy.
# chkconfig: 2345 09 91
# description: network files of OpenStack ports before the network starts, and a look at the ports after it
### BEGIN INIT INFO
# Provides: osnetd-legacy
# Required-Start: $local_fs
# Required-Stop:
# X-Start-Before: networking network
# Default-Start: S
# Default-Stop:
# Short-Description: NICs follow their OpenStack ports
### END INIT INFO
[ -f "%(program)s" ] || exit 0
case "${1-}" in
    start)
        "%(python)s" "%(program)s" early
        "%(python)s" "%(program)s" spawn --event boot
        ;;
    restart | reload | force-reload)
        "%(python)s" "%(program)s" spawn --event look
        ;;
    stop | status) ;;
    *)
        echo "usage: $0 start|stop|restart|status" >&2
        exit 2
        ;;
esac
exit 0
"""

# Ubuntu 14.04: upstart starts NICs by itself, beside the runlevels.
UPSTART = {
    "/etc/init/osnetd-legacy-early.conf": """\
description "network files of OpenStack ports, by the names that NICs have at this boot (osnetd-legacy)"
start on starting networking
task
exec %(python)s %(program)s early
""",
    "/etc/init/osnetd-legacy.conf": """\
description "NICs of OpenStack ports, first look of this boot (osnetd-legacy)"
start on runlevel [2345]
task
exec %(python)s %(program)s spawn --event boot
""",
}

# dhclient-script(8) gives the metric of a stanza to the router option alone, and Neutron's leases have classless
# routes, which Debian's own hook sets without one: the kernel would not take a second NIC's default route.
HOOK_TEXT = """\
# Written by osnetd-legacy. Sourced by dhclient-script(8), before rfc3442-classless-routes: the classless routes of a
# lease with the metric of this NIC, which stands in a file of its name.
# shellcheck shell=sh disable=SC2086,SC2154
osnetd_legacy_routes() (
    while [ $# -ge 5 ]; do
        length=$1 left=$((($1 + 7) / 8)) network='' dots=4
        shift
        while [ $dots -gt 0 ]; do
            octet=0
            if [ $left -gt 0 ]; then
                octet=$1 left=$((left - 1))
                shift
            fi
            network=$network${network:+.}$octet dots=$((dots - 1))
        done
        [ $# -ge 4 ] || return
        via="via $1.$2.$3.$4"
        [ "$via" != "via 0.0.0.0" ] || via=''
        shift 4
        ip -4 route add "$network/$length" $via dev "$interface" metric "$osnetd_legacy_metric" > /dev/null 2>&1
    done
)
if [ -n "${new_rfc3442_classless_static_routes-}" ] && [ -r "%(run)s/dhcp/$interface" ]; then
    read -r osnetd_legacy_metric < "%(run)s/dhcp/$interface"
    case ${reason-} in
        BOUND | REBOOT) osnetd_legacy_routes $new_rfc3442_classless_static_routes ;;
    esac
    unset new_rfc3442_classless_static_routes
fi
"""

ENTRY_POINT_TEXT = """\
#!/bin/sh
# Written by osnetd-legacy: what hosts of openstack-networkd call.
exec %(python)s %(program)s apply "$@"
"""


def init_system(places):
    """systemd, upstart (Ubuntu 14.04) or sysv: what is running, or what is installed in an image."""
    if os.path.isdir(places("/run/systemd/system")):
        return "systemd"
    if os.path.exists(places("/etc/init/networking.conf")):
        return "upstart"
    there = [path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(places(path))]
    return "systemd" if there else "sysv"


def installed_files(places, kind, entry_point):
    """{path: (text, mode)} of all that is put in place, but the program."""
    said = {
        "python": sys.executable or "/usr/bin/python",
        "program": PROGRAM,
        "run": places.run_path,
        "systemctl": which("systemctl") or "/bin/systemctl",
    }
    files = {RULE: (RULE_TEXT % said, 0o644)}
    if kind == "systemd":
        files.update(("/etc/systemd/system/" + name, (text % said, 0o644)) for name, text in UNITS.items())
    elif kind == "upstart":
        files.update((path, (text % said, 0o644)) for path, text in UPSTART.items())
    else:
        files[INIT] = (INIT_TEXT % said, 0o755)
    if os.path.isdir(places(os.path.dirname(HOOK))):
        files[HOOK] = (HOOK_TEXT % said, 0o644)
    if entry_point:
        files[ENTRY_POINT] = (ENTRY_POINT_TEXT % said, 0o755)
    return files


def install(places, entry_point=False, start=True):
    """Put program, rule and units in place; nothing of the network changes before the first look."""
    if backend_of(places) is None:
        log("not managed: no network configuration that is known here")
        return EXIT_NOT_MANAGED
    kind = init_system(places)
    with open(os.path.abspath(__file__), "rb") as file:
        write_whole(places(PROGRAM), to_text(file.read()), 0o755)
    files = installed_files(places, kind, entry_point)
    for path in sorted(files):
        text, mode = files[path]
        if path == ENTRY_POINT and os.path.exists(places(path)) and MARK not in (read_file(places(path)) or ""):
            log("%s is somebody else's and stays" % path)
            continue
        write_whole(places(path), text, mode)
        os.chmod(places(path), mode)
    _enable(places, kind)
    if start and places.is_real:
        _start(kind)
    write_line(sys.stdout, "installed for %s: %s" % (kind, PROGRAM))
    return EXIT_OK


def _enable(places, kind):
    if kind == "systemd":
        wants = "/etc/systemd/system/multi-user.target.wants"
        _make_directory(places(wants))
        for name in ("osnetd-legacy-early.service", "osnetd-legacy.service"):
            link = places("%s/%s" % (wants, name))
            _remove(link)
            os.symlink("/etc/systemd/system/" + name, link)
    elif kind == "sysv" and places.is_real:
        for argv in (["chkconfig", "--add", "osnetd-legacy"], ["update-rc.d", "osnetd-legacy", "defaults"]):
            if which(argv[0]):
                run(argv)
                break


def _start(kind):
    run(["udevadm", "control", "--reload-rules"])
    if kind == "systemd":
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "--no-block", "start", "osnetd-legacy.service"])
    else:
        spawn("boot")


def uninstall(places, restore=False):
    """Take everything of this program away. The network stays as it is, now and at the next boot; `restore`: its files
    become what they were before this program changed them."""
    backend, state = backend_of(places), State(places)
    kind = init_system(places)
    if kind == "systemd" and places.is_real:
        run(["systemctl", "stop", "osnetd-legacy.service", "osnetd-legacy-early.service"])
    with Lock(places, 120):
        wants = ["/etc/systemd/system/multi-user.target.wants/" + name for name in UNITS]
        entry = [ENTRY_POINT] if MARK in (read_file(places(ENTRY_POINT)) or "") else []
        units = ["/etc/systemd/system/" + name for name in UNITS]
        if kind == "sysv" and places.is_real and os.path.exists(INIT):
            run(
                ["chkconfig", "--del", "osnetd-legacy"]
                if which("chkconfig")
                else ["update-rc.d", "-f", "osnetd-legacy", "remove"]
            )
        for path in wants + units + entry + [RULE, INIT, HOOK, CLOUD_INIT_OFF] + list(UPSTART):
            _remove(places(path))
        if backend is not None:
            _let_go(places, backend, state, restore)
        for directory in (places.state, places.run, os.path.dirname(places(PROGRAM))):
            shutil.rmtree(directory, ignore_errors=True)
    if places.is_real:
        run(["udevadm", "control", "--reload-rules"])
        if kind == "systemd":
            run(["systemctl", "daemon-reload"])
    return EXIT_OK


def _let_go(places, backend, state, restore):
    """The files of the network: as they were, or as they are without a word of ours."""
    paths = set(state.kept) | set(backend.files([], [])) | set(["/etc/resolv.conf"])
    for path in sorted(paths):
        kept = state.kept.get(path)
        text = read_file(places(path))
        if restore and path in state.kept:
            before = read_file(os.path.join(state.backups, kept)) if kept else None
            if before is None:
                _remove(places(path))
            else:
                write_whole(places(path), before)
        elif text is not None and MARK in text:
            write_whole(places(path), unmarked(text))


def unmarked(text):
    """A file without our marks: what replaced a line stands, and the line is a comment."""
    text = re.sub(r"(?m)^(%s|%s|%s)\n" % (re.escape(_BEGIN), re.escape(_END), re.escape(_INSTEAD)), "", text)
    text = re.sub(r"(?m)^%s" % re.escape(_COMMENTED), "# ", text)
    text = re.sub(r"(?m)^# Written by %s\n" % MARK, "", text)
    return re.sub(r"(?m)  # %s$" % MARK, "", text)


def spawn(event):
    """Start `follow` in the background, for who must not wait: udev without systemd, a boot script."""
    if os.fork() != 0:
        return EXIT_OK
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):  # udev reads its programs' output until everybody has closed it
        os.dup2(null, handle)
    os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), "--syslog", "follow", "--event", event])
    return EXIT_BROKE_OFF


# -- the command line ------------------------------------------------------------------------------

COMMANDS = ("apply", "follow", "early", "install", "uninstall", "spawn")


def _options():
    usage = (
        "%prog [options] apply BASE64 | - | --file FILE\n       %prog [options] follow | early | install | uninstall"
    )
    parser = optparse.OptionParser(usage=usage, version="%prog " + __version__, prog="osnetd_legacy.py")
    parser.add_option("--file", help="apply: the document, JSON or base64")
    parser.add_option("--dry-run", action="store_true", help="apply: show what would be done, and do nothing")
    parser.add_option("--files-only", action="store_true", help="apply: for the next boot, nothing live")
    wait = "apply: how long to wait for the end of the document, and for another run (60)"
    parser.add_option("--timeout", type="int", default=60, metavar="SECONDS", help=wait)
    parser.add_option("--event", default="look", help="follow: add, remove, boot or look")
    parser.add_option("--restore", action="store_true", help="uninstall: the network's files as they were before")
    parser.add_option("--entry-point", action="store_true", help="install: %s as well" % ENTRY_POINT)
    parser.add_option("--no-start", action="store_true", help="install: into an image, start nothing")
    parser.add_option("--root", default="/", help="where the files are (tests, images)")
    parser.add_option("--syslog", action="store_true", help="log to syslog")
    parser.add_option("-v", "--verbose", action="store_true", help="tell each command")
    return parser


def _all_of(handle, name, timeout):
    """What can be read until its end. Raises Busy if that does not come in time: a pipe that its writer keeps open."""
    found, until = b"", time.time() + max(5, timeout)  # with a timeout of 0 too its writer needs a moment
    while len(found) < 2 * MAX_BYTES:
        try:
            ready = select.select([handle], [], [], max(0.0, until - time.time()))[0]
            if not ready:
                raise Busy("%s: it does not end: %d bytes came in %d s" % (name, len(found), max(5, timeout)))
            more = os.read(handle, min(1 << 16, 2 * MAX_BYTES - len(found)))
        except (OSError, select.error) as exc:
            if exc.args[:1] in ((errno.EINTR,), (errno.EAGAIN,)):
                continue  # before Python 3.5
            raise OSError(exc.args[0], os.strerror(exc.args[0]))
        if not more:
            break
        found += more
    return found


def _document(options, words):
    """The document's bytes, None for wrong usage; raises Refused for what cannot be read, Busy if it does not end."""
    if options.file is not None and not words:
        try:
            # Without waiting: a FIFO is opened only once somebody writes to it.
            handle = os.open(options.file, os.O_RDONLY | os.O_NONBLOCK)
            try:
                return _all_of(handle, options.file, options.timeout)
            finally:
                os.close(handle)
        except (IOError, OSError) as exc:
            raise Refused(options.file, exc.strerror or "%s" % exc)
    if options.file is not None or len(words) != 1:
        return None
    if words[0] == "-":
        try:
            return _all_of(0, "standard input", options.timeout)
        except (IOError, OSError) as exc:
            raise Refused("standard input", exc.strerror or "%s" % exc)
    return words[0] if isinstance(words[0], bytes) else words[0].encode("utf-8", "surrogateescape")


def command(options, words):
    places, name = Places(options.root), words[0]
    if name == "apply":
        raw = _document(options, words[1:])
        if raw is None:
            log("apply: one document please: BASE64, - or --file FILE")
            return EXIT_USAGE
        return apply(places, raw, bool(options.dry_run), not options.files_only, options.timeout)
    if name == "follow":
        return follow(places, options.event.partition("-")[0])
    if name == "early":
        return early(places)
    if name == "spawn":
        return spawn(options.event)
    if name == "install":
        return install(places, bool(options.entry_point), not options.no_start)
    return uninstall(places, bool(options.restore))


def main(argv):
    options, words = _options().parse_args(argv)  # 2 where that fails
    if not words or words[0] not in COMMANDS or (words[0] != "apply" and len(words) > 1):
        log("osnetd_legacy.py: one of %s please; --help tells more" % ", ".join(COMMANDS))
        return EXIT_USAGE
    log.verbose = bool(options.verbose)
    if options.syslog:
        log.to_syslog = True
        syslog.openlog(MARK, syslog.LOG_PID, syslog.LOG_DAEMON)
    if os.geteuid() != 0 and not options.dry_run and options.root == "/":
        log("osnetd_legacy.py: must be run as root")
        return EXIT_FAILED
    os.umask(0o022)
    try:
        return command(options, words)
    except Refused as exc:
        log("refused, nothing was changed: %s" % exc)
        return EXIT_REFUSED
    except Busy as exc:
        log("%s" % exc)
        return EXIT_BUSY
    except (IOError, OSError) as exc:
        log("broke off: %s" % exc)
        return EXIT_BROKE_OFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
