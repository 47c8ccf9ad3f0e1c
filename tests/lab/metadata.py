# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The metadata service: HTTP on 169.254.169.254 and fe80::a9fe:a9fe of every network, and its ways to fail.

It runs in threads of the test's process; only its sockets live in the cloud's network namespace, one for each network
and address, bound to the network's bridge. So the socket says which network a request came from, and the source
address says which port, as Neutron finds it out.
"""

from __future__ import annotations

import ctypes
import fnmatch
import functools
import http.server
import socket
import struct
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from tests.lab import documents, netns

IPV4 = "169.254.169.254"
IPV6 = "fe80::a9fe:a9fe"
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_BPF_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)  # the classic BPF program `ret #0`: every packet is dropped

# From (name of the network, source address) to what that server is told; None: not one of the cloud's servers.
Lookup = Callable[[str, str], Optional[documents.Files]]


class Request(NamedTuple):
    """A request that was answered: when (time.time()), which network and source address it came from, and how it went."""

    time: float
    network: str
    source: str
    path: str
    status: int


class Answer(NamedTuple):
    """An answer to give instead of the right one to requests whose path matches `pattern` (as in fnmatch)."""

    pattern: str
    status: int = 200
    body: Optional[bytes] = None  # None: the right body
    delay: float = 0.0
    times: Optional[int] = None  # how often; None: until removed
    network: str = ""  # only to requests from this network: a rogue service on it, or a broken agent
    missing: int = 0  # so many bytes of the promised length never come


class Metadata:
    """The service. `down` refuses connections, or drops every packet silently; `override` replaces single answers.

    `latency` is the time in seconds that every answer takes: a proxy, an API worker and the message bus in a real cloud.
    """

    def __init__(self, namespace: str, lookup: Lookup) -> None:
        self._namespace = namespace
        self._lookup = lookup
        self._servers: List["_Server"] = []
        self._places: List[Tuple[str, str]] = []
        self._mutex = threading.Lock()
        self._down: Optional[str] = None
        self.requests: List[Request] = []
        self._answers: List[Answer] = []
        self.latency = 0.0

    def serve(self, network: str, bridge: str) -> None:
        """Listen on one more network. Its bridge has the addresses already."""
        self._places.append((network, bridge))
        if self._down != "refuse":
            self._listen(network, bridge)

    def down(self, how: str = "refuse") -> None:
        """Fail: `refuse` connections, or `drop` all packets."""
        self.up()
        self._down = how
        if how == "refuse":
            self.close()
        elif how == "drop":
            for server in self._servers:
                server.set_silent(True)
        else:
            raise ValueError(f"the metadata service can refuse or drop, not {how!r}")

    def up(self) -> None:
        """Work again."""
        was, self._down = self._down, None
        if was == "refuse":
            for network, bridge in self._places:
                self._listen(network, bridge)
        elif was == "drop":
            for server in self._servers:
                server.set_silent(False)

    def override(self, answer: Answer) -> None:
        """Give this answer from now on. The latest one that matches counts."""
        with self._mutex:
            self._answers.append(answer)

    def clear_overrides(self) -> None:
        with self._mutex:
            self._answers.clear()

    def close(self) -> None:
        while self._servers:
            self._servers.pop().stop()

    def respond(self, network: str, source: str, path: str) -> Tuple[int, bytes, int]:
        """The status, the body, and how much of it is missing, for a path asked for by a source."""
        answer = self._override_of(path, network)
        delay = self.latency + (answer.delay if answer else 0.0)
        if delay:
            time.sleep(delay)
        status, body = self._right_answer(network, source, path)
        if answer:
            status, body = answer.status, body if answer.body is None else answer.body
        self.requests.append(Request(time.time(), network, source, path, status))
        return status, body, answer.missing if answer else 0

    def _right_answer(self, network: str, source: str, path: str) -> Tuple[int, bytes]:
        files = self._lookup(network, source)
        if files is None:
            return 404, b"no server here has this address\n"
        path = path.partition("?")[0].strip("/")
        body = files.get(path)
        if body is None:
            body = documents.listing(files, path)
        return (404, b"not found\n") if body is None else (200, body)

    def _override_of(self, path: str, network: str) -> Optional[Answer]:
        with self._mutex:
            for number in reversed(range(len(self._answers))):
                answer = self._answers[number]
                here = answer.network in ("", network)
                if here and answer.times != 0 and fnmatch.fnmatch(path, answer.pattern):
                    if answer.times is not None:
                        self._answers[number] = answer._replace(times=answer.times - 1)
                    return answer
        return None

    def _listen(self, network: str, bridge: str) -> None:
        for family, address in ((socket.AF_INET, IPV4), (socket.AF_INET6, IPV6)):
            listener = netns.within(self._namespace, functools.partial(_bound, family, address, bridge))
            self._servers.append(_Server(listener, self, network))


def _bound(family: int, address: str, bridge: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
    listener.bind((address, 80) if family == socket.AF_INET else (address, 80, 0, socket.if_nametoindex(bridge)))
    listener.listen(64)
    return listener


class _Server(http.server.ThreadingHTTPServer):
    """Serves one listening socket, made elsewhere."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, metadata: Metadata, network: str) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.metadata = metadata
        self.network = network
        self._connections: Dict[int, socket.socket] = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def get_request(self) -> Tuple[socket.socket, Any]:
        connection, peer = super().get_request()
        self._connections[id(connection)] = connection
        return connection, peer

    def shutdown_request(self, request: Any) -> None:
        self._connections.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A guest that goes away in the middle of an answer is no news."""

    def set_silent(self, silent: bool) -> None:
        """Have the kernel drop what arrives, for new and open connections alike, or no longer."""
        program = ctypes.create_string_buffer(_BPF_RETURN_NOTHING)
        fprog = struct.pack("HP", 1, ctypes.addressof(program))
        for one in [self.socket, *self._connections.values()]:
            if silent:
                one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
            else:
                one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._connections.values()):
            connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        source = self.client_address[0].partition("%")[0]
        status, body, missing = self.server.metadata.respond(self.server.network, source, self.path)
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if self.path.endswith(".json") else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - missing])
        self.close_connection = self.close_connection or missing > 0

    def do_PUT(self) -> None:
        self.send_error(405)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept as data."""
