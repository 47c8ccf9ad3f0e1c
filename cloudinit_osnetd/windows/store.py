# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is remembered from run to run: what the sources said, and the ledger. One JSON file below ProgramData."""

import contextlib
import importlib
import json
import os
import time
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Tuple

from ..core.truth import EMPTY, Truth
from ..core.truth_on_disk import salvage, to_json
from .difference import Owned

_PAUSE = 0.1  # seconds
_OPEN_SECONDS = 5.0


class Busy(Exception):
    """Another run did not end in time."""


class Stored(NamedTuple):
    truth: Truth = EMPTY
    owned: Mapping[str, Owned] = {}  # key of an entry -> its row
    metrics: Mapping[str, int] = {}  # key -> metric of its routes
    search: Tuple[str, ...] = ()  # the machine's list of search domains, where it is ours
    instance: str = ""  # the server's id, by its sources


def directory() -> str:
    return os.path.join(os.environ.get("PROGRAMDATA", "C:\\ProgramData"), "cloudinit-osnetd")


def _path() -> str:
    return os.path.join(directory(), "state.json")


def load() -> Stored:
    """Returns what can be read of the file; nothing is remembered if there is none, or if it is damaged."""
    try:
        with open(_path(), encoding="utf-8") as fh:
            raw = json.load(fh)
        known, _lost = salvage(raw["truth"])
        owned = {str(key): _row(row) for key, row in raw["owned"].items()}
        metrics = {str(key): int(metric) for key, metric in raw["metrics"].items()}
        return Stored(known, owned, metrics, tuple(map(str, raw["search"])), str(raw["instance"]))
    except FileNotFoundError:
        return Stored()
    except (KeyError, TypeError, ValueError, AttributeError):
        # Kept for whoever wants to know. What is wanted comes with the next document; what was ours is not removed.
        os.replace(_path(), _path() + ".damaged")
        return Stored()


def _row(raw: Dict[str, Any]) -> Owned:
    return Owned(
        frozenset(map(str, raw["addresses"])),
        frozenset((str(network), str(gateway)) for network, gateway in raw["routes"]),
        tuple(map(str, raw["dns4"])),
        tuple(map(str, raw["dns6"])),
        str(raw["suffix"]),
    )


def save(stored: Stored) -> None:
    """Replaces the file in one step; raises OSError. Nothing is written if the file says the same."""
    content = {
        "truth": to_json(stored.truth),
        "owned": {key: _row_to_json(row) for key, row in stored.owned.items()},
        "metrics": dict(stored.metrics),
        "search": list(stored.search),
        "instance": stored.instance,
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    path = _path()
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as fh:
        if fh.read() == text:
            return
    os.makedirs(directory(), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8", newline="\n") as fh:
        fh.write(text)
        fh.flush()
        os.fsync(fh.fileno())
    _replace(path + ".new", path)


def _replace(new: str, path: str) -> None:
    """As os.replace; Windows refuses it while another program (a virus scanner, a backup) has the file open."""
    until = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            os.replace(new, path)
        except PermissionError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _row_to_json(row: Owned) -> Dict[str, Any]:
    return {
        "addresses": sorted(row.addresses),
        "routes": [list(route) for route in sorted(row.routes)],
        "dns4": list(row.dns4),
        "dns6": list(row.dns6),
        "suffix": row.suffix,
    }


@contextlib.contextmanager
def locked(timeout: float) -> Iterator[None]:
    """Holds the lock of a run; raises Busy after `timeout` seconds. It goes with the process."""
    msvcrt: Any = importlib.import_module("msvcrt")  # only Windows has it
    os.makedirs(directory(), exist_ok=True)
    until = time.monotonic() + timeout
    with open(os.path.join(directory(), "lock"), "a+b") as fh:
        while True:
            try:
                fh.seek(0)
                msvcrt.locking(fh.fileno(), msvcrt.LK_NBLCK, 1)
                break
            except OSError:
                if time.monotonic() > until:
                    raise Busy("another run did not end in %d s" % timeout) from None
                time.sleep(_PAUSE)
        try:
            yield
        finally:
            fh.seek(0)
            msvcrt.locking(fh.fileno(), msvcrt.LK_UNLCK, 1)
