# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A backend is a pair, as in cloud-init: a format, which is what a renderer writes, and an activator, which takes NICs
up and down by it. See __init__.py for the pairs.
"""

from typing import Callable, Container, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ..core.desired import Item
from ..core.network_data import takes_default
from ..core.records import Dns, Part, Touch


def first_of(items: Sequence[Item]) -> Optional[Item]:
    """The NIC that a boot waits for: the best way out."""
    links = [item for item in items if item.entry.kind == "phy" or item.entry.networks]
    return min(links, key=lambda i: (not takes_default(i.entry), not i.entry.networks, i.metric), default=None)


class Format:
    """The files: which parts they have, whose they are, and what they mean. It changes nothing on the machine."""

    mode = 0o644  # of a new file
    finishes_at_boot = False  # a boot rewrites what cloud-init wrote, and we adopted as it was while the server ran
    directories: Tuple[str, ...] = ()  # where we have files replaced; glob patterns

    def unnameable(self, name: str) -> str:
        """Why a NIC of this name cannot be configured, empty where it can."""
        return ""

    def staged(self, tree: str) -> List[Part]:
        """The parts of what a renderer wrote below `tree`."""
        raise NotImplementedError

    def completed(self, parts: Sequence[Part], items: Sequence[Item]) -> List[Part]:
        """The parts of links that are configured together, with those that cloud-init's renderer does not write."""
        return list(parts)

    def finish(self, text: str, item: Item) -> str:
        """A rendered part with what cloud-init's renderer cannot say."""
        return text

    def check(self, parts: Sequence[Part], tree: str) -> None:
        """Raise ValueError where the backend would refuse these finished parts. `tree` is scratch."""

    def claimed(self, items: Sequence[Item]) -> Dict[str, str]:
        """By name: the NICs in whose configuration somebody else's file has a say, and that file."""
        return self.theirs(items)

    def theirs(self, items: Sequence[Item]) -> Dict[str, str]:
        """By name: the NICs that somebody else's file configures, and that have no part where ours are."""
        return {}

    def referred(self, ours: Container[Tuple[str, str]]) -> Dict[str, str]:
        """By name: the NICs that must stay defined, for others than our parts build on them, and who does.

        `ours`: the places of the parts that are ours to change.
        """
        return {}

    def split(self, text: str) -> Dict[str, str]:
        """The sections of a file by NIC name; of a file that is one NIC's, the whole by ""."""
        raise NotImplementedError

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        """The text of a file with `changes` made (None removes a section), None to remove it.

        `template` is a freshly rendered file, for what a new one needs besides its sections.
        What stands in `old` and is not in `changes` stays as it is.
        """
        raise NotImplementedError

    def normal(self, text: str) -> str:
        """A part less what nobody reads: its fingerprint tells whether it stands as we left it.

        In the ledgers of servers in the field: what this makes of a text is the same for ever.
        """
        raise NotImplementedError

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        """What a part of the NIC `name` means, whoever wrote it: see meaning.py."""
        raise NotImplementedError

    def as_older_releases(self, meaning: FrozenSet[str]) -> Sequence[FrozenSet[str]]:
        """How older releases of cloud-init write the same otherwise, where it does not mean the same."""
        return ()


class Activator:
    """What runs the network by these files.

    It decides nothing: it is told which NICs to touch and which files changed.
    """

    lag = 0.0  # seconds after which it has begun with what it was told, for one that works beside us
    drops_foreign = False  # told of one NIC, it takes away others' rules and routes that belong to no NIC
    waits_for_unique = False  # a link is not done with before duplicate address detection is
    own_directories: Tuple[str, ...] = ()  # where it has files replaced beside those of the format; glob patterns

    def unfit(self) -> str:
        """Why this backend does not run the network here, whatever cloud-init writes; empty where it does."""
        return ""

    def boot(self, items: Sequence[Item], left: FrozenSet[str] = frozenset()) -> None:
        """What must be in place before the backend starts at a boot, beside the parts of `items`.

        `left`: the names of those whose configuration is left as somebody else has it.
        """

    def recover(self, boot: bool = False) -> None:
        """Put right what a run that died has left half-way. `boot`: the backend has not started yet."""

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """By NIC's name: those that need not be taken down, nor taken anew, for so small a difference.

        `coming`: the parts that will stand on disk, by NIC's name; of one that is not among `touches` the new part is
        for the next boot only. Called while the old ones are there. What is given is called when the new ones are: it
        makes the difference on the NIC as it is; where it says False, the backend is told of the NIC after all.
        """
        return {}

    def before(self, touches: Sequence[Touch]) -> None:
        """What must happen while the old configuration is still on disk."""

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Make the backend take the new configuration; the problems, by NIC name.

        `changed`: the paths of the files of these NICs that were written or removed.
        """
        raise NotImplementedError

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        """The DNS servers of a NIC that were taken from its configuration, None where nobody can tell."""
        return None


class Backend(Format, Activator):
    """The pair. Its name is the one in the ledgers of servers in the field."""

    name = ""

    @property
    def all_directories(self) -> Tuple[str, ...]:
        """Where files are replaced; glob patterns."""
        return self.directories + self.own_directories
