# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Telling what stands on disk: what means what we want, what cloud-init wrote (before we were installed, or while we
were not), and what is somebody else's.

By meaning, not by text (meaning.py): which release of cloud-init wrote it, and in what order, is all the same.
"""

from typing import Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..backends import Backend
from ..cloud_init.eligibility import RunContext
from ..core import meaning, truth
from ..core.desired import Want
from ..core.meaning import Known, Meaning
from ..core.network_data import DHCP6, SLAAC
from ..core.plan import Place, Staged
from ..state.store import State
from . import render

WantedBy = Callable[[truth.Truth], Sequence[Want]]


class _References(NamedTuple):
    """What cloud-init writes for a set of wants: by itself, and as the override has it."""

    wants: Dict[str, Want]  # by key
    alone: Mapping[Place, Meaning]
    bare: Mapping[Place, Meaning]

    def of(self, place: Place) -> List[Meaning]:
        """The latter first."""
        return [known[place] for known in (self.bare, self.alone) if place in known]


def recognise(
    on: RunContext,
    state: State,
    wants: Sequence[Want],
    wanted_by: WantedBy,
    parts: Sequence[Staged],
    disk: Mapping[Place, str],
) -> Sequence[Staged]:
    """The parts, each with the marks on disk that are as good as its own, and with what differs.

    Looked into only where something else than the very text stands in the way of one of ours. `wanted_by` gives what
    would be wanted by another truth.
    """
    strange = [part for part in parts if disk.get(part.place, part.mark) != part.mark]
    if not strange:
        return parts
    texts = render.disk_texts(on.backend, [part.place for part in strange])
    found = {part.place: on.backend.meaning(texts[part.place], part.name) for part in strange if part.place in texts}
    owned = {row.place for row in state.ledger if disk.get(row.place) == row.disk}
    judged = {part.place: _judge(on.backend, part, found[part.place], disk) for part in strange if part.place in found}
    unknown = [part for part in judged.values() if not part.same and part.place not in owned]
    if unknown:
        judged.update(_by_cloud_init(on, state, wants, wanted_by, unknown, found, disk))
    return [judged.get(part.place, part) for part in parts]


def means_ours(backend: Backend, part: Staged, text: str) -> bool:
    """True where a text means what the part does, as it is rendered or as it is finished."""
    there = backend.meaning(text, part.name)
    return there in (backend.meaning(part.text, part.name), backend.meaning(part.bare, part.name))


def _judge(backend: Backend, part: Staged, there: Meaning, disk: Mapping[Place, str]) -> Staged:
    wanted = backend.meaning(part.text, part.name)
    if there == wanted:
        return part._replace(same=frozenset([disk[part.place]]))
    return part._replace(differs=meaning.differences(there, wanted))


def _by_cloud_init(
    on: RunContext,
    state: State,
    wants: Sequence[Want],
    wanted_by: WantedBy,
    unknown: Sequence[Staged],
    found: Mapping[Place, Meaning],
    disk: Mapping[Place, str],
) -> Dict[Place, Staged]:
    """Those of the `unknown` that some release of cloud-init wrote, for what is wanted or for what the drive says."""
    keys = {part.key for part in unknown}
    services = next((truth.services_of(state.truth, s) for s in truth.RANK if s in state.truth.services), ())
    now = _references(on, wants, keys, services, unknown)
    told = Known(
        dns=frozenset(server for _digest, servers in state.truth.services.values() for server in servers),
        search=frozenset(domain for domains in state.truth.searches.values() for domain in domains),
    )
    judged = {}
    left = []
    ours = frozenset(row.place for row in state.ledger)
    for part in unknown:
        unsaid = _serves(on.backend, found[part.place], now, part, told, ours)
        if unsaid is not None:
            alone = part.alone | {disk[part.place]}
            judged[part.place] = part._replace(alone=alone, differs=(), unsaid="; ".join(unsaid))
        else:
            left.append(part)
    if left:
        by_drive = wanted_by(truth.by_source(state.truth, "drive"))
        rendering = render.render([want for want in by_drive if want.keys & keys], on.backend, on.context.renders_with)
        then = _references(on, by_drive, keys, truth.services_of(state.truth, "drive"), rendering.parts)
        by_us = {part.place: on.backend.meaning(part.text, part.name) for part in rendering.parts}
        for part in left:
            there, mark = found[part.place], disk[part.place]
            if there == by_us.get(part.place) or _serves(on.backend, there, then, part, told, ours) is not None:
                judged[part.place] = part._replace(earlier=part.earlier | {mark}, differs=())
            else:
                against = now.of(part.place)[:1] if part.place in ours else now.of(part.place)
                judged[part.place] = part._replace(differs=_least(there, against, part.differs))
    return judged


def _least(there: Meaning, references: Sequence[Meaning], else_: Sequence[str]) -> Tuple[str, ...]:
    """In what it differs from that which is nearest to it: what Backend.finish adds would be told as lacking."""
    nearest = sorted(references, key=lambda reference: len(there ^ reference))
    return meaning.differences(there, nearest[0]) if nearest else tuple(else_)


def _references(
    on: RunContext, wants: Iterable[Want], keys: Iterable[str], services: Sequence[str], parts: Sequence[Staged]
) -> _References:
    concerned = [want for want in wants if want.keys & frozenset(keys)]
    return _References(
        wants={key: want for want in concerned for key in want.keys},
        alone=render.meanings_alone(concerned, services, on.backend, on.context.renders_with),
        bare={part.place: on.backend.meaning(part.bare, part.name) for part in parts if part.bare},
    )


def _serves(
    backend: Backend, there: Meaning, by: _References, part: Staged, told: Known, ours: FrozenSet[Place]
) -> Optional[Tuple[str, ...]]:
    """What a part does not say of what releases write or not; None where none of them wrote it.

    Of one that was in the ledger (`ours`) nothing may be lacking: what cloud-init writes at a boot it has from us.
    """
    if part.key not in by.wants:
        return None
    known = _known(by.wants[part.key], part.key, told)
    # What we wrote ourselves too, before we were removed: the global name servers, of all ports, may be others since.
    references = [*by.of(part.place), backend.meaning(part.text, part.name)]
    references += [older for reference in references for older in backend.as_older_releases(reference)]
    if not any(meaning.serves(there, reference, known) for reference in references):
        return None
    unsaid = meaning.unsaid(there, backend.meaning(part.bare or part.text, part.name))
    return None if unsaid and part.place in ours else unsaid


def _known(want: Want, key: str, told: Known) -> Known:
    """What there is to know of one link of a want; `told`: the global name servers and search domains."""
    (entry,) = [item.entry for item in want.items if item.key == key]
    advertised = [net for net in entry.networks if net.type in DHCP6 | SLAAC]
    return Known(
        dns=told.dns.union(*(net.dns for item in want.items for net in item.entry.networks)),
        search=told.search.union(*(net.search for item in want.items for net in item.entry.networks)),
        macs=frozenset(item.entry.mac for item in want.items),
        ipv6=any(net in advertised or ":" in net.address for net in entry.networks),
        advertised=len(advertised),
        nowhere=frozenset(meaning.route(network) for net in entry.networks for network in net.nowhere),
        routes=frozenset(meaning.route(r.network, r.gateway) for net in entry.networks for r in net.routes),
    )
