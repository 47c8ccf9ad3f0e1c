# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A client of QEMU's machine protocol (QMP): commands, and events waited for by name."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Callable


def connect(path: Path, timeout: float) -> socket.socket:
    """A connection to a Unix socket, however long its path: sun_path holds 107 bytes, so go by the folder's descriptor."""
    folder = os.open(path.parent, os.O_PATH)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


Event = dict[str, Any]


class QmpError(Exception):
    """QEMU refused a command, or is not there to take it."""


class Qmp:
    """One connection to a QEMU. Events that come while a command is answered are kept until someone waits for them."""

    def __init__(self, path: Path, alive: Callable[[], bool], timeout: float = 30) -> None:
        """Connects as soon as QEMU listens on `path`, as long as `alive` says that it may yet do so."""
        self._timeout = timeout
        self._buffer = b""
        self._events: list[Event] = []
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._socket = connect(path, timeout)
                break
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if time.monotonic() > deadline or not alive():
                    raise QmpError(f"no QEMU answers on {path}: {error}") from error
                time.sleep(0.02)
        self._message(deadline)
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns for a command; argument names may use _ for -."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"{command}: QEMU is gone ({error})") from error
        deadline = time.monotonic() + self._timeout
        while True:
            message = self._message(deadline)
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise QmpError(f"{command}: {message['error'].get('desc', message['error'])}")
            else:
                return message["return"]

    def wait_for(self, event: str, timeout: float, suits: Callable[[Event], bool]) -> Event | None:
        """The next event of that name whose data suits, None when the time is over. Others stay for later."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            for index, message in enumerate(self._events[seen:], start=seen):
                if message["event"] == event and suits(message.get("data", {})):
                    return self._events.pop(index)
            seen = len(self._events)
            try:
                self._events.append(self._message(deadline))
            except TimeoutError:
                return None

    def forget_events(self) -> None:
        """Drops what was kept, so that the next wait sees only what happens from now on."""
        self._events.clear()

    def close(self) -> None:
        self._socket.close()

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise TimeoutError("QEMU did not answer in time") from error
            except OSError as error:
                raise QmpError(f"the connection to QEMU broke: {error}") from error
            if not data:
                raise QmpError("QEMU closed its connection: it has ended")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message
