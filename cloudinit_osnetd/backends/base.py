# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A backend is a pair, as in cloud-init: a format (what a renderer writes) and an activator (brings NICs up and down).

See __init__.py for the pairs.
"""

from typing import Callable, Container, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ..core.desired import Item
from ..core.network_data import takes_default
from ..core.records import Dns, Part, Touch


def first_of(items: Sequence[Item]) -> Optional[Item]:
    """Returns the NIC that a boot waits for: the one with the preferred default route."""
    links = [item for item in items if item.entry.kind == "phy" or item.entry.networks]
    return min(links, key=lambda i: (not takes_default(i.entry), not i.entry.networks, i.metric), default=None)


class Format:
    """The files: their parts, their owners and their meaning. It changes nothing on the machine."""

    mode = 0o644  # of a new file
    finishes_at_boot = False  # the next boot rewrites what cloud-init wrote and we adopted unchanged at run time
    directories: Tuple[str, ...] = ()  # where our files are replaced; glob patterns

    def unnameable(self, name: str) -> str:
        """Returns why a NIC of this name cannot be configured, empty if it can."""
        return ""

    def staged(self, tree: str) -> List[Part]:
        """Returns the parts of what a renderer wrote below `tree`."""
        raise NotImplementedError

    def completed(self, parts: Sequence[Part], items: Sequence[Item]) -> List[Part]:
        """Returns the parts of links that are configured together, with those that cloud-init does not write."""
        return list(parts)

    def link_names(self, parts: Sequence[Part]) -> Dict[str, str]:
        """Returns the names of links by what other parts refer to them with, where that is not the name."""
        return {}

    def finish(self, text: str, item: Item) -> str:
        """Returns a rendered part, with what cloud-init's renderer cannot express added."""
        return text

    def check(self, parts: Sequence[Part], tree: str) -> None:
        """Raises ValueError if the backend would refuse these finished parts. `tree` is a scratch directory."""

    def claimed(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs that a foreign file configures or changes, by name, with that file."""
        return self.configured_elsewhere(items)

    def configured_elsewhere(self, items: Sequence[Item]) -> Dict[str, str]:
        """Returns the NICs that a foreign file configures and that our files do not, by name, with that file."""
        return {}

    def referred(self, ours: Container[Tuple[str, str]]) -> Dict[str, str]:
        """Returns the NICs that must stay defined because a foreign part refers to them, by name, with what refers.

        `ours`: the places of the parts that we may change.
        """
        return {}

    def split(self, text: str) -> Dict[str, str]:
        """Returns the sections of a file by NIC name; the whole text under "" for a file of one NIC, as here."""
        return {"": text}

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        """Returns the text of a file with `changes` applied (None removes a section); None to remove the file.

        `template` is a freshly rendered file, for what a new file needs besides its sections. What is in `old` and not
        in `changes` is kept unchanged. Here for a file of one NIC.
        """
        return changes[""]

    def normal(self, text: str) -> str:
        """Returns a part without what the backend ignores. Its fingerprint shows whether the part was changed.

        The fingerprints are in the ledgers of existing servers, so the result for a text must never change.
        """
        raise NotImplementedError

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        """Returns what a part of the NIC `name` means, whoever wrote it: see meaning.py."""
        raise NotImplementedError

    def carried_over(self, written: str, found: str, new: str, name: str) -> Optional[str]:
        """Returns the part `new` with what others added to the part `written`, which is `found` on disk now.

        It is `new` itself if `found` means what was written. None if something else was changed, or if what was added
        is not to be kept, or does not go with `new`.
        """
        return new if self.meaning(found, name) == self.meaning(written, name) else None

    def as_older_releases(self, meaning: FrozenSet[str]) -> Sequence[FrozenSet[str]]:
        """Returns the meanings with which older releases of cloud-init express `meaning`, if they differ."""
        return ()


class Activator:
    """The service that configures the network from these files.

    It decides nothing: it is told which NICs to touch and which files changed.
    """

    lag = 0.0  # seconds until an asynchronous service has begun to apply a change, at most
    drops_foreign = False  # reconfiguring one NIC also removes other software's rules and routes that belong to no NIC
    waits_for_unique = False  # it configures a link only after duplicate address detection
    waits_for_lease = False  # its command fails where no lease comes, so its failure may mean no more than that
    late: FrozenSet[str] = frozenset()  # names of NICs for which its command went on after the last `after`
    boot_outputs: Tuple[str, ...] = ()  # directories below /run to which boot() writes
    own_directories: Tuple[str, ...] = ()  # where its files are replaced, besides those of the format; glob patterns

    def unfit(self) -> str:
        """Returns why this backend does not run the network here, whatever cloud-init writes; empty if it does."""
        return ""

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        """Prepares what must be in place before the backend starts at boot, besides the parts of `items`.

        `left`: the names of NICs that are left alone, because other software or a person changed their configuration.
        `changed`: the names of NICs whose parts were written or removed at this boot.
        """

    def boot_inputs(self) -> Optional[Sequence[str]]:
        """Returns the directories and files that early boot reads, besides the store and cloud-init's configuration.

        None if that cannot be said: then no early boot is skipped because nothing has changed.
        """
        return None

    def recover(self, boot: bool = False) -> None:
        """Repairs what an interrupted run left unfinished. `boot`: the backend has not started yet."""

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """Returns, by NIC name, functions that apply small changes without taking the NIC down or reconfiguring it.

        `coming`: the parts that will be on disk, by NIC name. For a NIC that is not in `touches` the new part is for
        the next boot only. This is called while the old parts are on disk. The returned function is called after the
        new ones are written: it applies the difference to the NIC. If it returns False, the backend handles the NIC.
        """
        return {}

    def before(self, touches: Sequence[Touch]) -> None:
        """Does what must happen while the old configuration is still on disk."""

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Makes the backend apply the new configuration. Returns the problems by NIC name.

        `changed`: the paths of the files of these NICs that were written or removed.
        """
        raise NotImplementedError

    def unapplied(self) -> FrozenSet[str]:
        """Returns the names of NICs whose configuration on disk waits to be applied until something else is there."""
        return frozenset()

    def coming_up(self, names: Sequence[str]) -> FrozenSet[str]:
        """Returns those of these NICs that a command of an earlier run is still bringing up."""
        return frozenset()

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        """Returns the DNS servers that are in use from a NIC's configuration; None if that is not known."""
        return None


class Backend(Format, Activator):
    """The pair. Its name is stored in the ledgers of existing servers."""

    name = ""

    @property
    def all_directories(self) -> Tuple[str, ...]:
        """Directories in which files are replaced; glob patterns."""
        return self.directories + self.own_directories
