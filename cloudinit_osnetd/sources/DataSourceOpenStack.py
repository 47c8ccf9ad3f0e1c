# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloud-init's OpenStack datasource, made harmless: see ladder.py.

As in DataSourceConfigDrive.py only cloudinit is imported at the top.
"""

import logging

from cloudinit import sources, util
from cloudinit.sources import DataSourceOpenStack as builtin

LOG = logging.getLogger(__name__)


class _Override:
    """What both classes below change of the built-in ones."""

    def _get_data(self):
        self._osnetd_fresh = True
        return super()._get_data()

    def __getstate__(self):
        state = dict(self.__dict__)
        # Names are those of this moment; another boot must not rename to them.
        state["_network_config"] = sources.UNSET
        state.pop("_osnetd_fresh", None)
        return state

    @property
    def network_config(self):
        document = self.network_json
        if self._network_config != sources.UNSET:
            return self._network_config
        if util.is_false(self.ds_cfg.get("apply_network_config", True)):
            return super().network_config
        if document is None or document == sources.UNSET:
            return super().network_config
        try:
            from cloudinit_osnetd.sources import ladder

            ladder.never_rename(self.distro)
            config, rung, problems = ladder.climb(
                "metadata",
                document,
                getattr(self, "_osnetd_fresh", False),
                self.get_instance_id(),
                lambda: super(_Override, self).network_config,
            )
            ladder.note_rung(rung, "metadata", problems)
            return config
        except Exception as exc:  # noqa: BLE001 - half-installed, or broken: boot all the same
            LOG.warning("cloudinit-osnetd is incomplete, using the built-in datasource: %r", exc)
            return super().network_config


class DataSourceOpenStack(_Override, builtin.DataSourceOpenStack):
    """The built-in class but for `network_config`."""


class DataSourceOpenStackLocal(_Override, builtin.DataSourceOpenStackLocal):
    """The built-in class but for `network_config`; runs before the network is up."""


datasources = [
    (DataSourceOpenStackLocal, (sources.DEP_FILESYSTEM,)),
    (DataSourceOpenStack, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)


read_metadata_service = builtin.read_metadata_service
