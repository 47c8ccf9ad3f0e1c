# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""osnetd-push from a host to a Windows server: a stand-in for the guest agent, which starts the program on the Windows Python."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

from tests.unit.fake_agent import FakeAgent, Fault
from tests.windows.conftest import document, link, static
from tests.windows.machine import TOP, Done, Windows

PYTHON = "C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\Python\\python.exe"  # as docs/windows.md has it


class Agent(FakeAgent):
    """qemu-ga.exe, as far as guest-exec goes."""

    def __init__(self, path: Path, windows: Windows) -> None:
        super().__init__(path, system="Windows Server 2019 Standard")
        self.ended: List[Done] = []
        self.on = {"guest-exec": self._exec, "guest-exec-status": self._status}
        self._windows = windows

    def _exec(self, arguments: Dict[str, Any]) -> Dict[str, int]:
        if arguments["path"] != PYTHON:
            raise Fault("Failed to execute child process: No such file or directory")
        assert "env" not in arguments  # it would be all that the program has of Windows' environment
        self.ended.append(self._windows.python(*arguments["arg"], text=base64.b64decode(arguments["input-data"])))
        return {"pid": len(self.ended)}

    def _status(self, arguments: Dict[str, int]) -> Dict[str, Any]:
        done = self.ended[arguments["pid"] - 1]
        told = {f"{name}-data": base64.b64encode(text.encode()).decode() for name, text in (("out", done.out), ("err", done.err)) if text}
        return {"exited": True, "exitcode": done.status, **told}


def push(agent: FakeAgent, text: bytes, *words: str) -> Done:
    argv = [sys.executable, "-m", "osnetd_push", "--socket", agent.path, *words, "-"]
    return Done(subprocess.run(argv, cwd=TOP, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120))


def test_a_host_pushes_200_kilobytes_to_a_windows_server(windows: Windows, tmp_path: Path) -> None:
    said = document(link(1, id="тап"), static(1, "203.0.113.5/24", link="тап"), dns=["192.0.2.53"])
    said["padding"] = "я" * 100_000
    text = json.dumps(said, ensure_ascii=False).encode()
    assert len(text) > 200_000
    with Agent(tmp_path / "agent.sock", windows) as agent:
        shown = push(agent, text, "--dry-run")
        assert shown.status == 0, shown
        assert "address=203.0.113.5" in shown.out
        assert windows.addresses(windows.second) == []
        done = push(agent, text)
        assert done.status == 0, done
        assert f"{windows.second} (" in done.out
        assert windows.addresses(windows.second) == ["203.0.113.5/24"]
        refused = push(agent, b'{"links": 7}')
        assert refused.status == 2, refused
        assert "nothing was changed" in refused.err
