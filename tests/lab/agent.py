# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A client of the QEMU guest agent: commands run and files put in a VM, without any network."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.lab.qmp import connect

CHUNK = 256 * 1024


class AgentError(Exception):
    """The agent refused a command."""


class AgentAway(AgentError):
    """Nobody in the guest answers: it boots, reboots, hangs or is off."""


class Agent:
    """A conversation with the agent, for one or a few commands.

    It starts with guest-sync-delimited (QEMU docs, interop/qemu-ga-ref): answers meant for an earlier client that gave
    up are thrown away.
    """

    def __init__(self, path: Path, timeout: float = 5) -> None:
        self._buffer = b""
        try:
            self._socket = connect(path, timeout)
        except OSError as error:
            raise AgentAway(f"no guest agent's channel at {path}: {error}") from error
        try:
            token = int.from_bytes(os.urandom(4), "big")
            self._send("guest-sync-delimited", {"id": token}, prefix=b"\xff")
            while self._answer().get("return") != token:
                pass
        except OSError as error:
            self.close()
            raise AgentAway(f"the guest agent does not answer on {path}: {error}") from error
        self._socket.settimeout(max(timeout, 30))

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(self, command: str, **arguments: Any) -> Any:
        """What the agent returns; argument names may use _ for -."""
        try:
            self._send(command, {name.replace("_", "-"): value for name, value in arguments.items()})
            answer = self._answer()
        except OSError as error:
            raise AgentAway(f"the guest agent went away during {command}: {error}") from error
        if "error" in answer:
            raise AgentError(f"{command}: {answer['error'].get('desc', answer['error'])}")
        return answer["return"]

    def start(self, command: str) -> int:
        """Starts a shell command; its pid in the guest."""
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8"]
        started = self.call("guest-exec", path="/bin/sh", arg=["-c", command], env=environment, capture_output=True)
        return int(started["pid"])

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a shell command to its end. Raises subprocess.TimeoutExpired, after killing it, when it takes longer."""
        pid = self.start(command)
        deadline = time.monotonic() + timeout
        pause = 0.02
        while True:
            status = self.call("guest-exec-status", pid=pid)
            if status["exited"]:
                break
            if time.monotonic() > deadline:
                self.call("guest-exec", path="/bin/kill", arg=["-KILL", str(pid)])
                raise subprocess.TimeoutExpired(command, timeout)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)
        code = status.get("exitcode", -int(status.get("signal", 0)))
        return subprocess.CompletedProcess(command, code, _text(status.get("out-data")), _text(status.get("err-data")))

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Writes a file of the guest."""
        handle = self.call("guest-file-open", path=path, mode="w")
        for start in range(0, len(data), CHUNK):
            self.call("guest-file-write", handle=handle, buf_b64=base64.b64encode(data[start : start + CHUNK]).decode())
        self.call("guest-file-close", handle=handle)
        done = self.run(f"chmod {mode:o} '{path}'")
        if done.returncode:
            raise AgentError(f"chmod of {path} in the guest: {done.stderr.strip()}")

    def _send(self, command: str, arguments: dict[str, Any], prefix: bytes = b"") -> None:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(prefix + json.dumps(request).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        while True:
            while b"\n" not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError("the agent's channel was closed")
                self._buffer += data
            line, self._buffer = self._buffer.split(b"\n", 1)
            try:
                answer: dict[str, Any] = json.loads(line.replace(b"\xff", b""))
                return answer
            except ValueError:
                continue  # the tail of an answer that an earlier client did not read


def _text(encoded: str | None) -> str:
    return base64.b64decode(encoded or "").decode(errors="replace")
