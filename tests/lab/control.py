# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A running lab listens on a unix socket in its run's directory: whoever may open it can change the cloud meanwhile.

One request a connection: a JSON list, the arguments of `python3 -m tests.lab`; one answer: {"ok": bool, "text": str}.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

from tests.lab import commands, run
from tests.lab.call import LabError

_NAME = "control"


@contextlib.contextmanager
def serving(lab: commands.Lab) -> Iterator[Path]:
    """Take requests for this lab, one at a time, for the time of the block."""
    path = run.current().dir / _NAME

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            ok, text = perform(lab, json.loads(self.rfile.readline()))
            self.wfile.write(json.dumps({"ok": ok, "text": text}).encode())

    with _short(path) as address, socketserver.UnixStreamServer(address, Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            yield path
        finally:
            server.shutdown()
            path.unlink()


def perform(lab: commands.Lab, argv: Sequence[str]) -> Tuple[bool, str]:
    """Do what the arguments say. Returns whether it worked, and what to print."""
    try:
        args = commands.parser().parse_args(argv)
        return True, args.function(lab, args)
    except (LabError, ValueError) as error:
        return False, f"{error}\n"
    except SystemExit:
        return False, f"not understood: {' '.join(argv)}\n"


def ask(argv: Sequence[str], run_id: Optional[str] = None) -> Tuple[bool, str]:
    """Send a request to the running lab."""
    with _short(_find(run_id)) as address, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(list(argv)).encode() + b"\n")
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    return answer["ok"], answer["text"]


def _find(run_id: Optional[str]) -> Path:
    found: List[Path] = sorted((run.lab_dir() / "run").glob(f"{run_id or '*'}/{_NAME}"))
    if not found:
        raise LabError("no lab is running here: start one with `python3 -m tests.lab shell`")
    if len(found) > 1:
        raise LabError(f"several labs are running: choose with --run {' or '.join(path.parent.name for path in found)}")
    return found[0]


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same file by a path that fits into a socket's address (107 characters)."""
    directory = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
