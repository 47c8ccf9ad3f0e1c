# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Overrides cloud-init's OpenStack datasource, so that links without a NIC do no harm: see ladder.py.

As in DataSourceConfigDrive.py only cloudinit is imported at the top.
"""

import logging

from cloudinit import sources, util
from cloudinit.sources import DataSourceOpenStack as builtin

# A replacement for a module of cloud-init offers the same names as that module.
from cloudinit.sources.DataSourceOpenStack import *  # noqa: F401,F403

LOG = logging.getLogger(__name__)


class _Override:
    """What both classes below change in the built-in ones; the same as for the config drive.

    It is a copy, because the file of each datasource must work if the other one is missing.
    """

    extra_hotplug_udev_rules = 'ENV{OSNETD_MANAGE}!="1", DEVPATH=="/devices/virtual/*", GOTO="cloudinit_end"\n'

    def _get_data(self):
        self.osnetd_fresh = True
        return super()._get_data()

    def __getstate__(self):
        state = super().__getstate__() if hasattr(super(), "__getstate__") else self.__dict__
        state = {key: value for key, value in state.items() if not key.startswith("osnetd_")}
        # The config has the current names; the next boot must not rename NICs to them.
        state["_network_config"] = sources.UNSET
        return state

    def update_metadata_if_supported(self, source_event_types):  # 21.3
        if _is_first(source_event_types):
            return super().update_metadata_if_supported(source_event_types)
        return self._osnetd_update(source_event_types)

    def update_metadata(self, source_event_types):  # 18.4 to 21.2
        if _is_first(source_event_types):
            return super().update_metadata(source_event_types)
        return self._osnetd_update(source_event_types)

    def _osnetd_update(self, events):
        try:
            from cloudinit_osnetd.sources import update

            return update.network_data(self, events)
        except Exception as exc:  # noqa: BLE001 - incomplete installation, or a bug: nothing changes
            LOG.warning("network_data not read again: %r", exc)
            return False

    def osnetd_network_config(self):
        """Returns (network config, fallback level, problems): see ladder.choose."""
        from cloudinit_osnetd.sources import ladder

        ladder.never_rename(self.distro)
        fresh, refreshed = getattr(self, "osnetd_fresh", False), getattr(self, "osnetd_refreshed", None)
        instance_id = self.get_instance_id()
        return ladder.choose("metadata", self.network_json, fresh, instance_id, self._osnetd_built_in, refreshed)

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
            config, level, problems = self.osnetd_network_config()
            from cloudinit_osnetd.sources import ladder

            ladder.note_level(level, "metadata", problems, config)
            return config
        except Exception as exc:  # noqa: BLE001 - incomplete installation, or a bug: the server boots
            LOG.warning("cloudinit-osnetd is incomplete, using the metadata as it is: %r", exc)
            return self._osnetd_bare()

    def _osnetd_built_in(self):
        return super().network_config

    def _osnetd_bare(self):
        try:
            from cloudinit_osnetd.sources import DataSourceConfigDrive as drive

            return drive.convert(self.network_json)
        except Exception as exc:  # noqa: BLE001 - the built-in class may still succeed
            LOG.warning("metadata's links not filtered: %r", exc)
            self._network_config = sources.UNSET
            return super().network_config


def _is_first(events):
    """True at the first boot of an instance, the only event at which everything is read."""
    from cloudinit.event import EventType

    return EventType.BOOT_NEW_INSTANCE in events


class DataSourceOpenStack(_Override, builtin.DataSourceOpenStack):
    """The built-in class, except for `network_config` and updates."""


class DataSourceOpenStackLocal(_Override, builtin.DataSourceOpenStackLocal):
    """The built-in class, except for `network_config` and updates; runs before the network is up."""


datasources = [
    (DataSourceOpenStackLocal, (sources.DEP_FILESYSTEM,)),
    (DataSourceOpenStack, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)
