# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""As much of HTTP/1.1 (RFC 9112) as it takes to GET a document, within a time and a size.

Python's http.client costs a run that has nothing to do a third of its time: it imports the parser
of e-mail and TLS. And it has no limit for an answer as a whole, only for each word of it.
"""

import re
import socket
import time
from typing import Callable, Dict, NamedTuple, Optional, Tuple

_LINE_BYTES = 65536
_HEADERS = 100
_DIGITS = re.compile(r"[0-9]{1,15}\Z")  # not str.isdigit(): that is true of "\u00b2" too
_HEX = re.compile(r"[0-9A-Fa-f]{1,15}\Z")


class HttpError(Exception):
    """What answers does not speak HTTP, breaks off, or takes too long over it."""


class Answer(NamedTuple):
    status: int
    body: bytes  # no more than was asked for
    missing: int  # bytes that were announced and did not come


class Conversation:
    """One connection for any number of requests; made anew where the other side ends it after an answer.

    `connect` gives a connected socket. `deadline`, by the monotonic clock, is for all of it,
    `silence` the longest pause in seconds before it: socket.timeout is raised then. OSError is what
    it is.
    """

    def __init__(self, connect: Callable[[], socket.socket], host: str, deadline: float, silence: float) -> None:
        self._connect = connect
        self._host = host
        self._deadline = deadline
        self._silence = silence
        self._sock: Optional[socket.socket] = None
        self._buffer = b""

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock, self._buffer = None, b""

    def get(self, path: str, limit: int) -> Answer:
        """The answer to a GET, of its body no more than `limit` bytes. Raises HttpError, OSError."""
        if self._sock is None:
            self._sock = self._connect()
        request = "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n\r\n"
        self._sock.settimeout(self._patience())
        self._sock.sendall((request % (path, self._host)).encode("ascii"))
        version, status, headers = self._head()
        while 100 <= status < 200:
            version, status, headers = self._head()
        body, missing, over = self._body(status, headers, limit)
        if not over or version == "HTTP/1.0" or "close" in headers.get("connection", "").lower():
            self.close()
        return Answer(status, body, missing)

    # -- an answer's parts ------------------------------------------------------------------------

    def _head(self) -> Tuple[str, int, Dict[str, str]]:
        """Version, status, and headers by their lower-case names."""
        first = self._line().split(None, 2)
        if len(first) < 2 or first[0] not in ("HTTP/1.0", "HTTP/1.1") or not _DIGITS.match(first[1]):
            raise HttpError("this is no HTTP: %.60r" % " ".join(first))
        headers: Dict[str, str] = {}
        for _number in range(_HEADERS + 1):
            line = self._line()
            if not line:
                return first[0], int(first[1]), headers
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        raise HttpError("more than %d headers" % _HEADERS)

    def _body(self, status: int, headers: Dict[str, str], limit: int) -> Tuple[bytes, int, bool]:
        """The body, the bytes missing of it, and whether the connection stands where the next answer begins."""
        if status in (204, 304):
            return b"", 0, True
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks(limit)
        length = headers.get("content-length")
        if length is None:
            return self._read(limit), 0, False
        if not _DIGITS.match(length):
            raise HttpError("Content-Length: %.60r" % length)
        body = self._read(min(int(length), limit))
        return body, 0 if len(body) == limit else int(length) - len(body), len(body) == int(length)

    def _chunks(self, limit: int) -> Tuple[bytes, int, bool]:
        body = b""
        while True:
            size = self._line().partition(";")[0].strip()
            if not _HEX.match(size):
                raise HttpError("a chunk of %.60r bytes" % size)
            length = int(size, 16)
            if length == 0:
                break
            chunk = self._read(min(length, limit - len(body)))
            body += chunk
            if len(body) >= limit:
                return body, 0, False
            if len(chunk) < length:
                raise HttpError("it breaks off in a chunk")
            self._line()
        for _number in range(_HEADERS + 1):
            if not self._line():
                return body, 0, True
        raise HttpError("more than %d trailers" % _HEADERS)

    # -- bytes ------------------------------------------------------------------------------------

    def _patience(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise HttpError("it takes too long over it")
        return min(left, self._silence)

    def _more(self) -> bool:
        """Read what there is; False at the end."""
        assert self._sock is not None  # noqa: S101 - for mypy
        patience = self._patience()
        self._sock.settimeout(patience)
        try:
            data = self._sock.recv(65536)
        except socket.timeout:
            if patience < self._silence:
                raise HttpError("it takes too long over it") from None
            raise
        self._buffer += data
        return bool(data)

    def _line(self) -> str:
        while b"\n" not in self._buffer and len(self._buffer) <= _LINE_BYTES:
            if not self._more():
                raise HttpError("it breaks off")
        line, _, rest = self._buffer.partition(b"\n")
        if len(line) > _LINE_BYTES:
            raise HttpError("a line of more than %d bytes" % _LINE_BYTES)
        self._buffer = rest
        return line.rstrip(b"\r").decode("latin-1")

    def _read(self, length: int) -> bytes:
        """So many bytes, fewer only at the end."""
        while len(self._buffer) < length and self._more():
            pass
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data
