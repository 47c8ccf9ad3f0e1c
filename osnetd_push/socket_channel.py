# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The guest agent's own socket on the host: a Unix socket that QEMU listens on.

The protocol is that of the QEMU guest agent (QEMU's documentation, interop/qemu-ga-ref): JSON requests and answers, one
line each, in order, without identifiers. QEMU serves one client at a time, and leaves the next one waiting; an answer
that an earlier client did not wait for is given to the next one.
"""

import errno
import json
import os
import socket
import struct
import time
from typing import Any, Dict, Optional  # noqa: F401 - in a comment

from .errors import AgentAbsent, AgentBusy, AgentRefused, NoAnswer, NoChannel

_FIRST_PATIENCE = 2.0  # seconds until the first request is repeated: it may have been lost with an agent that restarted
_TURN = 30.0  # seconds to wait for another client
_READ = 65536
# 48 MiB: the agent keeps 16 MiB of each output stream at most, a third longer in base64. More is no answer.
_MOST = 48 << 20

# linux/sock_diag.h, linux/unix_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_UDIAG_SHOW_PEER, _UNIX_DIAG_PEER = 4, 2


class SocketChannel:
    """A conversation on the socket at `path`. Requests are sent one after the other, never two at once."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._socket = None  # type: Optional[socket.socket]
        self._buffer = b""
        self._synced = False

    def open(self, deadline: float) -> None:
        """Connects, and waits until the agent answers. Raises NoChannel, AgentBusy or AgentAbsent."""
        turn = min(deadline, time.monotonic() + _TURN)
        self._socket = self._connect(turn)
        self._sync(deadline, turn)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, command: str, arguments: Dict[str, Any], deadline: float) -> Any:
        """Returns what the agent returns. Raises AgentRefused, NoAnswer, or NoChannel if QEMU closed the socket."""
        try:
            if not self._synced:
                self._sync_once(deadline)
            self._synced = False  # until the answer is here: the next call would read it as its own
            self._send({"execute": command, "arguments": arguments} if arguments else {"execute": command}, deadline)
            answer = self._answer(deadline)
        except socket.timeout:
            raise NoAnswer("no answer to %s" % command) from None
        except OSError as exc:
            raise NoChannel("%s: the channel broke: %s" % (self.name, exc.strerror or exc)) from exc
        self._synced = True
        error = answer.get("error")
        if isinstance(error, dict):
            raise AgentRefused(str(error.get("class", "")), str(error.get("desc", error)))
        return answer.get("return")

    # Connecting

    def _connect(self, until: float) -> socket.socket:
        folder, name = os.path.split(os.path.abspath(self.name))
        try:
            # A socket's path holds 107 bytes, so a long one goes by the folder's descriptor.
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        except OSError as exc:
            raise NoChannel("%s: %s" % (self.name, exc.strerror)) from exc
        try:
            return self._connect_to("/proc/self/fd/%d/%s" % (descriptor, name), until)
        except OSError as exc:
            raise NoChannel("%s: %s" % (self.name, _reason(exc))) from exc
        finally:
            os.close(descriptor)

    def _connect_to(self, path: str, until: float) -> socket.socket:
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(1.0)
                connection.connect(path)
                return connection
            except OSError as exc:
                connection.close()
                if exc.errno != errno.EAGAIN:  # EAGAIN: as many wait already as QEMU lets wait
                    raise
            if time.monotonic() > until:
                raise self._busy()
            time.sleep(0.1)

    def _busy(self) -> AgentBusy:
        return AgentBusy(
            "%s: another client holds the agent's socket. libvirt holds those of its domains: use --domain there."
            % self.name
        )

    def _sync(self, deadline: float, turn: float) -> None:
        """Repeats the synchronisation, as the agent may be started, or restarted, while we wait."""
        patience = _FIRST_PATIENCE
        while True:
            try:
                self._sync_once(min(deadline, time.monotonic() + patience))
                return
            except socket.timeout:
                pass
            except OSError as exc:
                raise NoChannel("%s: QEMU closed it: %s" % (self.name, exc.strerror or exc)) from exc
            now = time.monotonic()
            waiting = self._socket is not None and not _is_accepted(self._socket)
            if now >= deadline or (waiting and now >= turn):
                if waiting:
                    raise self._busy()
                raise AgentAbsent(
                    "%s: no guest agent answers. Is the guest up, has it the channel org.qemu.guest_agent.0, and is "
                    "qemu-guest-agent installed and running in it?" % self.name
                )
            patience *= 2

    def _sync_once(self, deadline: float) -> None:
        """guest-sync-delimited: the agent forgets a half request, and we drop whatever comes before its answer."""
        token = int.from_bytes(os.urandom(4), "big")
        request = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        self._send(request, deadline, prefix=b"\xff")
        # Only the answer to this very request: a late one to an earlier request is followed by this one.
        while self._answer(deadline).get("return") != token:
            pass
        self._synced = True

    # Reading and writing

    def _send(self, request: Dict[str, Any], deadline: float, prefix: bytes = b"") -> None:
        connection = self._connected()
        data = memoryview(prefix + json.dumps(request).encode("ascii") + b"\n")
        while data:
            connection.settimeout(_left(deadline))
            data = data[connection.send(data[:_READ]) :]

    def _answer(self, deadline: float) -> Dict[str, Any]:
        """Returns the next answer. What is no JSON object is the tail of one that an earlier client did not read."""
        while True:
            try:
                answer = json.loads(self._line(deadline).rpartition(b"\xff")[2].decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(answer, dict) and ("return" in answer or "error" in answer):
                return answer

    def _line(self, deadline: float) -> bytes:
        connection, seen = self._connected(), 0
        while True:
            end = self._buffer.find(b"\n", seen)
            if end >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                return line
            seen = len(self._buffer)
            if seen > _MOST:
                raise OSError(errno.EMSGSIZE, "an answer of more than %d MiB" % (_MOST >> 20))
            connection.settimeout(_left(deadline))
            data = connection.recv(_READ)
            if not data:
                raise OSError(errno.ECONNRESET, "QEMU closed the connection; did the guest end?")
            self._buffer += data

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._socket


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _reason(exc: OSError) -> str:
    if exc.errno == errno.ECONNREFUSED:
        return "nobody listens on it: the guest's QEMU has ended"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return "permission denied: run this as root, or as the user who owns the socket"
    return exc.strerror or str(exc)


def _is_accepted(connection: socket.socket) -> bool:
    """Whether QEMU has accepted the connection: until then it has no peer with an inode. True where nobody can say."""
    inode = os.fstat(connection.fileno()).st_ino & 0xFFFFFFFF
    nobody = 0xFFFFFFFF
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, nobody, inode, _UDIAG_SHOW_PEER, nobody, nobody)
    header = struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(1.0)
            netlink.send(header + body)
            answer = netlink.recv(_READ)
    except OSError:
        return True
    if len(answer) < 32 or struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return True
    at = 32  # behind the header and struct unix_diag_msg
    while at + 8 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _UNIX_DIAG_PEER:
            return bool(struct.unpack_from("=I", answer, at + 4)[0])
        at += max((length + 3) & ~3, 4)
    return True
