# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloud-init's OpenStack datasource, made harmless: see ladder.py.

As in DataSourceConfigDrive.py only cloudinit is imported at the top.
"""

import logging

from cloudinit import sources, util
from cloudinit.sources import DataSourceOpenStack as builtin

# What stands in for a module of cloud-init's offers what that one does.
from cloudinit.sources.DataSourceOpenStack import *  # noqa: F401,F403

LOG = logging.getLogger(__name__)


class _Override:
    """What both classes below change of the built-in ones; the same as for the config drive."""

    extra_hotplug_udev_rules = 'ENV{OSNETD_MANAGE}!="1", DEVPATH=="/devices/virtual/*", GOTO="cloudinit_end"\n'

    def _get_data(self):
        self.osnetd_fresh = True
        return super()._get_data()

    def __getstate__(self):
        state = super().__getstate__() if hasattr(super(), "__getstate__") else self.__dict__
        state = {key: value for key, value in state.items() if not key.startswith("osnetd_")}
        # Names are those of this moment; another boot must not rename to them.
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
        except Exception as exc:  # noqa: BLE001 - half-installed, or broken: as it was
            LOG.warning("network_data not read anew: %r", exc)
            return False

    def osnetd_climb(self):
        """(network config, rung, problems): see ladder.climb."""
        from cloudinit_osnetd.sources import ladder

        ladder.never_rename(self.distro)
        fresh, heard = getattr(self, "osnetd_fresh", False), getattr(self, "osnetd_heard", None)
        return ladder.climb("metadata", self.network_json, fresh, self.get_instance_id(), self._osnetd_built_in, heard)

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
            config, rung, problems = self.osnetd_climb()
            from cloudinit_osnetd.sources import ladder

            ladder.note_rung(rung, "metadata", problems, config)
            return config
        except Exception as exc:  # noqa: BLE001 - half-installed, or broken: boot all the same
            LOG.warning("cloudinit-osnetd is incomplete, using the metadata as it is: %r", exc)
            return self._osnetd_bare()

    def _osnetd_built_in(self):
        return super().network_config

    def _osnetd_bare(self):
        try:
            from cloudinit_osnetd.sources import DataSourceConfigDrive as drive

            return drive.convert(self.network_json)
        except Exception as exc:  # noqa: BLE001 - the built-in class may know better
            LOG.warning("metadata's links not filtered: %r", exc)
            self._network_config = sources.UNSET
            return super().network_config


def _is_first(events):
    """True at the first boot of an instance: the one event at which everything is read."""
    from cloudinit.event import EventType

    return EventType.BOOT_NEW_INSTANCE in events


class DataSourceOpenStack(_Override, builtin.DataSourceOpenStack):
    """The built-in class but for `network_config` and updates."""


class DataSourceOpenStackLocal(_Override, builtin.DataSourceOpenStackLocal):
    """The built-in class but for `network_config` and updates; runs before the network is up."""


datasources = [
    (DataSourceOpenStackLocal, (sources.DEP_FILESYSTEM,)),
    (DataSourceOpenStack, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)
