# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs a program, counts what it and its children do to the machine, and strikes at the n-th of these operations.

    python3 strike.py [--report FILE] [--begin PROGRAM] [--whose own] [--at N --how HOW] [--error NAME] -- COMMAND...

HOW: before, after   kill -9 to all of them, before the operation or when it is done
     main            kill -9 to the program alone, its children live on
     unit            kill -9 to all of them and to this itself: what runs it as a service sees its main process killed
     fail            the operation fails with --error
     onward          and so does everything after it on the same file system (a full disk, one that is read-only)
     hold            all stand still from before it until somebody ends this (or cuts the power)

Counting begins with the execution of --begin. An operation is a system call that changes files, runs a program, changes
an interface, an address or a route, or asks a service over D-Bus. --whose own counts those of the program, the starting
of its commands included, --whose children what these do after that. It stands alone, with Python's own library, and also
runs inside guests. The report is JSON: see `Report`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import signal
import struct
import sys
import time
from typing import Dict, List, NamedTuple, NoReturn, Optional, Tuple

# x86-64 (arch/x86/entry/syscalls/syscall_64.tbl): number -> name, where the arguments have the path or descriptor.
# p0: a path in the first argument. d0: a directory's descriptor, and the path after it. f0: an open file.
CALLS = {
    2: ("open", "p0"), 257: ("openat", "d0"), 85: ("creat", "p0"),
    1: ("write", "f0"), 18: ("pwrite", "f0"), 20: ("writev", "f0"), 40: ("sendfile", "f0"), 326: ("copy_file_range", "f2"),
    82: ("rename", "p1"), 264: ("renameat", "d2"), 316: ("renameat2", "d2"),
    87: ("unlink", "p0"), 263: ("unlinkat", "d0"), 84: ("rmdir", "p0"),
    83: ("mkdir", "p0"), 258: ("mkdirat", "d0"), 133: ("mknod", "p0"), 259: ("mknodat", "d0"),
    86: ("link", "p1"), 265: ("linkat", "d2"), 88: ("symlink", "p1"), 266: ("symlinkat", "d1"),
    74: ("fsync", "f0"), 75: ("fdatasync", "f0"), 76: ("truncate", "p0"), 77: ("ftruncate", "f0"),
    90: ("chmod", "p0"), 91: ("fchmod", "f0"), 268: ("fchmodat", "d0"),
    92: ("chown", "p0"), 93: ("fchown", "f0"), 94: ("lchown", "p0"), 260: ("fchownat", "d0"),
    188: ("setxattr", "p0"), 189: ("lsetxattr", "p0"), 190: ("fsetxattr", "f0"), 280: ("utimensat", "d0"),
    165: ("mount", "p1"), 166: ("umount", "p0"),
    59: ("execve", "p0"),
    44: ("sendto", "s0"), 46: ("sendmsg", "s0"),
    16: ("ioctl", "i0"),
}  # fmt: skip
_SOCKET, _AT_FDCWD = 41, -100
_OPEN_FLAGS = {"open": 1, "openat": 2}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What a disk that is full still does.
_NO_SPACE_NEEDED = ("unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utimensat")
# SIOCADDRT, SIOCDELRT, SIOCSIFFLAGS, -ADDR, -BRDADDR, -NETMASK, -MTU, -HWADDR (linux/sockios.h)
_IOCTLS = (0x890B, 0x890C, 0x8914, 0x8916, 0x891A, 0x891C, 0x8922, 0x8924)
_NOT_FILES = ("execve", "sendto", "sendmsg", "ioctl")

_SYSCALL, _DETACH, _GETREGS, _SETREGS, _SEIZE, _INTERRUPT, _LISTEN = 24, 17, 12, 13, 0x4206, 0x4207, 0x4208
_GETEVENTMSG, _GET_SYSCALL_INFO = 0x4201, 0x420E
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000  # SYSGOOD FORK VFORK CLONE EXEC EXITKILL
_EVENT_FORKS, _EVENT_STOP = (1, 2, 3), 128
_WALL = 0x40000000
_ORIG_RAX, _RAX, _REGISTERS = 15, 10, 27
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Operation(NamedTuple):
    number: int  # from 1
    program: str  # that does it
    call: str
    target: str  # a path; what is sent

    @property
    def on_files(self) -> bool:
        return self.call not in _NOT_FILES


class Report(NamedTuple):
    operations: List[Operation]
    struck: bool
    status: int  # exit status; that of a shell where a signal ended it


class Strike(NamedTuple):
    at: int = 0  # 0: only count
    how: str = "before"
    error: int = 0
    whose: str = "all"


class _Gone(Exception):
    """The process is no more: somebody killed it."""


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    result = int(_libc.ptrace(request, pid, address, data))
    if result < 0:
        code = ctypes.get_errno()
        if code == errno.ESRCH:
            raise _Gone
        raise OSError(code, f"ptrace {request}: {os.strerror(code)}")
    return result


class _Task:
    """One traced process."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.parent = 0
        self.started = False  # it has executed a program of its own
        self.call: Tuple[int, Tuple[int, ...]] = (0, ())
        self.fails = 0
        self.dies = False  # when the call is done


class Tracer:
    def __init__(self, begin: str, strike: Strike) -> None:
        self.begin, self.strike = begin, strike
        self.counting = not begin
        self.main = 0
        self.operations: List[Operation] = []
        self.struck = False
        self.tasks: Dict[int, _Task] = {}
        self.families: Dict[str, int] = {}  # "socket:[inode]" -> address family
        self.onward = ""  # paths below this fail
        self.buffer = ctypes.create_string_buffer(88)

    def run(self, argv: List[str]) -> Report:
        root = self._start(argv)
        status = 0
        while True:
            pid, what = os.waitpid(-1, _WALL)
            if os.WIFEXITED(what) or os.WIFSIGNALED(what):
                self.tasks.pop(pid, None)
                if pid == root:
                    status = os.WEXITSTATUS(what) if os.WIFEXITED(what) else 128 + os.WTERMSIG(what)
                    break
                continue
            try:
                self._stopped(pid, what)
            except _Gone:
                pass  # its end is reported next
        self._let_go()
        return Report(self.operations, self.struck, status)

    def _start(self, argv: List[str]) -> int:
        ready, go = os.pipe()
        root = os.fork()
        if root == 0:
            os.close(go)
            os.read(ready, 1)
            try:
                os.execvp(argv[0], argv)
            finally:
                os._exit(127)
        _ptrace(_SEIZE, root, 0, _OPTIONS)
        self.tasks[root] = _Task(argv[0])
        _ptrace(_INTERRUPT, root)
        os.write(go, b"x")
        os.close(go)
        os.close(ready)
        return root

    def _let_go(self) -> None:
        """Whoever outlives the program (a DHCP client) lives on without us."""
        for pid in self.tasks:
            with contextlib.suppress(_Gone):
                _ptrace(_INTERRUPT, pid)
        while self.tasks:
            try:
                pid, what = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return  # who is left in the list had ended before its birth was reported
            if os.WIFSTOPPED(what):
                task = self.tasks.get(pid)
                if what >> 16 in _EVENT_FORKS:
                    self.tasks.setdefault(self._message(pid), _Task(""))
                sent = os.WSTOPSIG(what)
                deliver = sent if not what >> 16 and sent != signal.SIGTRAP | 0x80 and sent != signal.SIGTRAP else 0
                try:
                    if task is None or what >> 16 == _EVENT_STOP or sent == signal.SIGTRAP | 0x80 or deliver:
                        _ptrace(_DETACH, pid, 0, deliver)
                        self.tasks.pop(pid, None)
                    else:
                        _ptrace(_SYSCALL, pid)
                except _Gone:
                    pass
            else:
                self.tasks.pop(pid, None)

    def _message(self, pid: int) -> int:
        number = ctypes.c_ulong()
        _ptrace(_GETEVENTMSG, pid, 0, ctypes.addressof(number))
        return number.value

    def _stopped(self, pid: int, what: int) -> None:
        sent, event = os.WSTOPSIG(what), what >> 16
        task = self.tasks.setdefault(pid, _Task(""))
        if event in _EVENT_FORKS:
            child = self.tasks.setdefault(self._message(pid), _Task(""))
            child.program, child.parent = task.program, pid
            sent = 0
        elif event == _EVENT_STOP:
            if sent in _STOPPING:
                _ptrace(_LISTEN, pid)
                return
            sent = 0
        elif event:
            sent = 0
        elif sent == signal.SIGTRAP | 0x80:
            sent = 0
            if not self._system_call(pid, task):
                return
        _ptrace(_SYSCALL, pid, 0, sent)

    def _system_call(self, pid: int, task: _Task) -> bool:
        """False where the process is not to go on."""
        _ptrace(_GET_SYSCALL_INFO, pid, len(self.buffer), ctypes.addressof(self.buffer))
        if self.buffer.raw[0] == 1:
            number, *arguments = struct.unpack_from("=Q6Q", self.buffer.raw, 24)
            task.call = number, tuple(arguments)
            if number not in CALLS:
                return True
            found = self._operation(pid, task, *task.call)
            return found is None or self._strike_before(pid, task, found)
        number, arguments = task.call
        (result,) = struct.unpack_from("=q", self.buffer.raw, 24)
        if number == _SOCKET and result >= 0:
            self.families[self._link(pid, result)] = arguments[0]
        if task.fails:
            self._set_register(pid, _RAX, -task.fails)
            task.fails = 0
        if task.dies:
            self._kill_all()
            return False
        return True

    # What it does

    def _operation(self, pid: int, task: _Task, number: int, arguments: Tuple[int, ...]) -> Optional[Operation]:
        name, where = CALLS[number]
        if name == "execve" and not self._executes(pid, task, self._text(pid, arguments[0])):
            return None
        if not self.counting:
            return None
        self.main = self.main or pid
        own = pid == self.main or (name == "execve" and task.parent == self.main and not task.started)
        task.started |= name == "execve"
        target = self._target(pid, name, where, arguments)
        if not target or self.strike.whose not in ("all", "own" if own else "children"):
            return None
        self.operations.append(Operation(len(self.operations) + 1, task.program, name, target))
        return self.operations[-1]

    def _executes(self, pid: int, task: _Task, path: str) -> bool:
        """False where it is not there: a search along PATH."""
        if not os.path.exists(f"/proc/{pid}/root{path}"):
            return False
        task.program = os.path.basename(path)
        if not self.counting and path.endswith(self.begin):
            self.counting, self.main = True, pid
        return True

    def _target(self, pid: int, name: str, where: str, arguments: Tuple[int, ...]) -> str:
        """What it is done to; empty where it changes nothing."""
        place = int(where[1])
        if where[0] == "p":
            target = self._absolute(pid, _AT_FDCWD, self._text(pid, arguments[place]))
        elif where[0] == "d":
            target = self._absolute(pid, arguments[place], self._text(pid, arguments[place + 1]))
        elif where[0] == "f":
            target = self._link(pid, arguments[place])
            if not target.startswith("/") or target.startswith("/dev/") or target.endswith(" (deleted)"):
                return ""
        elif where[0] == "s":
            target = self._sent(pid, name, arguments)
        else:
            target = "interface" if arguments[1] in _IOCTLS else ""
        if name in _OPEN_FLAGS and not self._opens_to_change(target, arguments[_OPEN_FLAGS[name]]):
            return ""
        if name in ("mkdir", "mkdirat") and os.path.isdir(f"/proc/{pid}/root{target}"):
            return ""
        return target

    @staticmethod
    def _opens_to_change(target: str, flags: int) -> bool:
        return bool(flags & _WRITING) and not target.startswith(("/dev/", "/proc/self/"))

    def _sent(self, pid: int, name: str, arguments: Tuple[int, ...]) -> str:
        family = self.families.get(self._link(pid, arguments[0]), 0)
        if family not in (1, 16):
            return ""
        address, size = arguments[1], arguments[2]
        if name == "sendmsg":
            vector, count = self._two(pid, arguments[1] + 16)
            if not count:
                return ""
            address, size = self._two(pid, vector)
        data = self._memory(pid, address, min(size, 400))
        if family == 16:  # rtnetlink(7): of each four message types the third is a question
            kind = struct.unpack_from("=H", data, 4)[0] if len(data) >= 16 else 0
            return f"rtnetlink {kind}" if kind >= 16 and kind & 3 != 2 else ""
        if data[:1] in (b"l", b"B") and data[1:2] == b"\x01":
            words = [part for part in data.replace(b"\0", b" ").split() if part.isalnum() and len(part) > 4]
            return "D-Bus " + b" ".join(words[-3:]).decode("ascii", "replace")
        return "varlink" if data.startswith(b'{"method"') else ""

    # What is done about it

    def _strike_before(self, pid: int, task: _Task, now: Operation) -> bool:
        strike = self.strike
        if self.onward and now.on_files and self._of(now.target) == self.onward:
            self._fail(pid, task, now)
            return True
        if now.number != strike.at:
            return True
        self.struck = True
        if strike.how in ("before", "unit"):
            self._kill_all()
            if strike.how == "unit":
                os.kill(os.getpid(), signal.SIGKILL)
            return False
        if strike.how == "after":
            task.dies = True
        elif strike.how == "main":
            os.kill(self.main, signal.SIGKILL)
            return pid != self.main
        elif strike.how == "hold":
            self._hold(now)
        elif now.on_files:
            self._fail(pid, task, now)
            if strike.how == "onward":
                self.onward = self._of(now.target)
        return True

    @staticmethod
    def _of(path: str) -> str:
        """The file system, as far as a server has several: /run, /tmp and the disk."""
        return next((top for top in ("/run", "/tmp", "/proc", "/sys") if path.startswith(top + "/")), "/")

    def _fail(self, pid: int, task: _Task, now: Operation) -> None:
        if self.strike.error == errno.ENOSPC and now.call in _NO_SPACE_NEEDED:
            return
        task.fails = self.strike.error
        self._set_register(pid, _ORIG_RAX, -1)

    def _kill_all(self) -> None:
        for pid in self.tasks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _hold(self, now: Operation) -> NoReturn:
        said = f"strike: held before {now.number} {now.call} {now.target}\n"
        with open("/dev/console", "w") as console:
            console.write(said)
        while True:
            time.sleep(3600)

    # The process's memory

    def _set_register(self, pid: int, register: int, value: int) -> None:
        registers = (ctypes.c_ulong * _REGISTERS)()
        _ptrace(_GETREGS, pid, 0, ctypes.addressof(registers))
        registers[register] = value & 0xFFFFFFFFFFFFFFFF
        _ptrace(_SETREGS, pid, 0, ctypes.addressof(registers))

    @staticmethod
    def _memory(pid: int, address: int, size: int) -> bytes:
        try:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                return memory.read(size)
        except (OSError, OverflowError):
            return b""

    def _two(self, pid: int, address: int) -> Tuple[int, int]:
        """A pointer and a size; none of a program whose other thread has just ended it (nmcli has several)."""
        found = self._memory(pid, address, 16)
        return struct.unpack("=QQ", found) if len(found) == 16 else (0, 0)

    def _text(self, pid: int, address: int) -> str:
        # Not over the end of a page: the next may not be there.
        text = b""
        while b"\0" not in text and len(text) < 4096:
            more = self._memory(pid, address + len(text), 4096 - (address + len(text)) % 4096)
            if not more:
                break
            text += more
        return os.fsdecode(text.partition(b"\0")[0])

    @staticmethod
    def _link(pid: int, descriptor: int) -> str:
        try:
            return os.readlink(f"/proc/{pid}/fd/{descriptor & 0xFFFFFFFF}")
        except OSError:
            return ""

    def _absolute(self, pid: int, directory: int, path: str) -> str:
        if path.startswith("/"):
            return path
        signed = struct.unpack("=i", struct.pack("=I", directory & 0xFFFFFFFF))[0]
        try:
            above = os.readlink(f"/proc/{pid}/cwd") if signed == _AT_FDCWD else self._link(pid, signed)
        except OSError:
            above = ""
        return os.path.join(above, path) if path else above


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--report")
    parser.add_argument("--begin", default="")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--how", choices=["before", "after", "main", "unit", "fail", "onward", "hold"], default="before")
    parser.add_argument("--error", default="ENOSPC")
    parser.add_argument("--whose", choices=["all", "own", "children"], default="all")
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args()
    strike = Strike(given.at, given.how, getattr(errno, given.error), given.whose)
    report = Tracer(given.begin, strike).run(given.argv)
    if given.report:
        with open(given.report, "w") as out:
            json.dump(report._asdict(), out)
    return report.status


if __name__ == "__main__":
    sys.exit(main())
