# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Overrides cloud-init's OpenStack datasource, so that links without a NIC do no harm: see ladder.py.

What both datasources change is in DataSourceConfigDrive.py. If that file is missing, this datasource is
cloud-init's own.
"""

import logging

from cloudinit import sources, util
from cloudinit.sources import DataSourceOpenStack as builtin

# A replacement for a module of cloud-init offers the same names as that module.
from cloudinit.sources.DataSourceOpenStack import *  # noqa: F401,F403

LOG = logging.getLogger(__name__)

try:
    from cloudinit_osnetd.sources.DataSourceConfigDrive import Override
except Exception as exc:  # noqa: BLE001 - incomplete installation: the server boots
    LOG.warning("cloudinit-osnetd is incomplete, the OpenStack datasource is cloud-init's own: %r", exc)

    class Override:  # type: ignore[no-redef]
        """Changes nothing."""

        def _osnetd_config(self):
            return super().network_config


class _Metadata(Override):
    """What both classes below change in the built-in ones."""

    osnetd_source = "metadata"
    osnetd_unset = sources.UNSET

    @property
    def network_config(self):
        if self._network_config != sources.UNSET:
            return self._network_config
        if util.is_false(self.ds_cfg.get("apply_network_config", True)):
            return super().network_config
        if self.network_json is None or self.network_json == sources.UNSET:
            return super().network_config
        return self._osnetd_config()


class DataSourceOpenStack(_Metadata, builtin.DataSourceOpenStack):
    """The built-in class, except for `network_config` and updates."""


class DataSourceOpenStackLocal(_Metadata, builtin.DataSourceOpenStackLocal):
    """The built-in class, except for `network_config` and updates; runs before the network is up."""


datasources = [
    (DataSourceOpenStackLocal, (sources.DEP_FILESYSTEM,)),
    (DataSourceOpenStack, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)
