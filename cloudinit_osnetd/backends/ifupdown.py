# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifupdown: one interfaces(5) file for all NICs; a NIC's section is all of its stanzas."""

import glob
import os
import re
import subprocess
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import files
from ..command import CommandError, run
from .base import Backend, Part, Touch

DIRECTORY = "/etc/network"
STATE = "/run/network/ifstate"
_STARTS = ("iface", "auto", "mapping", "source", "source-directory", "rename", "no-scripts", "no-auto-down")
_UP_SECONDS = 30


class _Block(NamedTuple):
    """A stanza with the comments right above it; `owner` is empty where it is no one NIC's."""

    owner: str
    lines: Tuple[str, ...]


def _owner(words: List[str]) -> str:
    if words[0] == "iface" and len(words) > 1:
        return words[1]
    if (words[0] == "auto" or words[0].startswith("allow-")) and len(words) == 2:
        return words[1]
    return ""


def _starts(line: str) -> bool:
    words = line.split()
    return bool(words) and (words[0] in _STARTS or words[0].startswith("allow-"))


def _blocks(text: str) -> List[_Block]:
    """The file in blocks; their lines, joined, are the file again."""
    blocks = []  # type: List[_Block]
    current = []  # type: List[str]
    owner = ""
    comments = []  # type: List[str]
    continued = False
    for line in text.splitlines():
        if not continued and _starts(line):
            blocks.append(_Block(owner, tuple(current)))
            current, comments, owner = comments + [line], [], _owner(line.split())
        elif not continued and line.lstrip().startswith("#"):
            comments.append(line)
        else:
            current.extend(comments + [line])
            comments = []
        continued = line.endswith("\\")
    blocks.append(_Block(owner, tuple(current + comments)))
    return [block for block in blocks if block.lines]


def _text(blocks: Sequence[_Block]) -> str:
    return "\n".join(line for block in blocks for line in block.lines).rstrip("\n") + "\n"


class Ifupdown(Backend):
    name = "ifupdown"

    def staged(self, tree: str) -> List[Part]:
        found = glob.glob(os.path.join(tree + DIRECTORY, "interfaces")) + sorted(
            glob.glob(os.path.join(tree + DIRECTORY, "interfaces.d", "*"))
        )
        return [
            Part(path[len(tree) :], section, section, text)
            for path in found
            for section, text in self.split(files.read(path) or "").items()
            if section != "lo"
        ]

    def split(self, text: str) -> Dict[str, str]:
        sections = {}  # type: Dict[str, List[_Block]]
        for block in _blocks(text):
            if block.owner:
                sections.setdefault(block.owner, []).append(block)
        return {name: _text(blocks) for name, blocks in sections.items()}

    def join(
        self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]
    ) -> Optional[str]:
        if old is not None:
            blocks = _blocks(old)
        else:
            # A new file: what the renderer puts there besides NICs (a header, the loopback).
            blocks = [b for b in _blocks(template or "") if b.owner in ("", "lo")]
        todo = dict(changes)
        out = []  # type: List[str]
        for block in blocks:
            if block.owner not in changes:
                out.extend(block.lines)  # byte for byte: it is another NIC's, or nobody's
                continue
            new = todo.pop(block.owner, None)
            if new is not None:
                out.extend(new.rstrip("\n").splitlines() + [""])
        for added in todo.values():
            if added is not None:
                if out and out[-1].strip():
                    out.append("")
                out.extend(added.rstrip("\n").splitlines())
        return "\n".join(out).rstrip("\n") + "\n"

    def normal(self, text: str) -> str:
        lines = [" ".join(line.split()) for line in text.splitlines()]
        return "\n".join(line for line in lines if line and not line.startswith("#"))

    def before(self, touches: Sequence[Touch]) -> None:
        """Take down with the old stanza in place: `ifdown` undoes what it reads there.

        A NIC that is gone is taken down too: its DHCP client ends, and it leaves ifstate, without
        which a later NIC of that name would count as configured.
        """
        for touch in touches:
            if touch.name in _up():
                try:
                    run(["ifdown", "--force", touch.name])
                except CommandError:
                    pass  # the commands of a stanza fail on a device that is gone: that is the rule
            if touch.name in _up():
                _forget(touch.name)

    def after(self, touches: Sequence[Touch], files_changed: bool) -> Dict[str, str]:
        """Bring up side by side, each in a scope of its own.

        A DHCP client that `ifup` leaves behind stays in the caller's cgroup: in our service's it
        would die with it, and the lease would run out minutes later.
        """
        jobs = []
        for touch in touches:
            if touch.action == "down":
                continue
            if touch.name in _up():
                self.before([touch])
            jobs.append((touch.name, _start_up(touch.name)))
        problems = {}  # type: Dict[str, str]
        for name, job in jobs:
            problem = _end_of(job)
            if problem:
                problems[name] = problem
        return problems


def _up() -> Tuple[str, ...]:
    """The NICs that ifupdown believes to be up."""
    lines = (files.read(STATE) or "").splitlines()
    return tuple(line.split("=", 1)[0].strip() for line in lines if "=" in line)


def _forget(name: str) -> None:
    kept = [line for line in (files.read(STATE) or "").splitlines() if line.split("=", 1)[0] != name]
    files.replace(STATE, "".join(line + "\n" for line in kept), sync=False)


def _start_up(name: str) -> "subprocess.Popen[str]":
    from ..command import PATH, ran

    argv = ["ifup", name]
    if os.path.isdir("/run/systemd/system"):
        unit = "osnetd-ifup-%s" % re.sub(r"[^A-Za-z0-9]", "-", name)
        argv = ["systemd-run", "--quiet", "--scope", "--collect", "--unit", "%s-%d" % (unit, os.getpid())] + argv
    ran.append(" ".join(argv))
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env={"PATH": PATH, "LC_ALL": "C"},
    )


def _end_of(job: "subprocess.Popen[str]") -> str:
    try:
        _out, said = job.communicate(timeout=_UP_SECONDS)
    except subprocess.TimeoutExpired:
        # A DHCP client that nobody answers goes on in its scope, and may still succeed.
        return "ifup is still at work after %d s" % _UP_SECONDS
    if job.returncode:
        return "ifup: exit %d: %s" % (job.returncode, " | ".join(said.strip().splitlines()[-3:]))
    return ""
