# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""An early boot at which nothing has changed: everything that it would read is as it was at an earlier one.

That one found nothing to do, and noted what it read (boot_inputs.py). If all of that is the same now, there is nothing
to do again, but to write once more what is kept under /run. Anything else is left to early_boot.py: a difference, an
error, a NIC that udev has not processed, another run.

Nothing is imported but what the interpreter has loaded: this takes some milliseconds instead of forty.
"""

import os
import sys
import time

from ..core.sha256 import sha256
from ..system import paths

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes as long as all of this
    from typing import Dict, List, Tuple

HEADER = "cloudinit-osnetd boot 1"
END = "end"
_DEVICE_BYTES = 65536  # as metadata.drive_stamp reads


def _of_bytes(data: bytes) -> str:
    return str(sha256(data).hexdigest()[:32])


def _names(path: str) -> "List[str]":
    return sorted(name for name in os.listdir(path) if name != os.path.basename(paths.UNCHANGED_BOOT))


def _nics(path: str) -> str:
    """Returns what early boot knows of the NICs: names, MACs, and where each is plugged in."""
    found = []
    for name in _names(path):
        if name != "lo":
            try:
                with open(os.path.join(path, name, "address"), "rb") as fh:
                    mac = fh.read()
            except OSError:  # bonding_masters is a file
                continue
            found.append("%s %r %s" % (name, mac, os.path.realpath(os.path.join(path, name))))
    return "\n".join(found)


def value_of(kind: str, path: str) -> str:
    """Returns the value of one input, "-" if there is none.

    The kinds: "content" of a file, "names" in a directory, "stamp" (its time), "present", "device" (the beginning of
    its content), "nics", "python" (the interpreter).
    """
    try:
        if kind == "content":
            with open(path, "rb") as fh:
                return _of_bytes(fh.read())
        if kind == "device":
            with open(path, "rb") as fh:
                return _of_bytes(fh.read(_DEVICE_BYTES))
        if kind == "names":
            return _of_bytes("\n".join(_names(path)).encode("utf-8", "surrogateescape"))
        if kind == "nics":
            return _of_bytes(_nics(path).encode("utf-8", "surrogateescape"))
        if kind == "stamp":
            return "%d" % os.stat(path).st_mtime_ns
        if kind == "present":
            os.stat(path)
            return "+"
        if kind == "python":
            return _of_bytes(sys.version.encode())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return "-"
    raise ValueError(kind)


def _awaits_udev() -> bool:
    """True if udev has not processed a NIC yet: its name may still change."""
    if not os.path.exists(paths.UDEV_CONTROL):
        return False
    for name in os.listdir(paths.KERNEL_NICS):
        try:
            with open(os.path.join(paths.KERNEL_NICS, name, "ifindex")) as fh:
                index = fh.read().strip()
        except OSError:
            continue
        if name != "lo" and not os.path.exists(os.path.join(paths.UDEV_DATABASE, "n" + index)):
            return True
    return False


def _read() -> "Tuple[List[List[str]], Dict[str, bytes]]":
    """Returns the inputs and the files below /run. Raises ValueError for a record that is not complete."""
    with open(paths.UNCHANGED_BOOT, encoding="utf-8", errors="surrogateescape") as fh:
        lines = fh.read().split("\n")
    if lines[0] != HEADER or lines[-2:] != [END, ""]:
        raise ValueError("incomplete")
    rows = [line.split("\t") for line in lines[1:-2]]
    outputs = {row[1]: bytes.fromhex(row[2]) for row in rows if row[0] == "write"}
    return [row for row in rows if row[0] != "write"], outputs


def _write(path: str, content: bytes) -> None:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    temporary = os.path.join(directory, ".osnetd-" + os.path.basename(path))  # swept by the next run
    with open(temporary, "wb") as fh:
        fh.write(content)
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)


def done() -> bool:
    """Does an early boot at which nothing has changed. False: it has not, and the whole flow has to."""
    try:
        return os.geteuid() == 0 and _done()
    except Exception:  # noqa: BLE001 - the whole flow repairs and reports it
        return False


def _done() -> bool:
    began = time.monotonic()
    inputs, outputs = _read()
    if not inputs or _awaits_udev():
        return False
    os.umask(0o022)
    os.makedirs(paths.RUN, mode=0o755, exist_ok=True)
    import fcntl

    lock = os.open(paths.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # another run at work is an error
        if any(value_of(kind, path) != value for kind, path, value in inputs):
            return False
        for path, content in outputs.items():
            _write(path, content)
    finally:
        os.close(lock)
    milliseconds = (time.monotonic() - began) * 1e3
    report = (
        '{"adopted": 0, "changes": 0, "drifted": [], "faults": [], "imported_cloudinit": false, '
        '"milliseconds": %.1f, "problems": {}, "unchanged": true}\n' % milliseconds
    )
    _write(paths.EARLY, report.encode())
    prefix = "<6>" if "JOURNAL_STREAM" in os.environ else ""
    text = "early boot: unchanged since an earlier boot: inputs=%d milliseconds=%.1f"
    sys.stderr.write("%s%s\n" % (prefix, text % (len(inputs), milliseconds)))
    return True
