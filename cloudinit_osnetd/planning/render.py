# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Renders what is wanted with cloud-init's renderer into a staging tree under /run.

Each Want is rendered separately, so a link that cloud-init cannot render affects no other link.
"""

import logging
import os
from typing import Any, Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from ..backends import Backend
from ..core import digest
from ..core.desired import Want
from ..core.plan import Place, Staged
from ..core.records import Part, Renderer
from ..state.store import State
from ..system import files, paths

LOG = logging.getLogger(__name__)


class Failure(NamedTuple):
    """A want that could not be rendered."""

    keys: Tuple[str, ...]
    problem: str


class Rendering(NamedTuple):
    parts: Tuple[Staged, ...]
    templates: Tuple[Tuple[str, str], ...]  # path -> a whole rendered file
    failures: Tuple[Failure, ...]


def _render_one(want: Want, backend: Backend, using: Renderer, tree: str) -> List[Staged]:
    from ..cloud_init import compat, network_config  # 40 to 60 ms: imported only if something is rendered

    os.makedirs(tree)
    given = network_config.for_renderer([want], lambda: using.name)
    compat.render(network_config.build(given, compat.convert), tree, using)
    by_name = {item.name: item for item in want.items}
    parts = []
    rendered = {(part.path, part.section): part.text for part in backend.staged(tree)}
    for part in backend.completed(backend.staged(tree), want.items):
        item = by_name.get(part.name)
        if item is None:
            raise ValueError("the renderer wrote a NIC that was not requested: %s" % part.name)
        text = backend.finish(part.text, item)
        alone = rendered.get((part.path, part.section))
        parts.append(
            Staged(
                key=item.key,
                mac=item.entry.mac,
                name=item.name,
                path=part.path,
                section=part.section,
                text=text,
                fingerprint=digest.of_text(backend.normal(text)),
                digest=want.digest,
                # The override gave cloud-init the same config at the first boot, without Backend.finish.
                alone=frozenset([digest.of_text(backend.normal(alone))] if alone is not None else []),
                bare=alone or "",
            )
        )
    if {part.name for part in parts} != set(by_name):
        missing = sorted(set(by_name) - {part.name for part in parts})
        raise ValueError("the renderer left out %s" % ", ".join(missing))
    backend.check([Part(part.path, part.section, part.name, part.text) for part in parts], tree)
    return parts


def _clear(tree: str) -> None:
    import shutil  # 3 ms, with its archive formats

    shutil.rmtree(tree, ignore_errors=True)


def render(wants: Sequence[Want], backend: Backend, using: Renderer) -> Rendering:
    """Returns the staged parts of `wants`, and a failure for each one that cloud-init cannot render."""
    parts: List[Staged] = []
    templates: Dict[str, str] = {}
    failures = []
    if not wants:
        return Rendering((), (), ())
    _clear(paths.STAGING)
    for number, want in enumerate(wants):
        tree = os.path.join(paths.STAGING, str(number))
        refused = next(filter(None, (backend.unnameable(item.name) for item in want.items)), "")
        if refused:
            LOG.error("left alone: nic=%s reason=%s", ", ".join(item.name for item in want.items), refused)
            failures.append(Failure(tuple(sorted(want.keys)), refused))
            continue
        try:
            staged = _render_one(want, backend, using, tree)
        except Exception as exc:  # noqa: BLE001 - cloud-init's own code; whatever it raises
            names = ", ".join(item.name for item in want.items)
            LOG.error("not rendered: nic=%s mac=%s error=%r", names, want.items[0].entry.mac, exc)
            failures.append(Failure(tuple(sorted(want.keys)), "cloud-init cannot render it: %r" % (exc,)))
            continue
        parts.extend(staged)
        for part in staged:
            templates.setdefault(part.path, files.read(tree + part.path) or "")
    return Rendering(tuple(parts), tuple(templates.items()), tuple(failures))


def meanings_alone(
    wants: Sequence[Want], services: Sequence[str], backend: Backend, using: Renderer
) -> Dict[Tuple[str, str], FrozenSet[str]]:
    """Returns by place the meanings of the parts that cloud-init writes without the override; none if it fails."""
    from ..cloud_init import compat, network_config

    found: Dict[Tuple[str, str], FrozenSet[str]] = {}
    for want in wants:
        # Each want separately: one that cloud-init cannot render would make it fail for all of them.
        tree = os.path.join(paths.STAGING, "alone")
        _clear(tree)
        os.makedirs(tree)
        try:
            compat.render(network_config.as_cloud_init_alone(want, services, compat.convert), tree, using)
        except Exception as exc:  # noqa: BLE001 - cloud-init's own code; whatever it raises
            LOG.warning("cloud-init alone cannot render it: nic=%s error=%r", want.items[0].name, exc)
            continue
        for part in backend.staged(tree):
            found[(part.path, part.section)] = backend.meaning(part.text, part.name)
    return found


def disk_texts(backend: Backend, places: Sequence[Tuple[str, str]]) -> Dict[Tuple[str, str], str]:
    """Returns the current text on disk of each of these parts."""
    found = {}
    for path in sorted({path for path, _section in places}):
        text = files.read(path)
        sections = backend.split(text) if text is not None else {}
        found.update({(path, section): part for section, part in sections.items() if (path, section) in places})
    return found


def disk_parts(backend: Backend, places: Sequence[Any]) -> Dict[Tuple[str, str], str]:
    """Returns the fingerprint of each part that is on disk now, for the files of `places`."""
    found = {}
    for path in sorted({place[0] for place in places}):
        text = files.read(path)
        if text is None:
            continue
        for section, part in backend.split(text).items():
            found[(path, section)] = digest.of_text(backend.normal(part))
    return found


def places(state: State, extra: Sequence[Place] = ()) -> List[Place]:
    return [row.place for row in state.ledger] + list(extra)
