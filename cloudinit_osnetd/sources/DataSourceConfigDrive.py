# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Overrides cloud-init's ConfigDrive datasource, so that links without a NIC do no harm: see ladder.py.

Only cloudinit is imported at the top, and the filter for links that cloud-init cannot convert is in
this file: if any other file of the package is missing, the server still boots with its network.
"""

import glob
import logging
import os
from typing import Any, Dict, List

from cloudinit import sources, util
from cloudinit.net import network_state
from cloudinit.sources import DataSourceConfigDrive as builtin

# A replacement for a module of cloud-init offers the same names as that module.
from cloudinit.sources.DataSourceConfigDrive import *  # noqa: F401,F403
from cloudinit.sources.helpers import openstack

LOG = logging.getLogger(__name__)
_KINDS = ("bond", "vlan")  # the others are physical


# -- the bare filter ------------------------------------------------------------------------------


def system_nics() -> Dict[str, str]:
    """Returns the names of the kernel's NICs by MAC, without devices that are stacked on another one.

    cloud-init's own function fails if two devices have the same MAC, and gives a bond's member the MAC
    of the bond.
    """
    nics: Dict[str, str] = {}
    for path in sorted(glob.glob("/sys/class/net/*")):
        if glob.glob(path + "/lower_*"):
            continue
        mac = _content(path + "/bonding_slave/perm_hwaddr") or _content(path + "/address")
        if len(mac) == 59:  # InfiniBand has twenty octets, of which OpenStack uses six for the port
            nics.setdefault(mac[36:45].lower() + mac[51:].lower(), os.path.basename(path))
        if mac:
            nics.setdefault(mac.lower(), os.path.basename(path))
    return nics


def _content(path: str) -> str:
    try:
        with open(path) as fh:
            return fh.read().strip()
    except OSError:
        return ""


def _mac(link: Dict[str, Any]) -> str:
    mac = link.get("ethernet_mac_address")
    return mac.lower() if isinstance(mac, str) else ""


def _without(document: Dict[str, Any], links: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Returns `document` with these links and their networks only."""
    kept = [link["id"] for link in links]
    links = [
        dict(link, bond_links=[m for m in link.get("bond_links") or [] if m in kept])
        if link.get("type") == "bond"
        else link
        for link in links
    ]
    networks = [net for net in document.get("networks") or [] if isinstance(net, dict) and net.get("link") in kept]
    return dict(document, links=links, networks=networks)


def present_links(document: Dict[str, Any]) -> Dict[str, Any]:
    """Returns `document` without the links that have no NIC, and without the links that depend on them.

    cloud-init's conversion fails as a whole on one such link. A bond is removed only if it has no
    member left. The document itself is returned if nothing has to be removed.
    """
    macs = system_nics()
    links = document.get("links") or []
    sound = [link for link in links if isinstance(link, dict) and isinstance(link.get("id"), (str, int))]
    physical = [link for link in sound if link.get("type") not in _KINDS]
    if any(_mac(link) not in macs for link in physical if _mac(link)):
        util.udevadm_settle()
        macs = system_nics()
    kept = [link["id"] for link in physical if not _mac(link) or _mac(link) in macs]
    for kind, field in (("bond", "bond_links"), ("vlan", "vlan_link")):
        for link in sound:
            below = link.get(field)
            below = below if isinstance(below, list) else [below]
            if link.get("type") == kind and any(lower in kept for lower in below):
                kept.append(link["id"])
    if len(kept) == len(links):
        return document
    return _without(document, [link for link in sound if link["id"] in kept])


def convert(document: Dict[str, Any]) -> Any:
    """Converts the links that have a NIC with cloud-init's code, without the links that it cannot convert."""
    present = present_links(document)
    macs = system_nics()
    try:
        return _converted(present, macs)
    except Exception as exc:  # noqa: BLE001 - cloud-init's own code; whatever it raises
        LOG.warning("network_data: cloud-init cannot convert it as a whole: %r", exc)
    good: List[Dict[str, Any]] = []
    sound = [
        link for link in present.get("links") or [] if isinstance(link, dict) and isinstance(link.get("id"), (str, int))
    ]
    for link in sorted(sound, key=lambda link: (_KINDS.index(link["type"]) + 1) if link.get("type") in _KINDS else 0):
        try:
            _converted(_without(present, good + [link]), macs)
            good.append(link)
        except Exception as exc:  # noqa: BLE001 - see above
            LOG.warning("network_data: link %.60r left out: %r", link["id"], exc)
    return openstack.convert_net_json(_without(present, [link for link in sound if link in good]), known_macs=macs)


def _converted(document: Dict[str, Any], macs: Dict[str, str]) -> Any:
    config = openstack.convert_net_json(document, known_macs=macs)
    network_state.parse_net_config_data(config, skip_broken=False)
    return config


# -- the datasource -------------------------------------------------------------------------------


class Override:
    """What both datasources change in the built-in class: `network_config`, which never names a NIC that is not
    present, and updates at a boot or a hotplug, which read network_data again and nothing else.
    """

    osnetd_source: str  # as in the truth: drive, metadata
    osnetd_unset: Any  # what `_network_config` is as long as there is no config
    _network_config: Any

    # Keeps cloud-init's hotplug hook (24.1 and later, off by default) from running for each veth of a container.
    extra_hotplug_udev_rules = 'ENV{OSNETD_MANAGE}!="1", DEVPATH=="/devices/virtual/*", GOTO="cloudinit_end"\n'

    def _get_data(self):
        self.osnetd_fresh = True
        return super()._get_data()

    def __getstate__(self):
        state = super().__getstate__() if hasattr(super(), "__getstate__") else self.__dict__
        state = {key: value for key, value in state.items() if not key.startswith("osnetd_")}
        # The config has the current names; the next boot must not rename NICs to them.
        state["_network_config"] = self.osnetd_unset
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
        built_in, instance_id = self._osnetd_built_in, self.get_instance_id()
        return ladder.choose(self.osnetd_source, self.network_json, fresh, instance_id, built_in, refreshed)

    def _osnetd_config(self):
        """Returns the network config, of a document that is there."""
        try:
            config, level, problems = self.osnetd_network_config()
            from cloudinit_osnetd.sources import ladder

            ladder.note_level(level, self.osnetd_source, problems, config)
            return config
        except Exception as exc:  # noqa: BLE001 - incomplete installation, or a bug: the server boots
            LOG.warning("cloudinit-osnetd is incomplete, using the %s as it is: %r", self.osnetd_source, exc)
            config = self._osnetd_bare()
            _note_bare(self.osnetd_source)
            return config

    def _osnetd_built_in(self):
        return super().network_config

    def _osnetd_bare(self):
        try:
            return convert(self.network_json)
        except Exception as exc:  # noqa: BLE001 - the built-in class may still succeed
            LOG.warning("links of the %s not filtered: %r", self.osnetd_source, exc)
            self._network_config = self.osnetd_unset
            return super().network_config


class DataSourceConfigDrive(Override, builtin.DataSourceConfigDrive):
    """The built-in class, except for what `Override` changes."""

    osnetd_source = "drive"
    osnetd_unset = None

    @property
    def network_config(self):
        document = self.network_json
        if self._network_config == sources.UNSET:
            # An update resets it to UNSET, which the built-in class would use as a config.
            self._network_config = None
        if document is None or document == sources.UNSET:
            return super().network_config
        if self.known_macs is not None:
            return super().network_config  # as in cloud-init's tests: the caller that sets it knows the NICs
        return self._osnetd_config()

    def _osnetd_built_in(self):
        return self._osnetd_bare()  # the built-in conversion fails as a whole on a link without a NIC


def _is_first(events):
    """True at the first boot of an instance, the only event at which everything is read."""
    from cloudinit.event import EventType

    return EventType.BOOT_NEW_INSTANCE in events


def _note_bare(source):
    try:
        os.makedirs("/run/cloudinit-osnetd/boot", exist_ok=True)
        with open("/run/cloudinit-osnetd/boot/fallback.json", "w") as fh:
            fh.write('{"level": "bare-%s", "source": "%s", "problems": []}\n' % (source, source))
    except OSError as exc:
        LOG.warning("fallback level not noted: %s", exc)


DataSourceConfigDriveNet = DataSourceConfigDrive  # the name in old pickles

datasources = [
    (DataSourceConfigDrive, (sources.DEP_FILESYSTEM,)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)
