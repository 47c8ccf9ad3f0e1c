# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A stand-in for QEMU and the guest agent behind it: a Unix socket that speaks the agent's protocol, with all its faults.

What it answers is what qemu-ga 2.5 to 10 answers (qga/main.c, qga/commands-posix.c, qga/qapi-schema.json).
"""

import base64
import json
import os
import socket
import threading
import time

# qga/commands.c: what a guest has that blocks nothing, as far as it concerns us.
COMMANDS = ("guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-get-osinfo",
            "guest-exec", "guest-exec-status")  # fmt: skip


class Fault(Exception):
    """What the agent answers as an error."""

    def __init__(self, text, kind="GenericError"):
        super().__init__(text)
        self.answer = {"error": {"class": kind, "desc": text}}


class FakeAgent:
    """The agent of one guest.

    code, out, err: how the program ends. polls: how often guest-exec-status says that it has not ended yet.
    blocked: commands of the block list. system: the guest's name in guest-get-osinfo. truncated: as guest-exec-status has it.
    before: bytes that an earlier client has not read. late: seconds until each answer. takes: whether the socket's clients are
    served at all (QEMU serves one at a time). deaf: the first so many synchronisations are lost.
    on: command to a function of the arguments that answers instead; it may raise Fault, return bytes to be sent as they are,
    or call `hang_up`.
    """

    def __init__(self, path, **options):
        self.path = str(path)
        self.code, self.out, self.err, self.polls = 0, b"", b"", 2
        self.blocked, self.system, self.version = (), "Debian GNU/Linux 13 (trixie)", "10.0.2"
        self.known, self.truncated, self.before, self.late, self.takes, self.deaf = COMMANDS, False, b"", 0.0, True, 0
        self.on = {}
        assert set(options) <= set(vars(self)), options
        vars(self).update(options)
        self.seen = []  # (command, arguments) in their order
        self._listener = socket.socket(socket.AF_UNIX)
        folder = os.getcwd()
        os.chdir(os.path.dirname(self.path))  # a socket's path holds 107 bytes
        try:
            self._listener.bind(os.path.basename(self.path))
        finally:
            os.chdir(folder)
        self._listener.listen(1)
        self._client = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        if self.takes:
            self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.takes = False
        for one in (self._client, self._listener):
            if one is not None:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                one.close()
        if self._thread.is_alive():
            self._thread.join(10)

    def commands(self):
        """The names of what was asked, without the synchronisation."""
        return [name for name, _arguments in self.seen if not name.startswith("guest-sync")]

    def started(self):
        """The arguments of each guest-exec."""
        return [arguments for name, arguments in self.seen if name == "guest-exec"]

    def hang_up(self, *_arguments):
        """QEMU ends: the connection and the socket are closed."""
        self.takes = False
        self._listener.close()
        raise ConnectionResetError

    def _serve(self):
        while self.takes:
            try:
                self._client, _address = self._listener.accept()
                with self._client:
                    self._client.sendall(self.before)
                    self._talk(self._client)
            except OSError:
                continue

    def _talk(self, client):
        buffered = b""
        while True:
            data = client.recv(65536)
            if not data:
                return
            buffered += data
            while b"\n" in buffered:
                line, _end, buffered = buffered.partition(b"\n")
                # 0xff makes the agent's parser forget what came before it.
                answer = self._answer(line.rpartition(b"\xff")[2])
                time.sleep(self.late)
                if answer is not None:
                    client.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode("ascii") + b"\n")

    def _answer(self, line):
        try:
            request = json.loads(line.decode("ascii"))
        except ValueError:
            return {"error": {"class": "GenericError", "desc": "JSON parse error, Invalid JSON syntax"}}
        name, arguments = request["execute"], request.get("arguments", {})
        self.seen.append((name, arguments))
        if name == "guest-sync-delimited":
            self.deaf -= 1
            return None if self.deaf >= 0 else b'\xff{"return": %d}\n' % arguments["id"]
        try:
            if name not in self.known:
                raise Fault("The command %s has not been found" % name, "CommandNotFound")
            if name in self.blocked:
                raise Fault("Command %s has been disabled: the command is not allowed" % name, "CommandNotFound")
            result = self.on.get(name, getattr(self, "_" + name.replace("-", "_")))(arguments)
        except Fault as fault:
            return fault.answer
        return result if isinstance(result, bytes) else {"return": result}

    def _guest_ping(self, _arguments):
        return {}

    def _guest_info(self, _arguments):
        commands = [{"name": name, "enabled": name not in self.blocked, "success-response": True} for name in self.known]
        return {"version": self.version, "supported_commands": commands}

    def _guest_fsfreeze_status(self, _arguments):
        return "thawed"

    def _guest_get_osinfo(self, _arguments):
        return {"pretty-name": self.system, "id": "debian"}

    def _guest_exec(self, arguments):
        assert arguments["capture-output"] is True
        base64.b64decode(arguments["input-data"], validate=True)
        return {"pid": 4711}

    def _guest_exec_status(self, arguments):
        assert arguments == {"pid": 4711}
        self.polls -= 1
        if self.polls >= 0:
            return {"exited": False}
        status = {"exited": True, "exitcode": self.code}
        # No key where there was no output.
        status.update({"%s-data" % n: base64.b64encode(v).decode() for n, v in (("out", self.out), ("err", self.err)) if v})
        status.update({"out-truncated": True} if self.truncated else {})
        return status
