# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What we remember: truth, ledger, intent and history, bound to the instance id.

On another instance (a snapshot, a golden image) all of it is dropped but the ledger, which then
only serves to delete what still has its hash.
"""

import fcntl
import json
import logging
import os
import time
from contextlib import contextmanager
from typing import IO, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import files, paths, rejections, truth
from .backends import Backend, Touch
from .rejections import Rejection

LOG = logging.getLogger(__name__)
_VERSION = 1
_HISTORY_LINES = 200


class Owned(NamedTuple):
    """A ledger row: a file, or a section of a shared one, that we wrote or adopted."""

    key: str  # the entry it serves
    mac: str
    name: str  # the NIC's name when it was written
    backend: str
    path: str
    section: str  # empty: the whole file
    disk: str  # fingerprint of what stands on disk
    digest: str  # what was wanted when it was written; see desired.Want
    plain: bool = False  # as cloud-init wrote it by itself: without what Backend.finish adds

    @property
    def place(self) -> Tuple[str, str]:
        return self.path, self.section


class State(NamedTuple):
    instance_id: str
    truth: truth.Truth
    ledger: Tuple[Owned, ...]
    answered: str  # MAC of the NIC through which the metadata service answered last
    drive_stamp: str  # identity of the config drive that was read last
    metrics: Mapping[str, int] = {}  # route metric by key; see metrics.py
    rejections: Tuple[Rejection, ...] = ()
    on_trial: str = ""  # judgement.py's note, as it writes it: what is committed and not judged yet

    @property
    def bonds(self) -> Dict[str, str]:
        """By key, the names that bonds have."""
        return {row.key: row.name for row in self.ledger if row.key.endswith("/bond")}


def empty(instance_id: str, ledger: Tuple[Owned, ...] = ()) -> State:
    return State(instance_id, truth.EMPTY, ledger, "", "")


def _to_json(state: State) -> Dict[str, Any]:
    return {
        "version": _VERSION,
        "instance_id": state.instance_id,
        "truth": truth.to_json(state.truth),
        "ledger": [dict(row._asdict()) for row in state.ledger],
        "answered": state.answered,
        "drive_stamp": state.drive_stamp,
        "metrics": dict(state.metrics),
        "rejections": [rejections.to_json(one) for one in state.rejections],
        "on_trial": state.on_trial,
    }


def _from_json(obj: Dict[str, Any]) -> State:
    return State(
        instance_id=obj["instance_id"],
        truth=truth.from_json(obj["truth"]),
        ledger=tuple(Owned(**row) for row in obj["ledger"]),
        answered=obj["answered"],
        drive_stamp=obj["drive_stamp"],
        metrics={key: int(metric) for key, metric in obj["metrics"].items()},
        rejections=tuple(rejections.from_json(one) for one in obj.get("rejections", ())),
        on_trial=str(obj.get("on_trial", "")),
    )


def load(instance_id: str) -> State:
    """The state of this instance; an empty one where there is none or it cannot be read."""
    text = files.read(paths.STORE)
    if text is None:
        return empty(instance_id)
    try:
        state = _from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        # Nothing is deleted on the strength of a store that cannot be read: what is on disk will
        # be compared with what would be rendered, and adopted or reported.
        LOG.error("store unreadable, starting anew: file=%s error=%r", paths.STORE, exc)
        return empty(instance_id)
    if state.instance_id != instance_id:
        LOG.warning("store of another instance dropped: was=%s is=%s", state.instance_id, instance_id)
        return empty(instance_id, state.ledger)
    return state


def save(state: State) -> None:
    """Write the state where it differs from what is there. With another instance's goes that one's history."""
    text = json.dumps(_to_json(state), sort_keys=True) + "\n"
    if files.read(paths.STORE) == text:
        return
    there = files.read_json(paths.STORE)
    if isinstance(there, dict) and there.get("instance_id") != state.instance_id:
        files.remove(paths.HISTORY)
    files.replace(paths.STORE, text, mode=0o600)


def instance_id() -> str:
    """The instance id that cloud-init found, empty where it has not (yet) found any."""
    for path in paths.INSTANCE_ID:
        text = files.read(path)
        if text and text.strip():
            return text.strip()
    return ""


@contextmanager
def locked() -> Iterator[IO[str]]:
    """One run at a time; the lock dies with its process."""
    os.makedirs(paths.RUN, mode=0o755, exist_ok=True)
    os.makedirs(paths.STATE, mode=0o700, exist_ok=True)
    with open(paths.LOCK, "a+", opener=_for_root_alone) as fh:
        _lock(fh)
        _note_holder(fh, b"%d\n" % os.getpid())
        try:
            yield fh
        finally:
            _note_holder(fh, b"")


@contextmanager
def lent(lock: IO[str]) -> Iterator[None]:
    """Let others have the lock while this run only waits. What was loaded is stale afterwards."""
    _note_holder(lock, b"")
    fcntl.flock(lock, fcntl.LOCK_UN)
    yield
    _lock(lock)
    _note_holder(lock, b"%d\n" % os.getpid())


@contextmanager
def kept_still() -> Iterator[None]:
    """Nobody is at work meanwhile, and that leaves no mark: for who only looks."""
    if not os.path.exists(paths.LOCK):  # no run since the server booted
        yield
        return
    with open(paths.LOCK) as fh:
        _lock(fh)
        yield


def _for_root_alone(path: str, flags: int) -> int:
    """Whoever may read a file may lock it, and with it every run out."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def _lock(fh: IO[str]) -> None:
    try:
        fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fh.seek(0)
        LOG.warning("another run is at work, waiting for it: pid=%s", fh.read().strip() or "unknown")
        fcntl.flock(fh, fcntl.LOCK_EX)


def _note_holder(fh: IO[str], text: bytes) -> None:
    try:
        os.ftruncate(fh.fileno(), 0)
        os.write(fh.fileno(), text)  # not by `fh`, which would try again when it is closed
    except OSError as exc:
        LOG.warning("not noted who holds the lock: %s", exc)


def sweep(backend: Backend) -> None:
    """Remove the half-written files of a run that died. The lock is held: nobody else is at writing one."""
    for directory in (paths.STATE, paths.RUN) + backend.directories:
        files.sweep(directory)


# -- intent ---------------------------------------------------------------------------------------


class Intent(NamedTuple):
    """The write-ahead note of a commit."""

    touches: Tuple[Touch, ...]
    ledger: Tuple[Owned, ...]  # as it will be
    places: Tuple[Tuple[str, str], ...]  # the parts that are written or removed


def write_intent(intent: Intent) -> None:
    obj = {
        "touches": [list(touch) for touch in intent.touches],
        "ledger": [list(row) for row in intent.ledger],
        "places": [list(place) for place in intent.places],
    }
    files.replace(paths.INTENT, json.dumps(obj) + "\n", mode=0o600)


def read_intent() -> Optional[Intent]:
    obj = files.read_json(paths.INTENT)
    if not isinstance(obj, dict):
        return None
    try:
        return Intent(
            tuple(Touch(*touch) for touch in obj["touches"]),
            tuple(Owned(*row) for row in obj["ledger"]),
            tuple((path, section) for path, section in obj["places"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def clear_intent() -> None:
    files.remove(paths.INTENT)


# -- history --------------------------------------------------------------------------------------


def remember(record: Dict[str, Any]) -> None:
    """Append a record to the bounded history."""
    lines: List[str] = (files.read(paths.HISTORY) or "").splitlines()
    lines.append(json.dumps(dict(record, when=round(time.time(), 3)), sort_keys=True))
    text = "\n".join(lines[-_HISTORY_LINES:]) + "\n"
    files.replace(paths.HISTORY, text, mode=0o600, sync=False)
