# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs a program in the guest: guest-exec with its input, then guest-exec-status until it has ended. No shell."""

import base64
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence, Tuple

from .errors import AgentAbsent, AgentBusy, AgentRefused, Blocked, EndNotSeen, NoAnswer, NoChannel, NotInstalled

if TYPE_CHECKING:
    from .socket_channel import SocketChannel as Channel  # DomainChannel has the same methods

_EXEC, _STATUS = "guest-exec", "guest-exec-status"
_CALL = 30.0  # seconds for one command of the agent, of an emulated guest under load too
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Entry(NamedTuple):
    """How cloudinit-osnetd is started in one kind of guest. `env` replaces the agent's environment, unless empty."""

    program: str
    words: Tuple[str, ...] = ()
    env: Tuple[str, ...] = ()


# Tried in this order; the next one where a guest has no such program.
_ENV = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root")
_CLOUDBASE = "C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\Python\\python.exe"
ENTRIES = (
    Entry("/usr/bin/cloudinit-osnetd", (), _ENV),
    Entry(_CLOUDBASE, ("-m", "cloudinit_osnetd.windows")),  # docs/windows.md
)

_LOOK = "`cloudinit-osnetd status` in the guest tells what is in force; --timeout waits longer."
_UNBLOCK = (
    "In the guest's /etc/sysconfig/qemu-ga (Enterprise Linux, where both are blocked by default) take guest-exec and "
    "guest-exec-status out of BLACKLIST_RPC or BLOCK_RPCS, or add them to --allow-rpcs in FILTER_RPC_ARGS; elsewhere "
    "look at block-rpcs, blacklist and allow-rpcs in /etc/qemu/qemu-ga.conf (or /etc/qemu-ga/qemu-ga.conf). Then "
    "restart qemu-guest-agent."
)


class Answer(NamedTuple):
    """How the program ended. A signal's number is told as 128 and the number, as a shell does."""

    code: int
    out: str
    err: str


def run(
    channel: "Channel", words: Sequence[str], stdin: bytes, deadline: float, entries: Sequence[Entry] = ENTRIES
) -> Answer:
    """Runs cloudinit-osnetd with `words` and returns its end. Raises a PushError; see errors.py."""
    _check_allowed(channel, deadline)
    return _wait(channel, _start(channel, entries, words, stdin, deadline), deadline)


def _call(channel: "Channel", command: str, arguments: Any, deadline: float) -> Any:
    return channel.call(command, arguments, min(deadline, time.monotonic() + _CALL))


def _check_allowed(channel: "Channel", deadline: float) -> None:
    """Asks first: a guest that allows guest-exec and blocks guest-exec-status would run it and not say how it ended."""
    try:
        info = _call(channel, "guest-info", {}, deadline)
        commands = {one["name"]: bool(one.get("enabled", True)) for one in info["supported_commands"]}
    except (AgentRefused, NoAnswer, KeyError, TypeError):
        return  # it may be blocked itself; guest-exec will tell
    missing = [name for name in (_EXEC, _STATUS) if name not in commands]
    if missing:
        version = info.get("version", "unknown")
        raise Blocked(
            "%s: the guest agent (version %s) has no %s; 2.5 and later have. %s"
            % (channel.name, version, missing[0], _UNBLOCK)
        )
    blocked = [name for name in (_EXEC, _STATUS) if not commands[name]]
    if blocked:
        raise _blocked(channel, " and ".join(blocked), deadline)


def _blocked(channel: "Channel", names: str, deadline: float) -> Exception:
    """While file systems are frozen for a backup the agent blocks nearly all; no configuration has to change then."""
    try:
        if _call(channel, "guest-fsfreeze-status", {}, deadline) == "frozen":
            frozen = "the guest's file systems are frozen (a backup is at work): try again later."
            return AgentBusy("%s: %s" % (channel.name, frozen))
        system = _call(channel, "guest-get-osinfo", {}, deadline).get("pretty-name", "")
    except (AgentRefused, NoAnswer, AttributeError):
        system = ""
    where = " (%s)" % system if system else ""
    text = "%s: the guest agent%s may not run programs: %s is blocked. %s"
    return Blocked(text % (channel.name, where, names, _UNBLOCK))


def _start(channel: "Channel", entries: Sequence[Entry], words: Sequence[str], stdin: bytes, deadline: float) -> int:
    problems = []
    for entry in entries:
        request = {
            "path": entry.program,
            "arg": [*entry.words, *words],
            "input-data": base64.b64encode(stdin).decode("ascii"),
            "capture-output": True,
        }
        if entry.env:
            request["env"] = list(entry.env)
        try:
            return int(_call(channel, _EXEC, request, deadline)["pid"])
        except AgentRefused as exc:
            text = str(exc)
            if exc.kind == "CommandNotFound" or "disabled" in text or "blocked" in text:
                raise _blocked(channel, _EXEC, deadline) from exc
            problems.append("%s: %s" % (entry.program, text))
        except (NoAnswer, NoChannel, AgentAbsent) as exc:
            raise EndNotSeen(
                "%s: no answer to guest-exec (%s): whether anything was started is not known. %s"
                % (channel.name, exc, _LOOK)
            ) from exc
        except (KeyError, TypeError, ValueError) as exc:
            raise EndNotSeen("%s: the guest agent's answer to guest-exec has no pid." % channel.name) from exc
    raise NotInstalled(
        "%s: the guest agent could not start cloudinit-osnetd: %s. Is the package installed in the guest? "
        "If it is, and permission was denied: SELinux, see docs/guest-agent.md." % (channel.name, "; ".join(problems))
    )


def _wait(channel: "Channel", pid: int, deadline: float) -> Answer:
    started = "%s: cloudinit-osnetd was started in the guest (pid %d), and " % (channel.name, pid)
    pause, status = _FIRST_PAUSE, None  # type: float, Any
    try:
        while True:
            # No limit of its own: the agent tells an end once, and an answer that we stopped waiting for would be lost.
            status = channel.call(_STATUS, {"pid": pid}, deadline)
            if status["exited"]:
                return _answer(channel, status)
            if time.monotonic() + pause > deadline:
                raise EndNotSeen("%sdid not end in time; it goes on there. %s" % (started, _LOOK))
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
    except NoAnswer as exc:
        raise EndNotSeen("%sthe agent stopped answering. %s" % (started, _LOOK)) from exc
    except AgentRefused as exc:
        lost = "the agent does not tell how it ended (%s); was the agent restarted?" % exc
        raise EndNotSeen("%s%s %s" % (started, lost, _LOOK)) from exc
    except (NoChannel, AgentBusy, AgentAbsent) as exc:
        raise EndNotSeen("%sthen: %s" % (started, exc)) from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise EndNotSeen("%sthe agent's answer is not understood: %.200r" % (started, status)) from exc


def _answer(channel: "Channel", status: Any) -> Answer:
    code = int(status.get("exitcode", 128 + int(status.get("signal", 0))))
    out, err = (_text(status.get(name)) for name in ("out-data", "err-data"))
    if status.get("out-truncated") or status.get("err-truncated"):
        err += "\nosnetd-push: %s: the guest agent cut off the rest of the output\n" % channel.name
    return Answer(code, out, err)


def _text(encoded: Any) -> str:
    return base64.b64decode(encoded or "", validate=True).decode("utf-8", "replace")
