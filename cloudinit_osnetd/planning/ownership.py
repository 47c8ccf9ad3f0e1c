# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Finds out who wrote a part on disk: this package, cloud-init (before or between installations), or other software.

Parts are compared by their meaning, not by their text (meaning.py), so the release of cloud-init that wrote a part and
the order of its lines do not matter.
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
    """What cloud-init writes for a set of wants: without the override, and with it."""

    wants: Dict[str, Want]  # by key
    alone: Mapping[Place, Meaning]
    bare: Mapping[Place, Meaning]

    def of(self, place: Place) -> List[Meaning]:
        """Returns the meanings at a place, the one with the override first."""
        return [known[place] for known in (self.bare, self.alone) if place in known]


def recognise(
    on: RunContext,
    state: State,
    wants: Sequence[Want],
    wanted_by: WantedBy,
    parts: Sequence[Staged],
    disk: Mapping[Place, str],
    followed: FrozenSet[Place] = frozenset(),
) -> Sequence[Staged]:
    """Returns the parts, each with the fingerprints on disk that are equivalent to its own, and with the differences.

    A part is examined only if its place on disk has another text. `wanted_by` returns what would be wanted according to
    another truth. `followed`: see additions.py.
    """
    strange = [part for part in parts if disk.get(part.place, part.fingerprint) != part.fingerprint]
    if not strange:
        return parts
    texts = render.disk_texts(on.backend, [part.place for part in strange])
    found = {part.place: on.backend.meaning(texts[part.place], part.name) for part in strange if part.place in texts}
    owned = {row.place for row in state.ledger if disk.get(row.place) == row.disk} | followed
    known = [part._replace(found=texts[part.place]) for part in strange if part.place in found]
    results = {part.place: _compare(on.backend, part, found[part.place], disk) for part in known}
    unknown = [part for part in results.values() if not part.same and part.place not in owned]
    if unknown:
        results.update(_by_cloud_init(on, state, wants, wanted_by, unknown, found, disk))
    return [results.get(part.place, part) for part in parts]


def means_ours(backend: Backend, part: Staged, text: str) -> bool:
    """True if a text has the meaning of the part, as rendered by cloud-init or as finished by the backend."""
    on_disk = backend.meaning(text, part.name)
    return on_disk in (backend.meaning(part.text, part.name), backend.meaning(part.bare, part.name))


def _compare(backend: Backend, part: Staged, on_disk: Meaning, disk: Mapping[Place, str]) -> Staged:
    wanted = backend.meaning(part.text, part.name)
    if on_disk == wanted:
        return part._replace(same=frozenset([disk[part.place]]))
    return part._replace(differs=meaning.differences(on_disk, wanted))


def _by_cloud_init(
    on: RunContext,
    state: State,
    wants: Sequence[Want],
    wanted_by: WantedBy,
    unknown: Sequence[Staged],
    found: Mapping[Place, Meaning],
    disk: Mapping[Place, str],
) -> Dict[Place, Staged]:
    """Notes which of the `unknown` parts a release of cloud-init wrote, for what is wanted or for the drive."""
    keys = {part.key for part in unknown}
    services = next((truth.services_of(state.truth, s) for s in truth.RANK if s in state.truth.services), ())
    now = _references(on, wants, keys, services, unknown)
    global_dns = Known(
        dns=frozenset(server for _digest, servers in state.truth.services.values() for server in servers),
        search=frozenset(domain for domains in state.truth.searches.values() for domain in domains),
    )
    results = {}
    others = []
    ours = frozenset(row.place for row in state.ledger)
    for part in unknown:
        invalid = frozenset(line for line in found[part.place] if line.startswith(meaning.INVALID))
        unsaid = _omitted(on.backend, found[part.place] - invalid, now, part, global_dns, ours)
        if unsaid is not None and invalid:  # the backend does not take what cloud-init wrote: it is replaced
            results[part.place] = part._replace(earlier=part.earlier | {disk[part.place]}, differs=())
        elif unsaid is not None:
            alone = part.alone | {disk[part.place]}
            results[part.place] = part._replace(alone=alone, differs=(), unsaid="; ".join(unsaid))
        else:
            others.append(part)
    if others:
        by_drive = wanted_by(truth.by_source(state.truth, "drive"))
        rendering = render.render([want for want in by_drive if want.keys & keys], on.backend, on.context.renders_with)
        then = _references(on, by_drive, keys, truth.services_of(state.truth, "drive"), rendering.parts)
        by_us = {part.place: on.backend.meaning(part.text, part.name) for part in rendering.parts}
        for part in others:
            on_disk, fingerprint = found[part.place], disk[part.place]
            omitted = _omitted(on.backend, on_disk, then, part, global_dns, ours)
            if on_disk == by_us.get(part.place) or omitted is not None:
                results[part.place] = part._replace(earlier=part.earlier | {fingerprint}, differs=())
            else:
                against = now.of(part.place)[:1] if part.place in ours else now.of(part.place)
                finished = on.backend.meaning(part.text, part.name)
                results[part.place] = part._replace(differs=_least(on_disk, [*against, finished], part.differs))
    return results


def _least(on_disk: Meaning, references: Sequence[Meaning], default: Sequence[str]) -> Tuple[str, ...]:
    """Returns the differences from the nearest reference, so that what Backend.finish adds is not listed as lacking."""
    nearest = sorted(references, key=lambda reference: len(on_disk ^ reference))
    return meaning.differences(on_disk, nearest[0]) if nearest else tuple(default)


def _references(
    on: RunContext, wants: Iterable[Want], keys: Iterable[str], services: Sequence[str], parts: Sequence[Staged]
) -> _References:
    concerned = [want for want in wants if want.keys & frozenset(keys)]
    return _References(
        wants={key: want for want in concerned for key in want.keys},
        alone=render.meanings_alone(concerned, services, on.backend, on.context.renders_with),
        bare={part.place: on.backend.meaning(part.bare, part.name) for part in parts if part.bare},
    )


def _omitted(
    backend: Backend, on_disk: Meaning, by: _References, part: Staged, global_dns: Known, ours: FrozenSet[Place]
) -> Optional[Tuple[str, ...]]:
    """Returns the lines that a part lacks because only some releases write them; None if no release wrote the part.

    A part at a place in the ledger (`ours`) may lack nothing: at a boot cloud-init writes what the override gives it.
    """
    if part.key not in by.wants:
        return None
    finished = backend.meaning(part.text, part.name)
    known = _known(by.wants[part.key], part.key, global_dns)
    known = known._replace(bond=frozenset(line for line in finished if line.startswith("bond ")))
    # This package may have written the part before it was removed; the global name servers may have changed since.
    references = [*by.of(part.place), finished]
    if not part.bare and on_disk <= known.routes:
        references.append(frozenset())  # an older release wrote a file of routes that says nothing
    references += [older for reference in references for older in backend.as_older_releases(reference)]
    if not any(meaning.may_be_cloud_inits(on_disk, reference, known) for reference in references):
        return None
    unsaid = meaning.unsaid(on_disk, backend.meaning(part.bare or part.text, part.name))
    return None if unsaid and part.place in ours else unsaid


def _known(want: Want, key: str, global_dns: Known) -> Known:
    """Returns what is known of one link of a want; `global_dns` has the global name servers and search domains."""
    (entry,) = [item.entry for item in want.items if item.key == key]
    advertised = [net for net in entry.networks if net.type in DHCP6 | SLAAC]
    return Known(
        dns=global_dns.dns.union(*(net.dns for item in want.items for net in item.entry.networks)),
        search=global_dns.search.union(*(net.search for item in want.items for net in item.entry.networks)),
        macs=frozenset(item.entry.mac for item in want.items),
        ipv6=any(net in advertised or ":" in net.address for net in entry.networks),
        advertised=len(advertised),
        nowhere=frozenset(meaning.route(network) for net in entry.networks for network in net.nowhere),
        routes=frozenset(meaning.route(r.network, r.gateway) for net in entry.networks for r in net.routes),
    )
