# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The guest agent of a libvirt domain, through libvirt, which holds the agent's socket itself.

libvirt-python is imported only here, so that a host that knows sockets only needs none. libvirt's own texts are kept:
its error codes decide what they mean.
"""

import json
import math
import time
from typing import Any, Dict, List, Sequence, Tuple
from xml.etree import ElementTree

from .errors import AgentAbsent, AgentBusy, AgentRefused, NoAnswer, NoChannel, PushError

_SYNC = 10.0  # seconds in which an agent that is there answers a ping


class DomainChannel:
    """A conversation with the agent of one domain. libvirt does the synchronisation."""

    def __init__(self, name: str, domain: Any) -> None:
        self.name = name
        self._domain = domain

    def open(self, deadline: float) -> None:
        """Waits until the agent answers. Raises NoChannel, AgentBusy or AgentAbsent."""
        while True:
            try:
                self.call("guest-ping", {}, min(deadline, time.monotonic() + _SYNC))
                return
            except AgentRefused:
                return  # it answers
            except (NoAnswer, AgentAbsent) as exc:
                if time.monotonic() + 1.0 > deadline:
                    raise AgentAbsent(
                        "%s: no guest agent answers (%s). Is qemu-guest-agent installed and running in the guest?"
                        % (self.name, exc)
                    ) from exc
            time.sleep(1.0)

    def macs(self) -> List[str]:
        """The MACs of the domain's NICs as it runs now, in lower case. Raises NoChannel."""
        import libvirt

        try:
            described = ElementTree.fromstring(self._domain.XMLDesc(0))  # noqa: S314 - libvirt made it
        except (libvirt.libvirtError, ElementTree.ParseError) as exc:
            raise NoChannel("%s: %s" % (self.name, exc)) from exc
        found = described.findall("devices/interface/mac") + described.findall("devices/hostdev/mac")
        return [element.get("address", "").lower() for element in found]

    def close(self) -> None:
        """Does nothing: the connection to libvirt serves other domains too."""

    def call(self, command: str, arguments: Dict[str, Any], deadline: float) -> Any:
        """Returns what the agent returns. Raises AgentRefused, NoAnswer, NoChannel, AgentBusy or AgentAbsent."""
        import libvirt
        import libvirt_qemu

        left = deadline - time.monotonic()
        if left <= 0:
            raise NoAnswer("no answer to %s" % command)
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        try:
            text = libvirt_qemu.qemuAgentCommand(self._domain, json.dumps(request), math.ceil(left), 0)
            answer = json.loads(text)
        except libvirt.libvirtError as exc:
            raise _meaning(self.name, exc) from exc
        except (TypeError, ValueError, RecursionError) as exc:
            raise NoAnswer("not JSON: %s" % exc) from exc
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict):
            raise AgentRefused(str(error.get("class", "")), str(error.get("desc", error)))
        return answer.get("return") if isinstance(answer, dict) else None


def _meaning(name: str, exc: Any) -> Exception:
    """Returns what an error of libvirt's says of the agent, by its number."""
    import libvirt

    code, text = exc.get_error_code(), str(exc)
    if code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
        return AgentAbsent(text)
    if code in [getattr(libvirt, "VIR_ERR_AGENT_COMMAND_" + word, -1) for word in ("TIMEOUT", "FAILED")]:
        return NoAnswer(text)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return AgentBusy("%s: libvirt is at work on the domain: %s" % (name, text))
    if code in (libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
        return NoChannel(
            "%s: the domain has no channel for the guest agent (%s). On OpenStack the image property "
            "hw_qemu_guest_agent=yes gives one to servers that are made from the image." % (name, text)
        )
    # An error that the agent answered: its class in libvirt's words ("The command has not been found"), or its text.
    if "QEMU agent command" in text:
        return AgentRefused("CommandNotFound" if "has not been found" in text else "GenericError", text)
    return NoChannel("%s: %s" % (name, text))


def connect(uri: str) -> Any:
    """Returns a connection to libvirt; `uri` is empty for libvirt's default. Raises NoChannel."""
    try:
        import libvirt
        import libvirt_qemu  # noqa: F401
    except ImportError as exc:
        raise NoChannel("libvirt-python is not installed on this host (package python3-libvirt): %s" % exc) from exc
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # it prints each error by itself
    try:
        return libvirt.open(uri or None)
    except libvirt.libvirtError as exc:
        raise NoChannel("libvirt %s: %s" % (uri or "(default URI)", exc)) from exc


def channels(connection: Any, names: Sequence[str], every: bool) -> List[Tuple[str, Any]]:
    """Returns (name, DomainChannel or the PushError that says why there is none) of each domain.

    names: names, UUIDs or numbers of domains. every: all that run, by name.
    """
    import libvirt

    if every:
        try:
            running = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        except libvirt.libvirtError as exc:
            raise NoChannel("the domains cannot be listed: %s" % exc) from exc
        return [(one.name(), DomainChannel(one.name(), one)) for one in sorted(running, key=lambda one: one.name())]
    found = []  # type: List[Tuple[str, Any]]
    for name in names:
        try:
            found.append((name, DomainChannel(name, _domain(connection, name))))
        except PushError as exc:
            found.append((name, exc))
    return found


def _domain(connection: Any, name: str) -> Any:
    import libvirt

    lookups = [connection.lookupByName, connection.lookupByUUIDString]
    if name.isdigit():
        lookups.append(lambda number: connection.lookupByID(int(number)))
    problem = ""
    for look_up in lookups:
        try:
            domain = look_up(name)
            if not domain.isActive():
                raise NoChannel("%s: the domain is not running" % name)
            return domain
        except libvirt.libvirtError as exc:
            problem = problem or str(exc)
    raise NoChannel("%s: %s" % (name, problem))
