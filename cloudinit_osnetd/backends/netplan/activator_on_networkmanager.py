# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan on NetworkManager: the generator creates a keyfile below /run for each definition.

`netplan apply` restarts NetworkManager's connections. So the generator writes to a directory of ours, the keyfiles that
our change made different are put in place, and just these profiles are loaded and activated.
"""

import logging
import os
import shutil
from typing import Dict, FrozenSet, Sequence

from ...core.desired import Item
from ...core.records import Touch
from ...system import files, paths
from ...system.command import CommandError
from ..networkmanager.keyfile import SUFFIX, Values, parsed
from ..networkmanager.profile_activator import ProfileActivator
from . import generator, other_files

LOG = logging.getLogger(__name__)


class NetplanOnNetworkManagerActivator(ProfileActivator):
    own_directories = (generator.NM_FILES,)

    def file_of(self, name: str) -> str:
        return other_files.TOP + "%s/%s%s%s" % (generator.NM_FILES, generator.NM_PREFIX, name, SUFFIX)

    def profile_of(self, name: str) -> Values:
        return parsed(files.read(self.file_of(name)) or "")

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        """Updates the generated files: systemd ran the generator before the early flow, NetworkManager starts later."""
        super().boot(items, left, changed)
        try:
            generator.regenerate()
        except (CommandError, OSError) as exc:
            LOG.error("netplan's generator failed: %s", exc)
        finally:
            shutil.rmtree(paths.GENERATED, ignore_errors=True)

    def before(self, touches: Sequence[Touch]) -> None:
        super().before(touches)
        generator.keep_old()

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Puts in place what our change made different, and loads the profiles of these NICs."""
        try:
            generator.generate(generator.NEW)
            for change in generator.to_change({touch.name for touch in touches}):
                generator.put(change)
            missing = [touch.name for touch in touches if touch.action != "down" and not self._there(touch.name)]
        except (CommandError, OSError) as exc:
            return {touch.name: str(exc) for touch in touches}
        finally:
            shutil.rmtree(paths.GENERATED, ignore_errors=True)
        problems = {name: "netplan makes no profile of it: %s" % self.file_of(name) for name in missing}
        return dict(super().after([one for one in touches if one.name not in problems], changed), **problems)

    def _there(self, name: str) -> bool:
        return os.path.exists(self.file_of(name))
