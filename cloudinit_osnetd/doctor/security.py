# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Checks of what hinders a program from outside: SELinux, and a clock that is wrong."""

import ctypes
import os
import re
import time
from typing import List, Optional

from ..system import files, paths
from ..system.command import CommandError, run
from .result import Result, failed, ok, skipped, warning

# The kernel cuts the name of a process to 15 letters: comm="cloudinit-osnet".
_OURS = re.compile(r"cloudinit-osnet|osnetd_|queue-event|qemu-ga|cloud-init|networkctl|NetworkManager")
_DOMAIN = "osnetd_t"
_TAIL_BYTES = 1 << 20
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)


def selinux() -> List[Result]:
    """Denials of this boot that name one of the programs that take part in a run."""
    name = "SELinux"
    mode = _first(paths.SELINUX)
    if mode is None:
        return [skipped(name, "not enabled")]
    word = "enforcing" if mode == "1" else "permissive"
    if _is_confined():
        found = "%s; denials are not ours to read in the domain %s: ausearch -m avc -ts boot" % (word, _DOMAIN)
        return [skipped(name, found)]
    denied = [line for line in _audit_lines() if "denied" in line and _OURS.search(line)]
    if denied:
        found = "%s, %d denials, the last one: %s" % (word, len(denied), denied[-1].strip()[:300])
        advice = "ausearch -m avc -ts boot; is cloudinit-osnetd-selinux installed, each label right? docs/selinux.md"
        return [(failed if mode == "1" else warning)(name, found, advice)]
    return [ok(name, "%s, no denials" % word)]


def _is_confined() -> bool:
    """True in the domain that our policy module has for us, as where a guest agent starts doctor.

    It may not read the audit log, which says what everybody did: no run needs that. An attempt would be a denial too.
    """
    try:
        context = files.read(paths.OWN_CONTEXT) or ""
    except OSError:
        return False
    return ":%s:" % _DOMAIN in context


def _audit_lines() -> List[str]:
    try:
        with open(paths.AUDIT_LOG, "rb") as fh:
            fh.seek(max(0, os.stat(paths.AUDIT_LOG).st_size - _TAIL_BYTES))
            return [line for line in fh.read().decode("utf-8", "replace").splitlines() if "avc:" in line]
    except OSError:
        pass  # no auditd: the kernel's log has them
    try:
        out = run(["journalctl", "-b", "-k", "-q", "--no-pager", "-o", "cat", "-g", "avc:"], timeout=20.0)
    except CommandError:
        return []
    return out.splitlines()


def clock() -> List[Result]:
    """A clock that is behind: times in the state lie in its future, and rejections and doubts do not end."""
    name = "clock"
    now = time.time()
    newest = max([_mtime(path) for path in (paths.STORE, paths.HISTORY, os.path.abspath(__file__))])
    if newest > now + 60:
        found = "the clock says %s, but files were written at %s" % (_text(now), _text(newest))
        return [failed(name, found, "set the clock, and see that time synchronisation runs (timedatectl)")]
    if _unsynchronised():
        return [warning(name, "%s, not synchronised" % _text(now), "start a time service: timedatectl set-ntp true")]
    return [ok(name, "%s, synchronised" % _text(now))]


def _text(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(when))


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _unsynchronised() -> bool:
    """True if the kernel says that nothing disciplines its clock: adjtimex(2) with modes 0, which changes nothing."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, 208 bytes; its status follows modes and four longs
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return False
    place = 5 * ctypes.sizeof(ctypes.c_long)
    return bool(ctypes.c_int.from_buffer(buffer, place).value & _UNSYNCHRONISED)


def _first(path: str) -> Optional[str]:
    text = files.read(path) if os.path.isfile(path) else None
    return text.strip() if text is not None else None
