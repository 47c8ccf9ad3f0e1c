# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The Linux side of a stand-in for netsh.exe: netsh's words, with Windows' semantics, done to a namespace's NICs.

Linux' ifindex is that of Wine. What Windows keeps in the registry (DNS servers, whether DHCP is on) is handed back to the
program, which writes it there. `lies` makes it say 0 and do nothing, `fails` end with 1.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import subprocess
import threading
from typing import Any, Dict, List, Optional, Tuple

from tests.lab import netns

OK = "Ok.\r\n\r\n"
SYNTAX = "The filename, directory name, or volume label syntax is incorrect.\r\n"
EXISTS = "The object already exists.\r\n"
NOT_FOUND = "Element not found.\r\n"
PARAMETER = "The parameter is incorrect.\r\n"
DHCP_IS_ON = "DHCP is already enabled on this interface.\r\n"
PORT = 8976  # of loopback in the namespace; as in inside/sitecustomize.py

Answer = Tuple[int, str, Dict[str, Any]]


class Netsh:
    """Serves until closed. `calls` are the command lines it was called with."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.calls: List[str] = []
        self.lies: Optional[str] = None  # a regular expression over the command line
        self.fails: Optional[str] = None
        self.static4: set[int] = set()  # indexes of NICs whose IPv4 DHCP is off; a new one's is on
        self.dns: Dict[Tuple[str, int], List[str]] = {}
        self._listening = netns.within(namespace, self._listen)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def forget(self) -> None:
        self.calls.clear()
        self.static4.clear()
        self.dns.clear()
        self.lies = self.fails = None

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", PORT))

    def _serve(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                connection, _address = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
                continue
            return

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            words = json.loads(connection.makefile(encoding="utf-8").readline())
            line = " ".join(words)
            self.calls.append(line)
            more: Dict[str, Any] = {}
            if self.lies and re.search(self.lies, line):
                status, text = 0, OK
            elif self.fails and re.search(self.fails, line):
                status, text = 1, PARAMETER
            else:
                status, text, more = self._do(words)
            connection.sendall((json.dumps({"status": status, "text": text, **more}) + "\n").encode())

    # What it can do

    def _do(self, words: List[str]) -> Answer:
        tags = dict(word.split("=", 1) for word in words[4:] if "=" in word)
        unknown = (1, f"The following command was not found: {' '.join(words)}.\r\n", {})
        if words[:3] == ["interface", "set", "interface"]:
            tags = dict(word.split("=", 1) for word in words[3:])
            return self._done(f"link set dev {tags['name']} name {tags['newname']}", SYNTAX)
        if len(words) < 4 or words[0] != "interface" or words[1] not in ("ipv4", "ipv6"):
            return unknown
        index = int(tags.get("interface") or tags.get("name") or 0)
        name = next((link["ifname"] for link in self._json("link") if link["ifindex"] == index), None)
        if name is None:
            return 1, SYNTAX, {}
        does = getattr(self, f"_{words[2]}_{words[3]}", None)
        return does(words[1], index, name, tags) if does else unknown

    def _set_subinterface(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        if int(tags["mtu"]) < (1280 if family == "ipv6" else 576):
            return 1, PARAMETER, {}
        return self._done(f"link set {name} mtu {tags['mtu']}", PARAMETER)

    def _set_address(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        """Windows replaces all of the family's addresses by the one."""
        if tags["source"] == "dhcp" and index not in self.static4:
            return 1, DHCP_IS_ON, {}
        for address, length in self._addresses(name, family):
            self._ip(f"address del {address}/{length} dev {name}")
        if tags["source"] == "dhcp":
            self.static4.discard(index)
            return 0, OK, {"family": family, "index": index, "values": {"EnableDHCP": 1}}
        self.static4.add(index)
        length = ipaddress.ip_network(f"0.0.0.0/{tags['mask']}").prefixlen
        status, text, _more = self._done(f"address add {tags['address']}/{length} dev {name}", PARAMETER)
        return status, text, {"family": family, "index": index, "values": {"EnableDHCP": 0}}

    def _add_address(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        if family == "ipv4" and index not in self.static4:
            return 1, "DHCP is enabled on this interface.\r\n", {}
        address, slash, length = tags["address"].partition("/")
        if not slash:
            length = str(ipaddress.ip_network(f"0.0.0.0/{tags['mask']}").prefixlen)
        if any(address == there for there, _length in self._addresses(name, family)):
            return 1, EXISTS, {}
        return self._done(f"address add {address}/{length} dev {name} {'nodad' if family == 'ipv6' else ''}", PARAMETER)

    def _delete_address(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        for address, length in self._addresses(name, family):
            if address == tags["address"]:
                return self._done(f"address del {address}/{length} dev {name}", NOT_FOUND)
        return 1, NOT_FOUND, {}

    def _add_route(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        """Windows takes two routes to one network by two gateways, which Linux calls appending."""
        flag = "-6" if family == "ipv6" else "-4"
        for route in self._json(flag, "route", "show", "dev", name):
            destination = {"default": "::/0" if family == "ipv6" else "0.0.0.0/0"}.get(route["dst"], route["dst"])
            if (destination, route.get("gateway")) == (tags["prefix"], tags.get("nexthop")):
                return 1, EXISTS, {}
        return self._done(f"route append {self._route(name, tags)}", EXISTS)

    def _set_route(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        self._ip(f"route del {self._route(name, {**tags, 'metric': ''})}")
        return self._add_route(family, index, name, tags)

    def _delete_route(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        return self._done(f"route del {self._route(name, tags)}", NOT_FOUND)

    def _set_dnsservers(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        address = tags.get("address", "none")
        self.dns[family, index] = [] if tags["source"] == "dhcp" or address == "none" else [address]
        return self._dns(family, index)

    def _add_dnsservers(self, family: str, index: int, name: str, tags: Dict[str, str]) -> Answer:
        self.dns.setdefault((family, index), []).append(tags["address"])
        return self._dns(family, index)

    def _dns(self, family: str, index: int) -> Answer:
        values = {"NameServer": ",".join(self.dns[family, index])}
        return 0, "\r\n", {"family": family, "index": index, "values": values}

    # How it is done

    def _route(self, name: str, tags: Dict[str, str]) -> str:
        via = f"via {tags['nexthop']}" if tags.get("nexthop") else ""
        metric = f"metric {self._metric(tags)}" if tags.get("metric") else ""
        return f"{tags['prefix']} {via} dev {name} {'onlink' if via else ''} proto static {metric}"

    @staticmethod
    def _metric(tags: Dict[str, str]) -> int:
        """Wine takes the metric of an IPv4 route, which Linux shows in decimal, for hexadecimal: 2100 is 834 in Linux."""
        return int(tags["metric"]) if ":" in tags["prefix"] else int(f"{int(tags['metric']):x}")

    def _addresses(self, name: str, family: str) -> List[Tuple[str, int]]:
        found = [one for link in self._json("address", "show", "dev", name) for one in link.get("addr_info", [])]
        kind = "inet6" if family == "ipv6" else "inet"
        return [(one["local"], one["prefixlen"]) for one in found if one["family"] == kind and one["scope"] != "link"]

    def _json(self, *words: str) -> Any:
        return json.loads(netns.output(self.namespace, ["ip", "-json", *words]) or "[]")

    def _ip(self, command: str) -> bool:
        words = ["ip", "-n", self.namespace, *command.split()]
        return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def _done(self, command: str, otherwise: str) -> Answer:
        return (0, OK, {}) if self._ip(command) else (1, otherwise, {})
