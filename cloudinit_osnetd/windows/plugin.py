# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A plugin for an unmodified cloudbase-init, which finds it by its dotted path in `plugins=`.

It needs none of cloudbase-init's classes, so that it loads in any version: it is like plugins/common/base.py.
"""

import logging
from typing import Any, Dict, Tuple

from ..core import pushed_document
from . import config, follow, sources, store

LOG = logging.getLogger(__name__)

_EXECUTE_ON_NEXT_BOOT = 2  # plugins/common/base.py: PLUGIN_EXECUTE_ON_NEXT_BOOT; 1 would be remembered for good


class OsnetdPlugin:
    """Configures the NICs at each boot, by the document of the metadata service that cloudbase-init has found."""

    execution_stage = "MAIN"  # PLUGIN_STAGE_MAIN

    def get_name(self) -> str:
        return type(self).__name__

    def get_os_requirements(self) -> Tuple[None, None]:
        return None, None

    def execute(self, service: Any, shared_data: Dict[str, Any]) -> Tuple[int, bool]:
        """Returns (when to run again, whether to reboot). Nothing that fails here ends cloudbase-init's run."""
        try:
            settings = config.load()
            complete = follow.one_pass(settings, _answer(service, settings))
            LOG.info("cloudinit-osnetd: %s", "done" if complete else "a NIC has no entry, or one failed")
        except pushed_document.Refused as refused:
            LOG.error("cloudinit-osnetd: the document is refused: %s", refused)
        except (sources.NoSource, config.BadConfig, store.Busy, OSError) as exc:
            LOG.error("cloudinit-osnetd: nothing was done: %s", exc)
        return _EXECUTE_ON_NEXT_BOOT, False


def _answer(service: Any, settings: config.Config) -> sources.Answer:
    """Returns what cloudbase-init's own service says, which knows drives without a letter; else what is found here."""
    read = getattr(service, "_get_cache_data", None)  # not public, but the same since 0.9
    if read is not None:
        try:
            source = "drive" if "drive" in type(service).__name__.lower() else "metadata"
            raw = read("openstack/latest/network_data.json")
            return sources.Answer(source, bytes(raw), str(service.get_instance_id() or ""))
        except Exception as exc:  # noqa: BLE001 - any of cloudbase-init's own
            LOG.info("cloudinit-osnetd: cloudbase-init's service has no network_data: %s", exc)
    return sources.ask(settings.metadata_urls)
