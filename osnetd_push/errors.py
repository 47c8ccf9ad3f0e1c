# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What can prevent a push, each with its exit status. The guest's own exit statuses are below 20, or 70 and above."""

EXIT_NO_CHANNEL = 20
EXIT_AGENT_ABSENT = 21
EXIT_AGENT_BUSY = 22
EXIT_BLOCKED = 23
EXIT_NOT_INSTALLED = 24
EXIT_END_NOT_SEEN = 25
EXIT_NO_DOCUMENT = 26


class PushError(Exception):
    """The guest gave no answer; `code` is the exit status. The text says what is wrong and what to do about it."""

    code = EXIT_NO_CHANNEL


class NoChannel(PushError):
    """There is no way to the guest's agent: no such socket or domain, no right to use it, a guest that is off."""


class AgentAbsent(PushError):
    """The channel is there, and nobody in the guest answers on it."""

    code = EXIT_AGENT_ABSENT


class AgentBusy(PushError):
    """The agent is there, and serves another client or a frozen file system."""

    code = EXIT_AGENT_BUSY


class Blocked(PushError):
    """The agent may not start programs."""

    code = EXIT_BLOCKED


class NotInstalled(PushError):
    """The agent could not start cloudinit-osnetd."""

    code = EXIT_NOT_INSTALLED


class EndNotSeen(PushError):
    """The program was started in the guest, and its end was not seen: what it did is not known."""

    code = EXIT_END_NOT_SEEN


class NoDocument(PushError):
    """The document cannot be read, or cannot be made from what the cloud says."""

    code = EXIT_NO_DOCUMENT


class NoAnswer(Exception):
    """The agent did not answer one command in time. It may yet do so: the caller decides how long to go on."""


class AgentRefused(Exception):
    """The agent answered a command with an error; `kind` is the error's class ("GenericError", "CommandNotFound")."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
