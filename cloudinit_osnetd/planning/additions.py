# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What others have made of a part of ours: written anew with the same meaning, or with settings of their own besides.

`nmcli connection modify` writes a whole profile in NetworkManager's words, and no other file can hold a setting beside
ours. So the ledger holds the part as it was written (Owned.written). Where others have only added to that
(Format.carried_over), the part is still ours: an edit of the port is written, with their settings, and the part goes
with its NIC. Anything else that they changed is drift, as with any backend.
"""

import logging
from typing import Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from ..backends import Backend
from ..cloud_init.eligibility import RunContext
from ..core import digest, meaning
from ..core.plan import Place, Staged
from ..core.records import Owned
from . import render

LOG = logging.getLogger(__name__)


class Change(NamedTuple):
    """What others have made of a part."""

    followed: bool  # True if they have only added to it, or nothing that has an effect
    lines: Tuple[str, ...]  # what they added; otherwise each difference, as in meaning.differences


def kept(
    on: RunContext, ledger: Sequence[Owned], parts: Sequence[Staged], disk: Mapping[Place, str]
) -> Tuple[List[Staged], FrozenSet[Place]]:
    """Returns the parts, with what others added to those on disk, and the places where they have only added.

    With `osnetd: {drift: correct}` nothing that they added is kept.
    """
    backend, correct = on.backend, on.context.settings.drift == "correct"
    by_place = {part.place: part for part in parts}
    rows = {row.place: row for row in _changed(backend, ledger, disk)}
    rows.update((row.place, row) for row in _new_files(backend, ledger, parts, disk))
    texts = render.disk_texts(backend, list(rows)) if rows else {}
    followed = set(_removed_for_nothing(backend, ledger, disk))
    for place, found in texts.items():
        row, part = rows[place], by_place.get(place)
        if part is not None and part.key != row.key:
            part = None  # another NIC has the place now
        new = part.text if part is not None else row.written
        text = backend.carried_over(row.written, found, new, row.name)
        if text is None or (correct and text != new):
            continue
        followed.add(place)
        if part is not None and text != new:
            LOG.info("kept, what others added: mac=%s nic=%s file=%s", part.mac, part.name, part.path)
            mark = digest.of_text(backend.normal(text))
            by_place[place] = part._replace(text=text, fingerprint=mark, rendered=new)
    return [by_place[part.place] for part in parts], frozenset(followed)


def changes(backend: Backend, ledger: Sequence[Owned], disk: Mapping[Place, str]) -> Dict[Place, Change]:
    """Returns by place what others have made of the parts that are not as they were written."""
    rows = {row.place: row for row in _changed(backend, ledger, disk)}
    found = dict.fromkeys(_removed_for_nothing(backend, ledger, disk), Change(True, ()))
    for place, text in (render.disk_texts(backend, list(rows)) if rows else {}).items():
        row = rows[place]
        was, now = (backend.meaning(one, row.name) for one in (row.written, text))
        if backend.carried_over(row.written, text, row.written, row.name) is None:
            found[place] = Change(False, meaning.differences(now, was))
        else:
            found[place] = Change(True, tuple(sorted(now - was)))
    return found


def _known(backend: Backend, ledger: Sequence[Owned]) -> List[Owned]:
    """Returns the rows of which it is known what was written, and that this backend can read."""
    return [row for row in ledger if row.written and row.backend == backend.name]


def _changed(backend: Backend, ledger: Sequence[Owned], disk: Mapping[Place, str]) -> Iterator[Owned]:
    """Yields the rows whose part is on disk with another text than it was written with, as far as that is known."""
    for row in _known(backend, ledger):
        if row.place in disk and disk[row.place] != digest.of_text(backend.normal(row.written)):
            yield row


def _removed_for_nothing(backend: Backend, ledger: Sequence[Owned], disk: Mapping[Place, str]) -> Iterator[Place]:
    """Yields the places of parts that said nothing and are gone: NetworkManager removes a file without routes."""
    for row in _known(backend, ledger):
        if row.place not in disk and not backend.meaning(row.written, row.name):
            yield row.place


def _new_files(
    backend: Backend, ledger: Sequence[Owned], parts: Sequence[Staged], disk: Mapping[Place, str]
) -> Iterator[Owned]:
    """Yields rows for files that others have made beside ours and that belong to the same NIC's configuration."""
    places = {row.place for row in ledger}
    known = {row.key: row for row in _known(backend, ledger)}
    for part in parts:
        if part.key in known and part.place in disk and part.place not in places:
            yield known[part.key]._replace(path=part.path, section=part.section, written="")
