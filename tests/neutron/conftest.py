# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A real Neutron API server: installed once, from the package index, in the lab's directory; started once for all tests."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from tests.lab import run
from tests.lab.progress import step

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class Neutron:
    """Its API, as an operator uses it: create("port", network_id=...)."""

    def __init__(self, python: Path, port: int, directory: Path) -> None:
        self.python = python
        self.url = f"http://127.0.0.1:{port}"
        settings = {"auth_type": "none", "auth": {"endpoint": self.url}, "network_endpoint_override": self.url}
        self.clouds = directory / "clouds.yaml"
        self.clouds.write_text(json.dumps({"clouds": {"lab": settings}}))  # JSON is YAML

    def create(self, kind: str, **fields: Any) -> Dict[str, Any]:
        return self._call("POST", f"{kind}s", {kind: {"project_id": "lab", **fields}})[kind]

    def change(self, kind: str, of: Dict[str, Any], **fields: Any) -> None:
        self._call("PUT", f"{kind}s/{of['id']}", {kind: fields})

    def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json", "X-Project-Id": "lab", "X-User-Id": "lab", "X-Roles": "admin"}
        request = urllib.request.Request(f"{self.url}/v2.0/{path}", json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def neutron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neutron]:
    python, directory = _installed(), tmp_path_factory.mktemp("neutron")
    with (directory / "log").open("wb") as log:
        words = [str(python), str(Path(__file__).with_name("serve.py")), str(directory)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        assert port, (directory / "log").read_text()[-3000:]
        yield Neutron(python, int(port), directory)
    finally:
        process.kill()
        process.communicate()


def _installed() -> Path:
    """The interpreter that has Neutron. Where it cannot be had, the tests say that they did not run."""
    if sys.version_info < (3, 11):
        pytest.skip("NOT RUN: Neutron needs Python 3.11 or later")
    home = run.lab_dir() / f"neutron-{hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:10]}"
    with run.locked(run.lab_dir() / "neutron.lock"):
        if not (home / "complete").exists():
            with step("installing Neutron"):
                for argv in (
                    [sys.executable, "-m", "venv", "--clear", str(home)],
                    [str(home / "bin" / "pip"), "install", "--quiet", "--requirement", str(_REQUIREMENTS)],
                ):
                    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                    if done.returncode != 0:
                        pytest.skip(f"NOT RUN, Neutron cannot be installed: {done.stdout.strip()[-300:]}")
            (home / "complete").touch()
    return home / "bin" / "python"
