# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""http1: what a server may answer, byte for byte, and what is made of it. More of that in test_source.py."""

import socket
import threading
import time

import pytest

from cloudinit_osnetd import http1


class Server:
    """Answers each request on a connection with the next of `script`; None ends the connection."""

    def __init__(self, script):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(5)
        self.script, self.requests, self.connections = list(script), [], 0
        threading.Thread(target=self._serve, daemon=True).start()

    def connect(self):
        return socket.create_connection(self.listener.getsockname())

    def _serve(self):
        while self.script:
            connection, _peer = self.listener.accept()
            self.connections += 1
            with connection:
                while self.script and self.script[0] is not None:
                    data = b""
                    while b"\r\n\r\n" not in data:
                        more = connection.recv(65536)
                        if not more:
                            break
                        data += more
                    if not data:
                        break
                    self.requests.append(data)
                    connection.sendall(self.script.pop(0))
                if self.script:
                    self.script.pop(0)


def talk(*script, limit=100, requests=1, silence=5.0, total=5.0):
    """The answers to so many requests, and the server."""
    server = Server(script)
    conversation = http1.Conversation(server.connect, "169.254.169.254", time.monotonic() + total, silence)
    try:
        return [conversation.get("/x", limit) for _ in range(requests)], server
    finally:
        conversation.close()
        server.listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (OK, b"hi"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", b"hi"),
        (b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n", b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\nTrailer: 1\r\n\r\n", b"hi"),
    ],
    ids=repr,
)
def test_an_answer_is_read_and_the_next_one_on_the_same_connection(said, body):
    answers, server = talk(said, OK, requests=2)
    assert answers == [(200, body, 0), (200, b"hi", 0)]
    assert server.connections == 1
    assert server.requests[0].startswith(b"GET /x HTTP/1.1\r\nHost: 169.254.169.254\r\n")


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\nhi",
    ],
    ids=repr,
)
def test_where_the_connection_ends_with_the_answer_the_next_request_makes_another(said):
    answers, server = talk(said, None, OK, requests=2)
    assert answers == [(200, b"hi", 0)] * 2
    assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n123456789",
    ],
    ids=repr,
)
def test_no_more_is_read_than_was_asked_for(said):
    answers, _server = talk(said, None, OK, limit=7, requests=2)
    assert answers == [(200, b"1234567", 0), (200, b"hi", 0)]


def test_what_is_missing_is_counted():
    answers, _server = talk(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345", None)
    assert answers == [(200, b"12345", 4)]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n",
        b"220 ftp\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 102,
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 70000 + b"\r\n\r\n",
    ],
    ids=lambda said: repr(said[-14:]),
)
def test_what_is_no_http_or_breaks_off_is_an_error(said):
    with pytest.raises((http1.HttpError, OSError)):
        talk(said, None)


def test_silence_and_slowness_are_told_apart():
    with pytest.raises(socket.timeout):
        talk(b"HTTP/1.1 200 OK\r\n", b"", silence=0.1)
    with pytest.raises(http1.HttpError, match="too long"):
        talk(b"HTTP/1.1 200 OK\r\n", b"", total=0.1)
